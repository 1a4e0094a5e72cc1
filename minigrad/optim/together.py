"""Parameters that lie in one array, with their state likewise: one call of a rule for all of them.

On small nets, where a call costs more than what it computes, that is much.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any

import numpy as np

from minigrad.memory import Joined, end_to_end, joined_among
from minigrad.tensor import Tensor

SMALL = 2_048  # elements: a call of a rule for so few takes longer than to copy them

State = Mapping[Any, dict[str, Any]]


class Together:
    """The parameters `params`, in blocks: each in one array, and each kind of their state.

    What is joined already is a block, what is small is joined to another; `others` are the rest.
    `names`: the kinds of state.  With `counts`, all in blocks had the same number of updates.
    """

    def __init__(
        self, params: Sequence[Tensor], state: State, names: Sequence[str], counts: bool
    ) -> None:
        self.all = list(params)
        self.names = [*names, "step"] if counts else [*names]
        ready = [p for p in params if all(name in state[p] for name in self.names)]
        self.is_complete = len(ready) == len(self.all)  # if not, state is made by the first update
        if counts and ready:
            t = state[ready[0]]["step"].value
            ready = [p for p in ready if state[p]["step"].value == t]
        end_to_end([p for p in ready if p.value.size <= SMALL and not p.is_joined])
        self.blocks: list[tuple[list[Any], list[Joined]]] = []
        nodes: list[Any] = []
        for joined, members in joined_among(ready)[0]:
            kinds = [members, *[[state[p][name] for p in members] for name in names]]
            self.blocks.append((members, [_alone(joined, kind) for kind in kinds]))
            nodes += [node for kind in kinds for node in kind]
        columns = [column for _, columns in self.blocks for column in columns]
        self.nodes = nodes
        self.parts = [part for column in columns for part in column.parts]
        self.arrays = [*self.parts, *[column.memory for column in columns]]
        self.references = [*map(sys.getrefcount, self.arrays)]  # and nobody else has any

        self.params = [p for members, _ in self.blocks for p in members]
        known = set(self.params)
        self.others = [p for p in params if p not in known]
        self.states = [state[p] for p in self.params]
        self.entries = [s[name] for s in self.states for name in self.names]
        self.steps = [s["step"] for s in self.states] if counts else []

    def is_current(self, params: Sequence[Tensor], state: State) -> bool:
        """Whether all is as it was: parameters and state, their arrays, and who else has these."""
        entries = [s.get(name) for s in self.states for name in self.names]
        return (
            self.is_complete
            and len(params) == len(self.all)
            and all(map(is_, params, self.all))
            and all(map(is_, map(state.get, self.params), self.states))
            and all(map(is_, entries, self.entries))
            and all(map(is_, [node.value for node in self.nodes], self.parts))
            and [*map(sys.getrefcount, self.arrays)] == self.references
            and all(step.value is self.steps[0].value for step in self.steps)
        )

    def next_update(self) -> int:
        """Which update of the parameters in blocks this is, from 1."""
        if not self.steps:
            return 2  # all that a rule needs to know that does not count: not the first
        t = int(self.steps[0].value) + 1
        updates = np.array(float(t))
        for step in self.steps:
            step.value = updates
        return t


def _alone(like: Joined, nodes: Sequence[Any]) -> Joined:
    """The values of the nodes, joined in the way of `like`, in an array that nobody else has."""
    found = nodes[0].joined
    if (
        found is None
        or found.split is not like.split
        or found.array.dtype != like.array.dtype
        or not found.holds(nodes)
        or not found.is_alone()
    ):
        found = like.like()
        found.take(nodes)
    return found
