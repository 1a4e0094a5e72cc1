"""Softmax and cross-entropy as one op: fewer passes over the scores, and no log of a small number.

For row n of the scores x, with class t_n and weight a_n:

    loss_n = a_n (log sum_c exp(x_nc) - x_n,t_n)
    d loss_n / d x_nc = a_n (p_nc - [c = t_n]),    p = softmax(x)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op
from minigrad.cuda import elementwise as kernel
from minigrad.device import array_module
from minigrad.ops import reductions


class SoftmaxCrossEntropy(Op):
    """y = the losses of all rows, their sum, or their mean (weighted by a).

    x (N, C) scores, t (N,) classes, a (N,) weights or None for ones, y (N,) or ().
    """

    def __init__(self, reduction: str) -> None:
        self.reduction = reduction

    def forward(self, x: Array, t: Array, a: Array | None) -> Array:
        if type(x) is not np.ndarray and kernel.usable(x):
            loss, shift = kernel.cross_entropy(x, t, a)
            count = len(x) if a is None else a.sum()
            self.residuals = shift, count
            if self.reduction == "none":
                return loss
            return loss.sum() / count if self.reduction == "mean" else loss.sum()
        rows = array_module(x).arange(len(x))
        e = x - reductions.largest(x, 1, True)  # (1) the shift changes no difference of scores
        loss = -e[rows, t]  # (2)
        e = np.exp(e, out=e)
        s = reductions.total(e, 1)  # (N,): p = e / s
        loss += np.log(s)  # (3)
        if a is not None:
            loss *= a  # (4)
        count = len(x) if a is None else a.sum()
        self.residuals = e, s, rows, count
        if self.reduction == "none":
            return loss
        loss = reductions.total(loss)
        return loss / count if self.reduction == "mean" else loss  # (5)

    def vjp(self, g: Array, x: Array, t: Array, a: Array | None) -> tuple[Array, None, None]:
        if len(self.residuals) == 2:
            shift, count = self.residuals
            if self.reduction == "mean":
                g = g / (count + (count == 0))
            return kernel.cross_entropy_backward(x, t, a, shift, g), None, None
        e, s, rows, count = self.residuals
        if self.reduction == "mean":
            g = g / (count + (count == 0))  # from (5); if no row counts, y is nan, but gx is 0
        if a is not None:
            g = g * a  # from (4)
        gx = e * (g / s)[:, None]  # from (3): g p. That of the shift in (1) is zero
        gx[rows, t] -= g  # from (2)
        return gx, None, None

    def twin(self, x: Any, t: Any, a: Any) -> Any:
        """The same from primitive ops."""
        loss = x.logsumexp(1) - x.gather(1, t.unsqueeze(1)).squeeze(1)
        if a is not None:
            loss = loss * a
        if self.reduction == "none":
            return loss
        count = len(x) if a is None else a.sum()
        return loss.sum() / (count + (count == 0)) if self.reduction == "mean" else loss.sum()
