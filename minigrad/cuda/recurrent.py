"""RNN, LSTM and GRU over a whole sequence in one launch: the host's side of recurrent.cu.

The products with the input and those for the weights' gradients are single cuBLAS calls; the kernel
does what is left, the recurrence.  What is computed is defined by the twin of each op.  Where a
layer does not fit (its recurrent weights exceed all shared memory, another dtype, sequences of
different lengths, a projection), `forward` says None and the op goes on step by step.

Here a batch comes before features: a state is (B, H), the gates of all steps (T, B, blocks, H).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op
from minigrad.cuda import kernels
from minigrad.cuda.kernels import THREADS
from minigrad.device import array_module, device_of

CELLS = {"tanh": 0, "relu": 1, "lstm": 2, "gru": 3}  # recurrent.cu calls them so
GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}
ALONE = 2**16  # products in a step up to which one block, with no wait for others, does it all


@dataclass(frozen=True)
class Plan:
    """How a kernel is launched."""

    blocks: int  # of the grid
    units: int  # hidden units of each
    columns: int  # sequences in a tile
    room: int  # sequences whose states fit into shared memory at a time
    shared: int  # bytes


def plan(cell: str, backward: bool, B: int, H: int, processors: int, capacity: int) -> Plan | None:
    """The launch for a layer; None if its weights do not fit into the shared memory of the GPU."""
    rows = GATES[cell] * H  # weights of a unit
    length = rows if backward else H  # numbers of a sequence that a step reads
    sums = 0 if backward else THREADS

    def room(units: int) -> int:
        return min(B, (capacity // 4 - units * rows - sums) // length)

    alone = rows * H * B <= ALONE and room(H) >= min(B, 8)
    units = H if alone else -(-H // processors)
    n = room(units)
    if n < 1:
        return None
    columns = 8  # fewer where the batch is smaller, or where no 8 sequences fit
    while columns // 2 >= B or (columns > n and n < B):
        columns //= 2
    if n < B:
        n -= n % columns
    return Plan(-(-H // units), units, columns, n, 4 * (units * rows + n * length + sums))


@dataclass
class Saved:
    """What a forward pass leaves for the backward pass."""

    cell: str
    states: Array  # (T + 1, B, H)
    cells: Array | None  # likewise, of an LSTM
    gates: Array | None  # (T, B, blocks, H), but of an RNN
    launch: Plan


def forward(
    op: Op,
    cell: str,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    W: Array,
    U: Array,
    b_ih: Array | None,
    b_hh: Array | None,
) -> tuple[Array, ...] | None:
    """All states (T, B, H), the last one, and of an LSTM the last cell; None if it does not fit.

    If `op` is recorded, it gets what `backward` needs.
    """
    (T, B, _), H = x.shape, U.shape[1]
    if not (T and B and kernels.usable(x)):
        return None
    limits = kernels.attributes(device_of(x).index)
    launch, back = plan(cell, False, B, H, *limits), plan(cell, True, B, H, *limits)
    if launch is None or back is None:
        return None
    xp = array_module(x)
    pre = x.reshape(T * B, -1) @ W.T  # (T B, gates H)
    b_hn = None
    if b_ih is not None and b_hh is not None:
        pre += b_ih
        if cell == "gru":
            pre[:, : 2 * H] += b_hh[: 2 * H]
            b_hn = xp.ascontiguousarray(b_hh[2 * H :])
        else:
            pre += b_hh
    states = _from(h0, T, B, H, x)
    cells = _from(c0, T, B, H, x) if cell == "lstm" else None
    keep = op.is_recorded and cell in ("lstm", "gru")
    gates = xp.empty((T, B, 4, H), x.dtype) if keep else None
    arrays = pre, xp.ascontiguousarray(U), b_hn, states, cells, gates
    _launch("forward", cell, launch, arrays, (T, B, H), x)
    if op.is_recorded:
        op.residuals = Saved(cell, states, cells, gates, back)
    last = states[T].copy()
    return (states[1:], last) if cells is None else (states[1:], last, cells[T].copy())


def backward(
    saved: Saved, g: Any, x: Array, W: Array, U: Array, wanted: tuple[bool, ...]
) -> tuple[Array | None, ...]:
    """The gradients of x, h0, c0, W, U, b_ih and b_hh. `wanted`: which of them to compute.

    Those of all time steps' gates come from the kernel; each of the others from one product.
    """
    gy, *g_last = g
    states, cell = saved.states, saved.cell
    xp = array_module(states)
    (T, B), H = x.shape[:2], states.shape[2]
    dh, dc = (
        xp.zeros((B, H), x.dtype) if g is None else xp.array(g, order="C")
        for g in (*g_last, None)[:2]
    )
    da = xp.empty((T, B, 4 if cell == "gru" else GATES[cell], H), x.dtype)
    gy = None if gy is None else xp.ascontiguousarray(gy)
    arrays = gy, xp.ascontiguousarray(U), states, saved.cells, saved.gates, dh, dc, da
    _launch("backward", cell, saved.launch, arrays, (T, B, H), x)

    to_x = to_h = da.reshape(T * B, -1)  # a = W x + U h' + b
    if cell == "gru":  # of its blocks r z q n, W x has no q, and U h' no n
        to_h = da[:, :, :3].reshape(T * B, -1)
        to_x = xp.concatenate([to_h[:, : 2 * H], da[:, :, 3].reshape(T * B, H)], 1)
    gb_ih = to_x.sum(0) if wanted[5] or wanted[6] else None
    gb_hh = to_h.sum(0) if cell == "gru" and wanted[6] else gb_ih
    return (
        (to_x @ W).reshape(x.shape) if wanted[0] else None,
        dh,
        dc,
        to_x.T @ x.reshape(T * B, -1) if wanted[3] else None,
        to_h.T @ states[:-1].reshape(T * B, H) if wanted[4] else None,
        gb_ih,
        gb_hh,
    )


def _from(first: Array | None, T: int, B: int, H: int, x: Array) -> Array:
    """Room for the states of all steps, with the initial one (zeros if None) in its place."""
    states = array_module(x).empty((T + 1, B, H), x.dtype)
    states[0] = 0 if first is None else first
    return states


def _launch(
    function: str,
    cell: str,
    launch: Plan,
    arrays: tuple[Array | None, ...],
    sizes: tuple[int, int, int],
    x: Array,
) -> None:
    kernel = kernels.kernel(
        device_of(x).index,
        "recurrent",
        function,
        launch.shared,
        CELL=CELLS[cell],
        COLUMNS=launch.columns,
    )
    arrived = array_module(x).zeros(1, np.uint32)  # how many blocks have come to a barrier
    pointers = [np.uintp(0) if a is None else a for a in arrays]
    numbers = [np.int32(n) for n in (*sizes, launch.units, launch.room)]
    kernel((launch.blocks,), (THREADS,), (*pointers, arrived, *numbers), shared_mem=launch.shared)
