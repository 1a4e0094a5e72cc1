"""RMSprop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.optim.optimizer import Optimizer, check_not_negative, descent


class RMSprop(Optimizer):
    """Divide the gradient by its recent size (Hinton 2012; centered: Graves 2013, equation 38).

        v = alpha * v + (1 - alpha) * g**2
        a = alpha * a + (1 - alpha) * g               (only if centered; else a = 0)
        b = momentum * b + g / (sqrt(v - a**2) + eps)
        x = x - lr * b

    where `g` is the gradient (its negative to `maximize`) plus `weight_decay * x`.  Raises
    ValueError for negative options.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
        }
        check_not_negative(**defaults)
        super().__init__(params, {**defaults, "centered": centered, "maximize": maximize})

    def names(self, group: dict[str, Any]) -> tuple[str, ...]:
        momentum = ("momentum_buffer",) if group["momentum"] else ()
        centered = ("grad_avg",) if group["centered"] else ()
        return ("square_avg", *momentum, *centered)

    def settings(self, group: dict[str, Any], t: int) -> tuple[float, ...]:
        sign = -1 if group["maximize"] else 1
        lr, alpha, decay = float(group["lr"]), float(group["alpha"]), float(group["weight_decay"])
        return lr, alpha, group["eps"], group["momentum"], bool(group["centered"]), decay, sign

    def rule(
        self, x: Array, g: Array, state: list[Array], s: Array, settings: Sequence[Any]
    ) -> None:
        v, *rest = state
        lr, alpha, eps, momentum, centered, decay, sign = settings
        g = descent(x, g, decay, sign)
        np.multiply(g, g, s)
        s *= 1 - alpha
        v *= alpha
        v += s
        if centered:
            a = rest.pop()
            a *= alpha
            a += np.multiply(g, 1 - alpha, s)
            np.multiply(a, a, s)
            np.sqrt(np.subtract(v, s, s), s)
        else:
            np.sqrt(v, s)
        s += eps
        np.divide(g, s, s)
        if momentum:
            (b,) = rest
            b *= momentum
            b += s
            np.multiply(b, lr, s)
        else:
            s *= lr
        x -= s
