"""Adagrad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.optim.optimizer import Optimizer, check_not_negative, descent


class Adagrad(Optimizer):
    """Smaller steps where gradients have been large (Duchi, Hazan and Singer 2011).

        sum = sum + g**2
        x = x - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps)

    where `g` is the gradient (its negative to `maximize`) plus `weight_decay * x`, and `sum` starts
    as `initial_accumulator_value`.  Raises ValueError for negative options.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
        }
        check_not_negative(**defaults)
        super().__init__(params, {**defaults, "maximize": maximize})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in every optimizer; the sums are there from the start, as PyTorch has it."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for p in group["params"]:
            self._complete(self.state[p], p.value, self.names(group), group)

    def names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("sum",)

    def initial(self, group: dict[str, Any]) -> float:
        return float(group["initial_accumulator_value"])

    def settings(self, group: dict[str, Any], t: int) -> tuple[float, ...]:
        lr = float(group["lr"]) / (1 + (t - 1) * group["lr_decay"])
        sign = -1 if group["maximize"] else 1
        return lr, group["eps"], float(group["weight_decay"]), sign

    def kernel(self, group: dict[str, Any]) -> str:
        return "adagrad"

    def rule(
        self, x: Array, g: Array, state: list[Array], s: Array, settings: Sequence[Any]
    ) -> None:
        (total,) = state
        lr, eps, decay, sign = settings
        g = descent(x, g, decay, sign)
        total += np.multiply(g, g, s)
        np.sqrt(total, s)
        s += eps
        np.divide(g, s, s)
        s *= lr
        x -= s
