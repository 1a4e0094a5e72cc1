"""What the fused recurrent ops share: how their buffers lie in memory, and the work around the
time loop.

Outside, a sequence is (T, B, D).  Inside, features come before the batch: a state is (H, N), the
gates of one step (4H, N).  Then the weights are used as they are given, `U @ h`; each gate is one
contiguous block; and the product is the fastest that BLAS has at these sizes.  N is the batch B,
or a little more (`lanes`).  A sequence leaves as a transposed view, which the next layer transposes
back: nothing is copied between layers.  (A single sequence on the CPU goes its own way: single.py.)

The views that a step needs come from iterating over arrays in `zip`, which makes them without a
Python-level index.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op, wrap
from minigrad.device import array_module
from minigrad.memory import Joined, aligned, in_a_row
from minigrad.ops.selection import where

RUN = 2**20  # how many numbers of gates are worked on at a time
SMALL = 10**6  # multiplications in a product up to which OpenBLAS does not repack its operands


def _blas_threads() -> int:
    """How many threads OpenBLAS was told to use."""
    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        given = os.environ.get(name, "")
        if given.isdigit() and int(given) > 0:
            return int(given)
    return os.cpu_count() or 1


THREADS = _blas_threads()


class Recurrent(Op):
    """What the ops share: the settings of one application, and the shape of states.

    `batch_sizes`: how many sequences run at each step, if not all.  `joined`: where the weights
    lie, if in one array.  States, given or returned, are (B, H), or (1, B, H) if they are
    `stacked`, as those of a layer are.
    """

    def __init__(
        self,
        batch_sizes: Sequence[int] | None = None,
        joined: Joined | None = None,
        stacked: bool = False,
    ) -> None:
        self.batch_sizes = batch_sizes
        self.joined = joined
        self.stacked = stacked

    def state(self, last: Any) -> Any:
        """A state (B, H), or its gradient, as others know it."""
        return last[None] if self.stacked else last


def lanes(B: int) -> int:
    """How many columns buffers have: B, or a little more where that makes BLAS far faster.

    It likes multiples of 16.  The spare columns start from zero and get no gradient: they never
    meet the others.
    """
    return B if B < 12 else -(-B // 16) * 16


def empty(*shape: int, like: Array) -> Array:
    """A buffer in the dtype and on the device of `like`."""
    return array_module(like).empty(shape, like.dtype)


_scratch = threading.local()


def scratch(name: str, *shape: int, like: Array) -> Array:
    """A buffer that is lent: the next call with this `name` gives the same memory again.

    For what does not outlive a call of `forward` or `vjp`.  Fresh buffers of this size are pages
    that the system has to clear, on every call: some percent of the time of a step.  On a GPU the
    memory pool of CuPy does the same.
    """
    if not isinstance(like, np.ndarray):
        return empty(*shape, like=like)
    size = prod(shape) * like.itemsize
    held = _scratch.__dict__.get(name)
    if held is None or len(held) < size:
        held = _scratch.__dict__[name] = np.empty(size, np.uint8)
    return held[:size].view(like.dtype).reshape(shape)


def kept_or_lent(name: str, keep: bool, *shape: int, like: Array) -> Array:
    """A buffer that the backward pass will need, or scratch if there is none."""
    return empty(*shape, like=like) if keep else scratch(name, *shape, like=like)


def fill(buffer: Array, given: Array | None) -> Array:
    """Set a state (H, N) to `given`, (B, H) or stacked, or to zero; the spare columns to zero."""
    buffer[...] = 0
    if given is not None:
        given = given.reshape(-1, len(buffer))
        buffer[:, : len(given)] = given.T
    return buffer


def taken(buffer: Array, B: int) -> Array:
    """What `fill` put in, or its gradient, as it left the loop: (H, N) -> (B, H)."""
    return buffer[:, :B].T


def runs_of_steps(T: int, size: int) -> list[slice]:
    """The time steps, in runs of about RUN numbers when one step has `size`.

    What can leave the recurrence is done for a run at a time, before or after the loop over its
    steps: one call instead of many, with W in the processor's cache all along.  The buffers for
    it, and all that evaluation needs for the gates, are then no longer than a run.
    """
    n = max(1, RUN // max(1, size))
    return [slice(start, min(start + n, T)) for start in range(0, T, n)]


def outside(buffer: Array, B: int) -> Array:
    """The buffer of a sequence as others know it: (T, H, N) -> (T, B, H).  A view."""
    return buffer[:, :, :B].transpose(0, 2, 1)


def inside(x: Array) -> Array:
    """Undo `outside`: (T, B, D) -> (T, D, B).  A view."""
    return x.transpose(0, 2, 1)


def padded(x: Array) -> Array:
    """The inputs (T, B, D) as `project` wants them: (T, D, N), contiguous, spare columns zero."""
    T, B, D = x.shape
    N = lanes(B)
    if N == B:
        return array_module(x).ascontiguousarray(inside(x))
    buffer = scratch("inputs", T, D, N, like=x)
    buffer[:, :, :B] = inside(x)
    buffer[:, :, B:] = 0
    return buffer


# --- weights ----------------------------------------------------------------------------------
#
# On the CPU the weights of a layer lie in one array, so that an optimizer's rule is one call.  For
# batches they follow one another.  For single sequences it is a matrix J with the rows U^T, b_hh,
# W^T, b_ih:
#
#     U h' + b_hh + W x + b_ih = J^T [h' 1 x 1]
#
# is one product, so are the gradients of all four, and BLAS is faster in this order.


@cache
def _split(rows: int, P: int, D: int, biased: bool, is_single: bool) -> Any:
    """The shape of the array, and what makes W, U and the biases, as an op takes them, from it."""
    if not is_single:
        shapes = [(rows, D), (rows, P)] + [(rows,)] * 2 * biased
        return (rows * (D + P + 2 * biased),), in_a_row(shapes)
    if biased:
        return (P + D + 2, rows), lambda J: (J[P + 1 : -1].T, J[:P].T, J[-1], J[P])
    return (P + D, rows), lambda J: (J[P:].T, J[:P].T)


def _room(W: Array, U: Array, biased: bool, is_single: bool) -> Joined:
    """An array for weights like these, with anything in it."""
    shape, split = _split(*U.shape, W.shape[1], biased, is_single)
    return Joined(aligned(shape, U), split)


def joined(is_single: bool, *weights: Any) -> Joined | None:
    """W, U, b_ih and b_hh (or None) in one array: from now on if they were apart, or otherwise.

    None if they cannot be: those on a GPU, or that are themselves computed.
    """
    nodes = [node for node in weights if node is not None]
    found, W, U, biased = nodes[0].joined, nodes[0].value, nodes[1].value, len(nodes) > 2
    _, split = _split(*U.shape, W.shape[1], biased, is_single)
    if found is not None and found.split is split and found.holds(nodes):
        return found
    for node in nodes:
        node.joined = None
    for node in nodes:
        value = node.value
        if type(value) is not np.ndarray or node.op is not None or value.dtype != W.dtype:
            return None
    found = _room(W, U, biased, is_single)
    found.take(nodes)
    return found


def in_one(op: Any, *weights: Array | None) -> Array:
    """J, put together if the weights are apart."""
    if op.joined is not None:
        return op.joined.array
    given = [array for array in weights if array is not None]
    room = _room(given[0], given[1], len(given) > 2, True)
    for part, array in zip(room.parts, given, strict=True):
        part[...] = array
    return room.array


def room_for_gradients(
    op: Any, W: Array, U: Array, b_ih: Array | None, is_single: bool = False
) -> Joined:
    """Where the gradients of the weights go."""
    if op.joined is not None:
        return op.joined.lend()
    return _room(W, U, b_ih is not None, is_single)


def gradients(op: Any, room: Joined, first: int | None = None) -> tuple[Array | None, ...]:
    """Those of W, U, b_ih and b_hh; with `first`, the number of W among the inputs, those wanted.

    (For a single sequence one product gives them all, and the walk drops what is not wanted.)
    """
    found = room.parts
    if first is not None:
        found = tuple([part if op.wants(first + i) else None for i, part in enumerate(found)])
    if op.joined is not None:
        op.joined.give_back(room)
    return found if len(found) == 4 else (*found, None, None)


# --- products ---------------------------------------------------------------------------------


@cache
def count_of_blocks(M: int, K: int, N: int) -> int:
    """In how many blocks of rows a product (M, K) (K, N) is fastest: 1 if there is no gain.

    OpenBLAS first copies both operands of a product into an order of its own.  At these sizes that
    takes a third of the time, and it leaves it out for small products (on processors with AVX-512),
    which it also never shares among threads.  They are fast with rows in dozens, or few columns.
    """
    if THREADS > 1:
        return 1
    fitting = [m for m in range(12, 65) if M % m == 0 and m * K * N <= SMALL]
    fitting = [m for m in fitting if m % 12 == 0 or N <= 32]
    best = max(fitting, key=lambda m: (m % 12 == 0, m % 4 == 0, m), default=M)
    return M // best


def times(W: Array, N: int) -> Callable[[Array, Array], Any]:
    """The product of all steps: a function of x (K, N) and a buffer for W x, (M, N)."""
    k = count_of_blocks(*W.shape, N)
    blocks = array_module(W).ascontiguousarray(W).reshape(k, len(W) // k, W.shape[1])
    shape = (k, len(W) // k, N)

    def product(x: Array, out: Array) -> None:
        np.matmul(blocks, x, out.reshape(shape))

    return product


def project(W: Array, b: Array | None, x: Array, out: Array) -> None:
    """out[t] = W x[t] + b, for all steps of a run: (n, D, N) -> (n, 4H, N)."""
    if b is not None and W.shape[1] == 1:  # as in series; BLAS is far faster on [W b] [x 1]
        W, b, x = np.stack([W[:, 0], b], 1), None, np.concatenate([x, np.ones_like(x)], 1)
    n, D, N = x.shape
    k = count_of_blocks(len(W), D, N)
    blocks = W.reshape(k, len(W) // k, D)
    np.matmul(blocks, x[:, None], out.reshape(n, k, len(W) // k, N))
    if b is not None:
        out += b[:, None].repeat(N, axis=1)


def transposed(W: Array) -> Array:
    """A copy of W^T."""
    W_T = empty(*W.shape[::-1], like=W)
    for start in range(0, len(W), 64):  # 64 rows at a time stay in the cache: up to 6 times faster
        W_T[:, start : start + 64] = W[start : start + 64].T
    return W_T


def columns(name: str, x: Array) -> Array:
    """A sequence as one matrix: (T, B, D) -> (D, T B).  Scratch, or a view if x lies like that."""
    T, B, D = x.shape
    if x.flags.c_contiguous:
        return x.reshape(T * B, D).T
    matrix = scratch(name, D, T, B, like=x)
    matrix[...] = x.transpose(2, 0, 1)
    return matrix.reshape(D, T * B)


# --- sequences of different lengths -----------------------------------------------------------
#
# The longest comes first.  At step t the first batch_sizes[t] sequences still run; those that have
# ended keep their state, and the gradient of that state waits until the step that made it.


def freeze(n: int, *states: tuple[Array, Array]) -> None:
    """Give the sequences after the first `n` their old state (new, old) again."""
    for new, old in states:
        new[:, n:] = old[:, n:]


def set_aside(n: int, *gradients: Array) -> list[Array]:
    """Take the gradients of the sequences after the first `n` out, for `put_back`."""
    held = [d[:, n:].copy() for d in gradients]
    for d in gradients:
        d[:, n:] = 0
    return held


def put_back(n: int, held: list[Array], *gradients: Array) -> None:
    """Undo `set_aside`, after the step."""
    for d, waited in zip(gradients, held, strict=True):
        d[:, n:] = waited


def where_running(batch_sizes: Sequence[int] | None, t: int, new: Any, old: Any) -> Any:
    """For the twins: `new` (B, H) for the sequences that run at step t, `old` for the others."""
    if batch_sizes is None or batch_sizes[t] == len(new):
        return new
    running = array_module(new.value).arange(len(new)) < batch_sizes[t]
    return where(running[:, None], new, old)


def start(x: Any, given: Any, size: int) -> Any:
    """For the twins: the state (B, H) to start from, zeros if none is given."""
    if given is not None:
        return given.reshape(x.shape[1], size)
    return wrap(array_module(x.value).zeros((x.shape[1], size), x.dtype))
