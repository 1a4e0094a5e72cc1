"""New tensors: from data, filled, and random."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad import random
from minigrad.autograd.engine import Array, Node, wrap
from minigrad.device import device as Device
from minigrad.device import device_of, new_on, to_device
from minigrad.dtypes import DType, cast, get_default_dtype

_CPU = Device("cpu")


def _placed(value: Array, device: Any, requires_grad: bool = False) -> Any:
    """A tensor of the host array `value`, on `device` or else on the default one."""
    node = wrap(new_on(device, value))
    return node.requires_grad_() if requires_grad else node


def _dtype_of(data: Any) -> DType | None:
    """The dtype that `data` comes with: that of its first element, if it has one."""
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return getattr(data, "dtype", None)


def _without_tensors(data: Any) -> Any:
    """`data` with host arrays in place of the tensors in its lists."""
    if isinstance(data, Node):
        return to_device(data.value, _CPU)
    if isinstance(data, list | tuple) and data and isinstance(data[0], list | tuple | Node):
        return [_without_tensors(part) for part in data]
    return data


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    """A new leaf with a copy of `data`: a number, (nested) lists, an array or a tensor.

    Python floats become the default dtype, ints int64; what has a dtype keeps it.  Raises TypeError
    for what is neither numbers nor booleans, ValueError for lists of unequal lengths.
    """
    given = _dtype_of(data)
    if isinstance(data, Node) or (not isinstance(data, list | tuple) and given is not None):
        value = data.value if isinstance(data, Node) else data
        if device is None and not isinstance(data, np.ndarray | np.generic):
            device = device_of(value)  # it stays where it is
        value = np.array(value) if isinstance(value, np.generic) else value.copy()
    else:
        try:
            value = np.array(_without_tensors(data))
        except ValueError as error:
            raise ValueError(f"tensor(): the lists do not all have one length ({error})") from error
        if given is None and (value.dtype.kind == "f" or not value.size):
            given = get_default_dtype()
    if value.dtype.kind not in "biuf":
        kind = RuntimeError if value.dtype.kind == "O" else TypeError  # as PyTorch has it
        raise kind(f"a tensor holds real numbers or booleans, not {value.dtype} ({data!r:.80})")
    dtype = given if dtype is None else dtype
    value = value if dtype is None else value.astype(dtype, copy=False)
    return _placed(value, device, requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Any:
    """`data` itself if it is a tensor that fits, with its history, else a new tensor."""
    if not isinstance(data, Node):
        return tensor(data, dtype, device)
    data = data if dtype is None else cast(data, np.dtype(dtype))
    return data if device is None else data.to(device)


def from_numpy(array: Any) -> Any:
    """A tensor with a copy of `array`. (PyTorch shares the memory; here tensors are values.)

    It is on the CPU, whatever the default device.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy expected a numpy.ndarray, not {type(array).__name__}")
    return tensor(array, device="cpu")


# --- filled --------------------------------------------------------------------------------------


def _size(sizes: tuple[Any, ...], size: Any = None) -> tuple[int, ...]:
    """`zeros(2, 3)`, `zeros((2, 3))` and `zeros(size=(2, 3))` mean the same."""
    if size is not None:
        sizes = (*sizes, size)
    size = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)) else sizes
    if size and min(size) < 0:
        raise RuntimeError(f"a size cannot be negative: {size}")
    return size


def _dtype(dtype: Any) -> DType:
    return get_default_dtype() if dtype is None else np.dtype(dtype)


def full(
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """A tensor of `fill_value`."""
    size = _size((size,) if isinstance(size, int) else tuple(size))
    if isinstance(fill_value, Node):
        fill_value = fill_value.value.item()
    if dtype is None and isinstance(fill_value, float):
        dtype = get_default_dtype()
    return _placed(np.full(size, fill_value, dtype), device, requires_grad)


def zeros(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """A tensor of zeros."""
    return _placed(np.zeros(_size(sizes, size), _dtype(dtype)), device, requires_grad)


def ones(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """A tensor of ones."""
    return _placed(np.ones(_size(sizes, size), _dtype(dtype)), device, requires_grad)


def empty(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """A tensor of whatever: to be filled."""
    return _placed(np.empty(_size(sizes, size), _dtype(dtype)), device, requires_grad)


def _like(
    function: Any, input: Any, dtype: Any, device: Any, requires_grad: bool, *arguments: Any
) -> Any:
    """`function` (NumPy's zeros_like and its kin, which follow the array's device)."""
    value = function(input.value, *arguments, dtype=dtype)
    node = wrap(value if device is None else new_on(device, value))
    return node.requires_grad_() if requires_grad else node


def zeros_like(
    input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """Zeros in the shape, dtype and place of `input`."""
    return _like(np.zeros_like, input, dtype, device, requires_grad)


def ones_like(
    input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """Ones in the shape, dtype and place of `input`."""
    return _like(np.ones_like, input, dtype, device, requires_grad)


def empty_like(
    input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """A tensor of whatever in the shape, dtype and place of `input`."""
    return _like(np.empty_like, input, dtype, device, requires_grad)


def full_like(
    input: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """A tensor of `fill_value` in the shape, dtype and place of `input`."""
    return _like(np.full_like, input, dtype, device, requires_grad, fill_value)


def arange(
    start: Any = None,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """start, start + step, ... before `end`; from 0 with one argument.

    Raises RuntimeError for a step that does not lead from start to end.
    """
    if end is None:
        start, end = 0, start
    if end is None:
        raise TypeError("arange() needs to know where to end")
    start = 0 if start is None else start
    start, end, step = (x.item() if hasattr(x, "item") else x for x in (start, end, step))
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"arange: a step of {step} does not lead from {start} to {end}")
    if isinstance(start + end + step, float):
        values = start + np.arange(math.ceil((end - start) / step)) * step
        dtype = get_default_dtype() if dtype is None else dtype
    else:
        values = np.arange(start, end, step, dtype=np.int64)
    return _placed(values if dtype is None else values.astype(dtype), device, requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """`steps` evenly spaced numbers from `start` to `end`, both included."""
    if steps < 0:
        raise RuntimeError(f"linspace: number of steps must be non-negative, got {steps}")
    return _placed(np.linspace(start, end, steps, dtype=_dtype(dtype)), device, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """The n x m matrix with ones on its diagonal."""
    n, m = _size((n, n if m is None else m))
    return _placed(np.eye(n, m, dtype=_dtype(dtype)), device, requires_grad)


# --- random: drawn on the host, so that the state can be saved -----------------------------------


def _numbers(generator: random.Generator | None) -> np.random.Generator:
    return (generator or random.default_generator).numpy


def uniform(size: tuple[int, ...], dtype: DType, generator: random.Generator | None) -> Array:
    """Host numbers from [0, 1)."""
    if dtype.kind != "f":
        raise RuntimeError(f"random real numbers cannot be {dtype}")
    drawn_in = np.float64 if dtype == np.float64 else np.float32
    return np.asarray(_numbers(generator).random(size, drawn_in), dtype)


def normal(size: tuple[int, ...], dtype: DType, generator: random.Generator | None) -> Array:
    """Host numbers from the standard normal distribution."""
    if dtype.kind != "f":
        raise RuntimeError(f"random real numbers cannot be {dtype}")
    drawn_in = np.float64 if dtype == np.float64 else np.float32
    return np.asarray(_numbers(generator).standard_normal(size, drawn_in), dtype)


def rand(
    *sizes: Any,
    size: Any = None,
    generator: random.Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """Numbers from the uniform distribution on [0, 1)."""
    return _placed(uniform(_size(sizes, size), _dtype(dtype), generator), device, requires_grad)


def randn(
    *sizes: Any,
    size: Any = None,
    generator: random.Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """Numbers from the standard normal distribution."""
    return _placed(normal(_size(sizes, size), _dtype(dtype), generator), device, requires_grad)


def gaussian(
    mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None, **like: Any
) -> Any:
    """Numbers from normal distributions with these means and deviations: `minigrad.normal`.

    Both may be tensors, whose shapes broadcast; where both are numbers, `size` is needed.  No
    gradient flows to them.
    """
    tensors = [part for part in (mean, std) if isinstance(part, Node)]
    if size is None:
        if not tensors:
            raise TypeError("normal() of two numbers needs a size")
        size = np.broadcast_shapes(*[part.shape for part in tensors])
        like = {"dtype": tensors[0].value.dtype, **like}
    mean, std = (wrap(part.value) if isinstance(part, Node) else part for part in (mean, std))
    return randn(size=size, generator=generator, **like) * std + mean


def rand_like(
    input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """Numbers from [0, 1) in the shape, dtype and place of `input`."""
    drawn = uniform(input.shape, np.dtype(dtype or input.dtype), None)
    return _placed(drawn, device or input.device, requires_grad)


def randn_like(
    input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    """Standard normal numbers in the shape, dtype and place of `input`."""
    drawn = normal(input.shape, np.dtype(dtype or input.dtype), None)
    return _placed(drawn, device or input.device, requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: random.Generator | None = None,
    dtype: Any = np.int64,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """Integers from [low, high): `randint(high, size)` or `randint(low, high, size)`.

    Raises RuntimeError for an empty range.
    """
    if size is None or isinstance(high, list | tuple):
        low, high, size = 0, low, high if size is None else size
    if low >= high:
        raise RuntimeError(f"randint: no integer in [{low}, {high})")
    drawn = _numbers(generator).integers(low, high, tuple(size))
    return _placed(np.asarray(drawn).astype(dtype), device, requires_grad)


def randperm(
    n: int, *, generator: random.Generator | None = None, dtype: Any = np.int64, device: Any = None
) -> Any:
    """0 ... n-1 in random order."""
    _size((n,))
    return _placed(_numbers(generator).permutation(n).astype(dtype), device)


def bernoulli(input: Any, *, generator: random.Generator | None = None) -> Any:
    """1 with the probability that `input` says, else 0.

    Raises RuntimeError for what is no probability.
    """
    p = to_device(input.value, _CPU)
    if not ((p >= 0) & (p <= 1)).all():
        raise RuntimeError("bernoulli: every probability must be between 0 and 1")
    drawn = _numbers(generator).random(p.shape) < p
    return _placed(np.asarray(drawn).astype(p.dtype), device_of(input.value))


def multinomial(
    input: Any,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: random.Generator | None = None,
) -> Any:
    """Indices drawn in proportion to the weights `input` (n) or (rows, n): `num_samples` a row.

    Raises RuntimeError for weights that are negative, not finite, all 0, or fewer (above 0) than
    samples without replacement.
    """
    weights = to_device(input.value, _CPU).astype(np.float64)
    if weights.ndim not in (1, 2) or not weights.shape[-1]:
        raise RuntimeError(f"multinomial: expected weights (n) or (rows, n), not {weights.shape}")
    if num_samples <= 0:
        raise RuntimeError(f"multinomial: cannot draw {num_samples} samples")
    rows = weights.reshape(-1, weights.shape[-1])
    bounds = rows.cumsum(1)
    total = bounds[:, -1:]
    if rows.size and not (rows.min() >= 0 and total.max() < np.inf):  # neither holds for nan
        raise RuntimeError("multinomial: a weight is negative, infinite or nan")
    if not total.all():
        raise RuntimeError("multinomial: all weights of a row are 0")
    numbers = _numbers(generator)
    if replacement or num_samples == 1:
        draws = numbers.random((len(rows), num_samples)) * total
        chosen = np.array([b.searchsorted(d, "right") for b, d in zip(bounds, draws)], np.int64)
    else:  # the first of competing exponential clocks: Efraimidis and Spirakis, 2006
        possible = (rows > 0).sum(1)
        if (possible < num_samples).any():
            raise RuntimeError(
                f"multinomial: cannot draw {num_samples} different samples from {possible.min()} "
                "weights above 0; pass replacement=True to allow repeats"
            )
        with np.errstate(divide="ignore"):
            times = numbers.standard_exponential(rows.shape) / rows
        chosen = np.argsort(times, 1)[:, :num_samples]
    return _placed(chosen.reshape(*weights.shape[:-1], num_samples), device_of(input.value))


# --- by type: PyTorch's older constructors -------------------------------------------------------


def of_type(dtype: Any, *data: Any) -> Any:
    """What `FloatTensor(*data)` makes: of sizes an uninitialized tensor, else one with `data`."""
    if not data:
        return empty(0, dtype=dtype)
    if all(isinstance(n, int) for n in data):
        return empty(*data, dtype=dtype)
    if len(data) > 1:
        raise TypeError(f"expected sizes, or one sequence of data, not {len(data)} arguments")
    return tensor(data[0], dtype)


def FloatTensor(*data: Any) -> Any:  # noqa: N802
    """A float32 tensor."""
    return of_type(np.float32, *data)


def DoubleTensor(*data: Any) -> Any:  # noqa: N802
    """A float64 tensor."""
    return of_type(np.float64, *data)


def LongTensor(*data: Any) -> Any:  # noqa: N802
    """An int64 tensor."""
    return of_type(np.int64, *data)


def IntTensor(*data: Any) -> Any:  # noqa: N802
    """An int32 tensor."""
    return of_type(np.int32, *data)


def BoolTensor(*data: Any) -> Any:  # noqa: N802
    """A tensor of booleans."""
    return of_type(np.bool_, *data)


def ByteTensor(*data: Any) -> Any:  # noqa: N802
    """A uint8 tensor."""
    return of_type(np.uint8, *data)
