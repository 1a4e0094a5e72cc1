"""Many elements to one, along some or all dimensions: sums, means, extremes, products, norms.

`dim` is None (all dimensions), one, or a tuple; NumPy's names `axis` and `keepdims` work too.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minigrad.autograd.engine import Array, Identity, Node, Op, wrap
from minigrad.device import array_module
from minigrad.dtypes import cast, floating
from minigrad.ops.arithmetic import clamp, maximum, minimum, unrecorded
from minigrad.ops.elementwise import Exp, Sign
from minigrad.ops.shape import normal_dim, normal_dims, stack

Axis = int | tuple[int, ...] | None


def _axis(input: Any, dim: Any, axis: Any = None) -> Axis:
    """The axes meant by `dim` (or `axis`), as NumPy takes them."""
    if dim is None:
        dim = axis
    if dim is None:
        return None
    ndim = len(input.shape)
    if isinstance(dim, (list, tuple)):
        axes = normal_dims(dim, ndim) or None  # PyTorch: dim=() means all
        return axes if ndim else ()
    one = normal_dim(dim, ndim)
    return one if ndim else ()


def _kept(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """`shape` with 1 in place of the reduced dimensions."""
    if axis is None:
        return (1,) * len(shape)
    axes = {i % len(shape) for i in ((axis,) if isinstance(axis, int) else axis)}
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many elements are reduced to each one."""
    if axis is None:
        return math.prod(shape)
    return shape[axis] if isinstance(axis, int) else math.prod([shape[i] for i in axis])


def total(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The sum of an array, or of a tensor."""
    if type(x) is np.ndarray:  # x.sum() calls the same by way of Python
        return np.add.reduce(x, axis, None, None, keepdims)  # type: ignore[call-overload]
    return x.sum(axis, keepdims=keepdims)


def largest(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """x.max(), likewise."""
    if type(x) is np.ndarray:
        return np.maximum.reduce(x, axis, None, None, keepdims)  # type: ignore[call-overload]
    return x.max(axis, keepdims=keepdims)


class Sum(Op):
    """y = sum of x along `axis`: each element's gradient is the sum's."""

    def __init__(self, axis: Axis = None, keepdims: bool = False) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        return total(x, self.axis, self.keepdims)

    def vjp(self, g: Any) -> tuple[Any]:
        return (Spread(self.before, self.axis)(g),)


class Spread(Op):
    """y = x repeated along the axes that a reduction of `shape` along `axis` took away."""

    def __init__(self, shape: tuple[int, ...], axis: Axis) -> None:
        self.to = shape
        self.axis = axis

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        return np.broadcast_to(x.reshape(_kept(self.to, self.axis)), self.to)

    def vjp(self, g: Any) -> tuple[Any]:
        return (Sum(self.axis, keepdims=len(self.before) == len(self.to))(g),)


def sum(
    input: Any,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """The sum; of integers and booleans in int64."""
    x = _summable(input, dtype)
    return Sum(_axis(x, dim, axis), keepdim or keepdims)(x)


def _summable(input: Any, dtype: Any) -> Any:
    if dtype is None:
        value = input.value if isinstance(input, Node) else input
        if value.dtype.kind == "f":
            return input
        dtype = np.int64
    return cast(input, np.dtype(dtype))


class Mean(Op):
    """y = sum of x along `axis` / their number."""

    def __init__(self, axis: Axis = None, keepdims: bool = False) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        self.n = _count(x.shape, self.axis) or math.nan  # the mean of nothing
        if x.dtype == np.float16:  # their sum may be beyond 65,504
            total = x.sum(self.axis, np.float32, keepdims=self.keepdims)
            return (total / self.n).astype(x.dtype)
        return x.sum(self.axis, keepdims=self.keepdims) / self.n

    def vjp(self, g: Any) -> tuple[Any]:
        return (Spread(self.before, self.axis)(g / self.n),)


def mean(
    input: Any,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """The mean; nan of nothing. Raises RuntimeError for integers, whose mean is not one."""
    x = input if dtype is None else cast(input, np.dtype(dtype))
    kind = (x.value if isinstance(x, Node) else x).dtype.kind
    if kind != "f":
        raise RuntimeError("mean of integers: convert with .float(), or give a floating dtype")
    return Mean(_axis(x, dim, axis), keepdim or keepdims)(x)


class Var(Op):
    """y = sum (x - mean)**2 / n along `axis`,  dy/dx = 2 (x - mean) / n."""

    def __init__(self, axis: Axis, keepdims: bool, n: float) -> None:
        self.axis = axis
        self.keepdims = keepdims
        self.n = n

    def forward(self, x: Array) -> Array:
        centred = x - Mean(self.axis, True).forward(x)
        return (centred * centred).sum(self.axis, keepdims=self.keepdims) / self.n

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        centred = x - Mean(self.axis, True)(x)  # its slope adds nothing: the sum of centred is 0
        return (centred * (g.reshape(_kept(x.shape, self.axis)) * (2 / self.n)),)


# --- extremes ------------------------------------------------------------------------------------


def _refuse_nothing(name: str, input: Any, axis: Axis) -> None:
    """Nothing has no largest element."""
    if not _count(tuple(input.shape), axis):
        raise IndexError(f"{name} of nothing: shape {tuple(input.shape)}, dim {axis}")


class Extreme(NamedTuple):
    """What max(x, dim) and its like return."""

    values: Any
    indices: Any


class Amax(Op):
    """y = the largest of x along `axis`: those that are equally large share the gradient."""

    def __init__(self, axis: Axis = None, keepdims: bool = False) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x: Array) -> Array:
        return x.max(self.axis, keepdims=self.keepdims)

    def vjp(self, g: Any, x: Any, y: Any) -> tuple[Any]:
        kept = _kept(x.shape, self.axis)
        largest = (x == y.reshape(kept)) | (x != x)  # y is nan where any x is
        share = g.reshape(kept) / cast(Sum(self.axis, True)(largest), g.dtype)
        return (share * largest,)


class Amin(Amax):
    """y = the smallest of x along `axis`: those that are equally small share the gradient."""

    def forward(self, x: Array) -> Array:
        return x.min(self.axis, keepdims=self.keepdims)


def amax(
    input: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Any:
    """The largest; ties share the gradient."""
    where = _axis(input, dim, axis)
    if where is not None:
        _refuse_nothing("amax", input, where)
    return Amax(where, keepdim or keepdims)(input)


def amin(
    input: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Any:
    """The smallest; ties share the gradient."""
    where = _axis(input, dim, axis)
    if where is not None:
        _refuse_nothing("amin", input, where)
    return Amin(where, keepdim or keepdims)(input)


class MaxAlong(Op):
    """y = x[k] along `axis`, with k the index of the (first) largest, which gets the gradient."""

    def __init__(self, axis: int, keepdims: bool = False) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        self.indices = x.argmax(self.axis, keepdims=self.keepdims)
        return x.max(self.axis, keepdims=self.keepdims)

    def vjp(self, g: Any) -> tuple[Any]:
        kept = _kept(self.before, self.axis)
        n, trailing = self.before[self.axis], (1,) * (len(self.before) - self.axis - 1)
        places = array_module(self.indices).arange(n).reshape(n, *trailing)
        return (g.reshape(kept) * (places == self.indices.reshape(kept)),)


class MinAlong(MaxAlong):
    """y = x[k] along `axis`, with k the index of the (first) smallest, which gets the gradient."""

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        self.indices = x.argmin(self.axis, keepdims=self.keepdims)
        return x.min(self.axis, keepdims=self.keepdims)


def _extreme(op: type[MaxAlong], input: Any, dim: int, keepdim: bool) -> Extreme:
    if not input.shape:
        normal_dim(dim, 0)
        return Extreme(Identity()(input), wrap(np.zeros_like(input.value, np.int64)))
    along = op(normal_dim(dim, len(input.shape)), keepdim)
    _refuse_nothing(op.__name__, input, along.axis)
    values = along(input)
    return Extreme(values, wrap(along.indices))


def max(
    input: Any,
    dim: Any = None,
    keepdim: bool = False,
    *,
    other: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """The largest: of all; with `dim`, (values, indices) along it; of two tensors, elementwise."""
    if other is not None or isinstance(dim, Node):
        return maximum(input, dim if other is None else other)
    dim = axis if dim is None else dim
    return Amax()(input) if dim is None else _extreme(MaxAlong, input, dim, keepdim or keepdims)


def min(
    input: Any,
    dim: Any = None,
    keepdim: bool = False,
    *,
    other: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """The smallest: of all; with `dim`, (values, indices) along it; of two tensors, elementwise."""
    if other is not None or isinstance(dim, Node):
        return minimum(input, dim if other is None else other)
    dim = axis if dim is None else dim
    return Amin()(input) if dim is None else _extreme(MinAlong, input, dim, keepdim or keepdims)


def argmax(input: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None) -> Any:
    """The index of the (first) largest; in the flattened tensor without `dim`."""
    where = _searched("argmax", input, dim if axis is None else axis)
    return unrecorded(lambda x: x.argmax(where, keepdims=keepdim), input)


def argmin(input: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None) -> Any:
    """The index of the (first) smallest; in the flattened tensor without `dim`."""
    where = _searched("argmin", input, dim if axis is None else axis)
    return unrecorded(lambda x: x.argmin(where, keepdims=keepdim), input)


def _searched(name: str, input: Any, dim: int | None) -> int | None:
    """The axis along which to search, as NumPy takes it."""
    ndim = len(input.shape)
    if dim is not None:
        dim = normal_dim(dim, ndim)
    if not ndim:
        dim = None
    _refuse_nothing(name, input, dim)
    return dim


def all(input: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None) -> Any:
    """Whether every element is nonzero."""
    where = _axis(input, dim, axis)
    return unrecorded(lambda x: x.all(where, keepdims=keepdim), input)


def any(input: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None) -> Any:
    """Whether some element is nonzero."""
    where = _axis(input, dim, axis)
    return unrecorded(lambda x: x.any(where, keepdims=keepdim), input)


# --- running sums, products ----------------------------------------------------------------------


class Cumsum(Op):
    """y[k] = x[0] + ... + x[k] along `axis`; from the end with `reverse`, as its gradient runs."""

    def __init__(self, axis: int, reverse: bool = False) -> None:
        self.axis = axis
        self.reverse = reverse

    def forward(self, x: Array) -> Array:
        if self.reverse:
            return np.flip(np.flip(x, self.axis).cumsum(self.axis), self.axis)
        return x.cumsum(self.axis)

    def vjp(self, g: Any) -> tuple[Any]:
        return (Cumsum(self.axis, not self.reverse)(g),)


def cumsum(input: Any, dim: Any = None, *, dtype: Any = None, axis: Any = None) -> Any:
    """The running sum along `dim`."""
    dim = axis if dim is None else dim
    x = _summable(input, dtype)
    normal_dim(dim, len(x.shape))
    return Cumsum(dim)(x) if x.shape else x


def _before(x: Array) -> Array:
    """y[k] = x[0] ... x[k-1] along the first axis: the running product without its last factor."""
    y = np.ones_like(x)
    y[1:] = np.cumprod(x[:-1], 0)
    return y


class Prod(Op):
    """y = the product of x along `axis`,  dy/dx[k] = the product of the others, zeros or not."""

    def __init__(self, axis: int | None = None, keepdims: bool = False) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x: Array) -> Array:
        return x.prod(self.axis, keepdims=self.keepdims)

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        along = x.reshape(-1) if self.axis is None else np.moveaxis(x, self.axis, 0)
        others = _before(along) * _before(along[::-1])[::-1]
        others = others.reshape(x.shape) if self.axis is None else np.moveaxis(others, 0, self.axis)
        return (g.reshape(_kept(x.shape, self.axis)) * others,)

    def twin(self, x: Any) -> Any:
        """The first half times the second, until one is left."""
        shape = self.shape
        x = x.reshape(-1) if self.axis is None else x.movedim(self.axis, 0)
        y = 1.0
        while (n := x.shape[0]) > 1:
            if n % 2:
                y = x[n // 2] * y
            x = x[: n // 2] * x[n - n // 2 :]
        return (sum(x, 0) * y if n else sum(x, 0) + y).reshape(shape)


def prod(
    input: Any,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """The product; of integers and booleans in int64."""
    x = _summable(input, dtype)
    dim = axis if dim is None else dim
    if dim is not None:
        normal_dim(dim, len(x.shape))
    return Prod(dim if x.shape else None, keepdim or keepdims)(x)


class Cumprod(Op):
    """y[k] = x[0] ... x[k] along `axis`.

    With s[k] = g[k] + x[k+1] s[k+1], the gradient of x[k] is (x[0] ... x[k-1]) s[k]: right with
    zeros, where the usual formula divides by x.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        return np.cumprod(x, self.axis)

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        x, s = np.moveaxis(x, self.axis, 0), np.moveaxis(g, self.axis, 0).copy()
        for k in range(len(x) - 2, -1, -1):
            s[k] += x[k + 1] * s[k + 1]
        return (np.moveaxis(_before(x) * s, 0, self.axis),)

    def twin(self, x: Any) -> Any:
        """x[0], x[0] x[1], ... one after the other."""
        along = x.movedim(self.axis, 0)
        if not len(along):
            return Identity()(x)
        parts = [along[0]]
        for k in range(1, len(along)):
            parts.append(parts[-1] * along[k])
        return stack(parts, self.axis)


def cumprod(input: Any, dim: Any = None, *, dtype: Any = None, axis: Any = None) -> Any:
    """The running product along `dim`."""
    dim = axis if dim is None else dim
    x = _summable(input, dtype)
    normal_dim(dim, len(x.shape))
    return Cumprod(dim)(x) if x.shape else x


# --- norms and softmax ---------------------------------------------------------------------------


class Norm(Op):
    """y = (sum |x|**p)**(1/p),  dy/dx = sign(x) (|x| / y)**(p-1);  0 where y = 0."""

    def __init__(self, p: float = 2.0, axis: Axis = None, keepdims: bool = False) -> None:
        self.p = p
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x: Array) -> Array:
        if self.p == 2:
            return np.sqrt((x * x).sum(self.axis, keepdims=self.keepdims))
        return (np.abs(x) ** self.p).sum(self.axis, keepdims=self.keepdims) ** (1 / self.p)

    def vjp(self, g: Any, x: Any, y: Any) -> tuple[Any]:
        kept = _kept(x.shape, self.axis)
        y = y + (y == 0)
        if self.p == 2:
            return (x * (g / y).reshape(kept),)
        ratio = abs(x) / y.reshape(kept) + (x == 0)  # at 0 the sign makes it 0, whatever p
        return (g.reshape(kept) * (Sign()(x) * ratio ** (self.p - 1)),)


def norm(
    input: Any,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """The p-norm, 2 by default; inf and -inf: the largest and smallest |x|; 0 counts nonzeros."""
    x = input if dtype is None else cast(input, np.dtype(dtype))
    keep = keepdim or keepdims
    where = _axis(x, dim, axis)
    if p == "fro" or p is None:
        p = 2.0
    if isinstance(p, str):
        raise RuntimeError(f"norm: p must be a number or 'fro', not {p!r}")
    if p == math.inf:
        return Amax(where, keep)(abs(x))
    if p == -math.inf:
        return Amin(where, keep)(abs(x))
    if p == 0:
        return Sum(where, keep)(cast(x != 0, x.dtype) + x * 0)
    if p == 1:
        return Sum(where, keep)(abs(x))
    return Norm(float(p), where, keep)(floating(x))


class LogSumExp(Op):
    """y = log(sum exp(x)),  dy/dx = exp(x - y)."""

    def __init__(self, axis: Axis, keepdims: bool = False) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x: Array) -> Array:
        self.lowest = float(np.finfo(x.dtype).min)
        if not x.size:
            with np.errstate(divide="ignore"):
                return np.log(x.sum(self.axis, keepdims=self.keepdims))
        top = x.max(self.axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)  # -inf - -inf would be nan
        with np.errstate(divide="ignore"):  # log(0) = -inf is right where all x are
            y = np.log(np.exp(x - top).sum(self.axis, keepdims=True)) + top
        return y if self.keepdims else y.squeeze(self.axis)

    def vjp(self, g: Any, x: Any, y: Any) -> tuple[Any]:
        kept = _kept(x.shape, self.axis)
        y = clamp(y, self.lowest)  # where all x are -inf: exp(-inf - -inf) would be nan
        return (g.reshape(kept) * Exp()(x - y.reshape(kept)),)


def logsumexp(
    input: Any, dim: Any, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Any:
    """log(sum(exp(input))) without overflow; -inf of nothing but -inf."""
    x = floating(input)
    return LogSumExp(_axis(x, dim, axis), keepdim or keepdims)(x)


class Softmax(Op):
    """y = exp(x) / sum exp(x),  gx = y g - y sum(y g)."""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        if not x.size:
            return x
        y = np.exp(x - x.max(self.axis, keepdims=True))
        y /= y.sum(self.axis, keepdims=True)
        return y

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        yg = y * g
        return (yg - y * yg.sum(self.axis, keepdims=True),)


class LogSoftmax(Op):
    """y = x - log(sum exp(x)),  gx = g - exp(y) sum(g)."""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        if not x.size:
            return x
        x = x - x.max(self.axis, keepdims=True)
        return x - np.log(np.exp(x).sum(self.axis, keepdims=True))

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        return (g - Exp()(y) * g.sum(self.axis, keepdims=True),)


def softmax(input: Any, dim: Any = None, *, dtype: Any = None, axis: Any = None) -> Any:
    """Positive numbers that sum to 1 along `dim`."""
    x = floating(input if dtype is None else cast(input, np.dtype(dtype)))
    return Softmax(_one_axis("softmax", x, dim, axis))(x)


def log_softmax(input: Any, dim: Any = None, *, dtype: Any = None, axis: Any = None) -> Any:
    """log(softmax(input)), without its overflow and underflow."""
    x = floating(input if dtype is None else cast(input, np.dtype(dtype)))
    return LogSoftmax(_one_axis("log_softmax", x, dim, axis))(x)


def _one_axis(name: str, x: Any, dim: Any, axis: Any) -> Axis:
    if dim is None and axis is None:
        raise TypeError(f"{name} needs to know along which dim: -1 is the last")
    one = normal_dim(axis if dim is None else dim, len(x.shape))
    return one if x.shape else ()
