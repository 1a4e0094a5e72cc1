"""Where values may be written to, and several that lie in one array.

Tensors are values: `before = p.detach()` must not change when `p` is updated.  Whatever could still
show the old value holds a reference to the array: another tensor, an op that saved it for a
backward pass, and any view (NumPy's and CuPy's views hold their base).  If there is none but the
tensor's own, nobody can tell a new array from the old one written over.
"""

from __future__ import annotations

import operator
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Node, wrap
from minigrad.device import array_module

LARGE = 16_384  # numbers: from here on it matters where an array starts
value_of = operator.attrgetter("value")  # of a node
LINE = 64  # bytes: a line of the processor's cache

# glibc gives the memory of a large array back to the system as soon as it is freed, which then has
# to clear the pages of the next one, until an array as large was freed before (mallopt(3)).  So one
# is, here: never written to, it costs nothing.  In a training step that is up to a sixth.
np.empty(2**25 - 2**13, np.uint8)


def aligned(shape: tuple[int, ...], like: Array) -> Array:
    """An array with anything in it; a large one starts where a line of the cache does.

    NumPy's start anywhere, and an optimizer's passes over them take a sixth longer.
    """
    size = prod(shape)
    if size < LARGE or type(like) is not np.ndarray:
        return array_module(like).empty(shape, like.dtype)
    room = np.empty(size * like.itemsize + LINE, np.uint8)
    start = -room.__array_interface__["data"][0] % LINE
    part = room[start : start + size * like.itemsize].view(like.dtype)
    return part.reshape(shape)


_kept = threading.local()


def scratch(like: Array) -> Array:
    """An array like this to work in. A large one may be the one that was given out before."""
    if like.size < LARGE or type(like) is not np.ndarray or not like.flags.c_contiguous:
        return np.empty_like(like)
    held = _kept.__dict__.get("scratch")
    if held is None or held.shape != like.shape or held.dtype != like.dtype:
        held = _kept.__dict__["scratch"] = aligned(like.shape, like)
    return held


def owned(node: Node) -> Array:
    """The value of `node`, ready to be written to: first replaced by a copy if others hold it."""
    if node.is_joined and node.joined.is_alone():
        return node.value
    value = node.value
    if sys.getrefcount(value) != _OWNED or value.base is not None or not value.flags.c_contiguous:
        node.value = value = value.copy()
    return value


def _references(node: Node) -> int:
    value = node.value
    return sys.getrefcount(value)


_OWNED = _references(wrap(np.zeros(1)))  # what `owned` counts for an array that only a node holds


class Joined:
    """Values of several nodes, lying in one array: what is done to them all is one call.

    On small nets, where a call costs more than what it computes, that is much.  `split` makes the
    `parts` from the array: views that share out its elements, in the shapes of the nodes.
    """

    gradient: Joined | None = None  # room for the gradients of the nodes, lent before

    beside: Any = None  # the others that lie in the same memory, kept so that the count holds

    def __init__(self, array: Array, split: Callable[[Array], tuple[Array, ...]]) -> None:
        """Take over `array`."""
        self.array = array
        self.split = split
        self.parts = split(array)
        self.views = len(self.parts) + 1  # how many arrays refer to the memory

    def like(self) -> Joined:
        """Another, with anything in it."""
        return Joined(aligned(self.array.shape, self.array), self.split)

    def holds(self, nodes: Sequence[Node]) -> bool:
        """Whether the parts are the values of these nodes, in this order."""
        values = map(value_of, nodes)
        return len(nodes) == len(self.parts) and all(map(operator.is_, values, self.parts))

    def fits(self, nodes: Iterable[Node]) -> bool:
        """Whether the values of these nodes have the shapes and the dtype of the parts."""
        values = [node.value for node in nodes]
        return all(
            value.shape == part.shape and value.dtype == part.dtype
            for value, part in zip(values, self.parts, strict=True)
        )

    def take(self, nodes: Iterable[Node]) -> None:
        """Make the parts the values of these nodes."""
        for node, part in zip(nodes, self.parts, strict=True):
            part[...] = node.value
            node.value = part
            node.joined = self

    def is_alone(self, nodes: int = 1) -> bool:
        """Whether each part is held by so many nodes, 1 or 0, and all by nobody else."""
        held = [ALONE + 1 + nodes] * len(self.parts)
        return references([*self.parts, self.memory]) == [*held, ALONE + self.views]

    @property
    def memory(self) -> Array:
        """What all views refer to."""
        return self.array if self.array.base is None else self.array.base

    def lend(self) -> Joined:
        """Room for gradients, that nobody else has until it is given back."""
        kept = self.__dict__.pop("gradient", None)  # at once: two threads do not get the same
        if kept is None:
            return self.like()
        if kept.is_alone(0):
            return kept
        self.give_back(kept)
        return self.like()

    def give_back(self, room: Joined) -> None:
        """Keep `room` for the next gradients, unless there is some.  Its parts are in use now."""
        self.__dict__.setdefault("gradient", room)


def references(arrays: Sequence[Array]) -> list[int]:
    """How many references there are to each."""
    return [*map(sys.getrefcount, arrays)]


ALONE = references([np.zeros(1)])[0]  # where there is none but the sequence's


def in_a_row(shapes: Sequence[tuple[int, ...]]) -> Callable[[Array], tuple[Array, ...]]:
    """What splits an array (n,) into parts of these shapes, one after another."""
    ends = [*accumulate(map(prod, shapes))]

    def split(array: Array) -> tuple[Array, ...]:
        pieces = np.split(array, ends[:-1])
        return tuple([piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)])

    return split


def side_by_side(likes: Sequence[Joined]) -> tuple[Array, list[Joined]]:
    """One array (n,), and in it a Joined like each of these."""
    ends = [0, *accumulate(like.array.size for like in likes)]
    whole = aligned((ends[-1],), likes[0].array)[:]  # a view, as the others are
    made = []
    for like, start, end in zip(likes, ends, ends[1:]):
        made.append(Joined(whole[start:end].reshape(like.array.shape), like.split))
    views = 1 + sum(joined.views for joined in made)
    beside = whole, [(joined.array, joined.parts) for joined in made]
    for joined in made:
        joined.views, joined.beside = views, beside
    return whole, made


def joined_among(nodes: Iterable[Node]) -> tuple[list[tuple[Joined, list[Node]]], list[Node]]:
    """The nodes that together have all parts of an array, by array; and all other nodes."""
    found: dict[Joined | None, list[Node]] = {None: []}
    for node in nodes:
        found.setdefault(node.joined, []).append(node)
    others = found.pop(None)
    whole = []
    for joined, members in found.items():
        if joined is not None and joined.holds(members):
            whole.append((joined, members))
        else:
            others += members
    return whole, others
