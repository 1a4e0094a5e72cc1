"""Initial values of weights. Each function fills a tensor in place and returns it.

Random numbers come from `generator`, by default minigrad's own, on the host: the same seed gives
the same weights on every device.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from minigrad import random
from minigrad.autograd.engine import Array
from minigrad.device import device_of, to_device


def _fill(tensor: Any, values: Any) -> Any:
    """Give `tensor` these values, outside of any graph."""
    if tensor.op is not None:
        raise RuntimeError(
            f"nn.init cannot fill what {tensor.op.name} made: the parameter would stay as it is. "
            "Fill a part of a parameter through its data: p.data[a:b], p.data.chunk(4)"
        )
    old = tensor.value
    values = np.broadcast_to(np.asarray(values, dtype=old.dtype), old.shape).copy()
    tensor.value = to_device(values, device_of(old))
    tensor.note_write()
    return tensor


def _rng(generator: random.Generator | None) -> np.random.Generator:
    return (generator or random.default_generator).numpy


def uniform_(
    tensor: Any, a: float = 0.0, b: float = 1.0, generator: random.Generator | None = None
) -> Any:
    """Fill with numbers from U(a, b)."""
    return _fill(tensor, _rng(generator).uniform(a, b, tensor.shape))


def normal_(
    tensor: Any, mean: float = 0.0, std: float = 1.0, generator: random.Generator | None = None
) -> Any:
    """Fill with numbers from N(mean, std**2)."""
    return _fill(tensor, _rng(generator).normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: Any,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: random.Generator | None = None,
) -> Any:
    """Fill with numbers from N(mean, std**2), given that they lie in [a, b].

    By the inverse of the distribution function: x = F^-1(u), u from U(F(a), F(b)).
    """
    from statistics import NormalDist  # rarely needed, and a tenth of `import minigrad`

    normal = NormalDist(mean, std)
    u = _rng(generator).uniform(normal.cdf(a), normal.cdf(b), tensor.shape)
    u = np.clip(u, 1e-300, 1 - 1e-16)  # F^-1 is infinite at 0 and 1
    x = np.array([normal.inv_cdf(p) for p in u.ravel()]).reshape(tensor.shape)
    return _fill(tensor, np.clip(x, a, b))


def constant_(tensor: Any, val: float) -> Any:
    """Fill with `val`."""
    return _fill(tensor, val)


def ones_(tensor: Any) -> Any:
    """Fill with ones."""
    return _fill(tensor, 1)


def zeros_(tensor: Any) -> Any:
    """Fill with zeros."""
    return _fill(tensor, 0)


def eye_(tensor: Any) -> Any:
    """Make a matrix the identity: a linear layer then keeps its input."""
    if tensor.value.ndim != 2:
        raise ValueError("only tensors with 2 dimensions are supported")
    return _fill(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Any, groups: int = 1) -> Any:
    """Make a convolution's weights, of 3 to 5 dimensions, keep its input channels."""
    shape = tuple(tensor.shape)
    if len(shape) not in (3, 4, 5):
        raise ValueError("only tensors with 3, 4, or 5 dimensions are supported")
    if shape[0] % groups:
        raise ValueError("dim 0 must be divisible by groups")
    values = np.zeros(shape)
    per_group = shape[0] // groups
    centre = tuple(n // 2 for n in shape[2:])
    for group in range(groups):
        for channel in range(min(per_group, shape[1])):
            values[(group * per_group + channel, channel, *centre)] = 1
    return _fill(tensor, values)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights are scaled up to make good for what a nonlinearity shrinks."""
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise ValueError(f"negative_slope {slope} not a valid number")
        return math.sqrt(2 / (1 + slope**2))
    gains = {"linear": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    for dims in (1, 2, 3):
        gains[f"conv{dims}d"] = gains[f"conv_transpose{dims}d"] = 1
    if nonlinearity not in gains:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}; expected one of {[*gains]}")
    return gains[nonlinearity]


def _calculate_fan_in_and_fan_out(tensor: Any) -> tuple[int, int]:
    """How many numbers flow into each output, and from each input, of a weight (out, in, ...)."""
    shape = tensor.shape
    if len(shape) < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        )
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def xavier_uniform_(
    tensor: Any, gain: float = 1.0, generator: random.Generator | None = None
) -> Any:
    """Fill from U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    a = gain * math.sqrt(6 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -a, a, generator)


def xavier_normal_(
    tensor: Any, gain: float = 1.0, generator: random.Generator | None = None
) -> Any:
    """Fill from N(0, s**2), s = gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    std = gain * math.sqrt(2 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return normal_(tensor, 0.0, std, generator)


def _kaiming_std(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan = _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Any,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: random.Generator | None = None,
) -> Any:
    """Fill from U(-b, b), b = gain sqrt(3 / fan) (He et al. 2015, eq. 10 and 14)."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Any,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: random.Generator | None = None,
) -> Any:
    """Fill from N(0, s**2), s = gain / sqrt(fan) (He et al. 2015, eq. 10 and 14)."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Any, gain: float = 1, generator: random.Generator | None = None) -> Any:
    """Fill with `gain` times a random (semi-)orthogonal matrix (Saxe et al. 2013).

    Dimensions after the first count as one.
    """
    if tensor.value.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.value.size == 0:
        return tensor
    rows = tensor.shape[0]
    columns = math.prod(tensor.shape[1:])
    flat: Array = _rng(generator).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(flat)
    q *= np.sign(np.diag(r))  # without this, q is not uniform over the orthogonal matrices
    q = q.T if rows < columns else q
    return _fill(tensor, gain * q.reshape(tensor.shape))


def sparse_(
    tensor: Any, sparsity: float, std: float = 0.01, generator: random.Generator | None = None
) -> Any:
    """Fill a matrix from N(0, std**2), with the fraction `sparsity` of each column zero."""
    if tensor.value.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    rng = _rng(generator)
    values = rng.normal(0, std, (rows, columns))
    for column in range(columns):
        values[rng.permutation(rows)[: math.ceil(sparsity * rows)], column] = 0
    return _fill(tensor, values)
