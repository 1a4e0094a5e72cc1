"""The layers and losses as functions: what nn's modules call."""

from __future__ import annotations

import math
from typing import Any

from minigrad.autograd.engine import Array, Node, Op


class Affine(Op):
    """y = x W^T + b.  x (*, D), W (H, D), b (H,), y (*, H)."""

    def forward(self, x: Array, W: Array, b: Array | None = None) -> Array:
        y = _rows(x) @ W.T  # (N, H): one product, however many dimensions x has
        if b is not None:
            y += b
        return y.reshape(*x.shape[:-1], W.shape[0])

    def vjp(self, g: Any, x: Any, W: Any) -> tuple[Any, ...]:
        rows = _rows(g)  # (N, H)
        gx = (rows @ W).reshape(x.shape) if self.wants(0) else None
        gW = rows.T @ _rows(x) if self.wants(1) else None
        gb = rows.sum(0) if self.wants(2) else None
        return gx, gW, gb


def _rows(x: Any) -> Any:
    """`x` as a matrix: all dimensions but the last as one."""
    return x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """y = x W^T + b, over the last dimension of x: x (*, D), W (H, D), b (H,), y (*, H).

    Raises RuntimeError if the shapes or the dtypes do not fit.
    """
    x, W, b = _value(input), _value(weight), _value(bias)
    if W.ndim != 2 or x.ndim == 0 or x.shape[-1] != W.shape[1]:
        raise RuntimeError(
            f"linear: an input of shape {tuple(x.shape)} does not fit a weight of shape "
            f"{tuple(W.shape)}: the input's last dimension must be the weight's last (in_features)"
        )
    if b is not None and b.shape != W.shape[:1]:
        raise RuntimeError(f"linear: the bias has shape {tuple(b.shape)}, not ({W.shape[0]},)")
    if x.dtype != W.dtype or (b is not None and b.dtype != W.dtype):
        raise RuntimeError(
            f"linear: the input is {x.dtype}, the weight {W.dtype}: they must have the same dtype "
            "(input.float(), or module.double())"
        )
    return Affine()(input, weight, bias)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Node) else x
