"""Layer normalization as one op (Ba, Kiros and Hinton 2016)."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op


class LayerNormalization(Op):
    """y = w (x - mean) / sqrt(variance + eps) + b, over the last `ndim` dimensions.

    x and y (*, D), w and b (D) or None, where D stands for those dimensions.
    """

    def __init__(self, ndim: int, eps: float) -> None:
        self.axes = tuple(range(-ndim, 0))
        self.eps = eps

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        z = x - x.mean(self.axes, keepdims=True)  # (1)
        r = 1 / np.sqrt((z * z).mean(self.axes, keepdims=True) + self.eps)  # (2)
        z *= r  # (3)
        self.residuals = z, r
        y = z.copy() if w is None else z * w  # (4)
        if b is not None:
            y += b  # (5)
        return y

    def vjp(self, g: Array, x: Array, w: Array | None, b: Array | None) -> tuple[Any, Any, Any]:
        z, r = self.residuals
        others = tuple(range(g.ndim - len(self.axes)))
        gb = g.sum(others) if self.wants(2) else None  # from (5)
        gw = (g * z).sum(others) if self.wants(1) else None  # from (4)
        if not self.wants(0):
            return None, gw, gb
        gz = g if w is None else g * w  # from (4)
        # (1) to (3) take the mean and the scale out of x: what of gz lies along either is lost.
        along = (gz * z).mean(self.axes, keepdims=True)  # from (2), by way of (3)
        gx = gz - gz.mean(self.axes, keepdims=True)  # from (1)
        gx -= z * along
        gx *= r  # from (3)
        return gx, gw, gb

    def twin(self, x: Any, w: Any, b: Any) -> Any:
        """The same from primitive ops."""
        z = x - x.mean(self.axes, keepdim=True)
        y = z / ((z * z).mean(self.axes, keepdim=True) + self.eps).sqrt()
        y = y if w is None else y * w
        return y if b is None else y + b
