"""One sequence on the CPU: what RNN, LSTM and GRU need to make nothing in the loop over its steps.

A step is then some ten NumPy calls of half a microsecond, whatever they do, and making the views
that they work on would cost nearly as much again.  So a `Space` has all buffers for sequences of
one shape, and for every step all views of them; it is made once, and lent from call to call.

States are vectors (H,).  Given ones, (1, H) or (1, 1, H), lose these axes where they are written.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from itertools import repeat
from typing import Any, TypeVar

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.fused.recurrence import Recurrent

KEPT = 8  # spaces that each thread keeps ...
LARGEST = 2**14  # ... with so many numbers in their rows: beyond, making them costs little
IN_CACHE = 2**17  # so many weights are read quickly at every step


class FirstRow:
    """What the first step multiplies with J, from `start` on: h' is zero if no h0 is given."""

    start = 0

    def __init__(self, row: Array) -> None:
        self.row = row

    def dot(self, J: Array, out: Array) -> None:
        self.row[self.start :].dot(J[self.start :], out)


class Space:
    """Room for T steps of H units with D inputs, and what a forward pass leaves for the backward.

    `rows` (T + 1, K): what J is multiplied with at each step, [h' 1 x 1], without the ones if there
    are no biases (see recurrence.py).  `states` (T + 1, H), a part of it: h0, and the h of every
    step.  `steps` and `back`: for every step, in the order in which a pass takes them, the views
    that it needs.
    """

    blocks: int  # of H columns each, in J

    def __init__(self, T: int, H: int, D: int, biased: bool, dtype: np.dtype[Any]) -> None:
        self.rows = np.ones((T + 1, H + D + 2 * biased), dtype)
        self.states = self.rows[:, :H]
        self.x = self.rows[:-1, H + biased : H + biased + D]
        self.dh = np.empty(H, dtype)
        columns = self.blocks * H
        self.together = T == 1 or (D <= H and self.rows.shape[1] * columns <= IN_CACHE)
        self.Uh = np.empty(columns, dtype)

    def products(self) -> list[Any]:
        """For every step, what multiplies its row, or h' if that is faster, with a matrix."""
        return self.products_of(self.rows if self.together else self.states)

    def products_of(self, rows: Array) -> list[Any]:
        """For every step, what multiplies its part of `rows`, which starts with h'."""
        self.first = FirstRow(rows[0])
        return [self.first.dot, *[row.dot for row in rows[1:-1]]]

    def weights(self, J: Array, a: Array) -> tuple[Array, Array | None]:
        """The matrix for `products`, and a buffer if they are to be added to `a`, (T, columns).

        Then `a` gets the rest of the sum here.  A long x is not multiplied step by step.
        """
        if self.together:
            return J, None
        H = len(self.dh)
        np.matmul(self.rows[:-1, H:], J[H:], a)
        return J[:H], self.Uh

    def begin(self, x: Array, h0: Array | None) -> None:
        self.x[...] = x[:, 0]
        self.states[0] = 0 if h0 is None else h0
        self.first.start = len(self.dh) if h0 is None else 0

    def finish(self, op: Recurrent) -> tuple[Array, Array]:
        """The states of all steps (T, 1, H) and the last: copies, this is lent."""
        if op.is_recorded:
            op.residuals = self
        return self.states[1:, None].copy(), op.state(self.states[-1:].copy())

    def begin_backward(self, gy: Array | None, gh: Array | None) -> Iterable[Array | None]:
        """Set dh, and give the gradients of the states, the last one first: None, or (H,) each."""
        self.dh[...] = 0 if gh is None else gh
        if gy is None:
            return repeat(None)
        earlier = gy[:-1]
        if not gy.item(0) and earlier.tobytes() == bytes(earlier.nbytes):
            self.dh += gy[-1, 0]  # only the last state was used, as for a forecast
            return repeat(None)
        return gy[::-1, 0]


S = TypeVar("S", bound=Space)
_kept = threading.local()


def _references(entry: tuple[Any, Any]) -> int:
    return sys.getrefcount(entry[1])


_FREE = _references((None, object()))  # what this counts for a space that is kept, and no more


def fits(x: Array) -> bool:
    """Whether x (T, B, D) is one sequence, on the CPU."""
    return x.shape[1] == 1 and type(x) is np.ndarray


def lend(kind: type[S], T: int, H: int, D: int, biased: bool, dtype: np.dtype[Any]) -> S:
    """A space that nobody else uses: no op holds it for its backward pass."""
    entries: list[tuple[Any, Any]] = _kept.__dict__.setdefault("entries", [])
    key = kind, T, H, D, biased, dtype
    for entry in entries:
        if entry[0] == key and _references(entry) == _FREE:
            return entry[1]
    space = kind(T, H, D, biased, dtype)
    if space.rows.size <= LARGEST:
        del entries[: 1 - KEPT]
        entries.append((key, space))
    return space
