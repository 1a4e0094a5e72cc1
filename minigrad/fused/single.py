"""One sequence on the CPU: what RNN, LSTM and GRU need to make nothing in the loop over its steps.

A step is then some ten NumPy calls of half a microsecond, whatever they do, and making the views
that they work on would cost nearly as much again.  So a `Space` has all buffers for sequences of
one length, and for every step all views of them; it is made once, and lent from call to call.

States are vectors (H,).
"""

from __future__ import annotations

import sys
import threading
from typing import Any, TypeVar

import numpy as np

from minigrad.autograd.engine import Array, Op

KEPT = 8  # spaces that each thread keeps ...
LARGEST = 2**14  # ... with so many numbers in their states: beyond, making them costs little


class Space:
    """Room for T steps of H units, and what a forward pass leaves for the backward pass.

    `states` (T + 1, H): h0, and the h of every step.  `steps` and `back`: for every step, in the
    order in which a pass takes them, the views that it needs.
    """

    blocks: int  # of rows, in the weights

    def __init__(self, T: int, H: int, dtype: np.dtype[Any]) -> None:
        self.states = np.empty((T + 1, H), dtype)
        self.Uh = np.empty(self.blocks * H, dtype)
        self.dh = np.empty(H, dtype)

    def begin(self, h0: Array | None) -> None:
        self.states[0] = 0 if h0 is None else h0[0]

    def finish(self, op: Op) -> tuple[Array, Array]:
        """The states of all steps (T, 1, H) and the last (1, H): copies, this is lent."""
        if op.is_recorded:
            op.residuals = self
        return self.states[1:, None].copy(), self.states[-1:].copy()

    def begin_backward(self, gy: Array | None, gh: Array | None) -> Array:
        """Set dh, and give the gradients of the states (T, H), the last one first."""
        self.dh[...] = 0 if gh is None else gh[0]
        dy = np.zeros_like(self.states[1:]) if gy is None else gy[:, 0]
        return dy[::-1]


S = TypeVar("S", bound=Space)
_kept = threading.local()


def _references(entry: tuple[Any, Any]) -> int:
    return sys.getrefcount(entry[1])


_FREE = _references((None, object()))  # what this counts for a space that is kept, and no more


def fits(x: Array) -> bool:
    """Whether x (T, B, D) is one sequence, on the CPU."""
    return x.shape[1] == 1 and type(x) is np.ndarray


def lend(kind: type[S], T: int, H: int, dtype: np.dtype[Any]) -> S:
    """A space that nobody else uses: no op holds it for its backward pass."""
    entries: list[tuple[Any, Any]] = _kept.__dict__.setdefault("entries", [])
    key = kind, T, H, dtype
    for entry in entries:
        if entry[0] == key and _references(entry) == _FREE:
            return entry[1]
    space = kind(T, H, dtype)
    if T * H <= LARGEST:
        del entries[: 1 - KEPT]
        entries.append((key, space))
    return space


def project(x: Array, W: Array, b: Array | None, out: Array) -> None:
    """out[t] = W x[t] + b, for all steps: (T, 1, D) -> (T, rows of W), contiguous."""
    if x.shape[2] == 1:  # a series; BLAS is far slower
        np.multiply(x[:, 0], W.T, out)
    else:
        np.dot(x[:, 0], W.T, out)
    if b is not None:
        out += b
