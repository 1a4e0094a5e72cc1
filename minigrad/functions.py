"""Functions composed from primitives: their gradients, of every order, follow."""

from __future__ import annotations

import math
from typing import Any

from minigrad.ops.reductions import Norm, Var, _axis, _count, mean


def var(
    input: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """sum((x - mean)**2) / (n - correction); the correction is 1, or 0 with unbiased=False."""
    n, where = _freedom(input, dim, axis, unbiased, correction)
    return Var(where, keepdim or keepdims, n)(input)


def std(
    input: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """The square root of `var`. Its gradient is 0 where all elements are equal."""
    n, where = _freedom(input, dim, axis, unbiased, correction)
    centred = input - mean(input, where, True)
    return Norm(2.0, where, keepdim or keepdims)(centred) / math.sqrt(n)


def _freedom(
    input: Any, dim: Any, axis: Any, unbiased: bool | None, correction: float | None
) -> tuple[float, Any]:
    """n - correction (nan where the variance is), and the axes."""
    if input.dtype.kind != "f":
        raise RuntimeError(f"var and std are of floating numbers, not {input.dtype}: use .float()")
    if isinstance(dim, bool):  # PyTorch's var(unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    where = _axis(input, dim, axis)
    n = _count(input.shape, where) - correction
    return n if n > 0 else math.nan, where
