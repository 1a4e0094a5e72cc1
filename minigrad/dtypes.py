"""Data types, and PyTorch's rules for mixing them. They are NumPy's dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Node, Op, wrap

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


def cast(x: Any, dtype: DType) -> Any:
    """`x` in `dtype`; `x` itself if it has that dtype already."""
    value = x.value if isinstance(x, Node) else x
    return x if value.dtype == dtype else Cast(dtype)(x)


_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


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

    Categories rank bool < integer < float.  Within a category an array with dimensions beats a
    0-d array, and both beat a Python number: `float32 * 2.0` is float32, and so is a float32 vector
    times a float64 scalar.  A higher category always counts: an integer tensor times 2.0 has the
    default dtype.
    """
    (kind_a, rank_a), (kind_b, rank_b) = _kind_and_rank(a), _kind_and_rank(b)
    category_a, category_b = _CATEGORY[kind_a.kind], _CATEGORY[kind_b.kind]
    if rank_a != rank_b and category_a != category_b:
        higher = kind_a if category_a > category_b else kind_b
        lower_rank = rank_a if category_a > category_b else rank_b
        return get_default_dtype() if lower_rank == 0 and higher.kind == "f" else higher
    if rank_a == rank_b:
        return promote_types(kind_a, kind_b)
    return kind_a if rank_a > rank_b else kind_b


def _kind_and_rank(x: Any) -> tuple[DType, int]:
    """Its dtype, and how much that counts: 2 with dimensions, 1 for 0-d arrays, 0 for numbers."""
    if isinstance(x, bool):
        return bool_, 0
    if isinstance(x, int):
        return int64, 0
    if isinstance(x, float):
        return get_default_dtype(), 0
    value = x.value if isinstance(x, Node) else x
    return value.dtype, 2 if value.ndim else 1


def operands(a: Any, b: Any) -> tuple[Any, Any]:
    """`a` and `b` ready for a binary op: one dtype, one device; Python numbers stay what they are.

    Numbers stay because NumPy then follows the array's dtype, while a 0-d float64 array would turn
    a float32 result into float64.  NumPy's own scalars count as Python numbers, as in PyTorch.
    """
    if isinstance(a, Node) and isinstance(b, Node):
        if a.value.dtype == b.value.dtype:
            return a, b
        dtype = result_type(a, b)
        return cast(a, dtype), cast(b, dtype)
    if isinstance(b, Node):
        y, x = operands(b, a)
        return x, y
    if not isinstance(a, Node):
        return a, b
    if isinstance(b, np.generic):
        b = b.item()
    if isinstance(b, bool | int | float):
        dtype = result_type(a, b)
        a = cast(a, dtype)
        return a, float(b) if dtype.kind == "f" else b
    if hasattr(b, "dtype") and hasattr(b, "shape"):
        return operands(a, wrap(b))
    raise TypeError(f"cannot combine a Tensor with {type(b).__name__}: {b!r:.80}")
