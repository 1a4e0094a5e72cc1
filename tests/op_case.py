"""One row of the table of ops that test_ops_table.py checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.autograd.engine import Op


@dataclass(frozen=True)
class OpCase:
    """A function on tensors that applies some ops, and what to check about it.

    `inputs(rng)` returns fresh float64 arrays: draw the shapes from `rng` as well, the table runs
    it with several seeds.  Stay 1e-3 away from kinks and ties.  Indices, masks and settings
    belong inside `function` (a closure), or among the inputs as integer or boolean arrays.
    """

    op: type[Op] | Sequence[type[Op]]  # what this case exercises
    name: str  # unique: it becomes the test's id
    function: Callable[..., Any]  # tensors -> a tensor or a tuple of them
    inputs: Callable[[np.random.Generator], list[np.ndarray]]
    reference: Callable[..., Any] | None = None  # the same on arrays, by NumPy
    differentiable: bool = True  # False: only values are checked
    second_order: bool = True
    float32: bool = True  # does float32 in give float32 out? (False for a cast)
    seeds: int = 2  # how many draws of the inputs
    tolerance: float = 1e-10  # of the value against the reference, relative

    @property
    def ops(self) -> tuple[type[Op], ...]:
        return tuple(self.op) if isinstance(self.op, Sequence) else (self.op,)
