"""Learning-rate schedules: call `scheduler.step()` after `optimizer.step()`, as a rule every epoch.

Each goes from the present rate to the next one, so that schedules can be chained, and a rate that
was changed by hand is respected.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minigrad.optim.optimizer import Optimizer


def _groups(optimizer: Any) -> list[dict[str, Any]]:
    """The parameter groups. Raises TypeError for what is no optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
    return optimizer.param_groups


def _per_group(name: str, given: Any, groups: list[dict[str, Any]]) -> list[Any]:
    """`given`, a list with one for each group, or one for all. Raises ValueError for too few."""
    values = list(given) if isinstance(given, list | tuple) else [given] * len(groups)
    if len(values) != len(groups):
        raise ValueError(f"expected {len(groups)} {name}s, one for each group, got {len(values)}")
    return values


class LRScheduler:
    """Sets `lr` of every parameter group from the number of `step()` calls, `last_epoch`.

    Construction sets the rate of epoch `last_epoch + 1`, by default 0.  Resuming at a later one
    needs the groups' `initial_lr` (in the optimizer's state dict), or raises KeyError.  A schedule
    defines `next_lr`, or `get_lr` for all groups at once.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        groups = _groups(optimizer)
        for i, group in enumerate(groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}], and is needed to "
                    "resume at a later epoch: load the optimizer's state dict first"
                )
        self.optimizer = optimizer
        self.base_lrs = [group["initial_lr"] for group in groups]
        self.last_epoch = last_epoch
        self._start()

    def next_lr(self, lr: float, base_lr: float) -> float:
        """The rate of epoch `last_epoch`, given that of the one before (at the start: `lr`)."""
        raise NotImplementedError(f"{type(self).__name__} defines no next_lr()")

    def get_lr(self) -> list[float]:
        """The rate of epoch `last_epoch` for each group."""
        groups = self.optimizer.param_groups
        added = groups[len(self.base_lrs) :]  # since the schedule was made
        self.base_lrs = [*self.base_lrs, *(group["lr"] for group in added)]
        return [
            self.next_lr(group["lr"], base)
            for group, base in zip(groups, self.base_lrs, strict=True)
        ]

    def step(self) -> None:
        """On to the next epoch. Warns if the optimizer has not made a step yet."""
        if self._step_count == 1 and not self.optimizer.stepped:
            warnings.warn(
                "lr_scheduler.step() was called before optimizer.step(): the first value of the "
                "schedule is skipped. Call optimizer.step() first",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        self._advance()

    def _advance(self) -> None:
        self.last_epoch += 1
        groups, values = self.optimizer.param_groups, self.get_lr()
        if len(values) != len(groups):
            raise ValueError(
                f"{type(self).__name__} has {len(values)} rates for {len(groups)} parameter groups"
            )
        for group, lr in zip(groups, values, strict=True):
            group["lr"] = lr
        self._last_lr = values

    @property
    def _starting(self) -> bool:
        """Whether this is the rate that construction sets."""
        return self._step_count == 0

    def _start(self) -> None:
        """Set the first rate."""
        self._step_count = 0
        self._advance()
        self._step_count = 1

    def _step_back(self) -> None:
        """As if the first rate had not been set."""
        self.last_epoch -= 1

    def _restart(self) -> None:
        """From the initial rates again."""
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs, strict=False):
            group["lr"] = base_lr
        self.last_epoch = -1
        self._start()

    def get_last_lr(self) -> list[float]:
        """The rate that was set last for each group."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """All there is to know but the optimizer."""
        return {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "lr_lambdas")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict()`."""
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """lr = initial lr * lr_lambda(epoch); one function, or one for each group.

    Functions are not part of the state dict.  Raises ValueError for a wrong number of them.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _per_group("lr_lambda", lr_lambda, _groups(optimizer))
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [
            base * factor(self.last_epoch)
            for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class StepLR(LRScheduler):
    """lr = initial lr * gamma**(epoch // step_size)."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base_lr: float) -> float:
        epoch = self.last_epoch
        return lr * self.gamma if epoch > 0 and epoch % self.step_size == 0 else lr


class MultiStepLR(LRScheduler):
    """lr = initial lr * gamma**(number of milestones reached)."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = list(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base_lr: float) -> float:
        return lr * self.gamma ** self.milestones.count(self.last_epoch)


class ConstantLR(LRScheduler):
    """lr = initial lr * factor until epoch `total_iters`, then the initial lr.

    Raises ValueError unless `factor` is in [0, 1].
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"factor must be in [0, 1], not {factor}")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base_lr: float) -> float:
        if self.last_epoch == 0:
            return lr * self.factor
        return lr * (1.0 / self.factor) if self.last_epoch == self.total_iters else lr


class LinearLR(LRScheduler):
    """lr = initial lr * a factor that goes from `start_factor` to `end_factor` in `total_iters`.

    Raises ValueError unless `start_factor` is in (0, 1] and `end_factor` in [0, 1].
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"start_factor must be in (0, 1], not {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"end_factor must be in [0, 1], not {end_factor}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base_lr: float) -> float:
        if self.last_epoch == 0:
            return lr * self.start_factor
        if self._starting or self.last_epoch > self.total_iters:
            return lr
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return lr * (1.0 + rise / before)


class ExponentialLR(LRScheduler):
    """lr = initial lr * gamma**epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base_lr: float) -> float:
        return lr if self._starting else lr * self.gamma


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (initial lr - eta_min) * (1 + cos(pi * epoch / T_max)) / 2.

    Source: Loshchilov and Hutter 2017 (SGDR, equation 5, without restarts).  It rises again after
    `T_max`.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base_lr: float) -> float:
        if self._starting:
            return lr
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # up from the very bottom
            return lr + (base_lr - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        before = 1 + math.cos(math.pi * (self.last_epoch - 1) / self.T_max)
        now = 1 + math.cos(math.pi * self.last_epoch / self.T_max)
        return now / before * (lr - self.eta_min) + self.eta_min


class _Combined(LRScheduler):
    """Several schedules of one optimizer."""

    def __init__(self, optimizer: Any, schedulers: Sequence[LRScheduler]) -> None:
        name = type(self).__name__
        if not schedulers:
            raise ValueError(f"{name} expects at least one scheduler, but got none")
        for i, scheduler in enumerate(schedulers):
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(f"{name}: number {i} is a ReduceLROnPlateau, which needs a metric")
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"{name}: scheduler {i} belongs to another optimizer")
        self.optimizer = optimizer
        self._schedulers = list(schedulers)

    def _start(self) -> None:
        self.step()

    def _step_back(self) -> None:
        for scheduler in self._schedulers:
            scheduler._step_back()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)
        self.__dict__.update({k: v for k, v in state_dict.items() if k != "_schedulers"})


class SequentialLR(_Combined):
    """One schedule after another: number `i + 1` takes over, from its start, at `milestones[i]`.

    Raises ValueError unless there is one milestone fewer than schedulers, all of this optimizer.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        super().__init__(optimizer, schedulers)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "expected one milestone fewer than schedulers, got "
                f"{len(milestones)} milestones and {len(schedulers)} schedulers"
            )
        if any(isinstance(scheduler, _Combined) for scheduler in schedulers[1:]):
            raise ValueError("a combination of schedules cannot start late: only the first may be")
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        # Each schedule has set its first rate: take that back, then let only the first do so.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self._step_back()
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._start()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            scheduler._restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


class ChainedScheduler(_Combined):
    """All schedules at once: each `step()` applies one after the other to the rate."""

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        if optimizer is None and schedulers:
            optimizer = schedulers[0].optimizer
        super().__init__(optimizer, schedulers)
        self._last_lr = self._schedulers[-1].get_last_lr()

    def step(self) -> None:
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._schedulers[-1].get_last_lr()


class ReduceLROnPlateau(LRScheduler):
    """lr = max(lr * factor, min_lr) when a metric has not improved for more than `patience` steps.

    `step(metric)`.  To improve is to be below `best * (1 - threshold)`, or `best - threshold` with
    `threshold_mode="abs"`; with `mode="max"`, above.  After a reduction `cooldown` steps do not
    count.  Reductions by less than `eps` are not made.  Raises ValueError for unknown modes and for
    a factor of 1 or more.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1.0:
            raise ValueError(f"factor should be < 1.0, not {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode {mode!r} is unknown: 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold mode {threshold_mode!r} is unknown: 'rel' or 'abs'")
        groups = _groups(optimizer)
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.min_lrs = _per_group("min_lr", min_lr, groups)
        self.eps = eps
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self._last_lr = [group["lr"] for group in groups]

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Note the metric of another epoch (a number, or a tensor with one element)."""
        current, groups = float(metrics), self.optimizer.param_groups
        self.last_epoch += 1
        if self._is_better(current):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            if len(self.min_lrs) != len(groups):  # some were added
                self.min_lrs = _per_group("min_lr", self.min_lr, groups)
            for group, min_lr in zip(groups, self.min_lrs, strict=True):
                lr = max(group["lr"] * self.factor, min_lr)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = [group["lr"] for group in groups]

    def _is_better(self, current: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * current > sign * self.best * (1 + sign * self.threshold)
        return sign * current > sign * (self.best + sign * self.threshold)
