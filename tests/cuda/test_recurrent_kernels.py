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

OPS: dict[str, Any] = {
    "tanh": lambda sizes: RNN("tanh", sizes),
    "relu": lambda sizes: RNN("relu", sizes),
    "lstm": LSTM,
    "gru": GRU,
}


def problem(
    cell: str, T: int, B: int, D: int, H: int, P: int, bias: bool, state: bool
) -> list[Any]:
    """The inputs of the op, in float64, as random as they come."""
    rng = np.random.default_rng(T + 10 * B + 100 * H)
    rows = recurrent.GATES[cell] * H
    draw = rng.standard_normal
    states = [draw((B, P)) if state else None]
    if cell == "lstm":
        states.append(draw((B, H)) if state else None)
    biases = [draw(rows) if bias else None for _ in range(2)]
    inputs = [draw((T, B, D)), *states, draw((rows, D)), draw((rows, P)) / H**0.5, *biases]
    if cell == "lstm":
        inputs.append(draw((P, H)) / H**0.5 if P < H else None)
    return inputs


def by_the_kernels(
    cell: str, batch_sizes: list[int] | None, arrays: list[Any], cotangents: list[Any]
) -> tuple[Any, Any]:
    """Outputs, and the gradients of all inputs, as the op does it on a GPU."""
    single = [None if a is None else a.astype(np.float32) for a in arrays]
    op = OPS[cell](batch_sizes)
    op.edges = [None if a is None else wrap(a) for a in single]  # recorded, all gradients wanted
    x, h0, *rest = single
    c0 = rest.pop(0) if cell == "lstm" else None
    W, U, b_ih, b_hh, W_hr = rest if cell == "lstm" else (*rest, None)
    outputs = recurrent.forward(op, cell, x, h0, c0, W, U, b_ih, b_hh, W_hr)
    assert outputs is not None
    given = [None if g is None else g.astype(np.float32) for g in cotangents]
    found = recurrent.backward(op.residuals, given, x, h0, W, U, (True,) * 8, W_hr)
    return outputs, found if cell == "lstm" else (*found[:2], *found[3:7])


def by_definition(
    cell: str, batch_sizes: list[int] | None, arrays: list[Any], cotangents: list[Any]
) -> tuple[Any, Any]:
    inputs = [None if a is None else wrap(a, None, True) for a in arrays]
    outputs = OPS[cell](batch_sizes).twin(*inputs)
    used = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if g is not None]
    live = [x for x in inputs if x is not None]
    found = iter(run_backward([y for y, _ in used], [g for _, g in used], live))
    return [y.value for y in outputs], [None if x is None else next(found) for x in inputs]


@needs_compiler
@pytest.mark.cpu_only("the kernels are emulated")
@pytest.mark.parametrize("cell", OPS)
@pytest.mark.parametrize(
    ("T", "B", "D", "H", "bias", "state", "given", "plan"),
    [
        (5, 1, 3, 7, True, False, "y", (1, 1, 7, 1, 1)),  # one block, one column
        (3, 3, 1, 34, True, True, "yh", (1, 3, 12, 2, 3)),  # more terms than lanes
        (2, 5, 2, 40, False, True, "h", (1, 4, 10, 2, 2)),  # the batch in several parts
        (1, 9, 2, 41, True, True, "y", (1, 5, 9, 8, 9)),  # no size divides another; one step
        (3, 2, 2, 1, True, True, "yh", (2, 1, 1, 1, 1)),  # one unit; each its own group
        (4, 7, 3, 36, True, False, "yh", (3, 2, 18, 4, 3)),  # the last group has one sequence
    ],
)
@pytest.mark.parametrize("ends", [False, True])
def test_equals_the_definition(
    cell: str, T: int, B: int, D: int, H: int, bias: bool, state: bool, given: str,
    plan: tuple[int, ...], ends: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    launched = on_cpu.install(monkeypatch, processors=6, capacity=128 * 1024)
    launch = recurrent.Plan(*plan, shared=120 * 1024, cycles=0)
    monkeypatch.setattr(recurrent, "plan", lambda *_: launch)
    for P in {H, max(1, H // 3)} if cell == "lstm" else {H}:
        rng = np.random.default_rng(P)
        sizes = [B, *sorted(rng.integers(1, B + 1, T - 1).tolist(), reverse=True)] if ends else None
        arrays = problem(cell, T, B, D, H, P, bias, state)
        cotangents = [
            rng.standard_normal((T, B, P)) if "y" in given else None,
            rng.standard_normal((B, P)) if "h" in given else None,
        ]
        if cell == "lstm":
            cotangents.append(rng.standard_normal((B, H)) if "h" in given else None)
        launched.clear()
        outputs, found = by_the_kernels(cell, sizes, arrays, cotangents)
        expected, gradients = by_definition(cell, sizes, arrays, cotangents)
        assert launched == ["forward", "backward"]
        for y, z in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-5)
        for g, h, a in zip(found, gradients, arrays, strict=True):
            if a is not None:
                np.testing.assert_allclose(g, h, rtol=1e-4, atol=3e-5 * max(1, abs(h).max()))


H100, A100, SMALL = (132, 232_448), (108, 166_912), (20, 101_376)


@pytest.mark.parametrize(("processors", "capacity"), [H100, A100, SMALL])
def test_a_plan_fits_or_there_is_none(processors: int, capacity: int) -> None:
    cases = product(OPS, (False, True), (1, 2, 7, 30, 1000), (1, 3, 100, 128, 300, 512, 1000, 4096))
    for cell, backward, B, H in cases:
        found = recurrent.plan(cell, backward, B, H, processors, capacity)
        if found is None:
            assert H > 300, "small layers fit everywhere"
            continue
        assert found.groups * found.blocks <= max(processors, B * (found.blocks == 1))
        assert found.shared <= capacity
        assert (found.blocks - 1) * found.units < H <= found.blocks * found.units
        sequences = -(-B // found.groups)
        assert (found.groups - 1) * sequences < B
        assert found.room >= min(sequences, found.columns) and found.columns < 2 * sequences
        assert found.columns in (1, 2, 4, 8)


def test_the_sizes_that_matter_fit() -> None:
    for H, B in ((100, 1), (300, 30), (512, 64), (1024, 64)):
        for backward in (False, True):
            assert recurrent.plan("lstm", backward, B, H, *H100), (H, B)
    alone = recurrent.plan("tanh", False, 1, 100, *H100)
    assert alone is not None and alone.blocks == 1
