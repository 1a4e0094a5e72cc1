"""Choosing between values by a condition."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Node, Op, wrap
from minigrad.dtypes import cast, operands, result_type


class Where(Op):
    """y = a where the condition holds, else b.  An unchosen NaN or infinity leaves no trace."""

    broadcasts = True

    def forward(self, condition: Array, a: Array, b: Array) -> Array:
        return np.where(condition, a, b)

    def vjp(self, g: Any, condition: Any) -> tuple[None, Any, Any]:
        to_a = Where()(condition, g, 0) if self.wants(1) else None
        return None, to_a, Where()(condition, 0, g) if self.wants(2) else None


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """`input` where `condition` holds, else `other`; all three broadcast together.

    With the condition alone: the positions where it holds, one index tensor for each dimension.
    Raises TypeError if only one of the two values is given, RuntimeError if the condition is not
    of bools.
    """
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if input is None or other is None:
        raise TypeError("where() takes the condition alone, or the condition and both values")
    if condition.dtype.kind != "b":
        raise RuntimeError(f"where expected a condition of bools, got {condition.dtype}")
    if not hasattr(input, "dtype") and not hasattr(other, "dtype"):  # where(mask, 1.0, 0.0)
        dtype = result_type(input, other)
        if type(input) is not type(other):
            input, other = dtype.type(input).item(), dtype.type(other).item()
        return cast(Where()(condition, input, other), dtype)
    return Where()(condition, *operands(input, other))


def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """The positions of the elements that are not 0: a row for each, or a tuple of columns."""
    value = input.value if isinstance(input, Node) else input
    if as_tuple:
        return tuple([wrap(column) for column in np.nonzero(np.atleast_1d(value))])
    return wrap(np.argwhere(value))


def _check_mask(name: str, mask: Any) -> None:
    if mask.dtype.kind != "b":
        raise RuntimeError(f"{name} needs a mask of bools, got {mask.dtype}")


def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """`input` with `value` (a number or a tensor without dimensions) where `mask` holds.

    Raises RuntimeError for a mask that is not of bools, or a value with dimensions.
    """
    _check_mask("masked_fill", mask)
    if not hasattr(value, "dtype"):
        value = input.dtype.type(value).item()
    elif value.shape:
        raise RuntimeError(
            f"masked_fill: the value must have no dimensions, got shape {tuple(value.shape)}; "
            "use where"
        )
    else:
        value = cast(value, input.dtype)
    return Where()(mask, value, input)
