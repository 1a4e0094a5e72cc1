"""Gradient clipping, and all parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Node, wrap
from minigrad.memory import joined_among, owned
from minigrad.nn.parameter import Parameter
from minigrad.ops.shape import cat, reshape


def _gradients(parameters: Any) -> tuple[list[Any], list[Array]]:
    """All gradients, and the arrays that they are in, ready to be written to."""
    nodes = [parameters] if isinstance(parameters, Node) else parameters
    nodes = [p for p in nodes if p._grad is not None]
    whole, others = joined_among(nodes)
    arrays = []
    for joined, members in whole:
        room = joined.gradient
        if room is not None and room.holds([p._grad for p in members]) and room.is_alone():
            arrays.append(room.array)
        else:
            others += members
    return [p._grad for p in nodes], [*arrays, *[owned(p._grad) for p in others]]


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Any:
    """Scale all gradients together so that their norm is at most `max_norm` (Pascanu et al. 2013).

        g <- g min(1, max_norm / (norm + 1e-6)),    norm = that of all gradients as one vector

    Returns the norm as it was.  Raises RuntimeError if it is not finite and `error_if_nonfinite`
    (which makes the host wait for a GPU; nothing else here does).
    """
    gradients, arrays = _gradients(parameters)
    if not gradients:
        return wrap(np.zeros((), np.float32))
    norm = _norm([g.value for g in gradients], norm_type)
    if error_if_nonfinite and not math.isfinite(float(norm)):
        raise RuntimeError(
            f"the total norm of order {norm_type} of the gradients is {norm}, so they cannot be "
            "clipped. To clip anyway, set error_if_nonfinite=False"
        )
    scale = np.minimum(max_norm / (norm + 1e-6), 1.0)
    if not isinstance(scale, np.generic | np.ndarray) or scale != 1:  # a GPU is not asked
        for g in arrays:
            np.multiply(g, scale.astype(g.dtype), out=g)
        for gradient in gradients:
            gradient.note_write()
    return wrap(norm)


def _norm(arrays: list[Array], order: float) -> Array:
    """The norm of all elements.

    Each array by itself: alone or joined with others, it gives the same, to the last bit.
    """
    flat = [(g if g.flags.c_contiguous else g.T).reshape(-1) for g in arrays]
    if order == 2:
        return np.sqrt(sum(np.vdot(x, x) for x in flat))
    if order == math.inf:
        return np.stack([np.abs(x).max() if x.size else x.sum() for x in flat]).max()
    return sum((np.abs(x) ** order).sum() for x in flat) ** (1 / order)


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]."""
    gradients, arrays = _gradients(parameters)
    for g in arrays:
        g.clip(-clip_value, clip_value, out=g)
    for gradient in gradients:
        gradient.note_write()


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """All elements of all parameters, one after another. It can be differentiated."""
    return cat([reshape(p, -1) for p in parameters])


def vector_to_parameters(vec: Any, parameters: Iterable[Parameter]) -> None:
    """Give the parameters the values that `parameters_to_vector` would have to return.

    Raises RuntimeError, with nothing changed, unless the vector has as many elements as they.
    """
    if not isinstance(vec, Node):
        raise TypeError(f"expected a Tensor, but got {type(vec).__name__}")
    parameters = list(parameters)
    sizes = [p.value.size for p in parameters]
    if vec.value.size != sum(sizes):
        raise RuntimeError(
            f"a vector of {vec.value.size} elements for parameters with {sum(sizes)} elements"
        )
    start = 0
    for p, size in zip(parameters, sizes, strict=True):
        part = vec.value[start : start + size]
        p.value = part.reshape(p.shape).astype(p.value.dtype)  # astype copies
        p.note_write()
        start += size
