"""The training loop: progress, evaluation, checkpoints, and a guard against divergence."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from minigrad import checkpoint as checkpoints
from minigrad import random


class Stateful(Protocol):
    """What a checkpoint is made of: models, optimizers, schedules, sources of batches."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class DivergenceError(RuntimeError):
    """The loss, or a weight, is no longer finite."""


class Trainer:
    """Calls `step()` until `steps` are done, and can stop and go on anywhere in between.

    `step` makes one update and returns its loss, a 0-d Tensor.  `parts` is everything that a step
    reads and changes: a run that is stopped, saved and resumed ends bit for bit where an
    uninterrupted one does.  `parts["model"]` is the model.  Every `evaluate_every` steps
    `evaluate(trainer)` returns the loss on held-out data; the run is then saved to `path`, with
    the weights that were best so far.  `config` is saved along, as it is.

    Raises DivergenceError if a loss or a weight is not finite; the last good checkpoint stays.
    """

    CHECK_EVERY = 10  # reading a loss makes the host wait for a GPU: not at every step

    def __init__(
        self,
        step: Callable[[], Any],
        parts: dict[str, Stateful],
        *,
        steps: int,
        evaluate: Callable[[Trainer], float] | None = None,
        evaluate_every: int = 100,
        path: str | Path | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.step, self.parts, self.steps = step, parts, steps
        self.evaluate, self.evaluate_every = evaluate, evaluate_every
        self.path = None if path is None else Path(path)
        self.config = config or {}
        self.done = 0
        self.best: dict[str, Any] | None = None  # step, loss and weights
        self.progress: Progress | None = None

    def run(self) -> bool:
        """Train. True if all steps are done, False if Ctrl-C stopped the run (and it was saved)."""
        total, count = 0.0, 0  # the losses since the last check: a number, or a Tensor
        with Interrupt() as interrupt, Progress(self.done, self.steps) as self.progress:
            while self.done < self.steps:
                total, count = total + self.step().detach(), count + 1
                self.done += 1
                evaluating = self.done % self.evaluate_every == 0 or self.done == self.steps
                if evaluating or interrupt.asked or self.done % self.CHECK_EVERY == 0:
                    self.progress.show(self.done, self._checked(float(total) / count))
                    total, count = 0.0, 0
                if evaluating and self.evaluate is not None:
                    self._evaluate(self.evaluate)
                if evaluating or interrupt.asked:
                    self.save()
                if interrupt.asked and self.done < self.steps:
                    return False
        return True

    def say(self, text: str) -> None:
        """Print a line without disturbing the progress bar."""
        if self.progress is not None:
            self.progress.say(text)
        else:
            print(text, flush=True)

    def seconds_per_step(self, steps: int = 10) -> float:
        """How long a step takes. The steps made to find out are undone."""
        before = self.state_dict()
        self.step()  # the first one is slower: memory is allocated, kernels are compiled
        start = time.perf_counter()
        for _ in range(steps):
            loss = self.step()
        float(loss)  # wait for a GPU
        duration = (time.perf_counter() - start) / steps
        self.load_state_dict(before)
        return duration

    def _evaluate(self, evaluate: Callable[[Trainer], float]) -> None:
        loss = self._checked(evaluate(self))
        if self.best is None or loss < self.best["loss"]:
            weights = self.parts["model"].state_dict()
            self.best = {"step": self.done, "loss": loss, "model": weights}

    def _checked(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise DivergenceError(f"the loss is {loss} at step {self.done}")
        return loss

    # --- checkpoints ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The whole run: its parts, the random generator, how far it is, and its `config`."""
        return {
            "done": self.done,
            "steps": self.steps,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "random": random.get_rng_state(),
            "best": self.best,
            "config": self.config,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict()`. The parts must have been built as they were then."""
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        random.set_rng_state(state["random"])
        self.done, self.steps, self.best = state["done"], state["steps"], state["best"]

    def save(self) -> None:
        """Write the checkpoint, if a path was given and every weight is finite."""
        if self.path is None:
            return
        for name, weight in self.parts["model"].state_dict().items():
            if weight.dtype.kind == "f" and not bool(np.isfinite(weight.value).all()):
                raise DivergenceError(f"{name} is no longer finite after step {self.done}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        checkpoints.save(self.state_dict(), self.path)


class Interrupt:
    """Within this block the first Ctrl-C sets `asked`, and the second stops at once."""

    def __enter__(self) -> Interrupt:
        self.asked = False
        self._handles = threading.current_thread() is threading.main_thread()
        if self._handles:  # Python lets no other thread do this
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *exception: object) -> None:
        if self._handles:
            signal.signal(signal.SIGINT, self._before)


class Progress:
    """A tqdm bar on a terminal; elsewhere, or without tqdm, a plain line every few seconds."""

    SECONDS = 5.0  # between plain lines

    def __init__(self, done: int, total: int) -> None:
        self.first, self.total = done, total
        self.start = self.shown = time.perf_counter()
        self.bar: Any = None
        if sys.stdout.isatty() and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.bar = tqdm(initial=done, total=total, unit="step", dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, done: int, loss: float) -> None:
        """`done` steps are done, the last of them with this mean loss."""
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self.bar.update(done - self.bar.n)
            return
        now = time.perf_counter()
        if now - self.shown < self.SECONDS:
            return
        self.shown = now
        rate = (done - self.first) / (now - self.start)
        left = round((self.total - done) / rate)
        self.say(
            f"step {done}/{self.total}  loss {loss:.3f}  {rate:.1f} steps/s  "
            f"{left // 60}:{left % 60:02d} left"
        )

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.bar is not None:
            self.bar.write(text)
        else:
            print(text, flush=True)
