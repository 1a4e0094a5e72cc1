"""A recurrent net writes a text in one launch: the host's side of generation.cu.

What is computed is defined by the plain loop in minigrad/generation.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.cuda import kernels
from minigrad.cuda.recurrent import CELLS
from minigrad.device import array_module, device_of

THREADS = 512  # of a block
FIXED = 68  # numbers in shared memory for the draw

Layer = tuple[Array, ...]  # W, U, b_ih, b_hh; the biases may be None


@dataclass(frozen=True)
class Plan:
    """How the kernel is launched."""

    blocks: int  # of the grid
    units: int  # hidden units of each block, in every layer
    held: int  # numbers of a block's weights that fit into its shared memory
    shared: int  # bytes


def plan(cell: str, L: int, H: int, V: int, processors: int, capacity: int) -> Plan | None:
    """One block, which waits for no other, if all weights fit into it; else one per multiprocessor.

    None if not even the scores fit.
    """
    rows = 1 if cell in ("tanh", "relu") else 4

    def launch(units: int) -> Plan | None:
        blocks = -(-H // units)
        weights = units * rows * H * (2 * L - 1) + -(-V // blocks) * H
        others = FIXED + -(-L * H // 4) * 4 + L * units + units * rows + 2 * V
        held = min(weights, capacity // 4 - others) // 4 * 4
        return None if held < 0 else Plan(blocks, units, held, 4 * (others + held))

    alone = launch(H)
    if alone is not None and alone.held >= H * rows * H * (2 * L - 1) + V * H - 3:
        return alone
    return launch(-(-H // processors))


def write(
    cell: str,
    inputs: Array,
    layers: list[Layer],
    output: tuple[Array, Array | None],
    states: list[Array],
    first: int,
    length: int,
    uniforms: Array | None,
    temperature: float,
    top_k: int | None,
) -> Array | None:
    """The numbers of `length` symbols that follow the symbol `first`; None if this cannot be done.

    inputs (V, D): what the first layer gets for each symbol.  output: weights (V, H) and biases of
    the scores.  states: h, and of an LSTM c, each (L, H).  uniforms (length,), float64, on the
    host: one for each draw; none are needed at temperature 0.  -1 stands for a symbol that could
    not be drawn.
    """
    xp = array_module(inputs)
    L, H, V = len(layers), layers[0][1].shape[1], len(inputs)
    launch = plan(cell, L, H, V, *kernels.attributes(device_of(inputs).index))
    if launch is None:
        return None
    weights, base = _packed(cell, inputs, layers, output)
    arrays = [weights, base, *(xp.ascontiguousarray(s) for s in states)]
    arrays += [None] * (4 - len(arrays))  # an LSTM alone has c
    written = xp.empty(length, np.int32)
    made = xp.empty((L, H), np.float32), xp.empty(V, np.float32), written, xp.zeros(1, np.uint32)
    sizes = first, length, L, H, V, launch.units, launch.held
    drawing = np.float32(temperature), np.int32(top_k or 0)
    kernels.launch(
        inputs,
        "generation",
        "write_text",
        launch.blocks,
        (
            *arrays,
            None if uniforms is None else xp.asarray(uniforms),
            *made,
            *map(np.int32, sizes),
            *drawing,
        ),
        shared=launch.shared,
        together=launch.blocks > 1,
        CELL=CELLS[cell],
        THREADS=THREADS,
    )
    return written


def _packed(
    cell: str, inputs: Array, layers: list[Layer], output: tuple[Array, Array | None]
) -> tuple[Array, Array]:
    """All weights, and all that is added to their products, each as one row of numbers.

    Weights: for each layer [W U] with the gates of a unit side by side, (H, gates, columns), the
    first layer without W; then those of the scores.  Added: (V, H, gates) for the first layer, W x
    + b of every symbol; (H, gates) for each of the others, b; (V,) for the scores.
    """
    xp = array_module(inputs)
    H = layers[0][1].shape[1]
    weights, base = [], []
    for i, (W, U, b_ih, b_hh) in enumerate(layers):
        b = _of_x(cell, xp.zeros(len(W), W.dtype) if b_ih is None else b_ih)
        if b_hh is not None:
            b = b + _of_h(cell, b_hh)
        columns = _of_h(cell, U)
        if i == 0:
            b = inputs @ _of_x(cell, W).T + b
        else:
            columns = xp.concatenate([_of_x(cell, W), columns], 1)
        weights.append(columns.reshape(-1, H, columns.shape[1]).swapaxes(0, 1))
        base.append(b.reshape(len(inputs) if i == 0 else 1, -1, H).swapaxes(1, 2))
    W, b_or_none = output
    weights.append(W)
    base.append(xp.zeros(len(W), W.dtype) if b_or_none is None else b_or_none)
    return tuple(xp.concatenate([a.reshape(-1) for a in parts]) for parts in (weights, base))


def _of_x(cell: str, A: Array) -> Array:
    """The blocks of a GRU in the order r z q n: W x, with b_ih, has no part in q ..."""
    H = len(A) // 3
    return A if cell != "gru" else _joined(A[: 2 * H], np.zeros_like(A[:H]), A[2 * H :])


def _of_h(cell: str, A: Array) -> Array:
    """... and U h' + b_hh none in n, which gets it as r q.  Other cells need no such care."""
    return A if cell != "gru" else _joined(A, np.zeros_like(A[: len(A) // 3]))


def _joined(*parts: Array) -> Array:
    return array_module(parts[0]).concatenate(parts)
