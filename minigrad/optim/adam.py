"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.optim.optimizer import Optimizer, check_not_negative, descent


class Adam(Optimizer):
    """Momentum, divided by the recent size of the gradient (Kingma and Ba 2015, algorithm 1).

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        x = x - lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

    where `g` is the gradient (its negative to `maximize`) plus `weight_decay * x`; with
    `decoupled_weight_decay`, instead, `x` is first multiplied by `1 - lr * weight_decay`.
    `amsgrad`: the largest `v` so far in the last line (Reddi, Kale and Kumar 2018).  Raises
    ValueError for negative options and for betas that are not floats in [0, 1).
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta} (not in [0, 1))")
            if not isinstance(beta, float):
                raise ValueError(f"betas must be floats, and number {i} is {beta!r}")
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def names(self, group: dict[str, Any]) -> tuple[str, ...]:
        largest = ("max_exp_avg_sq",) if group["amsgrad"] else ()
        return ("exp_avg", "exp_avg_sq", *largest)

    def settings(self, group: dict[str, Any], t: int) -> tuple[float, ...]:
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        decay, sign = float(group["weight_decay"]), -1 if group["maximize"] else 1
        shrink, decay = (1 - lr * decay, 0) if group["decoupled_weight_decay"] else (1, decay or 0)
        # m / c1 / (sqrt(v) / c2 + eps) = (c2 / c1) * m / (sqrt(v) + c2 * eps): one pass fewer.
        c1, c2 = 1 - beta1**t, (1 - beta2**t) ** 0.5
        step, eps = lr * c2 / c1, c2 * group["eps"]
        return beta1, beta2, 1 - beta1, 1 - beta2, step, eps, shrink, decay, sign

    def kernel(self, group: dict[str, Any]) -> str:
        return "" if group["amsgrad"] else "adam"

    def rule(
        self, x: Array, g: Array, state: list[Array], s: Array, settings: Sequence[Any]
    ) -> None:
        m, v, *largest = state
        beta1, beta2, new1, new2, step, eps, shrink, decay, sign = settings
        if shrink != 1:
            x *= shrink
        g = descent(x, g, decay, sign)
        m *= beta1
        m += np.multiply(g, new1, s)
        np.multiply(g, g, s)
        s *= new2
        v *= beta2
        v += s
        if largest:
            v = np.maximum(largest[0], v, out=largest[0])
        np.sqrt(v, s)
        s += eps
        np.divide(m, s, s)
        s *= step
        x -= s


class AdamW(Adam):
    """Adam whose weight decay acts on the parameters directly (Loshchilov and Hutter 2019).

    x = (1 - lr * weight_decay) * x, then Adam's rule without weight decay
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in every optimizer; what Adam saved can be loaded too, and the decay stays AdamW's."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
