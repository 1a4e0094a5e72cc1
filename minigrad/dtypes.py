"""Data types, and PyTorch's rules for mixing them. They are NumPy's dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Node, Op, wrap
from minigrad.device import device, device_of, to_device

DType = np.dtype[Any]

float16: DType = np.dtype("float16")
float32: DType = np.dtype("float32")
float64: DType = np.dtype("float64")
int8: DType = np.dtype("int8")
int16: DType = np.dtype("int16")
int32: DType = np.dtype("int32")
int64: DType = np.dtype("int64")
uint8: DType = np.dtype("uint8")
bool_: DType = np.dtype("bool")

_default: DType = float32


def get_default_dtype() -> DType:
    """The dtype that Python floats become: float32 unless changed."""
    return _default


def set_default_dtype(dtype: Any) -> None:
    """Let Python floats become `dtype`. Raises TypeError unless it is a floating dtype."""
    global _default
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"the default dtype must be a floating one, not {np.dtype(dtype)}")
    _default = np.dtype(dtype)


class Cast(Op):
    """y = x in another dtype."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype

    def forward(self, x: Array) -> Array:
        self.before = x.dtype
        return x.astype(self.dtype)

    def vjp(self, g: Any) -> tuple[Any]:
        return (Cast(self.before)(g),)


class ToDevice(Op):
    """y = x on another device."""

    def __init__(self, where: device) -> None:
        self.where = where

    def forward(self, x: Array) -> Array:
        self.before = device_of(x)
        return to_device(x, self.where)

    def vjp(self, g: Any) -> tuple[Any]:
        return (ToDevice(self.before)(g),)


def cast(x: Any, dtype: DType) -> Any:
    """`x` in `dtype`; `x` itself if it has that dtype already.

    No gradient passes through integers or booleans: they move in steps.
    """
    value = x.value if isinstance(x, Node) else x
    if value.dtype == dtype:
        return x
    if dtype.kind != "f" and isinstance(x, Node):
        return wrap(value.astype(dtype))
    return Cast(dtype)(x)


def floating(x: Any) -> Any:
    """`x` if its dtype is a floating one, else `x` in the default dtype: what cos and exp need.

    Raises TypeError for anything but a tensor or an array.
    """
    if isinstance(x, Node):
        kind = x.value.dtype.kind
    elif hasattr(x, "dtype"):
        kind = x.dtype.kind
    else:
        raise TypeError(f"expected a Tensor, not {type(x).__name__}: {x!r:.80}")
    return x if kind == "f" else cast(x, _default)


_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2}


def promote_types(a: Any, b: Any) -> DType:
    """The smallest dtype that both fit, as PyTorch has it: an integer never widens a float."""
    a, b = np.dtype(a), np.dtype(b)
    if a.kind == "f" and b.kind != "f":
        return a
    if b.kind == "f" and a.kind != "f":
        return b
    return np.promote_types(a, b)


def result_type(a: Any, b: Any) -> DType:
    """The dtype of an operation on `a` and `b`: arrays, nodes or Python numbers.

    Categories rank bool < integer < float, and the higher one decides.  Within a category a tensor
    with dimensions beats a 0-d tensor, and both beat a Python number: `float32 * 2.0` is float32,
    and so is a float32 vector times a 0-d float64 tensor.
    """
    (dtype_a, rank_a), (dtype_b, rank_b) = _dtype_and_rank(a), _dtype_and_rank(b)
    category_a, category_b = _CATEGORY[dtype_a.kind], _CATEGORY[dtype_b.kind]
    if category_a != category_b:
        return dtype_a if category_a > category_b else dtype_b
    if rank_a != rank_b:
        return dtype_a if rank_a > rank_b else dtype_b
    return promote_types(dtype_a, dtype_b)


def _dtype_and_rank(x: Any) -> tuple[DType, int]:
    """Its dtype, and how much that counts: 2 with dimensions, 1 for 0-d tensors, 0 for numbers."""
    if isinstance(x, np.generic):
        x = x.item()
    if isinstance(x, bool):
        return bool_, 0
    if isinstance(x, int):
        return int64, 0
    if isinstance(x, float):
        return _default, 0
    value = x.value if isinstance(x, Node) else x
    return value.dtype, 2 if value.ndim else 1


def operands(a: Any, b: Any) -> tuple[Any, Any]:
    """`a` and `b` ready for a binary op: one dtype, one device; Python numbers stay what they are.

    Numbers stay because NumPy then follows the array's dtype, while a 0-d float64 array would turn
    a float32 result into float64.  NumPy's own scalars count as Python numbers, as in PyTorch.
    Raises TypeError for what is neither, and RuntimeError for two devices.
    """
    if isinstance(a, Node):
        if isinstance(b, Node):
            x, y = a.value, b.value
            if x.dtype is y.dtype and type(x) is type(y):
                return a, b
            return _converted(a, b)
        if type(b) in (float, int) and a.value.dtype.kind == "f":
            return a, float(b)
        return _with_number(a, b)
    if isinstance(b, Node):
        y, x = operands(b, a)
        return x, y
    if hasattr(a, "dtype") or hasattr(b, "dtype"):
        return a, b  # arrays: a gradient rule at work
    raise TypeError(f"expected a Tensor, not {type(a).__name__} and {type(b).__name__}")


def _converted(a: Node, b: Node) -> tuple[Any, Any]:
    """Two tensors that differ in dtype or device."""
    dtype = result_type(a, b)
    if device_of(a.value) != device_of(b.value):
        if not a.value.ndim:  # a 0-d tensor on the CPU goes where the other is, as in PyTorch
            a = ToDevice(device_of(b.value))(a)
        elif not b.value.ndim:
            b = ToDevice(device_of(a.value))(b)
        else:
            raise RuntimeError(
                "expected both tensors on one device, but found them on "
                f"{device_of(a.value)} and {device_of(b.value)}: move one with .to(device)"
            )
    return cast(a, dtype), cast(b, dtype)


def _with_number(a: Node, b: Any) -> tuple[Any, Any]:
    """A tensor and a number (or a host array, which becomes a tensor)."""
    if isinstance(b, np.generic):
        b = b.item()
    if isinstance(b, bool | int | float):
        dtype = result_type(a, b)
        a = cast(a, dtype)
        if dtype.kind == "f":
            return a, float(b)
        if dtype.kind != "b" and not (np.iinfo(dtype).min <= b <= np.iinfo(dtype).max):
            b = int(np.array(b).astype(dtype))  # wraps around, as PyTorch does; NumPy refuses
        return a, b
    if hasattr(b, "dtype") and hasattr(b, "shape"):
        return operands(a, wrap(b.copy()))  # its owner may write to it later
    raise TypeError(f"cannot combine a Tensor with {type(b).__name__}: {b!r:.80}")
