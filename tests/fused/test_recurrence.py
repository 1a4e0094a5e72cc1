"""What the recurrent ops share: products in blocks, and states that are not given."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import pytest

from minigrad.autograd import engine
from minigrad.autograd.engine import run_backward, wrap
from minigrad.autograd.grad_mode import no_grad
from minigrad.device import new_on
from minigrad.fused import recurrence
from minigrad.fused.gru import GRU
from minigrad.fused.lstm import LSTM
from minigrad.fused.rnn import RNN


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("M", "K", "N"), [(120, 30, 16), (122, 4, 3), (7, 1, 16), (48, 9, 0)])
def test_products_in_blocks_equal_the_plain_product(
    threads: int, M: int, K: int, N: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrence, "THREADS", threads)
    recurrence.count_of_blocks.cache_clear()
    rng = np.random.default_rng(0)
    W, x = rng.standard_normal((K, M)).T, rng.standard_normal((5, K, N))  # W is not contiguous
    assert recurrence.count_of_blocks(120, 30, 16) == (2 if threads == 1 else 1)
    out = np.empty((M, N))
    recurrence.times(W, N)(x[0], out)
    np.testing.assert_allclose(out, W @ x[0], rtol=1e-12)
    buffer = np.empty((5, M + 3, N))
    recurrence.project(W, None, x, buffer[:, 3:])  # the GRU's blocks are such a part
    np.testing.assert_allclose(buffer[:, 3:], W @ x, rtol=1e-12)
    b = rng.standard_normal(M)
    recurrence.project(W, b, x, buffer[:, 3:])
    np.testing.assert_allclose(buffer[:, 3:], W @ x + b[:, None], rtol=1e-12)
    recurrence.count_of_blocks.cache_clear()


def test_blocks_where_they_are_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, "THREADS", 1)
    recurrence.count_of_blocks.cache_clear()
    assert recurrence.count_of_blocks(2048, 512, 64) == 1  # 16 rows: neither dozens nor few columns
    assert recurrence.count_of_blocks(2048, 256, 32) == 32
    assert recurrence.count_of_blocks(1200, 300, 64) == 25
    recurrence.count_of_blocks.cache_clear()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (5, 7), (64, 3), (130, 9)])
def test_a_transposed_copy(shape: tuple[int, int]) -> None:
    W = np.random.default_rng(0).standard_normal(shape)
    W_T = recurrence.transposed(W)
    assert W_T.flags.c_contiguous
    np.testing.assert_array_equal(W_T, W.T)


@pytest.mark.parametrize("B", [1, 5, 16])
def test_a_sequence_as_columns(B: int) -> None:
    """However it lies in memory; the first case needs no copy."""
    T, D = 3, 4
    x = np.random.default_rng(B).standard_normal((T, B, D))
    buffer = np.full((T, D, recurrence.lanes(B)), np.nan)
    buffer[:, :, :B] = x.transpose(0, 2, 1)
    expected = np.stack([x[t, b] for t in range(T) for b in range(B)], 1)
    assert np.shares_memory(recurrence.columns("x", x), x)
    for given in (x, recurrence.outside(buffer, B)):
        np.testing.assert_array_equal(recurrence.columns("x", given), expected)


@pytest.mark.parametrize(
    ("told", "threads"),
    [
        ({}, 6),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "3"}, 1),
        ({"OPENBLAS_NUM_THREADS": "0", "GOTO_NUM_THREADS": "2"}, 2),
        ({"OPENBLAS_NUM_THREADS": "", "OMP_NUM_THREADS": "4,2"}, 6),
    ],
)
def test_how_many_threads_blas_was_told_to_use(
    told: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, given in told.items():
        monkeypatch.setenv(name, given)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert recurrence._blas_threads() == threads


@pytest.mark.parametrize("op", [RNN, GRU, LSTM])
@pytest.mark.parametrize("B", [1, 2, 14])
def test_no_state_means_zeros(op: Any, B: int) -> None:
    rng = np.random.default_rng(B)
    T, D, H = 3, 2, 4
    rows, states = {RNN: (H, 1), GRU: (3 * H, 1), LSTM: (4 * H, 2)}[op]
    shapes = (T, B, D), (rows, D), (rows, H), (rows,), (rows,)
    x, *weights = [wrap(rng.standard_normal(shape), None, True) for shape in shapes]
    others = [None] if op is LSTM else []
    zeros = [new_on(None, np.zeros((B, H)))] * states

    def run(function: Any, given: list[Any]) -> tuple[list[Any], list[Any]]:
        outputs = function(x, *given, *weights, *others)
        starts = [np.ones_like(y.value) for y in outputs]
        return [y.value for y in outputs], run_backward(outputs, starts, [x, *weights])

    expected, expected_gradients = run(op(), zeros)
    for function in (op(), op().twin):
        got, gradients = run(function, [None] * states)
        for a, b in zip([*got, *gradients], [*expected, *expected_gradients], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("op", [RNN, GRU, LSTM])
@pytest.mark.parametrize("B", [1, 2])
def test_each_weight_alone_gets_its_gradient(
    op: Any, B: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is sent to the others of a batch is nothing, not what happens to be in memory."""
    rng = np.random.default_rng(B)
    blocks, states = {RNN: (1, 1), GRU: (3, 1), LSTM: (4, 2)}[op]
    rows = 4 * blocks
    shapes = (3, B, 2), (rows, 2), (rows, 4), (rows,), (rows,)
    inputs = [wrap(rng.standard_normal(shape), None, True) for shape in shapes]
    others = [None] if op is LSTM else []

    observer = Mock()
    monkeypatch.setattr(engine, "observers", [observer])

    def run(wanted: list[Any]) -> list[Any]:
        y, *_ = op()(inputs[0], *[None] * states, *inputs[1:], *others)
        return run_backward([y], [np.cos(y.value)], wanted)

    expected = run(inputs)
    for i, x in enumerate(inputs):
        np.testing.assert_array_equal(run([x])[0], expected[i])
        if B > 1:
            _, _, sent = observer.backward.call_args.args
            assert sum(g is not None for g in sent) == 1


def test_gradients_with_blocks_equal_those_without() -> None:
    """The whole LSTM, its products in blocks as with one thread, and not."""
    rng = np.random.default_rng(0)
    T, B, D, H = 4, 16, 5, 24
    shapes = (T, B, D), (4 * H, D), (4 * H, H), (4 * H,), (4 * H,)

    def run(threads: int) -> Any:
        recurrence.count_of_blocks.cache_clear()
        inputs = [wrap(a, None, True) for a in arrays]
        with patch.object(recurrence, "THREADS", threads):
            y, h, _ = LSTM()(inputs[0], None, None, *inputs[1:], None)
            return run_backward([y, h], [np.ones_like(y.value), np.ones_like(h.value)], inputs)

    arrays = [rng.standard_normal(shape) for shape in shapes]
    for a, b in zip(run(1), run(2), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    recurrence.count_of_blocks.cache_clear()


@pytest.mark.parametrize("op", [RNN, GRU, LSTM])
@pytest.mark.parametrize("B", [1, 5, 14])
def test_evaluation_on_lent_memory_equals_training(
    op: Any, B: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several runs of steps, the last of them shorter; a second call spoils no result."""
    monkeypatch.setattr(recurrence, "RUN", 4 * 4 * 16 * 2)
    rng = np.random.default_rng(B)
    T, D, H = 131, 2, 4
    rows = {RNN: H, GRU: 3 * H, LSTM: 4 * H}[op]
    shapes = (T, B, D), (rows, D), (rows, H), (rows,), (rows,)
    x, *weights = [wrap(rng.standard_normal(shape), None, True) for shape in shapes]
    states, others = ([None] * 2, [None]) if op is LSTM else ([None], [])

    def run(sequence: Any) -> Any:
        return op()(sequence, *states, *weights, *others)

    trained = run(x)
    with no_grad():
        evaluated = run(x)
        run(wrap(x.value + 1))
    for got, expected in zip(evaluated, trained, strict=True):
        np.testing.assert_array_equal(got.value, expected.value)
