"""Order: sorting, the largest, counting.  Values have gradients, positions have none."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minigrad.autograd.engine import Array, Node, wrap
from minigrad.device import array_module
from minigrad.dtypes import int64
from minigrad.ops.indexing import AddAt, gather
from minigrad.ops.shape import flatten, normal_dim


class Sorted(NamedTuple):
    """What `sort` and `topk` return."""

    values: Any
    indices: Any


def _order(input: Any, dim: int, descending: bool) -> Array:
    """The positions that sort `input`; equal elements keep their order, NaN counts as largest."""
    value = input.value if isinstance(input, Node) else input
    if not descending:
        return np.argsort(value, axis=dim, kind="stable")
    # Equal elements would come in reverse order if only the result were reversed.
    order = np.argsort(np.flip(value, dim), axis=dim, kind="stable")
    return np.flip(value.shape[dim] - 1 - order, dim)


def _pick(input: Any, dim: int, order: Array) -> Sorted:
    return Sorted(gather(input, dim, order), wrap(order))


def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> Sorted:
    """The elements in order along `dim`, and where they were: (values, indices).

    Always stable, whatever `stable` says; NaN counts as the largest.
    """
    if not input.shape:
        return Sorted(input, wrap(_order(flatten(input), 0, False).reshape(())))
    dim = normal_dim(dim, len(input.shape))
    return _pick(input, dim, _order(input, dim, descending))


def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """The positions that sort `input` along `dim`."""
    return sort(input.detach(), dim, descending).indices


def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Sorted:
    """The k largest (or smallest) elements along `dim`, in order: (values, indices).

    Raises RuntimeError if there are fewer than k.
    """
    dim = normal_dim(dim, len(input.shape))
    size = input.shape[dim] if input.shape else 1
    if not 0 <= k <= size:
        raise RuntimeError(f"topk: selected index k = {k} is out of range for {size} elements")
    if not input.shape:
        found = topk(flatten(input), k, 0, largest)
        return found if k == 0 else Sorted(*[part.reshape(()) for part in found])
    order = _order(input, dim, largest)
    return _pick(input, dim, order[(*(slice(None),) * dim, slice(k))])


def unique(
    input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> Any:
    """The different elements, in order; and on request, where each went and how many there were."""
    values, inverse, counts = np.unique(input.value, return_inverse=True, return_counts=True)
    parts = [wrap(values)]
    if return_inverse:
        parts.append(wrap(inverse.reshape(input.shape)))
    if return_counts:
        parts.append(wrap(counts))
    return tuple(parts) if len(parts) > 1 else parts[0]


def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each of the numbers 0, 1, 2, ... occurs; or the sum of the weights where it does.

    Raises RuntimeError for negative numbers and for what is not a vector of integers.
    """
    value = input.value if isinstance(input, Node) else input
    if value.dtype.kind not in "iu" or value.ndim != 1:
        raise RuntimeError(
            f"bincount: expected a vector of integers, got shape {value.shape} {value.dtype}"
        )
    if value.size and value.min() < 0:
        raise RuntimeError("bincount: expected no negative numbers")
    size = max(minlength, int(value.max()) + 1 if value.size else 0)
    if weights is None:
        return wrap(array_module(value).bincount(value, minlength=size).astype(int64))
    if tuple(weights.shape) != value.shape:
        raise RuntimeError(f"bincount: weights {tuple(weights.shape)} for {value.shape} numbers")
    return AddAt(value.astype(int64), (size,))(weights)
