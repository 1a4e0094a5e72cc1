"""The recurrent kernels compute what their ops define, forward and backward, in every launch."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import on_cpu
import pytest
from on_cpu import needs_compiler

from minigrad.autograd.engine import run_backward, wrap
from minigrad.cuda import recurrent
from minigrad.fused.gru import GRU
from minigrad.fused.lstm import LSTM
from minigrad.fused.rnn import RNN

OPS = {"tanh": RNN, "relu": lambda: RNN("relu"), "lstm": LSTM, "gru": GRU}


def problem(cell: str, T: int, B: int, D: int, H: int, bias: bool, state: bool) -> list[Any]:
    """The inputs of the op, in float64, as random as they come."""
    rng = np.random.default_rng(T + 10 * B + 100 * H)
    rows = recurrent.GATES[cell] * H
    draw = rng.standard_normal
    states = [draw((B, H)) if state else None for _ in range(2 if cell == "lstm" else 1)]
    biases = [draw(rows) if bias else None for _ in range(2)]
    inputs = [draw((T, B, D)), *states, draw((rows, D)), draw((rows, H)) / H**0.5, *biases]
    return [*inputs, None] if cell == "lstm" else inputs


def by_the_kernels(cell: str, arrays: list[Any], cotangents: list[Any]) -> tuple[Any, Any, Any]:
    """Outputs, and the gradients of all inputs, as the op does it on a GPU."""
    single = [None if a is None else a.astype(np.float32) for a in arrays]
    op = OPS[cell]()
    op.edges = [None if a is None else wrap(a) for a in single]  # recorded, all gradients wanted
    x, *rest = single
    h0, c0 = (rest[0], rest[1]) if cell == "lstm" else (rest[0], None)
    W, U, b_ih, b_hh = rest[2:6] if cell == "lstm" else rest[1:5]
    outputs = recurrent.forward(op, cell, x, h0, c0, W, U, b_ih, b_hh)
    assert outputs is not None
    given = [None if g is None else g.astype(np.float32) for g in cotangents]
    found = recurrent.backward(op.residuals, given, x, W, U, (True,) * 7)
    if cell != "lstm":
        found = (*found[:2], *found[3:])
    return outputs, found, op


def by_definition(cell: str, arrays: list[Any], cotangents: list[Any]) -> tuple[Any, Any]:
    inputs = [None if a is None else wrap(a, None, True) for a in arrays]
    outputs = OPS[cell]().twin(*inputs)
    used = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if g is not None]
    live = [x for x in inputs if x is not None]
    found = iter(run_backward([y for y, _ in used], [g for _, g in used], live))
    return [y.value for y in outputs], [None if x is None else next(found) for x in inputs]


@needs_compiler
@pytest.mark.cpu_only("the kernels are emulated")
@pytest.mark.parametrize("cell", OPS)
@pytest.mark.parametrize(
    ("T", "B", "D", "H", "bias", "state", "given", "processors", "capacity"),
    [
        (5, 1, 3, 7, True, False, "y", 3, 48 * 1024),  # one block, one column
        (3, 3, 1, 34, True, True, "yh", 3, 48 * 1024),  # more terms than lanes
        (2, 5, 2, 40, False, True, "h", 4, 9 * 1024),  # the batch in several parts
        (1, 9, 2, 41, True, True, "y", 5, 16 * 1024),  # no size divides another; one step
        (3, 2, 2, 1, True, True, "yh", 3, 48 * 1024),  # one unit
    ],
)
def test_equals_the_definition(
    cell: str, T: int, B: int, D: int, H: int, bias: bool, state: bool, given: str,
    processors: int, capacity: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(recurrent, "ALONE", 512)
    monkeypatch.setattr(recurrent, "THREADS", on_cpu.THREADS)
    launched = on_cpu.install(monkeypatch, processors, capacity)
    arrays = problem(cell, T, B, D, H, bias, state)
    rng = np.random.default_rng(1)
    cotangents = [
        rng.standard_normal((T, B, H)) if "y" in given else None,
        *[rng.standard_normal((B, H)) if "h" in given else None] * (2 if cell == "lstm" else 1),
    ]
    outputs, found, _ = by_the_kernels(cell, arrays, cotangents)
    expected, gradients = by_definition(cell, arrays, cotangents)
    assert launched == ["forward", "backward"]
    for y, z in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-5)
    for g, h, a in zip(found, gradients, arrays):  # of an LSTM's W_hr there is none
        if a is not None:
            np.testing.assert_allclose(g, h, rtol=1e-4, atol=2e-5 * max(1, abs(h).max()))


H100, A100, SMALL = (132, 232_448), (108, 166_912), (20, 101_376)


@pytest.mark.parametrize(("processors", "capacity"), [H100, A100, SMALL])
def test_a_plan_fits_or_there_is_none(processors: int, capacity: int) -> None:
    cases = product(OPS, (False, True), (1, 2, 7, 30, 1000), (1, 3, 100, 128, 300, 512, 1000, 4096))
    for cell, backward, B, H in cases:
        found = recurrent.plan(cell, backward, B, H, processors, capacity)
        if found is None:
            assert H > 300, "small layers fit everywhere"
            continue
        assert found.blocks <= processors and found.shared <= capacity
        assert (found.blocks - 1) * found.units < H <= found.blocks * found.units
        assert found.room >= min(B, found.columns) and found.columns < 2 * B
        assert found.columns in (1, 2, 4, 8)


def test_the_sizes_that_matter_fit() -> None:
    for H, B in ((100, 1), (300, 30), (512, 64)):
        for backward in (False, True):
            assert recurrent.plan("lstm", backward, B, H, *H100), (H, B)
    alone = recurrent.plan("lstm", False, 1, 100, *H100)
    assert alone is not None and alone.blocks == 1
