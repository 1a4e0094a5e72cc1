"""Cross-entropy, dropout and the optimizers' updates compute what their definitions say."""

from __future__ import annotations

from typing import Any

import numpy as np
import on_cpu
import pytest
from on_cpu import needs_compiler

from minigrad import optim
from minigrad.autograd.engine import run_backward, wrap
from minigrad.cuda import elementwise
from minigrad.fused.softmax_cross_entropy import SoftmaxCrossEntropy

pytestmark = [needs_compiler, pytest.mark.cpu_only("the kernels are emulated")]


@pytest.fixture(autouse=True)
def kernels_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu.install(monkeypatch)


@pytest.mark.parametrize(("N", "C"), [(1, 1), (5, 3), (3, 70), (0, 4)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("each_row", [False, True])
def test_cross_entropy(N: int, C: int, weighted: bool, each_row: bool) -> None:
    rng = np.random.default_rng(N + C)
    x, t = 5 * rng.standard_normal((N, C)).astype(np.float32), rng.integers(0, C, N)
    a = rng.random(N).astype(np.float32) if weighted else None
    g = np.asarray(rng.standard_normal(N if each_row else ()), np.float32)
    loss, shift = elementwise.cross_entropy(x, t, a)
    gx = elementwise.cross_entropy_backward(x, t, a, shift, g)
    leaf = wrap(x.astype(np.float64), None, True)
    plain = SoftmaxCrossEntropy("none" if each_row else "sum").twin(
        leaf, wrap(t), None if a is None else wrap(a.astype(np.float64))
    )
    (expected,) = run_backward([plain], [g.astype(np.float64)], [leaf])
    np.testing.assert_allclose(loss if each_row else loss.sum(), plain.value, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gx, expected, rtol=1e-4, atol=1e-6)


def test_a_class_out_of_range_is_nan() -> None:
    loss, _ = elementwise.cross_entropy(np.ones((3, 2), np.float32), np.array([0, 2, -1]), None)
    assert np.isnan(loss).tolist() == [False, True, True]


def test_where_no_row_counts_the_gradient_of_the_mean_is_zero() -> None:
    x, t, a = np.ones((2, 3), np.float32), np.array([0, 1]), np.zeros(2, np.float32)
    op = SoftmaxCrossEntropy("mean")
    op.residuals = elementwise.cross_entropy(x, t, a)[1], a.sum()
    gx, *_ = op.vjp(np.asarray(1.0, np.float32), x, t, a)
    assert not gx.any()


def test_philox_is_the_published_generator() -> None:
    """The known answer for counter 0 and key 0 (Salmon et al. 2011, their test vectors)."""
    assert [hex(w) for w in elementwise.philox(1, 0, 0)] == [
        "0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 4, 7, 1003])
@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_dropout(size: int, p: float) -> None:
    seed = 0x123456789ABCDEF0
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    y = np.full_like(x, np.nan)
    threshold = np.uint32(min(round(p * 2**32), 2**32 - 1))
    scale = np.float32(1 / (1 - p) if p < 1 else 0)
    key = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)
    elementwise._launch("dropout", x, 2, x, y, np.int64(size), threshold, scale, *key)
    np.testing.assert_array_equal(y, elementwise.Masked(p, seed)(x))
    if size > 1000:
        assert abs((y == 0).mean() - p) < 0.05


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adagrad"])
def test_optimizers(name: str, decay: float, maximize: bool) -> None:
    rng = np.random.default_rng(0)
    shapes = [(3,), (70, 61), (1,), (4096,)]
    options = {"lr": 0.1, "weight_decay": decay, "maximize": maximize}
    start = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    params = [wrap(x.astype(np.float64), None, True) for x in start]
    optimizer: Any = getattr(optim, name)(params, **options)
    group = optimizer.param_groups[0]
    function, columns = ("adagrad", 1) if name == "Adagrad" else ("adam", 2)
    rows = [[x.copy(), None, *[np.zeros_like(x) for _ in range(columns)]] for x in start]
    update = elementwise.Update()
    for t in (1, 2, 3):
        for p, row in zip(params, rows, strict=True):
            row[1] = rng.standard_normal(p.shape).astype(np.float32)
            p.grad = wrap(row[1].astype(np.float64))
        optimizer.step()
        update.run(function, rows, *optimizer.settings(group, t))
    for p, row in zip(params, rows, strict=True):
        np.testing.assert_allclose(row[0], p.value, rtol=1e-4, atol=1e-6)
