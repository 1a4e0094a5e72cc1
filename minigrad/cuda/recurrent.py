"""RNN, LSTM and GRU over a whole sequence in one launch: the host's side of recurrent.cu.

The products with the input and those for the weights' gradients are single cuBLAS calls; the kernel
does what is left, the recurrence.  What is computed is defined by the twin of each op.  Where a
layer does not fit (its recurrent weights exceed all shared memory) or has another dtype, `forward`
says None and the op goes on step by step.

Here a batch comes before features: a state is (B, H), the gates of all steps (T, B, blocks, H).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.cuda import kernels
from minigrad.device import array_module, device_of

CELLS = {"tanh": 0, "relu": 1, "lstm": 2, "gru": 3}  # recurrent.cu calls them so
GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}
THREADS = 512  # of a block
APART = 32  # counters between those of two groups: each in a sector of its own


@dataclass(frozen=True)
class Plan:
    """How a kernel is launched."""

    groups: int  # of blocks; each works on sequences of its own
    blocks: int  # of a group
    units: int  # hidden units of each block
    columns: int  # sequences in a tile
    room: int  # sequences whose states fit into shared memory at a time
    shared: int  # bytes
    cycles: int  # what a time step is thought to take


@cache
def plan(cell: str, backward: bool, B: int, H: int, processors: int, capacity: int) -> Plan | None:
    """The launch for a layer; None if its weights do not fit into the shared memory of the GPU."""
    plans = _plans(cell, backward, B, H, processors, capacity)
    return min(plans, key=lambda found: found.cycles, default=None)


def _plans(
    cell: str, backward: bool, B: int, H: int, processors: int, capacity: int
) -> Iterator[Plan]:
    """All that could be done.

    With more groups a block has fewer sequences, whose states it reads in every step, and fewer
    blocks to wait for, but more units, whose weights it must hold.  One block alone waits for none.
    """
    rows = GATES[cell] * H  # weights of a unit
    length = rows if backward else H  # numbers of a sequence that a step reads
    units_of_tile = 4 if backward or GATES[cell] == 1 else 1
    sums = 0 if backward else THREADS
    for wanted, alone, columns in product(
        range(1, min(B, processors) + 1), (True, False), (1, 2, 4, 8)
    ):
        sequences = -(-B // wanted)
        groups = -(-B // sequences)
        units = H if alone else -(-H // (processors // groups))
        blocks = -(-H // units)
        room = min(sequences, (capacity // 4 - units * rows - sums) // length)
        if room < sequences:
            room -= room % columns
        if room < 1 or columns // 2 >= sequences:
            continue
        shared = 4 * (units * rows + room * length + sums)
        tiles = -(-units // units_of_tile) * -(-sequences // columns)
        cycles = _cycles(tiles, columns, length, sequences, blocks)
        yield Plan(groups, blocks, units, columns, room, shared, cycles)


def _cycles(tiles: int, columns: int, length: int, sequences: int, blocks: int) -> int:
    """A guess at the clock cycles of a step, from what the manuals say about shared memory and L2.

    Each 32 terms of a tile are 4 + columns reads of 128 bytes, one a cycle, like the exchanges
    between lanes at its end; what other blocks made comes at 64 bytes a cycle; waiting for them is
    two ways to the second-level cache and back.
    """
    exchanges = sum(min(4 * columns, offset) for offset in (16, 8, 4, 2, 1))
    tile = -(-length // 32) * (4 + columns) + exchanges
    rounds = -(-tiles // (THREADS // 32))
    products = max(tiles * tile, rounds * (2 * tile + 200))
    return products + 4 * length * sequences // 64 + (2000 if blocks > 1 else 0)


@dataclass
class Saved:
    """What a forward pass leaves for the backward pass."""

    cell: str
    states: Array  # (T + 1, B, H): before a projection if there is one
    cells: Array | None  # likewise, of an LSTM
    gates: Array | None  # (T, B, blocks, H), but of an RNN
    running: Array | None  # (T,): how many sequences have not ended at each step
    U: Array  # the weights that made it from step to step
    y: Array | None  # (T, B, P), after a projection
    launch: Plan


def forward(
    op: Any,
    cell: str,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    W: Array,
    U: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    W_hr: Array | None = None,
) -> tuple[Array, ...] | None:
    """All states (T, B, H), the last one, and of an LSTM the last cell; None if it does not fit.

    If `op` is recorded, it gets what `backward` needs.  A projection h = W_hr m needs no kernel of
    its own: U h' = (U W_hr) m', so the recurrence is that of an LSTM with the states m.
    """
    (T, B, _), H = x.shape, len(U) // GATES[cell]
    if not (T and B and kernels.usable(x)):
        return None
    limits = kernels.attributes(device_of(x).index)
    launch, back = plan(cell, False, B, H, *limits), plan(cell, True, B, H, *limits)
    if launch is None or back is None:
        return None
    xp = array_module(x)
    pre = x.reshape(T * B, -1) @ W.T  # (T B, gates H)
    if W_hr is not None:
        if h0 is not None:
            pre[:B] += h0.reshape(B, -1) @ U.T
        h0, U = None, U @ W_hr
    sizes = op.batch_sizes
    running = None if sizes is None else xp.asarray(np.array(sizes, np.int32))
    given = [None if a is None else xp.ascontiguousarray(a) for a in (U, b_ih, b_hh, h0, c0)]

    def empty(*shape: int, wanted: bool = True) -> Array | None:
        return xp.empty(shape, x.dtype) if wanted else None

    has_cell = cell == "lstm"
    states, last = empty(T + 1, B, H), empty(B, H)
    cells, last_cell = empty(T + 1, B, H, wanted=has_cell), empty(B, H, wanted=has_cell)
    keep = op.is_recorded and cell in ("lstm", "gru")
    made = states, cells, empty(T, B, 4, H, wanted=keep), last, last_cell
    _launch("forward", cell, launch, (pre, *given, running, *made), (T, B, H), x)
    assert states is not None and last is not None
    y = states[1:]
    if W_hr is not None:
        y, last = (y.reshape(T * B, H) @ W_hr.T).reshape(T, B, -1), last @ W_hr.T
    if op.is_recorded:
        projected = None if W_hr is None else y
        op.residuals = Saved(cell, states, cells, made[2], running, given[0], projected, back)
    return (y, *[op.state(s) for s in (last, last_cell) if s is not None])


def backward(
    saved: Saved,
    g: Any,
    x: Array,
    h0: Array | None,
    W: Array,
    U: Array,
    wanted: tuple[bool, ...],
    W_hr: Array | None = None,
) -> tuple[Array | None, ...]:
    """The gradients of x, h0, c0, W, U, b_ih, b_hh and W_hr. `wanted`: which of them to compute.

    Those of the states are (B, H), whatever shape the states were given in.
    Those of all time steps' gates come from the kernel; each of the others from one product.
    """
    gy, gh, gc = (*g, None)[:3]
    states, cell = saved.states, saved.cell
    xp = array_module(states)
    (T, B), H = x.shape[:2], states.shape[2]
    gm, gm_last = gy, gh  # of the kernel's states
    if W_hr is not None:  # h = W_hr m
        gm = None if gy is None else gy.reshape(T * B, -1) @ W_hr
        gm_last = None if gh is None else gh @ W_hr
    given = [None if a is None else xp.ascontiguousarray(a) for a in (gm, gm_last, gc)]
    blocks = 4 if cell == "gru" else GATES[cell]
    dh, da = xp.empty((B, H), x.dtype), xp.empty((T, B, blocks, H), x.dtype)
    dc = None if saved.cells is None else xp.empty((B, H), x.dtype)
    kept = saved.U, saved.running, states, saved.cells, saved.gates
    _launch("backward", cell, saved.launch, (*given, *kept, dh, dc, da), (T, B, H), x)

    to_x = to_h = da.reshape(T * B, -1)  # a = W x + U h' + b
    if cell == "gru":  # of its blocks r z q n, W x has no q, and U h' no n
        to_h = da[:, :, :3].reshape(T * B, -1)
        to_x = xp.concatenate([to_h[:, : 2 * H], da[:, :, 3].reshape(T * B, H)], 1)
    before = states[:-1]
    gW_hr = None
    if W_hr is not None:
        assert saved.y is not None
        first = xp.zeros((1, B, U.shape[1]), x.dtype) if h0 is None else h0.reshape(1, B, -1)
        before = xp.concatenate([first, saved.y[:-1]])  # (T, B, P)
        dh = da[0].reshape(B, -1) @ U
        if wanted[7]:
            total = xp.zeros_like(saved.y) if gy is None else xp.array(gy)
            total[:-1] += (to_h[B:] @ U).reshape(T - 1, B, U.shape[1])
            if gh is not None:
                total[-1] += gh.reshape(B, -1)
            gW_hr = total.reshape(T * B, -1).T @ states[1:].reshape(T * B, H)
    gb_ih = to_x.sum(0) if wanted[5] or wanted[6] else None
    gb_hh = to_h.sum(0) if cell == "gru" and wanted[6] else gb_ih
    return (
        (to_x @ W).reshape(x.shape) if wanted[0] else None,
        dh,
        dc,
        to_x.T @ x.reshape(T * B, -1) if wanted[3] else None,
        to_h.T @ before.reshape(T * B, -1) if wanted[4] else None,
        gb_ih,
        gb_hh,
        gW_hr,
    )


def _launch(
    function: str,
    cell: str,
    launch: Plan,
    arrays: tuple[Array | None, ...],
    sizes: tuple[int, int, int],
    x: Array,
) -> None:
    together = launch.blocks > 1
    # how many blocks of each group have come to a barrier
    arrived = array_module(x).zeros(APART * launch.groups, np.uint32) if together else None
    numbers = [np.int32(n) for n in (*sizes, launch.groups, launch.units, launch.room)]
    kernels.launch(
        x,
        "recurrent",
        function,
        launch.groups * launch.blocks,
        (*arrays, arrived, *numbers),
        launch.shared,
        together,
        CELL=CELLS[cell],
        COLUMNS=launch.columns,
        THREADS=THREADS,
    )
