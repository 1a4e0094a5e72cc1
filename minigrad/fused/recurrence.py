"""What the fused recurrent ops share: how their buffers lie in memory, and the work around the
time loop.

Outside, a sequence is (T, B, D).  Inside, features come before the batch: a state is (H, N), the
gates of one step (4H, N).  Then the weights are used as they are given, `U @ h`; each gate is one
contiguous block; and the product is the fastest that BLAS has at these sizes.  N is the batch B,
or a little more (`width`).  A sequence leaves as a transposed view, which the next layer
transposes back: nothing is copied between layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.device import array_module
from minigrad.ops.selection import where

RUN = 2**20  # how many numbers of gates are worked on at a time


def width(B: int) -> int:
    """N, the columns of a buffer for a batch of B: BLAS is far faster on multiples of 16.

    The spare columns start from zero and get no gradient: they never meet the others.
    """
    return B if B < 12 else -(-B // 16) * 16


def empty(*shape: int, like: Array) -> Array:
    """A buffer in the dtype and on the device of `like`."""
    return array_module(like).empty(shape, like.dtype)


def fill(buffer: Array, given: Array | None) -> Array:
    """Set a state (H, N) to `given` (B, H), or to zero; the spare columns to zero."""
    buffer[...] = 0
    if given is not None:
        buffer[:, : len(given)] = given.T
    return buffer


def runs_of_steps(T: int, size: int) -> list[slice]:
    """The time steps, in runs of about RUN numbers when one step has `size`.

    What can leave the recurrence is done for a run at a time, before or after the loop over its
    steps: one call instead of many, with W in the processor's cache all along.  The buffers for
    it, and all that evaluation needs for the gates, are then no longer than a run.
    """
    n = max(1, RUN // max(1, size))
    return [slice(start, min(start + n, T)) for start in range(0, T, n)]


def columns(b: Array, N: int) -> Array:
    """A bias (4H), once for each column: (4H, N)."""
    return b[:, None].repeat(N, axis=1)


def swap(sequence: Array) -> Array:
    """(T, B, H) -> (T, H, B), and back."""
    return sequence.transpose(0, 2, 1)


def steps(x: Array, N: int) -> Array:
    """The inputs (T, B, D) as the loop wants them: (T, D, N), the spare columns zero."""
    T, B, D = x.shape
    if N == B:
        return swap(x)
    padded = array_module(x).zeros((T, D, N), x.dtype)
    padded[:, :, :B] = swap(x)
    return padded


def project(W: Array, x: Array, out: Array) -> None:
    """out[t] = W x[t]: (n, D, N) -> (n, 4H, N)."""
    if x.shape[2] == 1:
        np.matmul(x[:, :, 0], W.T, out=out[:, :, 0])  # all steps in one product
    else:
        np.matmul(W, x, out=out)


def transposed(U: Array, B: int) -> Array:
    """U^T for the steps of a loop: copied where that makes each of the products faster."""
    return U.T if B == 1 else U.T.copy()


def weight_gradient(da: Array, x: Array) -> Array:
    """da x^T summed over time and batch, in one product: (4H, T, B), (T, B, D) -> (4H, D)."""
    return da.reshape(len(da), -1) @ x.transpose(2, 0, 1).reshape(x.shape[2], -1).T


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
