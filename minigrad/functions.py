"""Functions composed from primitives: their gradients, of every order, follow."""

from __future__ import annotations

import math
from typing import Any

from minigrad.ops.elementwise import square
from minigrad.ops.reductions import Norm, Sum, _axis, _count, mean


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
    centred, n, where = _centred(input, dim, axis, unbiased, correction)
    return Sum(where, keepdim or keepdims)(square(centred)) / n


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
    centred, n, where = _centred(input, dim, axis, unbiased, correction)
    return Norm(2.0, where, keepdim or keepdims)(centred) / math.sqrt(n)


def _centred(
    input: Any, dim: Any, axis: Any, unbiased: bool | None, correction: float | None
) -> tuple[Any, float, Any]:
    """x - mean, n - correction (nan where the variance is), and the axes."""
    if isinstance(dim, bool):  # PyTorch's var(unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    where = _axis(input, dim, axis)
    centred = input - mean(input, where, True)
    n = _count(tuple(input.shape), where) - correction
    return centred, n if n > 0 else math.nan, where
