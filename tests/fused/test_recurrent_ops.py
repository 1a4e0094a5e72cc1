"""The fused recurrent ops: equal to their twins, to finite differences, and safe at extremes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.autograd.engine import run_backward, wrap
from minigrad.device import new_on, to_device
from minigrad.fused import recurrence
from minigrad.fused.gru import GRU
from minigrad.fused.lstm import LSTM
from minigrad.fused.packed import Pack, Pad, Places
from minigrad.fused.rnn import RNN

KINDS = ("tanh", "relu", "gru", "lstm", "lstm with projection")


@dataclass
class Case:
    """One op, with sizes and settings; `arrays` draws inputs for it."""

    kind: str
    T: int
    B: int
    D: int
    H: int
    bias: bool = True
    batch_sizes: list[int] | None = None
    seed: int = 0
    stacked: bool = False

    def op(self) -> Any:
        settings = self.batch_sizes, None, self.stacked
        if self.kind in ("tanh", "relu"):
            return RNN(self.kind, *settings)
        return GRU(*settings) if self.kind == "gru" else LSTM(*settings)

    @property
    def states(self) -> int:
        return 2 if self.kind.startswith("lstm") else 1

    def arrays(self, dtype: str = "float64") -> list[Any]:
        rng = np.random.default_rng(self.seed)
        T, B, D, H = self.T, self.B, self.D, self.H
        P = max(1, H - 1) if self.kind == "lstm with projection" else H
        rows = {"gru": 3, "tanh": 1, "relu": 1}.get(self.kind, 4) * H

        def draw(*shape: int) -> Any:
            return rng.uniform(-1, 1, shape).astype(dtype)

        of_state = (1, B) if self.stacked else (B,)
        inputs = [draw(T, B, D), draw(*of_state, P)]
        if self.states == 2:
            inputs.append(draw(*of_state, H))
        inputs += [draw(rows, D), draw(rows, P) / np.sqrt(H).astype(dtype)]
        inputs += [draw(rows), draw(rows)] if self.bias else [None, None]
        if self.states == 2:
            inputs.append(draw(P, H) if P != H else None)
        return inputs


@st.composite
def cases(draw: st.DrawFn, largest: int = 6) -> Case:
    T, B = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    batch_sizes = None
    if draw(st.booleans()):
        smaller = st.lists(st.integers(1, B), min_size=T - 1, max_size=T - 1)
        batch_sizes = [B, *sorted(draw(smaller), reverse=True)]
    return Case(
        draw(st.sampled_from(KINDS)),
        T,
        B,
        draw(st.integers(1, largest)),
        draw(st.integers(1, largest)),
        draw(st.booleans()),
        batch_sizes,
        draw(st.integers(0, 1000)),
        draw(st.booleans()),
    )


def on_the_host(g: Any) -> Any:
    return None if g is None else to_device(g, mg.device("cpu"))


def leaves(arrays: list[Any], wanted: list[bool] | None = None) -> list[Any]:
    wanted = wanted or [True] * len(arrays)
    return [None if a is None else wrap(a, None, w) for a, w in zip(arrays, wanted, strict=True)]


def gradients(function: Any, arrays: list[Any], cotangents: list[Any], wanted: Any = None) -> Any:
    """The outputs, and the gradients of those inputs that want one."""
    inputs = leaves(arrays, wanted)
    outputs = function(*inputs)
    used = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if g is not None]
    targets = [x for x in inputs if x is not None and x.requires_grad]
    run = run_backward([y for y, _ in used], [new_on(None, g) for _, g in used], targets)
    return [y.detach().numpy() for y in outputs], [on_the_host(g) for g in run]


def draw_cotangents(case: Case, used: list[bool]) -> list[Any]:
    rng = np.random.default_rng(case.seed + 1)
    found = []
    for y, is_used in zip(case.op()(*case.arrays()), used, strict=False):
        g = rng.standard_normal(y.shape)
        g.flags.writeable = False
        found.append(g if is_used else None)
    return found


@settings(max_examples=150)
@given(cases(), st.lists(st.booleans(), min_size=3, max_size=3).filter(any), st.data())
@example(Case("lstm", 300, 1, 2, 3), [True, True, True], None)
@example(Case("lstm", 9, 33, 3, 130), [True, False, True], None)  # spare columns, runs of steps
@example(Case("gru", 9, 33, 3, 130, batch_sizes=[33] * 5 + [20] * 3 + [1]), [True] * 3, None)
@example(Case("tanh", 9, 33, 3, 400), [True, True, True], None)
@example(Case("relu", 9, 14, 3, 400, False), [True, True, True], None)
@example(Case("lstm with projection", 9, 30, 3, 130), [True, True, True], None)
@example(Case("lstm", 5, 1, 2, 3), [False, True, True], None)  # the last states alone
@example(Case("gru", 5, 1, 2, 3), [False, True, True], None)
@example(Case("tanh", 5, 1, 2, 3), [False, True, True], None)
def test_equals_its_twin(case: Case, used: list[bool], data: Any) -> None:
    """Values, and the gradient of each input that wants one, from the outputs that are used."""
    with patch.object(recurrence, "RUN", 400):  # so that sequences have several runs of steps
        check_against_twin(case, used, data)


def check_against_twin(case: Case, used: list[bool], data: Any) -> None:
    if not any(used[: 1 + case.states]):
        used = [True, *used[1:]]
    arrays = case.arrays()
    wanted = [True] * len(arrays)
    if data is not None:
        wanted = data.draw(st.lists(st.booleans(), min_size=len(arrays), max_size=len(arrays)))
    if not any(w for w, a in zip(wanted, arrays, strict=True) if a is not None):
        wanted[0] = True
    cotangents = draw_cotangents(case, used)
    values, found = gradients(case.op(), arrays, cotangents, wanted)
    twin_values, twin_found = gradients(case.op().twin, arrays, cotangents, wanted)
    for y, expected in zip(values, twin_values, strict=True):
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
    for gx, expected in zip(found, twin_found, strict=True):
        if expected is None:  # the twin finds no path, the op a gradient of zeros
            assert gx is None or not gx.any()
        else:
            np.testing.assert_allclose(gx, expected, rtol=1e-9, atol=1e-11)


@settings(max_examples=40)
@given(cases(4).filter(lambda case: case.kind != "relu"))  # a kink could come too close
def test_first_order_by_finite_differences(case: Case) -> None:
    arrays = case.arrays()
    rng = np.random.default_rng(case.seed + 2)
    cotangents = draw_cotangents(case, [True] * 3)
    _, found = gradients(case.op(), arrays, cotangents)
    directions = [None if a is None else rng.standard_normal(a.shape) for a in arrays]

    def along(eps: float) -> float:
        moved = [a if d is None else a + eps * d for a, d in zip(arrays, directions, strict=True)]
        outputs = case.op()(*moved)
        return sum(float((y * g).sum()) for y, g in zip(outputs, cotangents, strict=True))

    numeric = (along(1e-6) - along(-1e-6)) / 2e-6
    given_directions = [d for d in directions if d is not None]
    exact = sum(float((g * d).sum()) for g, d in zip(found, given_directions, strict=True))
    assert exact == pytest.approx(numeric, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_sizes", [None, [2, 2, 1]])
def test_second_order(kind: str, batch_sizes: Any) -> None:
    case = Case(kind, 3, 2, 2, 2, batch_sizes=batch_sizes, stacked=batch_sizes is None)
    inputs = leaves(case.arrays())
    present = [x for x in inputs if x is not None]

    def function(*given: Any) -> Any:
        rest = iter(given)
        return case.op()(*[None if x is None else next(rest) for x in inputs])

    assert mg.autograd.gradcheck(function, present, fast_mode=True)
    assert mg.autograd.gradgradcheck(function, present, fast_mode=True)


def test_second_order_when_inputs_depend_on_each_other() -> None:
    """One weight in two layers, and an initial state made from that weight."""
    x, _, W, U, b_ih, b_hh = leaves(Case("tanh", 3, 2, 2, 2).arrays())

    def function(x: Any, W: Any, U: Any, b_ih: Any, b_hh: Any) -> Any:
        h0 = (U @ W).tanh()
        y, h = RNN()(x, h0, W, U, b_ih, b_hh)
        z, last = RNN()(y, h * h0, W, U, b_hh, b_ih)
        return z, last

    assert mg.autograd.gradcheck(function, (x, W, U, b_ih, b_hh))
    assert mg.autograd.gradgradcheck(function, (x, W, U, b_ih, b_hh))


@given(cases())
def test_float32_stays_float32(case: Case) -> None:
    cotangents = [None if g is None else g.astype("f") for g in draw_cotangents(case, [True] * 3)]
    values, found = gradients(case.op(), case.arrays("float32"), cotangents)
    expected, expected_found = gradients(
        case.op(), case.arrays(), draw_cotangents(case, [True] * 3)
    )
    for got, want in zip([*values, *found], [*expected, *expected_found], strict=True):
        assert got.dtype == np.float32
        if case.kind != "relu":
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_huge_inputs_saturate_without_a_warning(kind: str, scale: float) -> None:
    case = Case(kind, 4, 3, 2, 3)
    arrays = case.arrays("float32")
    arrays[0] = arrays[0] * np.float32(scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if kind == "relu":
            arrays[0] = arrays[0].clip(-1e4, 1e4)
        values, found = gradients(case.op(), arrays, [np.ones_like(y) for y in case.op()(*arrays)])
    assert all(np.isfinite(a).all() for a in [*values, *found])


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_without_a_backward_pass(kind: str, B: int) -> None:
    case = Case(kind, 4, B, 2, 3)
    recorded, op, unrecorded = case.op(), case.op(), case.op()
    outputs = recorded(*leaves(case.arrays()))
    assert recorded.residuals is not None
    with mg.no_grad():
        evaluated = op(*leaves(case.arrays()))
    unrecorded(*leaves(case.arrays(), [False] * len(case.arrays())))
    assert op.residuals is None and unrecorded.residuals is None
    for y, expected in zip(evaluated, outputs, strict=True):
        np.testing.assert_array_equal(y.value, expected.value)


@pytest.mark.parametrize("B", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_backward_twice_gives_the_same(kind: str, B: int) -> None:
    """The rule must not spoil what forward left for it."""
    case = Case(kind, 5, B, 2, 3)
    inputs = leaves(case.arrays())
    outputs = case.op()(*inputs)
    targets = [x for x in inputs if x is not None]
    starts = [np.ones_like(y.value) for y in outputs]
    first = run_backward(outputs, starts, targets, retain_graph=True)
    second = run_backward(outputs, starts, targets)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_runs_of_steps_cover_every_step_once() -> None:
    for T, size in ((1, 1), (7, 2**20), (1000, 400), (5, 0)):
        runs = recurrence.runs_of_steps(T, size)
        assert [t for run in runs for t in range(run.start, run.stop)] == list(range(T))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.booleans(), st.integers(0, 9))
def test_pad_and_pack_undo_each_other(lengths: list[int], reverse: bool, seed: int) -> None:
    lengths = sorted(lengths, reverse=True)
    batch_sizes = np.array([sum(n > t for n in lengths) for t in range(lengths[0])])
    places = Places.of(batch_sizes, reverse)
    x = np.random.default_rng(seed).standard_normal((sum(lengths), 2))
    padded = Pad(places, -7.0)(x)
    np.testing.assert_array_equal(Pack(places)(padded), x)
    for b, n in enumerate(lengths):
        own = np.array([x[sum(batch_sizes[:t]) + b] for t in range(n)])
        np.testing.assert_array_equal(padded[:n, b], own[::-1] if reverse else own)
        assert (padded[n:, b] == -7).all()
