"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.optim.optimizer import Optimizer, check_not_negative, descent


class SGD(Optimizer):
    """Go down the gradient, with momentum if wanted (Sutskever et al. 2013, as in PyTorch).

        b = momentum * b + (1 - dampening) * g        (b = g at first)
        x = x - lr * b                                (nesterov: lr * (g + momentum * b))

    where `g` is the gradient (its negative to `maximize`) plus `weight_decay * x`.  Raises
    ValueError for negative options, or nesterov without momentum or with dampening.
    """

    counts = False

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        check_not_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def settings(self, group: dict[str, Any], t: int) -> tuple[float, ...]:
        lr, momentum, decay = (float(group[k]) for k in ("lr", "momentum", "weight_decay"))
        new = 1 - group["dampening"] if t > 1 else 1
        sign = -1 if group["maximize"] else 1
        return lr, momentum, new, bool(group["nesterov"]), decay, sign

    def rule(
        self, x: Array, g: Array, state: list[Array], s: Array, settings: Sequence[Any]
    ) -> None:
        lr, momentum, new, nesterov, decay, sign = settings
        g = descent(x, g, decay, sign)
        if momentum:
            (b,) = state  # 0 at first
            b *= momentum
            b += g if new == 1 else np.multiply(g, new, s)
            g = np.add(g, np.multiply(b, momentum, s), s) if nesterov else b
        x -= np.multiply(g, lr, s)
