"""The same numbers in another arrangement: reshaping, joining, splitting.

Values are views where NumPy gives views: arrays are never written to, so sharing is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Identity, Node, Op, wrap
from minigrad.device import array_module
from minigrad.dtypes import cast, promote_types


def normal_dim(dim: int, ndim: int) -> int:
    """`dim` counted from the front. Raises IndexError if there is no such dimension."""
    n = ndim or 1  # as in PyTorch, a number may be asked for dim 0
    if not -n <= dim < n:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})"
        )
    return dim % n


def normal_dims(dims: Any, ndim: int) -> tuple[int, ...]:
    """Several dimensions, each once. Raises IndexError, or RuntimeError if one comes twice."""
    found = tuple([normal_dim(d, ndim) for d in ((dims,) if isinstance(dims, int) else dims)])
    if len(set(found)) < len(found):
        raise RuntimeError(f"dims {tuple(dims)}: a dimension appears more than once")
    return found


def as_sizes(sizes: tuple[Any, ...], named: Any = None) -> tuple[Any, ...]:
    """`f(2, 3)`, `f((2, 3))` and `f(shape=(2, 3))` mean the same."""
    if named is not None:
        sizes = (*sizes, named)
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        return tuple(sizes[0])
    return sizes


class Reshape(Op):
    """y = x, its elements in the same order, in another shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.new = shape

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        return x.reshape(self.new)

    def vjp(self, g: Any) -> tuple[Any]:
        return (g.reshape(self.before),)


def reshape(input: Any, *sizes: Any, shape: Any = None) -> Any:
    """The same elements in another shape; one size may be -1, found from the others.

    Raises RuntimeError if the number of elements differs.
    """
    return Reshape(_new_shape(sizes, shape))(input)


def _new_shape(sizes: tuple[Any, ...], named: Any) -> tuple[Any, ...]:
    if not sizes and named is None:
        raise TypeError("reshape() needs a shape")
    new = as_sizes(sizes, named)
    if new and min(new) < -1:  # NumPy takes any negative number for -1
        raise RuntimeError(f"reshape: invalid size in {new}")
    return new


def view(input: Any, *sizes: Any, size: Any = None) -> Any:
    """`reshape`: whether memory is shared makes no difference, so no layout is refused."""
    return Reshape(_new_shape(sizes, size))(input)


def reshape_as(input: Any, other: Any) -> Any:
    """`input` in the shape of `other`."""
    return Reshape(tuple(other.shape))(input)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Make one dimension of those from `start_dim` to `end_dim`."""
    shape = tuple(input.shape) or (1,)
    start, end = normal_dim(start_dim, len(shape)), normal_dim(end_dim, len(shape))
    if start > end:
        raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return Reshape((*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]))(input)


def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Any:
    """Split dimension `dim` into dimensions of these sizes; one may be -1."""
    shape = tuple(input.shape)
    dim = normal_dim(dim, len(shape))
    sizes = tuple(sizes)
    if -1 in sizes and prod(sizes) != 0:
        sizes = tuple([shape[dim] // -prod(sizes) if n == -1 else n for n in sizes])
    if prod(sizes) != shape[dim]:
        raise RuntimeError(f"unflatten: sizes {sizes} do not multiply to {shape[dim]}")
    return Reshape((*shape[:dim], *sizes, *shape[dim + 1 :]))(input)


def squeeze(input: Any, dim: int | Sequence[int] | None = None) -> Any:
    """Drop dimensions of size 1: all of them, or those in `dim`; others in `dim` stay."""
    shape = tuple(input.shape)
    dims = range(len(shape)) if dim is None else normal_dims(dim, len(shape))
    return Reshape(tuple([n for i, n in enumerate(shape) if n != 1 or i not in dims]))(input)


def unsqueeze(input: Any, dim: int) -> Any:
    """Insert a dimension of size 1 before dimension `dim`."""
    shape = tuple(input.shape)
    dim = normal_dim(dim, len(shape) + 1)
    return Reshape((*shape[:dim], 1, *shape[dim:]))(input)


class Permute(Op):
    """y = x with its dimensions in another order."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        self.dims = dims

    def forward(self, x: Array) -> Array:
        return x.transpose(self.dims)

    def vjp(self, g: Any) -> tuple[Any]:
        back = [0] * len(self.dims)
        for new, old in enumerate(self.dims):
            back[old] = new
        return (Permute(tuple(back))(g),)


def permute(input: Any, *order: Any, dims: Any = None) -> Any:
    """Reorder the dimensions: the result's dimension i is the input's dimension dims[i]."""
    ndim = len(input.shape)
    order = as_sizes(order, dims)
    if len(order) != ndim:
        raise RuntimeError(f"permute: {len(order)} dims for a tensor with {ndim}")
    return Permute(normal_dims(order, ndim))(input)


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Exchange two dimensions."""
    ndim = len(input.shape)
    a, b = normal_dim(dim0, ndim), normal_dim(dim1, ndim)
    order = list(range(ndim))
    if ndim:
        order[a], order[b] = b, a
    return Permute(tuple(order))(input)


swapaxes = swapdims = transpose


def t(input: Any) -> Any:
    """The transpose of a matrix; a vector or number is returned as it is."""
    ndim = len(input.shape)
    if ndim > 2:
        raise RuntimeError(f"t() expects at most 2 dimensions, got {ndim}; use .mT or .transpose")
    return Permute(tuple(range(ndim))[::-1])(input)


def reversed_dims(input: Any) -> Any:
    """`x.T`: the dimensions in reverse order."""
    return Permute(tuple(range(len(input.shape) - 1, -1, -1)))(input)


def matrix_transpose(input: Any) -> Any:
    """`x.mT`: the last two dimensions exchanged."""
    if len(input.shape) < 2:
        raise RuntimeError(f".mT needs at least 2 dimensions, got shape {tuple(input.shape)}")
    return transpose(input, -2, -1)


def movedim(input: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """Move the dimensions `source` to the places `destination`; the others keep their order."""
    ndim = len(input.shape)
    old, new = normal_dims(source, ndim), normal_dims(destination, ndim)
    if len(old) != len(new):
        raise RuntimeError(f"movedim: {len(old)} source dims, {len(new)} destination dims")
    order = [i for i in range(ndim) if i not in old]
    for place, i in sorted(zip(new, old, strict=True)):
        order.insert(place, i)
    return Permute(tuple(order[:ndim]))(input)


moveaxis = movedim


class BroadcastTo(Op):
    """y = x, repeated along new dimensions and dimensions of size 1."""

    broadcasts = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.new = shape

    def forward(self, x: Array) -> Array:
        return np.broadcast_to(x, self.new)

    def vjp(self, g: Any) -> tuple[Any]:
        return (g,)  # the engine sums over what was repeated


def expand(input: Any, *sizes: Any, size: Any = None) -> Any:
    """Repeat along new leading dimensions and those of size 1; -1 keeps a size.

    Raises RuntimeError where a dimension of another size would have to change.
    """
    new = as_sizes(sizes, size)
    extra = len(new) - len(input.shape)
    if extra < 0 or (extra and min(new[:extra]) < 0):
        raise RuntimeError(f"expand: sizes {new} for a tensor of shape {tuple(input.shape)}")
    if -1 in new:
        new = (*new[:extra], *[m if n == -1 else n for n, m in zip(new[extra:], input.shape)])
    return BroadcastTo(new)(input)


def broadcast_to(input: Any, size: Sequence[int]) -> Any:
    """`expand`, with the sizes in a sequence."""
    return expand(input, tuple(size))


def expand_as(input: Any, other: Any) -> Any:
    """`input` expanded to the shape of `other`."""
    return expand(input, tuple(other.shape))


def contiguous(input: Any) -> Any:
    """`input` itself if its elements lie one after the other in memory, else such a copy."""
    return input if input.value.flags.c_contiguous else copied(input)


def copied(input: Any) -> Any:
    """The same value in memory of its own, its elements one after the other."""
    y = Identity()(input)
    y.value = input.value.copy()
    return y


def repeat(input: Any, *counts: Any, repeats: Any = None) -> Any:
    """The whole tensor repeated, repeats[i] times along dimension i.

    Raises RuntimeError for fewer repeats than dimensions; `tile` takes fewer.
    """
    counts = as_sizes(counts, repeats)
    shape = tuple(input.shape)
    if len(counts) < len(shape):
        raise RuntimeError(f"repeat: {len(counts)} repeats for a tensor of shape {shape}")
    shape = (1,) * (len(counts) - len(shape)) + shape
    apart = [n for size in shape for n in (1, size)]  # (2, 3) -> (1, 2, 1, 3)
    many = [n for pair in zip(counts, shape, strict=True) for n in pair]
    together = [count * size for count, size in zip(counts, shape, strict=True)]
    return reshape(BroadcastTo(tuple(many))(reshape(input, apart)), together)


def tile(input: Any, *counts: Any, dims: Any = None) -> Any:
    """`repeat`, where missing counts are 1."""
    counts = as_sizes(counts, dims)
    return repeat(input, (1,) * (len(input.shape) - len(counts)) + counts)


def _common_dtype(tensors: Sequence[Any]) -> Sequence[Any]:
    """All in the dtype that all fit."""
    several = isinstance(tensors, (list, tuple))
    dtypes: set[Any] = {getattr(x, "dtype", None) for x in tensors} if several else {None}
    if None in dtypes:
        raise TypeError(f"expected a list or tuple of tensors, got {tensors!r:.80}")
    if not dtypes:
        raise RuntimeError("expected a non-empty list of tensors")
    if len(dtypes) == 1:
        return tensors
    dtype = reduce(promote_types, dtypes)
    return [cast(x, dtype) for x in tensors]


def _filled(gradients: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Zeros in place of the gradients of outputs that nobody used."""
    some = next(g for g in gradients if g is not None)
    like = some.value if isinstance(some, Node) else some
    filled = []
    for g, shape in zip(gradients, shapes, strict=True):
        if g is None:
            g = array_module(like).zeros(shape, like.dtype)
            g = wrap(g) if isinstance(some, Node) else g
        filled.append(g)
    return filled


class Cat(Op):
    """y = the inputs, one after the other along an existing dimension."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, *xs: Array) -> Array:
        self.sizes = [x.shape[self.dim] for x in xs]
        return np.concatenate(xs, self.dim)

    def vjp(self, g: Any) -> tuple[Any, ...]:
        return Split(self.sizes, self.dim)(g)


def cat(tensors: Sequence[Any], dim: int = 0, *, axis: int | None = None) -> Any:
    """Join tensors along an existing dimension; the others must agree (else RuntimeError).

    As in PyTorch, empty vectors are skipped: a loop may start from `torch.tensor([])`.
    """
    if isinstance(tensors, list | tuple) and not tensors:
        raise ValueError("cat: expected a non-empty list of tensors")
    dim = dim if axis is None else axis
    given = _common_dtype(tensors)
    xs = [x for x in given if x.shape != (0,)] or given
    if xs[0].shape == ():
        raise RuntimeError("cat: a tensor without dimensions cannot be joined; use stack")
    return Cat(normal_dim(dim, len(xs[0].shape)))(*xs)


concat = concatenate = cat


class Split(Op):
    """y_1, y_2, ... = consecutive pieces of x along a dimension."""

    def __init__(self, sizes: Sequence[int], dim: int) -> None:
        self.sizes = sizes
        self.dim = dim

    def forward(self, x: Array) -> tuple[Array, ...]:
        before: tuple[Any, ...] = (slice(None),) * self.dim
        pieces = []
        start = 0
        for size in self.sizes:
            pieces.append(x[(*before, slice(start, start + size))])
            start += size
        return tuple(pieces)

    def vjp(self, g: Any) -> tuple[Any]:
        return (Cat(self.dim)(*_filled(g, self.shape)),)


def split(tensor: Any, split_size_or_sections: int | Sequence[int], dim: int = 0) -> Any:
    """Pieces of a given size (the last may be smaller), or of the given sizes, as a tuple.

    Raises RuntimeError if given sizes do not add up to the dimension's.
    """
    dim = normal_dim(dim, len(tensor.shape))
    if not tensor.shape:
        raise RuntimeError("split: expects at least a 1-dimensional tensor")
    n = tensor.shape[dim]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0 or (size == 0 and n > 0):
            raise RuntimeError(f"split: a piece cannot have size {size}")
        whole, rest = divmod(n, size or 1)
        sizes = [size] * whole + [rest] * (rest > 0) or [0]
    else:
        sizes = list(split_size_or_sections)
        if sum(sizes) != n or any(size < 0 for size in sizes):
            raise RuntimeError(f"split: sizes {sizes} do not add up to {n}, the size of dim {dim}")
    return Split(sizes, dim)(tensor)


def chunk(input: Any, chunks: int, dim: int = 0) -> Any:
    """At most `chunks` pieces of equal size; the last may be smaller."""
    if chunks <= 0:
        raise RuntimeError(f"chunk: expects chunks to be greater than 0, got {chunks}")
    dim = normal_dim(dim, len(input.shape))
    if not input.shape:
        raise RuntimeError("chunk: expects at least a 1-dimensional tensor")
    n = input.shape[dim]
    return split(input, -(-n // chunks) if n else [0] * chunks, dim)


class Stack(Op):
    """y = the inputs, one after the other along a new dimension."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, *xs: Array) -> Array:
        before: tuple[Any, ...] = (*(slice(None),) * self.dim, None)
        return np.concatenate([x[before] for x in xs], self.dim)

    def vjp(self, g: Any) -> tuple[Any, ...]:
        return Unbind(self.dim)(g)


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join tensors of one shape along a new dimension."""
    xs = _common_dtype(tensors)
    return Stack(normal_dim(dim, len(xs[0].shape) + 1))(*xs)


class Unbind(Op):
    """y_1, y_2, ... = the slices of x along a dimension, which disappears."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, x: Array) -> tuple[Array, ...]:
        before: tuple[Any, ...] = (slice(None),) * self.dim
        return tuple([x[(*before, i, ...)] for i in range(x.shape[self.dim])])

    def vjp(self, g: Any) -> tuple[Any]:
        return (Stack(self.dim)(*_filled(g, self.shape)),)


def unbind(input: Any, dim: int = 0) -> Any:
    """The slices along a dimension, as a tuple: what iterating over a tensor gives."""
    if not input.shape:
        raise IndexError("unbind: a tensor without dimensions has no slices")
    return Unbind(normal_dim(dim, len(input.shape)))(input)


def _at_least(ndim: int, tensors: Sequence[Any]) -> list[Any]:
    return [
        reshape(x, (1,) * (ndim - len(x.shape)) + tuple(x.shape)) if len(x.shape) < ndim else x
        for x in tensors
    ]


def hstack(tensors: Sequence[Any]) -> Any:
    """Join along dimension 1; vectors and numbers along dimension 0."""
    xs = _at_least(1, tensors)
    return cat(xs, 0 if xs and len(xs[0].shape) == 1 else 1)


def vstack(tensors: Sequence[Any]) -> Any:
    """Join along dimension 0; vectors and numbers count as rows."""
    return cat(_at_least(2, tensors), 0)


def roll(input: Any, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Any:
    """Shift the elements along `dims`; those that leave at the end come back at the start.

    Without `dims` the tensor is flattened for the shift.
    """
    if dims is None:
        return reshape(roll(flatten(input), shifts, 0), tuple(input.shape))
    many_shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    many_dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(many_shifts) != len(many_dims):
        raise RuntimeError(f"roll: {len(many_shifts)} shifts for {len(many_dims)} dims")
    for shift, dim in zip(many_shifts, many_dims, strict=True):
        n = input.shape[normal_dim(dim, len(input.shape))]
        if n and shift % n:
            head, tail = split(input, [n - shift % n, shift % n], dim)
            input = cat([tail, head], dim)
    return input
