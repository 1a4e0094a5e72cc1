"""Reading and writing parts of a tensor: `x[i]`, `x[i] = v`, and all that follows from them.

Three ops do it. `GetItem` reads, `AddAt` adds into zeros, `SetItem` writes into a copy.  Reading
and adding are each other's gradient, to any order:  y = x[i]  means  gx[i] += gy.  Where an index
is repeated, its gradients add up; they are added in a fixed order on every device, so that the same
run gives the same bits.
"""

from __future__ import annotations

import operator
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Node, Op, unbroadcast, wrap
from minigrad.device import array_module, device, to_device
from minigrad.dtypes import cast, int64
from minigrad.ops.selection import Where
from minigrad.ops.shape import as_sizes, expand, flatten, movedim, normal_dim, normal_dims, reshape

_ALL = slice(None)
_BASIC = (int, slice, np.integer, np.bool)
Index = Any  # what may stand in brackets, with arrays of the same device in place of tensors


def _plain(index: Any, x: Any) -> Index:
    """`index` with arrays in place of tensors, lists and ranges, ready for the array of `x`.

    Arrays of the user's are copied: they may be written to before the gradient needs them.
    Raises IndexError for anything but integers and bools.
    """
    if type(index) is int or index is None or (type(index) is slice and index.step is None):
        return index
    if type(index) is tuple:
        return tuple([_plain_part(part, x) for part in index])
    return _plain_part(index, x)


def _plain_part(part: Any, x: Any) -> Any:
    if isinstance(part, slice) and part.step == 0:
        raise ValueError("slice step cannot be zero")
    if part is None or part is Ellipsis or isinstance(part, _BASIC):
        return part
    if isinstance(part, Node):
        value = part.value
    elif isinstance(part, list | tuple | range):
        value = np.array(part)
        if not value.size:
            value = value.astype(int64)  # an empty list has NumPy's float64
    elif hasattr(part, "dtype"):
        value = part.copy()
    else:
        kind = TypeError if isinstance(part, str) else IndexError
        raise kind(
            f"a tensor cannot be indexed by {type(part).__name__} {part!r:.40}: use integers, "
            "slices, None, '...', or tensors, arrays and lists of integers or bools"
        )
    if value.dtype.kind not in "ib":
        raise IndexError(
            f"tensors used as indices must be of integers or bools, not {value.dtype}"
            + (" (mask or positions? say .bool() or .long())" if value.dtype.kind == "u" else "")
        )
    like = x.value if isinstance(x, Node) else x
    return value if isinstance(value, type(like)) else array_module(like).asarray(value)


def _has_positions(index: Index) -> bool:
    """Whether integer arrays are in the index: then it may name an element more than once."""
    return type(index) is not int and any(
        hasattr(part, "dtype") and part.ndim > 0 and part.dtype.kind == "i"
        for part in (index if type(index) is tuple else (index,))
    )


class GetItem(Op):
    """y = x[index]."""

    def __init__(self, index: Index) -> None:
        self.index = index

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        index = self.index
        if type(index) is type(x) and index.dtype.kind == "i":
            return x.take(index, 0)  # an embedding: twice as fast as x[index]
        return x[index]

    def vjp(self, g: Any) -> tuple[Any]:
        return (AddAt(self.index, self.before)(g),)


def getitem(input: Any, index: Any) -> Any:
    """`input[index]`, with NumPy's rules for the shape of the result.

    Raises IndexError for a position out of range (not for those in an array on a GPU: looking
    would make it wait) and for indices that are not integers or bools.
    """
    return GetItem(_plain(index, input))(input)


class AddAt(Op):
    """y = zeros of a given shape, y[index] += x."""

    def __init__(self, index: Index, shape: tuple[int, ...]) -> None:
        self.index = index
        self.new = shape

    def forward(self, x: Array) -> Array:
        if _has_positions(self.index):
            return _add_at(x, self.index, self.new)
        y = array_module(x).zeros(self.new, x.dtype)
        y[self.index] = x  # nothing is named twice
        return y

    def vjp(self, g: Any) -> tuple[Any]:
        return (GetItem(self.index)(g),)


def _places(like: Array, index: Index, shape: tuple[int, ...]) -> Array:
    """The number of each element that `index` names, counted through an array of `shape`."""
    return array_module(like).arange(prod(shape)).reshape(shape)[index]


def _add_at(x: Array, index: Index, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape`, to which `x` is added at `index`, repeated positions and all."""
    if type(index) is not tuple:
        index = (index,)
    others = [i for i, part in enumerate(index) if type(part) is not slice or part != _ALL]
    if len(others) == 1:  # an embedding: one array names whole slices along one dimension
        dim = others[0]
        where, rows = index[dim].reshape(-1), shape[dim]
        before, after = prod(shape[:dim]), prod(shape[dim + 1 :])
    else:  # each element has a number
        rows = prod(shape)
        where = _places(x, index, shape).reshape(-1)
        before = after = 1
    where = where.astype(np.int64, copy=False)  # `where + rows` may not fit an int8
    where = np.where(where < 0, where + rows, where)
    x = x.reshape(before, where.size, after).swapaxes(0, 1).reshape(where.size, before * after)
    y = add_rows(x, where, rows)  # (rows, before * after)
    return y.reshape(rows, before, after).swapaxes(0, 1).reshape(shape)


def add_rows(x: Array, where: Array, rows: int) -> Array:
    """Sum the rows of `x` (N, D) that go to the same place: y (rows, D), y[where[n]] += x[n]."""
    if x.size == 0:
        return array_module(x).zeros((rows, x.shape[1]), x.dtype)
    if not isinstance(x, np.ndarray):
        return _add_rows_by_doubling(x, where, rows)
    if x.shape[1] == 1 and x.dtype.kind == "f" and rows <= 16 * len(x):
        return np.bincount(where, x[:, 0], rows).astype(x.dtype)[:, None]
    if rows <= 2**16:
        where = where.astype(np.uint16)  # eight times faster to sort
    order = where.argsort(kind="stable")
    where = where[order]
    starts = np.flatnonzero(np.concatenate(([True], where[1:] != where[:-1])))
    y = np.zeros((rows, x.shape[1]), x.dtype)
    if x.size < 1024 * len(starts):
        y[where[starts]] = np.add.reduceat(x.take(order, 0), starts, axis=0)
        return y
    # Few sums, and long: a product with ones for each is up to ten times faster.
    ones = np.ones(len(x), x.dtype)
    for start, end in pairwise([*starts.tolist(), len(x)]):
        y[where[start]] = ones[start:end] @ x.take(order[start:end], 0)
    return y


def _add_rows_by_doubling(x: Array, where: Array, rows: int) -> Array:
    """`add_rows` in log2(N) parallel steps, in a fixed order and without waiting for the GPU.

    Sorted, the rows that belong together are neighbours.  After step s = 1, 2, 4, ... row n holds
    the sum of its own and the following up to 2 s - 1 rows that go to the same place; in the end
    the first of them holds all.
    """
    order = where.argsort(kind="stable")
    where, x = where[order], x[order]
    step = 1
    while step < len(x):
        together = (where[:-step] == where[step:])[:, None]
        x = np.concatenate([x[:-step] + np.where(together, x[step:], 0), x[-step:]])
        step *= 2
    places = array_module(x).arange(rows)
    first = np.minimum(np.searchsorted(where, places), len(x) - 1)
    return np.where((where[first] == places)[:, None], x[first], 0)


class SetItem(Op):
    """y = x, except y[index] = v.  Where an index is repeated, its last value stays."""

    def __init__(self, index: Index) -> None:
        self.index = index

    def forward(self, x: Array, v: Array) -> Array:
        y = x.copy()
        self.v_shape: tuple[int, ...] = getattr(v, "shape", ())
        if hasattr(v, "shape") and _has_positions(self.index):
            v, self.residuals = self._last_values(x, v)
        y[self.index] = v
        return y

    def _last_values(self, x: Array, v: Array) -> tuple[Array, Array]:
        """`v` with each value replaced by the one that stays, and which values those are.

        Without this the value that stays would be a matter of chance on a GPU.
        """
        places = _places(x, self.index, x.shape)
        core = v.shape[max(0, v.ndim - places.ndim) :]
        v = np.broadcast_to(v.reshape(core), places.shape)
        flat = places.reshape(-1)
        order = flat.argsort(kind="stable")  # of those that name the same place, the last is last
        last = order[np.searchsorted(flat[order], flat, side="right") - 1]
        stays = last == array_module(x).arange(last.size)
        return v.reshape(-1)[last].reshape(places.shape), stays.reshape(places.shape)

    def vjp(self, g: Any) -> tuple[Any, Any]:
        gx = gv = None
        if self.wants(0):
            gx = SetItem(self.index)(g, 0)
        if self.wants(1):
            gv = GetItem(self.index)(g)
            if self.residuals is not None:  # what was overwritten had no effect
                gv = Where()(self.residuals, gv, 0)
            core = self.v_shape[max(0, len(self.v_shape) - len(gv.shape)) :]
            gv = unbroadcast(gv, core).reshape(self.v_shape)
        return gx, gv


def setitem(input: Any, index: Any, value: Any) -> Any:
    """A copy of `input` with `value`, broadcast, at `index`: what `input[index] = value` records.

    Raises IndexError for a position out of range, RuntimeError for a value that does not fit.
    """
    dtype = input.dtype
    if isinstance(value, list | tuple | np.generic):
        value = np.asarray(value)
    if not hasattr(value, "dtype"):
        if not isinstance(value, int | float):
            raise TypeError(f"cannot write {type(value).__name__} {value!r:.40} into a tensor")
        value = dtype.type(value).item()  # a number, cut to an integer where x has integers
    elif isinstance(input, Node):
        like = input.value
        if not isinstance(value, Node):
            value = wrap(array_module(like).asarray(value))
        value = cast(value, dtype)
    return SetItem(_plain(index, input))(input, value)


def masked_select(input: Any, mask: Any) -> Any:
    """The elements of `input` where `mask` holds, as a vector; the two broadcast together."""
    if mask.dtype.kind != "b":
        raise RuntimeError(f"masked_select needs a mask of bools, got {mask.dtype}")
    shape = np.broadcast_shapes(tuple(input.shape), tuple(mask.shape))
    return getitem(expand(input, shape), expand(mask, shape))


# --- along one dimension ------------------------------------------------------------------------


def index_select(input: Any, dim: int, index: Any) -> Any:
    """The slices of `input` at `index` (a vector) along `dim`.

    Raises IndexError for a position out of range.
    """
    if index.dtype.kind != "i":
        raise RuntimeError(f"index_select: index must be of integers, not {index.dtype}")
    if len(index.shape) > 1:
        raise IndexError(f"index_select: index must be a vector, got shape {tuple(index.shape)}")
    dim = normal_dim(dim, len(input.shape))
    if not input.shape:
        return input
    where = index.value if isinstance(index, Node) else index
    if isinstance(where, np.ndarray) and where.size and where.min() < 0:
        raise IndexError(f"index_select: index {where.min()} is out of range")
    return getitem(input, (*(slice(None),) * dim, reshape(index, -1)))


def select(input: Any, dim: int, index: int) -> Any:
    """The slice at `index` along `dim`, without that dimension. Raises IndexError out of range."""
    before = (slice(None),) * normal_dim(dim, input.ndim)
    return getitem(input, (*before, operator.index(index)))


def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """`length` places along `dim`, from `start` on.

    Raises IndexError for a start out of range, RuntimeError if there are not so many.
    """
    dim, start = normal_dim(dim, input.ndim), operator.index(start)
    n = input.shape[dim]
    if not -n <= start <= n:
        raise IndexError(f"narrow: start {start} is out of range for a dimension of {n}")
    start += n if start < 0 else 0
    if not 0 <= length <= n - start:
        raise RuntimeError(f"narrow: start {start} and length {length} exceed a dimension of {n}")
    return getitem(input, (*(slice(None),) * dim, slice(start, start + length)))


def diff(input: Any, n: int = 1, dim: int = -1) -> Any:
    """y_t = x_(t+1) - x_t along `dim`, `n` times."""
    for _ in range(n):
        length = input.shape[normal_dim(dim, input.ndim)]
        later = narrow(input, dim, min(1, length), max(length - 1, 0))
        earlier = narrow(input, dim, 0, max(length - 1, 0))
        input = later - earlier if input.dtype.kind != "b" else later ^ earlier
    return input


def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """`input` with alpha source[i] added to its slice index[i], along `dim`.

    Raises IndexError for a position out of range (on the CPU: looking would make a GPU wait).
    """
    dim = normal_dim(dim, len(input.shape))
    where = _plain((*(slice(None),) * dim, index), input)
    rows, size = where[-1], input.shape[dim]
    if isinstance(rows, np.ndarray) and rows.size and not 0 <= rows.min() <= rows.max() < size:
        raise IndexError(f"index_add: positions must be from 0 to {size - 1} along dim {dim}")
    _same_dtype("index_add", input, source)
    expected = (*input.shape[:dim], *index.shape, *input.shape[dim + 1 :])
    if tuple(source.shape) != expected:
        raise RuntimeError(
            f"index_add: source has shape {tuple(source.shape)}, expected {expected}"
        )
    return input + AddAt(where, tuple(input.shape))(source if alpha == 1 else source * alpha)


def _along(name: str, input: Any, dim: int, index: Any) -> Index:
    """The index arrays that name, for each element of `index`, a place of `input`.

    For dim = 1:  input[i, index[i, j]].  Raises RuntimeError as PyTorch does, for a position out of
    range (on the CPU: looking would make a GPU wait) and for shapes that do not fit.
    """
    shape, ndim = tuple(index.shape), len(input.shape)
    dim = normal_dim(dim, ndim)
    if index.dtype.kind != "i":
        raise RuntimeError(f"{name}: index must be of integers, not {index.dtype}")
    if len(shape) != ndim or any(
        n > m for i, (n, m) in enumerate(zip(shape, input.shape, strict=True)) if i != dim
    ):
        raise RuntimeError(
            f"{name}: index of shape {shape} for a tensor of shape {tuple(input.shape)} along dim "
            f"{dim}: as many dimensions are needed, none larger, apart from dim {dim}"
        )
    where = _plain_part(index, input)
    size = input.shape[dim] if ndim else 1
    if isinstance(where, np.ndarray) and where.size and (where.min() < 0 or where.max() >= size):
        bad = where.min() if where.min() < 0 else where.max()
        raise RuntimeError(f"{name}: index {bad} is out of bounds for dim {dim} with size {size}")
    if not ndim:
        return ()
    places = [
        array_module(where).arange(n).reshape((-1,) + (1,) * (ndim - 1 - i))
        for i, n in enumerate(shape)
    ]
    places[dim] = where
    return tuple(places)


def _same_dtype(name: str, input: Any, source: Any) -> None:
    if input.dtype != source.dtype:
        raise RuntimeError(f"{name}: input has dtype {input.dtype}, source {source.dtype}")


def gather(input: Any, dim: int, index: Any) -> Any:
    """Elements picked along `dim`; for dim = 1:  y[i, j] = input[i, index[i, j]].

    Raises RuntimeError for a position out of range and for shapes that do not fit.
    """
    return GetItem(_along("gather", input, dim, index))(input)


def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """`gather`, where the other dimensions broadcast; without `dim`, from the flattened input."""
    if dim is None:
        return gather(flatten(input), 0, flatten(indices))
    dim = normal_dim(dim, len(input.shape))
    if len(input.shape) != len(indices.shape):
        raise RuntimeError(
            f"take_along_dim: input of shape {tuple(input.shape)} and indices of shape "
            f"{tuple(indices.shape)} must have as many dimensions"
        )
    size = input.shape[dim]
    shapes = [(*x.shape[:dim], 1, *x.shape[dim + 1 :]) for x in (input, indices)]
    common = np.broadcast_shapes(*shapes)
    indices = expand(indices, (*common[:dim], indices.shape[dim], *common[dim + 1 :]))
    indices = Where()(indices < 0, indices + size, indices)
    return gather(expand(input, (*common[:dim], size, *common[dim + 1 :])), dim, indices)


def scatter(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None) -> Any:
    """`input` with src written along `dim`; for dim = 1:  y[i, index[i, j]] = src[i, j].

    `src` may be a number.  Where a place is named twice the last value stays, and only it has a
    gradient.
    """
    src = value if src is None else src
    where = _along("scatter", input, dim, index)
    if hasattr(src, "dtype"):
        _same_dtype("scatter", input, src)
        src = _cut("scatter", src, tuple(index.shape))
    return setitem(input, where, src)


def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """`input` with src added along `dim`; for dim = 1:  y[i, index[i, j]] += src[i, j]."""
    where = _along("scatter_add", input, dim, index)
    _same_dtype("scatter_add", input, src)
    src = _cut("scatter_add", src, tuple(index.shape))
    return input + AddAt(where, tuple(input.shape))(src)


def _cut(name: str, src: Any, shape: tuple[int, ...]) -> Any:
    """The corner of `src` that has the index's shape: PyTorch lets it be larger."""
    if tuple(src.shape) == shape:
        return src
    if len(src.shape) != len(shape) or any(n > m for n, m in zip(shape, src.shape, strict=True)):
        raise RuntimeError(f"{name}: src of shape {tuple(src.shape)}, index of shape {shape}")
    return GetItem(tuple([slice(n) for n in shape]))(src)


def repeat_interleave(input: Any, repeats: Any, dim: int | None = None) -> Any:
    """Each slice along `dim` repeated in place, all as often or each its own number of times.

    Without `dim` the input is flattened first.
    """
    if dim is None:
        input, dim = flatten(input), 0
    dim = normal_dim(dim, len(input.shape))
    size = input.shape[dim]
    counts = repeats.value if isinstance(repeats, Node) else np.asarray(repeats)
    counts = to_device(counts, device("cpu"))
    if counts.ndim > 1 or counts.size not in (1, size):
        raise RuntimeError(f"repeat_interleave: {counts.size} repeats for {size} slices")
    return index_select(input, dim, np.repeat(np.arange(size), counts))


def flip(input: Any, *chosen: Any, dims: Any = None) -> Any:
    """The elements in reverse order along `dims`."""
    chosen = normal_dims(as_sizes(chosen, dims), len(input.shape))
    back, same = slice(None, None, -1), slice(None)
    return GetItem(tuple([back if i in chosen else same for i in range(len(input.shape))]))(input)


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The elements (i, i + offset) of dimensions `dim1` and `dim2`, as a new last dimension."""
    ndim = len(input.shape)
    dim1, dim2 = normal_dim(dim1, ndim), normal_dim(dim2, ndim)
    if dim1 == dim2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    x = movedim(input, (dim1, dim2), (-2, -1))
    n, m = x.shape[-2:]
    if offset >= 0:
        start, count = offset, max(0, min(n, m - offset))
    else:
        start, count = -offset * m, max(0, min(n + offset, m))
    rows = reshape(x, (*x.shape[:-2], n * m))  # (i, i + offset) lie m + 1 apart
    return GetItem((..., slice(start, start + count * (m + 1), m + 1) if count else slice(0)))(rows)


def tril(input: Any, diagonal: int = 0) -> Any:
    """The last two dimensions with zeros above the diagonal (of that number; 0 the main one)."""
    return Where()(_lower("tril", input, diagonal), input, input.dtype.type(0).item())


def triu(input: Any, diagonal: int = 0) -> Any:
    """The last two dimensions with zeros below the diagonal (of that number; 0 the main one)."""
    return Where()(_lower("triu", input, diagonal - 1), input.dtype.type(0).item(), input)


def _lower(name: str, input: Any, diagonal: int) -> Array:
    if len(input.shape) < 2:
        raise RuntimeError(f"{name}: needs at least 2 dimensions, got {tuple(input.shape)}")
    like = input.value if isinstance(input, Node) else input
    return array_module(like).tri(*input.shape[-2:], diagonal, dtype=bool)


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """A new last dimension with 1 at the given position and 0 elsewhere, as int64.

    Without `num_classes` it is the largest position + 1.  Raises RuntimeError for positions that
    are not integers or, on the CPU, out of range (looking would make a GPU wait).
    """
    index = tensor.value if isinstance(tensor, Node) else np.asarray(tensor)
    if index.dtype.kind != "i":
        raise RuntimeError(f"one_hot: positions must be of integers, not {index.dtype}")
    if num_classes == -1:
        if not index.size:
            raise RuntimeError("one_hot: the number of classes cannot be seen from no positions")
        num_classes = int(index.max()) + 1
    if isinstance(index, np.ndarray) and index.size:
        if index.min() < 0:
            raise RuntimeError(f"one_hot: class values must be non-negative, got {index.min()}")
        if index.max() >= num_classes:
            raise RuntimeError(
                f"one_hot: class values must be smaller than num_classes {num_classes}, "
                f"got {index.max()}"
            )
    classes = array_module(index).arange(num_classes)
    return wrap((index[..., None] == classes).astype(int64))
