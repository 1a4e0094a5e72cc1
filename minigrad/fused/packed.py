"""Sequences of different lengths: packed one step after the other, or padded to equal length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op
from minigrad.device import array_module


@dataclass(frozen=True)
class Places:
    """Where each row of packed data stands in a padded (T, B, ...): row k at [t[k], b[k]]."""

    t: Array
    b: Array
    T: int
    B: int

    @classmethod
    def of(cls, batch_sizes: Array, reverse: bool = False) -> Places:
        """Those of data with the first steps of all sequences, then their second steps, ...

        `batch_sizes[t]` sequences, the longest first, have a step t.  With `reverse`, each
        sequence begins with its own last step.
        """
        T, B = len(batch_sizes), int(batch_sizes[0])
        t = np.repeat(np.arange(T), batch_sizes)
        b = np.concatenate([np.arange(n) for n in batch_sizes])
        if reverse:
            lengths = (batch_sizes[:, None] > np.arange(B)).sum(0)
            t = lengths[b] - 1 - t
        return cls(t, b, T, B)

    def index(self, x: Array) -> tuple[Array, Array]:
        """What picks the rows out of a padded array, on the device of `x`."""
        xp = array_module(x)
        return xp.asarray(self.t), xp.asarray(self.b)


class Pad(Op):
    """y[t_k, b_k] = x[k], and `value` where no row belongs: (rows, ...) -> (T, B, ...)."""

    def __init__(self, places: Places, value: float = 0.0) -> None:
        self.places, self.value = places, value

    def forward(self, x: Array) -> Array:
        shape = (self.places.T, self.places.B, *x.shape[1:])
        y = array_module(x).full(shape, self.value, x.dtype)
        y[self.places.index(x)] = x
        return y

    def vjp(self, g: Any) -> tuple[Any]:
        return (Pack(self.places)(g),)


class Pack(Op):
    """y[k] = x[t_k, b_k]: (T, B, ...) -> (rows, ...)."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def forward(self, x: Array) -> Array:
        return x[self.places.index(x)]

    def vjp(self, g: Any) -> tuple[Any]:
        return (Pad(self.places)(g),)
