"""Tensor: a Node with PyTorch's operators and methods, almost all one line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from minigrad import device as devices
from minigrad.autograd import engine
from minigrad.autograd.engine import Array, Node, wrap
from minigrad.dtypes import DType
from minigrad.ops import arithmetic, elementwise, indexing, linalg, selection, sorting
from minigrad.ops import shape as shapes


class Tensor(Node):
    """An array that autograd knows."""

    __slots__ = ()
    __hash__ = object.__hash__  # by identity: == is elementwise

    # --- what it is -----------------------------------------------------------------------------

    @property
    def dtype(self) -> DType:
        return self.value.dtype

    @property
    def device(self) -> devices.device:
        return devices.device_of(self.value)

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def is_leaf(self) -> bool:
        return self.op is None

    @property
    def grad_fn(self) -> engine.Op | None:
        return self.op

    # --- autograd -------------------------------------------------------------------------------

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """See `engine.backward`."""
        engine.backward(self, gradient, retain_graph, create_graph)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to (or through) this value."""
        return self.live

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        if self.op is not None and not requires_grad:
            raise RuntimeError(
                "requires_grad can be switched off on leaf tensors only, and this one was made by "
                f"{self.op.name}. If you want its value without its history, take .detach()"
            )
        if requires_grad and self.value.dtype.kind != "f":
            raise RuntimeError(
                f"only tensors of a floating dtype can require gradients, not {self.value.dtype}: "
                "convert with .float() first"
            )
        self.live = requires_grad

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward() has added up here, or None."""
        return self._grad

    @grad.setter
    def grad(self, grad: Tensor | None) -> None:
        if grad is not None:
            if not isinstance(grad, Node):
                raise TypeError(f"grad must be a Tensor or None, not {type(grad).__name__}")
            mine, other = self.value, grad.value
            if grad is self or other.shape != mine.shape or other.dtype != mine.dtype:
                raise RuntimeError(
                    f"the grad assigned has shape {other.shape} and dtype {other.dtype}, the "
                    f"tensor {mine.shape} and {mine.dtype}: they must be equal"
                )
        self._grad = grad

    def detach(self) -> Tensor:
        """The same value, with no history."""
        return wrap(self.value)

    def item(self) -> Any:
        return self.value.item()

    def numpy(self) -> Array:
        """A read-only view."""
        view = self.value.view()
        view.flags.writeable = False
        return view

    # --- in place -------------------------------------------------------------------------------

    def _become(self, new: Any) -> Tensor:
        """Take over the value and the history of `new`: what every in-place method ends with."""
        raise NotImplementedError

    # --- operators ------------------------------------------------------------------------------

    __add__ = arithmetic.add
    __mul__ = arithmetic.mul

    tanh = elementwise.tanh

    # --- shape, indexing, linear algebra, sorting ---

    reshape = shapes.reshape
    view = shapes.view
    reshape_as = shapes.reshape_as
    flatten = shapes.flatten
    unflatten = shapes.unflatten
    squeeze = shapes.squeeze
    unsqueeze = shapes.unsqueeze
    permute = shapes.permute
    transpose = shapes.transpose
    swapaxes = shapes.swapaxes
    swapdims = shapes.swapdims
    t = shapes.t
    movedim = shapes.movedim
    moveaxis = shapes.moveaxis
    expand = shapes.expand
    expand_as = shapes.expand_as
    broadcast_to = shapes.broadcast_to
    contiguous = shapes.contiguous
    repeat = shapes.repeat
    tile = shapes.tile
    split = shapes.split
    chunk = shapes.chunk
    unbind = shapes.unbind
    roll = shapes.roll
    view_as = shapes.reshape_as
    T = property(shapes.reversed_dims)
    mT = property(shapes.matrix_transpose)  # noqa: N815
    masked_select = indexing.masked_select
    index_select = indexing.index_select
    index_add = indexing.index_add
    gather = indexing.gather
    take_along_dim = indexing.take_along_dim
    scatter = indexing.scatter
    scatter_add = indexing.scatter_add
    repeat_interleave = indexing.repeat_interleave
    flip = indexing.flip
    diagonal = indexing.diagonal
    tril = indexing.tril
    triu = indexing.triu
    masked_fill = selection.masked_fill
    nonzero = selection.nonzero
    matmul = linalg.matmul
    mm = linalg.mm
    bmm = linalg.bmm
    mv = linalg.mv
    dot = linalg.dot
    outer = linalg.outer
    addmm = linalg.addmm
    __matmul__ = linalg.matmul
    sort = sorting.sort
    argsort = sorting.argsort
    topk = sorting.topk
    unique = sorting.unique
    bincount = sorting.bincount
    __getitem__ = indexing.getitem

    def __rmatmul__(self, other: Any) -> Tensor:
        return linalg.matmul(other, self)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._become(indexing.setitem(self, index, value))

    def where(self, condition: Any, other: Any) -> Tensor:
        """The elements of self where `condition` holds, else those of `other`."""
        return selection.where(condition, self, other)

    def masked_fill_(self, mask: Any, value: Any) -> Tensor:
        return self._become(selection.masked_fill(self, mask, value))

    def index_add_(self, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Tensor:
        return self._become(indexing.index_add(self, dim, index, source, alpha=alpha))

    def scatter_(self, dim: int, index: Any, src: Any = None, *, value: Any = None) -> Tensor:
        return self._become(indexing.scatter(self, dim, index, src, value=value))

    def scatter_add_(self, dim: int, index: Any, src: Any) -> Tensor:
        return self._become(indexing.scatter_add(self, dim, index, src))

    # --- end of shape, indexing, linear algebra, sorting ---


class _Data(Tensor):
    """`x.data`: reads as x and writes through to x, with no history. Writes are noticed."""

    # an alias of its owner, `value` reading and replacing the owner's value


Node.result_type = Tensor


def tensor(
    data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor with a copy of `data`."""
    value = np.array(data)
    if dtype is None and value.dtype.kind == "f" and not hasattr(data, "dtype"):
        dtype = np.float32
    return wrap(value.astype(dtype) if dtype else value, None, requires_grad)
