"""Tensor: a Node with PyTorch's operators and methods, almost all one line each."""

from __future__ import annotations

import builtins
import copy
import functools
import itertools
import math
import operator
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from minigrad import functions
from minigrad.autograd import engine, gradients
from minigrad.autograd.engine import Array, Identity, Node, Op, wrap
from minigrad.autograd.grad_mode import grad_mode
from minigrad.device import device as Device
from minigrad.device import device_of, to_device
from minigrad.dtypes import DType, ToDevice, cast, get_default_dtype
from minigrad.ops import (
    arithmetic,
    creation,
    elementwise,
    indexing,
    linalg,
    reductions,
    selection,
    sorting,
)
from minigrad.ops import shape as shapes
from minigrad.ops.creation import tensor as tensor
from minigrad.ops.elementwise import Overwrite


def _operator(
    op: type[Op], function: Callable[..., Any], for_all: bool = True
) -> Callable[[Any, Any], Any]:
    """The method for a binary operator: straight to `op` where nothing has to be converted.

    An `op` that is not `for_all` is for two tensors of a floating dtype.
    """

    def method(self: Node, other: Any) -> Any:
        if isinstance(other, Node):
            x, y = self.value, other.value
            if x.dtype is y.dtype and type(x) is type(y) and (for_all or x.dtype.kind == "f"):
                return op()(self, other)
        elif type(other) in (float, int) and for_all and self.value.dtype.kind == "f":
            return op()(self, float(other))
        elif not (isinstance(other, _OPERANDS) or hasattr(other, "dtype")):
            return NotImplemented
        return function(self, other)

    return method


def _checked(function: Callable[..., Any], swapped: bool = False) -> Callable[[Any, Any], Any]:
    """The method for a binary operator (reflected, with `swapped`) that takes any operand."""

    def method(self: Node, other: Any) -> Any:
        if not (isinstance(other, _OPERANDS) or hasattr(other, "dtype")):
            return NotImplemented
        return function(other, self) if swapped else function(self, other)

    return method


_OPERANDS = (Node, *engine._NUMBERS)  # and whatever has a dtype


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """The operator that computes `function` of the tensor and makes it the tensor's value."""

    def method(self: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
        return self._become(function(self, *arguments, **keywords))

    return method


def _warns_if_lost(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method`, with a warning where PyTorch would have written to more (see `_is_lost`)."""

    @functools.wraps(method)
    def warning(self: Tensor, *arguments: Any, **keywords: Any) -> Any:
        if self.value.base is not None and _is_lost(sys.getrefcount(self), self):
            warnings.warn(_LOST, stacklevel=2)
        return method(self, *arguments, **keywords)

    return warning


def _in_place_method(function: Callable[..., Any]) -> Callable[..., Any]:
    """`_in_place` under a method's name: unlike an operator's result, the tensor may have none."""
    return _warns_if_lost(_in_place(function))


_LOST = (
    "this writes to a copy, as tensors are values: what the part was taken from stays as it is. "
    "Write to the whole: x[i] = v, x[i] += v, x[i, j] = v"
)


def _is_lost(references: int, tensor: Tensor) -> bool:
    """Whether a write to `tensor` is to a part of another that has no name, as in `x[0].zero_()`.

    PyTorch writes to x there.  Here nobody would see it.  `references` is what sys.getrefcount said
    of the tensor in the method that was called.
    """
    return (
        references == _NAMELESS
        and type(tensor) is Tensor  # the parts of `x.data` do write to x
        and (tensor.op is None or type(tensor.op) is indexing.GetItem)
        and sys.getrefcount(tensor.value.base) > 2  # the other is still there
        and min(tensor.value.strides, default=0) >= 0  # flipped, it is a copy in PyTorch, too
    )


# Of a tensor without a name, the method that was called holds one reference, and getrefcount the
# other. (From Python 3.14 on a name's is not counted either: no telling.)
_NAMELESS = 2 if sys.version_info < (3, 14) else 0


class Handle:
    """What `register_hook` returns: `remove()` takes the hook away again."""

    def __init__(self, place: Op | Node, key: int) -> None:
        self._place = weakref.ref(place)
        self._key = key

    def remove(self) -> None:
        place = self._place()
        if place is not None and place.hooks:
            place.hooks.pop(self._key, None)


_hook_keys = itertools.count()
_RETAIN = -1  # the key of the hook that retain_grad() sets: one for each tensor


class Tensor(Node):
    """An array that autograd knows.

    Called like PyTorch's class, `Tensor(2, 3)` is uninitialized, `Tensor([1, 2])` has these
    numbers, both in the default dtype.  `minigrad.tensor` is what you want.
    """

    __slots__ = ()
    __hash__ = object.__hash__  # by identity: == is elementwise
    __array_ufunc__ = None  # NumPy leaves `array * tensor` to us, and np.exp(tensor) is a TypeError

    def __new__(cls, *data: Any) -> Any:
        return creation.of_type(get_default_dtype(), *data)

    # --- what it is -----------------------------------------------------------------------------

    dtype = property(operator.attrgetter("value.dtype"))
    ndim = property(operator.attrgetter("value.ndim"))

    @property
    def device(self) -> Device:
        return device_of(self.value)

    @property
    def is_cuda(self) -> builtins.bool:
        return self.device.type == "cuda"

    @property
    def itemsize(self) -> builtins.int:
        return self.value.itemsize

    @property
    def nbytes(self) -> builtins.int:
        return self.value.nbytes

    @property
    def is_leaf(self) -> builtins.bool:
        return self.op is None

    @property
    def grad_fn(self) -> Op | None:
        """The op that made it, if that was recorded."""
        return self.op

    def size(self, dim: builtins.int | None = None) -> Any:
        """The shape, or how long it is along `dim`."""
        return self.shape if dim is None else self.shape[shapes.normal_dim(dim, self.ndim)]

    def dim(self) -> builtins.int:
        return self.value.ndim

    ndimension = dim

    def numel(self) -> builtins.int:
        return self.value.size

    def nelement(self) -> builtins.int:
        return self.value.size

    def element_size(self) -> builtins.int:
        return self.value.itemsize

    def is_floating_point(self) -> builtins.bool:
        return self.value.dtype.kind == "f"

    def is_contiguous(self) -> builtins.bool:
        return self.value.flags.c_contiguous

    def __repr__(self) -> str:
        return _repr(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if not self.ndim else object.__format__(self, spec)

    # --- autograd -------------------------------------------------------------------------------

    def backward(
        self,
        gradient: Any = None,
        retain_graph: builtins.bool | None = None,
        create_graph: builtins.bool = False,
        inputs: Any = None,
    ) -> None:
        """See `gradients.backward`."""
        gradients.backward(self, gradient, retain_graph, create_graph, inputs)

    @property
    def requires_grad(self) -> builtins.bool:
        """Whether gradients flow to (or through) this value."""
        return self.live

    @requires_grad.setter
    def requires_grad(self, requires_grad: builtins.bool) -> None:
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
        self.live = builtins.bool(requires_grad)

    def requires_grad_(self, requires_grad: builtins.bool = True) -> Self:
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self) -> Any:
        """The gradient that backward() has added up here, or None."""
        return self._grad

    @grad.setter
    def grad(self, grad: Any) -> None:
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

    @property
    def data(self) -> Tensor:
        """An alias without history: what is written to it is written here, and noticed."""
        return _Data._of(self)

    @data.setter
    def data(self, new: Node) -> None:
        if not isinstance(new, Node):
            raise TypeError(f"data must be a Tensor, not {type(new).__name__}")
        if self.live and new.value.dtype.kind != "f":
            raise RuntimeError(f"data of dtype {new.value.dtype} cannot require a gradient")
        self.value = new.value
        self.note_write()

    def detach(self) -> Tensor:
        """The same value, with no history."""
        return wrap(self.value)

    def detach_(self) -> Self:
        """Forget the history."""
        self.op = None
        self.live = False
        return self

    def clone(self) -> Tensor:
        """The same value as a tensor of its own. (Tensors are values: nothing has to be copied.)"""
        # a copy of a part: not to be taken for one
        return Identity()(self) if self.value.base is None else shapes.copied(self)

    def retain_grad(self) -> None:
        """Let backward() leave the gradient in `.grad`, though this is not a leaf."""
        if not self.live:
            raise RuntimeError("retain_grad() on a tensor that does not require grad")
        if self.op is not None:
            self._add_hook(_RETAIN, _keep_in(weakref.ref(self)))

    @property
    def retains_grad(self) -> builtins.bool:
        return self.op is not None and _RETAIN in (self.op.hooks or ())

    def register_hook(self, hook: Callable[[Any], Any]) -> Handle:
        """Let backward() call `hook(gradient)`; what it returns, unless None, takes its place."""
        if not self.live:
            raise RuntimeError("register_hook() on a tensor that does not require grad")
        key = next(_hook_keys)
        self._add_hook(key, hook)
        return Handle(self.edge, key)

    def _add_hook(self, key: builtins.int, hook: Callable[[Any], Any]) -> None:
        place = self.edge
        hooks = dict(place.hooks or {})
        hooks[key] = hook
        retain = hooks.pop(_RETAIN, None)
        if retain is not None:
            hooks[_RETAIN] = retain  # last: it keeps the gradient that the others made
        place.hooks = hooks

    # --- values for the outside -----------------------------------------------------------------

    def item(self) -> Any:
        """The one element as a Python number. Raises RuntimeError if there is not exactly one."""
        if self.value.size != 1:
            raise RuntimeError(f"item() needs exactly one element; the shape is {self.shape}")
        return self.value.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self.value.tolist()

    def numpy(self, *, force: builtins.bool = False) -> Array:
        """Read-only, in C order: a view, or a copy of what lies in another.

        `force` detaches and moves to the CPU first.
        Raises RuntimeError if it requires grad, TypeError if it is on a GPU.
        """
        value = self.value
        if not force:
            if self.live:
                raise RuntimeError(
                    "numpy() on a tensor that requires grad: use .detach().numpy(), and remember "
                    "that no gradient flows through it"
                )
            if not isinstance(value, np.ndarray):
                raise TypeError(f"numpy() on a tensor on {self.device}: use .cpu().numpy()")
        view = np.asarray(to_device(value, Device("cpu")), order="C").view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: builtins.bool | None = None) -> Array:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"{array.dtype} to {np.dtype(dtype)} needs a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **keywords: Any) -> Any:
        if self.live:
            raise BufferError("a tensor that requires grad cannot be exported: .detach() it first")
        return self.value.copy().__dlpack__(**keywords)  # a copy: others may write to it

    def __dlpack_device__(self) -> Any:
        return self.value.__dlpack_device__()

    def __bool__(self) -> builtins.bool:
        if self.value.size != 1:
            raise RuntimeError(
                f"the truth of a tensor of shape {self.shape} is ambiguous: use .any() or .all()"
            )
        return builtins.bool(self.value.item())

    def __float__(self) -> builtins.float:
        return builtins.float(self._one())

    def __int__(self) -> builtins.int:
        return builtins.int(self._one())

    def _one(self) -> Any:
        if self.value.size != 1:
            raise ValueError(f"only a tensor of one element is a number, not one of {self.shape}")
        return self.value.item()

    def __index__(self) -> builtins.int:
        if self.value.dtype.kind not in "iub" or self.value.size != 1:
            raise TypeError(
                f"only an integer tensor of one element is an index, not {self.shape} {self.dtype}"
            )
        return builtins.int(self.value.item())

    def __len__(self) -> builtins.int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(shapes.unbind(self))

    def __contains__(self, element: Any) -> builtins.bool:
        return builtins.bool((self == element).any())

    def __deepcopy__(self, memo: dict[builtins.int, Any]) -> Any:
        self._refuse_history("copied")
        new = object.__new__(type(self))
        new._set(self.value.copy(), self.live)
        new._grad = copy.deepcopy(self._grad, memo)
        return new

    def __reduce_ex__(self, protocol: Any) -> Any:
        self._refuse_history("pickled")
        return _rebuilt, (type(self), self.value, self.live)

    def _refuse_history(self, what: str) -> None:
        if self.op is not None:
            raise RuntimeError(
                f"a tensor made by {self.op.name} cannot be {what}: its history cannot. "
                ".detach() it first"
            )

    def _set(self, value: Array, live: builtins.bool = False) -> None:
        """Make a bare object a leaf with this value."""
        self.value = value
        self.op = None
        self.live = live
        self._grad = self.hooks = None
        self.written = 0

    # --- in place -------------------------------------------------------------------------------

    def _become(self, new: Any) -> Self:
        """Take over the value and the history of `new`: what every in-place method ends with.

        A recorded write is an op like any other: what was computed from the old value keeps it, so
        every gradient stays right.  A write that is not recorded is noted (see `Op.check_fresh`).
        Raises RuntimeError for a leaf that requires grad (unless under no_grad), for another
        shape, and for a dtype of a higher kind.
        """
        if self.live and self.op is None and grad_mode.enabled:
            raise RuntimeError(
                "a leaf tensor that requires grad was changed in place: where would its gradient "
                "go? Change it under no_grad (as an optimizer does), or compute a new tensor"
            )
        if new.value.shape != self.value.shape:
            raise RuntimeError(
                f"an in-place operation gave shape {new.value.shape} for a tensor of shape "
                f"{self.value.shape}, which cannot change"
            )
        if new.value.dtype != self.value.dtype:
            kinds = "biuf"
            if kinds.index(new.value.dtype.kind) > kinds.index(self.value.dtype.kind):
                raise RuntimeError(
                    f"an in-place operation gave {new.value.dtype}, which a tensor of dtype "
                    f"{self.value.dtype} cannot hold: convert it first"
                )
            new = cast(new, self.value.dtype)
        self.value = new.value
        if new.live:
            retained = self.retains_grad
            if retained:
                self.op.hooks.pop(_RETAIN)  # type: ignore[union-attr]
            self.op = new.op
            self.live = True
            if retained:
                self.retain_grad()
        elif self.live:
            self.note_write()
        return self

    @_warns_if_lost
    def copy_(self, src: Any, non_blocking: builtins.bool = False) -> Self:
        """Take the values of `src`, broadcast and converted; its gradient flows there."""
        if not isinstance(src, Node):
            src = creation.tensor(src)
        if device_of(src.value) != self.device:
            src = ToDevice(self.device)(src)
        return self._become(Overwrite()(self, cast(src, self.dtype)))

    @_warns_if_lost
    def fill_(self, value: Any) -> Self:
        if isinstance(value, Node):
            if value.shape:
                raise RuntimeError(f"fill_: the value must have no dimensions, not {value.shape}")
            return self.copy_(value)
        return self._become(Overwrite()(self, value))

    @_warns_if_lost
    def zero_(self) -> Self:
        return self.fill_(0)

    @_warns_if_lost
    def uniform_(
        self, from_: builtins.float = 0.0, to: builtins.float = 1.0, *, generator: Any = None
    ) -> Self:
        """Numbers from the uniform distribution on [from_, to)."""
        drawn = creation.uniform(self.shape, self.dtype, generator)
        return self._draw(drawn * (to - from_) + from_)

    @_warns_if_lost
    def normal_(
        self, mean: builtins.float = 0.0, std: builtins.float = 1.0, *, generator: Any = None
    ) -> Self:
        """Numbers from a normal distribution."""
        return self._draw(creation.normal(self.shape, self.dtype, generator) * std + mean)

    def bernoulli_(self, p: builtins.float = 0.5, *, generator: Any = None) -> Self:
        """1 with probability p, else 0."""
        drawn = creation.uniform(self.shape, np.dtype(np.float64), generator) < p
        return self._draw(np.asarray(drawn).astype(self.dtype))

    def _draw(self, host: Array) -> Self:
        value = to_device(np.asarray(host), self.device)
        return self._become(Overwrite()(self, wrap(value)))

    add_ = _in_place_method(arithmetic.add)
    sub_ = _in_place_method(arithmetic.sub)
    mul_ = _in_place_method(arithmetic.mul)
    div_ = _in_place_method(arithmetic.div)
    pow_ = _in_place_method(arithmetic.pow)
    neg_ = _in_place_method(arithmetic.neg)
    remainder_ = _in_place_method(arithmetic.remainder)
    floor_divide_ = _in_place_method(arithmetic.floor_divide)
    clamp_ = clip_ = _in_place_method(arithmetic.clamp)
    exp_ = _in_place_method(elementwise.exp)
    log_ = _in_place_method(arithmetic.log)
    sqrt_ = _in_place_method(elementwise.sqrt)
    rsqrt_ = _in_place_method(elementwise.rsqrt)
    square_ = _in_place_method(elementwise.square)
    abs_ = _in_place_method(elementwise.abs)
    reciprocal_ = _in_place_method(elementwise.reciprocal)
    sigmoid_ = _in_place_method(elementwise.sigmoid)
    tanh_ = _in_place_method(elementwise.tanh)
    relu_ = _in_place_method(elementwise.relu)
    sin_ = _in_place_method(elementwise.sin)
    cos_ = _in_place_method(elementwise.cos)
    floor_ = _in_place_method(elementwise.floor)
    ceil_ = _in_place_method(elementwise.ceil)
    round_ = _in_place_method(elementwise.round)
    sign_ = _in_place_method(elementwise.sign)
    cumsum_ = _in_place_method(reductions.cumsum)
    __iadd__ = _in_place(arithmetic.add)
    __isub__ = _in_place(arithmetic.sub)
    __imul__ = _in_place(arithmetic.mul)
    __itruediv__ = _in_place(arithmetic.div)
    __ipow__ = _in_place(arithmetic.pow)
    __imod__ = _in_place(arithmetic.remainder)
    __ifloordiv__ = _in_place(arithmetic.floor_divide)
    __iand__ = _in_place(arithmetic.bitwise_and)
    __ior__ = _in_place(arithmetic.bitwise_or)
    __ixor__ = _in_place(arithmetic.bitwise_xor)

    def addcmul_(self, tensor1: Any, tensor2: Any, *, value: builtins.float = 1) -> Self:
        """Add value * tensor1 * tensor2."""
        return self._become(self + tensor1 * tensor2 * value)

    def addcdiv_(self, tensor1: Any, tensor2: Any, *, value: builtins.float = 1) -> Self:
        """Add value * tensor1 / tensor2."""
        return self._become(self + tensor1 / tensor2 * value)

    def lerp_(self, end: Any, weight: Any) -> Self:
        """Move towards `end` by the fraction `weight`."""
        return self._become(self + (end - self) * weight)

    # --- arithmetic -----------------------------------------------------------------------------

    __add__ = __radd__ = _operator(arithmetic.Add, arithmetic.add)
    __sub__ = _operator(arithmetic.Sub, arithmetic.sub)
    __rsub__ = _checked(arithmetic.sub, swapped=True)
    __mul__ = __rmul__ = _operator(arithmetic.Mul, arithmetic.mul)
    __truediv__ = _operator(arithmetic.Div, arithmetic.div, for_all=False)
    __rtruediv__ = _checked(arithmetic.div, swapped=True)
    __floordiv__ = _checked(arithmetic.floor_divide)
    __rfloordiv__ = _checked(arithmetic.floor_divide, swapped=True)
    __mod__ = _checked(arithmetic.remainder)
    __rmod__ = _checked(arithmetic.remainder, swapped=True)
    __pow__ = _checked(arithmetic.pow)
    __rpow__ = _checked(arithmetic.pow, swapped=True)
    __neg__ = neg = arithmetic.neg
    __abs__ = abs = elementwise.abs
    __eq__ = _checked(arithmetic.eq)
    __ne__ = _checked(arithmetic.ne)
    __lt__ = _checked(arithmetic.lt)
    __le__ = _checked(arithmetic.le)
    __gt__ = _checked(arithmetic.gt)
    __ge__ = _checked(arithmetic.ge)
    __and__ = __rand__ = _checked(arithmetic.bitwise_and)
    __or__ = __ror__ = _checked(arithmetic.bitwise_or)
    __xor__ = __rxor__ = _checked(arithmetic.bitwise_xor)
    __invert__ = bitwise_not = arithmetic.bitwise_not

    def __pos__(self) -> Self:
        return self

    add = arithmetic.add
    sub = arithmetic.sub
    mul = arithmetic.mul
    div = arithmetic.div
    pow = arithmetic.pow
    remainder = arithmetic.remainder
    floor_divide = arithmetic.floor_divide
    maximum = arithmetic.maximum
    minimum = arithmetic.minimum
    clamp = clip = arithmetic.clamp
    eq = arithmetic.eq
    ne = arithmetic.ne
    lt = arithmetic.lt
    le = arithmetic.le
    gt = arithmetic.gt
    ge = arithmetic.ge
    logical_and = arithmetic.logical_and
    logical_or = arithmetic.logical_or
    logical_xor = arithmetic.logical_xor
    logical_not = arithmetic.logical_not
    bitwise_and = arithmetic.bitwise_and
    bitwise_or = arithmetic.bitwise_or
    bitwise_xor = arithmetic.bitwise_xor
    isclose = arithmetic.isclose
    allclose = arithmetic.allclose
    equal = arithmetic.equal

    # --- elementwise ----------------------------------------------------------------------------

    exp = elementwise.exp
    expm1 = elementwise.expm1
    log = arithmetic.log
    log1p = elementwise.log1p
    sqrt = elementwise.sqrt
    rsqrt = elementwise.rsqrt
    square = elementwise.square
    reciprocal = elementwise.reciprocal
    sin = elementwise.sin
    cos = elementwise.cos
    tan = elementwise.tan
    sinh = elementwise.sinh
    cosh = elementwise.cosh
    tanh = elementwise.tanh
    sigmoid = elementwise.sigmoid
    relu = elementwise.relu
    softplus = elementwise.softplus
    sign = elementwise.sign
    floor = elementwise.floor
    ceil = elementwise.ceil
    trunc = elementwise.trunc
    round = elementwise.round
    isnan = elementwise.isnan
    isinf = elementwise.isinf
    isfinite = elementwise.isfinite

    # --- reductions -----------------------------------------------------------------------------

    sum = reductions.sum
    mean = reductions.mean
    prod = reductions.prod
    max = reductions.max
    min = reductions.min
    amax = reductions.amax
    amin = reductions.amin
    argmax = reductions.argmax
    argmin = reductions.argmin
    all = reductions.all
    any = reductions.any
    cumsum = reductions.cumsum
    cumprod = reductions.cumprod
    norm = reductions.norm
    logsumexp = reductions.logsumexp
    softmax = reductions.softmax
    log_softmax = reductions.log_softmax
    var = functions.var
    std = functions.std

    # --- dtype and device -----------------------------------------------------------------------

    def to(self, *arguments: Any, dtype: Any = None, device: Any = None, **keywords: Any) -> Any:
        """`self` in another dtype, on another device, or as another tensor is."""
        copy = keywords.pop("copy", False)
        where, dtype = parse_to(*arguments, dtype=dtype, device=device, **keywords)
        y: Any = self
        if where is not None:
            here = self.device
            if where.type != here.type or where.index not in (None, here.index):
                y = ToDevice(where)(y)
        if dtype is not None:
            y = cast(y, dtype)
        return y.clone() if copy and y is self else y

    def cpu(self) -> Any:
        return self.to(device="cpu")

    def cuda(self, device: Any = None) -> Any:
        return self.to(device="cuda" if device is None else device)

    def type_as(self, other: Node) -> Any:
        if not isinstance(other, Node):
            raise TypeError(f"type_as() takes a Tensor, not {type(other).__name__}")
        return self.to(other)

    def type(self, dtype: Any = None) -> Any:
        """`self` in a dtype, which may be named `"torch.FloatTensor"`; without one, that name."""
        if dtype is None:
            return f"torch.{_CLASSES[self.dtype.name]}"
        name = str(getattr(dtype, "__name__", dtype)).rpartition(".")[2]
        named = {other: of for of, other in _CLASSES.items()}
        return cast(self, np.dtype(named.get(name, dtype)))

    def half(self) -> Any:
        return cast(self, np.dtype(np.float16))

    def float(self) -> Any:
        return cast(self, np.dtype(np.float32))

    def double(self) -> Any:
        return cast(self, np.dtype(np.float64))

    def byte(self) -> Any:
        return cast(self, np.dtype(np.uint8))

    def short(self) -> Any:
        return cast(self, np.dtype(np.int16))

    def int(self) -> Any:
        return cast(self, np.dtype(np.int32))

    def long(self) -> Any:
        return cast(self, np.dtype(np.int64))

    def bool(self) -> Any:
        return cast(self, np.dtype(np.bool_))

    # --- others like it -------------------------------------------------------------------------

    def new_tensor(self, data: Any, *, dtype: Any = None, requires_grad: Any = False) -> Any:
        """`data` in this dtype and place."""
        return creation.tensor(data, dtype or self.dtype, self.device, requires_grad)

    def new_zeros(self, *size: Any, dtype: Any = None, requires_grad: Any = False) -> Any:
        return self._new(creation.zeros, *size, dtype=dtype, requires_grad=requires_grad)

    def new_ones(self, *size: Any, dtype: Any = None, requires_grad: Any = False) -> Any:
        return self._new(creation.ones, *size, dtype=dtype, requires_grad=requires_grad)

    def new_empty(self, *size: Any, dtype: Any = None, requires_grad: Any = False) -> Any:
        return self._new(creation.empty, *size, dtype=dtype, requires_grad=requires_grad)

    def new_full(
        self, size: Any, fill_value: Any, *, dtype: Any = None, requires_grad: Any = False
    ) -> Any:
        return self._new(creation.full, size, fill_value, dtype=dtype, requires_grad=requires_grad)

    def _new(self, function: Any, *arguments: Any, dtype: Any, requires_grad: Any) -> Any:
        return function(
            *arguments,
            dtype=dtype or self.dtype,
            device=self.device,
            requires_grad=requires_grad,
        )

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
    chunk = shapes.chunk
    unbind = shapes.unbind
    roll = shapes.roll
    view_as = shapes.reshape_as
    T = property(shapes.reversed_dims)
    mT = property(shapes.matrix_transpose)  # noqa: N815
    bernoulli = creation.bernoulli
    multinomial = creation.multinomial
    masked_select = indexing.masked_select
    select = indexing.select
    narrow = indexing.narrow
    diff = indexing.diff
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

    def split(self, split_size: Any, dim: builtins.int = 0) -> Any:
        """See `shape.split`."""
        return shapes.split(self, split_size, dim)

    def __rmatmul__(self, other: Any) -> Tensor:
        return linalg.matmul(other, self)

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.value.base is not None and _is_lost(sys.getrefcount(self) - 1, self):
            raise RuntimeError(_LOST)  # Python itself holds one more, and there is no result
        self._become(indexing.setitem(self, index, value))

    def where(self, condition: Any, other: Any) -> Tensor:
        """The elements of self where `condition` holds, else those of `other`."""
        return selection.where(condition, self, other)

    @_warns_if_lost
    def masked_fill_(self, mask: Any, value: Any) -> Tensor:
        return self._become(selection.masked_fill(self, mask, value))

    def index_add_(
        self, dim: builtins.int, index: Any, source: Any, *, alpha: builtins.float = 1
    ) -> Tensor:
        return self._become(indexing.index_add(self, dim, index, source, alpha=alpha))

    def scatter_(
        self, dim: builtins.int, index: Any, src: Any = None, *, value: Any = None
    ) -> Tensor:
        return self._become(indexing.scatter(self, dim, index, src, value=value))

    def scatter_add_(self, dim: builtins.int, index: Any, src: Any) -> Tensor:
        return self._become(indexing.scatter_add(self, dim, index, src))

    # --- end of shape, indexing, linear algebra, sorting ---


class _Data(Tensor):
    """`x.data`: reads as x and writes through to x, with no history. Writes are noticed."""

    __slots__ = ("owner",)

    owner: Tensor

    @classmethod
    def _of(cls, owner: Tensor) -> _Data:
        alias = object.__new__(cls)
        alias.owner = owner
        alias.op = None
        alias.live = False
        alias._grad = alias.hooks = None
        alias.written = 0
        return alias

    @property
    def value(self) -> Array:
        return self.owner.value

    @value.setter
    def value(self, new: Array) -> None:
        self.owner.value = new
        self.owner.note_write()

    def __getitem__(self, index: Any) -> Any:
        """A part of it: `p.data[a:b].fill_(1)` writes to p."""
        parts = index if type(index) is tuple else (index,)
        if builtins.all(p is None or p is ... or type(p) in (int, slice) for p in parts):
            return _Part._of(self, index)
        return super().__getitem__(index)  # a copy, in PyTorch too

    def chunk(self, chunks: builtins.int, dim: builtins.int = 0) -> Any:
        return self.split(-(-self.shape[dim] // chunks), dim)

    def split(self, split_size: Any, dim: builtins.int = 0) -> Any:
        sizes = [part.shape[dim] for part in super().split(split_size, dim)]
        before = (slice(None),) * shapes.normal_dim(dim, self.ndim)
        ends = itertools.accumulate(sizes)
        return tuple([self[(*before, slice(e - n, e))] for n, e in zip(sizes, ends, strict=True)])

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.detach(), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().__reduce_ex__(protocol)


class _Part(_Data):
    """A part of some `x.data`: the values it had when taken, and what is written to it goes to x.

    It is what `p.data[a:b]` gives, and a state_dict holds: training on does not change it.
    """

    __slots__ = ("index", "taken")

    index: Any
    taken: Array

    @classmethod
    def _of(cls, owner: Tensor, index: Any = ...) -> Any:
        part: Any = super()._of(owner)
        part.index = index
        part.taken = owner.value[index]
        return part

    @property
    def value(self) -> Array:
        return self.taken

    @value.setter
    def value(self, new: Array) -> None:
        whole = self.owner.value.copy()
        whole[self.index] = new
        self.taken = new
        self.owner.value = whole


_CLASSES = {  # PyTorch's class of each dtype: x.type() is its name
    "float16": "HalfTensor",
    "float32": "FloatTensor",
    "float64": "DoubleTensor",
    "uint8": "ByteTensor",
    "int8": "CharTensor",
    "int16": "ShortTensor",
    "int32": "IntTensor",
    "int64": "LongTensor",
    "bool": "BoolTensor",
}


Node.result_type = Tensor


def _keep_in(tensor: weakref.ref[Tensor]) -> Callable[[Any], None]:
    """The hook of retain_grad: it holds the tensor weakly, or op and tensor would form a cycle."""

    def keep(g: Any) -> None:
        owner = tensor()
        if owner is not None:
            owner._grad = g if owner._grad is None else owner._grad + g

    return keep


def _rebuilt(cls: type[Tensor], value: Array, live: bool) -> Any:
    """A pickled tensor, back."""
    new = object.__new__(cls)
    new._set(value, live)
    return new


def parse_to(
    *arguments: Any,
    dtype: Any = None,
    device: Any = None,
    tensor: Any = None,
    non_blocking: bool = False,
) -> tuple[Device | None, DType | None]:
    """The device and the dtype that `to(...)` was given, each None if it was not.

    An int is the number of a GPU; True and False are PyTorch's `non_blocking`, and change nothing.
    """
    for argument in (*arguments, tensor):
        if isinstance(argument, Node):
            dtype, device = argument.value.dtype, device_of(argument.value)
        elif isinstance(argument, bool) or argument is None:
            continue
        elif isinstance(argument, Device | str | int):
            device = argument
        else:
            dtype = argument
    return (
        None if device is None else Device(device),
        None if dtype is None else np.dtype(dtype),
    )


def is_tensor(x: Any) -> bool:
    """Whether `x` is a Tensor."""
    return isinstance(x, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Whether it is of a floating dtype."""
    return input.is_floating_point()


def numel(input: Tensor) -> int:
    """How many elements there are."""
    return input.value.size


# --- printing ------------------------------------------------------------------------------------


def _repr(x: Tensor) -> str:
    """As PyTorch prints it: `tensor([1.0000, 2.5000], grad_fn=<Add>)`."""
    value = to_device(x.value, Device("cpu"))
    numbers = _numbers(value) if value.size else "[]"
    notes = []
    if not value.size and value.ndim > 1:
        notes.append(f"size={value.shape}")
    if x.device.type != "cpu":
        notes.append(f"device='{x.device}'")
    if value.dtype not in (get_default_dtype(), np.int64, np.bool_):
        notes.append(f"dtype={value.dtype}")
    if x.op is not None:
        notes.append(f"grad_fn=<{x.op.name}>")
    elif x.live:
        notes.append("requires_grad=True")
    return f"tensor({', '.join([numbers, *notes])})"


def _numbers(value: Array) -> str:
    """The elements in brackets, in columns; the middle of a long tensor left out."""
    edge = 3
    shown = value
    if value.size > 1000:  # only what will be seen decides how it is printed
        for axis, n in enumerate(value.shape):
            if n > 2 * edge:
                shown = np.take(shown, [*range(edge), *range(n - edge, n)], axis)
    if value.dtype.kind != "f":
        return np.array2string(
            value, separator=", ", prefix="tensor(", threshold=1000, max_line_width=81
        ).replace(", ..., ", ",  ..., ")
    write = _float_format(shown.astype(np.float64))
    finite = shown[np.isfinite(shown)].tolist() if value.ndim else []
    width = max([len(write(v)) for v in finite], default=0)
    return np.array2string(
        value,
        separator=", ",
        prefix="tensor(",
        threshold=1000,
        max_line_width=81,
        formatter={"float_kind": lambda v: write(float(v)).rjust(width)},
    ).replace(", ..., ", ",  ..., ")


def _float_format(shown: Array) -> Callable[[float], str]:
    """PyTorch's choice: `1.` for whole numbers, four decimals, or an exponent for a wide range."""
    sizes = np.abs(shown[np.isfinite(shown) & (shown != 0)])
    wide = sizes.size and (sizes.max() > 1e8 or sizes.max() / sizes.min() > 1000)
    if not sizes.size or (sizes == np.ceil(sizes)).all():
        pattern, whole = ("{:.4e}", "") if sizes.size and sizes.max() > 1e8 else ("{:.0f}", ".")
    else:
        pattern, whole = ("{:.4e}" if wide or sizes.min() < 1e-4 else "{:.4f}"), ""

    def write(v: float) -> str:
        return pattern.format(v) + (whole if math.isfinite(v) else "")

    return write
