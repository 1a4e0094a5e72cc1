"""Parameters that lie in one array, their state likewise: one call of a rule updates them all.

On small nets, where a call costs more than what it computes, that is much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.memory import (
    ALONE,
    Joined,
    in_a_row,
    joined_among,
    references,
    side_by_side,
    value_of,
)
from minigrad.tensor import Tensor

SMALL = 2_048  # elements: a call of a rule for so few takes longer than to copy their gradient

State = Mapping[Any, dict[str, Any]]


def _entries(names: list[str]) -> Any:
    """What takes these entries from a state, as a tuple."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda state: tuple([state[name] for name in names])


class Together:
    """Of `params`, those that are joined already, or small: side by side in one array.

    Their gradients and each kind of their state, `names`, lie in others in the same order.  With
    `counts`, all of them had the same number of updates.  `others` are the rest of `params`.
    """

    def __init__(
        self, params: Sequence[Tensor], state: State, names: Sequence[str], counts: bool
    ) -> None:
        self.all = list(params)
        self.kinds = names
        needed = [*names, "step"] if counts else [*names]
        ready = [p for p in params if all(state[p].get(name) is not None for name in needed)]
        self.look = _entries(needed)
        self.is_complete = len(ready) == len(self.all)  # if not, the first update makes the state
        if ready:
            dtype = ready[0].value.dtype
            ready = [p for p in ready if type(p.value) is np.ndarray and p.value.dtype == dtype]
        if ready and counts:
            t = state[ready[0]]["step"].value
            ready = [p for p in ready if state[p]["step"].value == t]
        blocks, apart = joined_among(ready)
        small = [p for p in apart if p.value.size <= SMALL and not p.is_joined]
        self.members = [members for _, members in blocks]
        self.small = small if blocks or len(small) > 1 else []
        if self.small:  # the last block
            room = np.empty(sum(p.value.size for p in small), dtype)
            blocks.append((Joined(room, in_a_row([p.value.shape for p in small])), small))
        self.params: list[Any] = [p for _, members in blocks for p in members]
        known = set(self.params)
        self.others = [p for p in params if p not in known]
        self.entries = [*chain(*[self.look(state[p]) for p in self.params])]
        self.steps = [state[p]["step"] for p in self.params] if counts else []
        self._count(self.steps[0].value if self.steps else None)
        self.nodes: list[Any] = []
        self.arrays: list[Array] = []
        self.references: list[int] = []
        if not blocks:
            return

        likes = [joined for joined, _ in blocks]
        kinds = [self.params, *[[state[p][name] for p in self.params] for name in names]]
        self.nodes += [node for nodes in kinds for node in nodes]
        rows = [side_by_side(likes) for _ in kinds]
        self.joined = rows[0][1]
        self.values, *self.kept = [whole for whole, _ in rows]
        self._make_rooms()
        # how much to update at once: scratch memory stays about what it would be one by one
        self.largest = 5 * max(p.value.size for p in self.params) // 4
        parts = [part for _, made in rows for joined in made for part in joined.parts]
        memories = [made[0].memory for _, made in rows]
        self.arrays += [*parts, *memories]
        self.references += [ALONE + 2] * len(parts)
        self.references += [ALONE + self.joined[0].views] * len(memories)
        for nodes, (_, made) in zip(kinds, rows, strict=True):
            place = iter(nodes)
            for joined in made:
                joined.take([next(place) for _ in joined.parts])

    def _make_rooms(self) -> None:
        """New room for all gradients, to be lent for the next ones."""
        self.gradients, self.rooms = side_by_side(self.joined)
        for joined, room in zip(self.joined, self.rooms, strict=True):
            joined.gradient = room

    def is_current(self, params: Sequence[Tensor], state: State, names: Sequence[str]) -> bool:
        """Whether all is as it was: parameters and state, their arrays, and who else has these."""
        if not (self.is_complete and names == self.kinds and len(params) == len(self.all)):
            return False
        states = map(state.get, self.params)
        try:
            return (
                all(map(is_, params, self.all))
                and all(map(is_, chain.from_iterable(map(self.look, states)), self.entries))
                and all(map(is_, map(value_of, self.steps), self.updates))
                and all(map(is_, map(value_of, self.nodes), self.arrays))
                and references(self.arrays) == self.references
            )
        except (KeyError, TypeError):  # some state is gone, or one entry of it
            return False

    def next_update(self) -> int:
        """Which update of the parameters this is, from 1."""
        if not self.steps:
            return 2  # all that a rule needs to know that does not count: not the first
        t = int(self.updates[0]) + 1
        self._count(np.array(float(t)))
        return t

    def _count(self, updates: Array) -> None:
        """Set how many updates there were."""
        self.updates = [updates] * len(self.steps)
        for step in self.steps:
            step.value = updates

    def gather(self) -> Array | None:
        """All gradients side by side; None if one of them does not fit its parameter."""
        for p, part in zip(self.small, self.rooms[-1].parts):
            g = p._grad.value
            if g.shape != part.shape or g.dtype != part.dtype:
                return None
            part[...] = g
        for joined, room, members in zip(self.joined, self.rooms, self.members):
            gradients = [p._grad for p in members]
            if room.holds(gradients):
                continue
            if not room.fits(gradients):
                return None
            if joined.lend() is not room:  # somebody looks at earlier gradients, or works there
                self._make_rooms()
                return self.gather()
            for part, gradient in zip(room.parts, gradients, strict=True):
                part[...] = gradient.value
            joined.give_back(room)
        return self.gradients
