"""The losses: values and gradients against NumPy and finite differences; shapes; errors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.autograd import gradcheck, gradgradcheck

REDUCTIONS = ("none", "mean", "sum")
reductions = st.sampled_from(REDUCTIONS)
shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
seeds = st.integers(0, 2**32 - 1)


def leaf(array: Any) -> mg.Tensor:
    return mg.tensor(np.asarray(array, np.float64), requires_grad=True)


def reduced(losses: np.ndarray, reduction: str, count: Any = None) -> Any:
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / (count or losses.size)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


def huber(d: np.ndarray, delta: float) -> np.ndarray:
    return np.where(d < delta, d * d / 2, delta * (d - delta / 2))


REGRESSION = {
    "mse": (lambda r: nn.MSELoss(reduction=r), lambda d: d * d),
    "l1": (lambda r: nn.L1Loss(reduction=r), np.abs),
    "smooth": (
        lambda r: nn.SmoothL1Loss(reduction=r, beta=0.5),
        lambda d: huber(np.abs(d), 0.5) / 0.5,
    ),
    "smooth-0": (lambda r: nn.SmoothL1Loss(reduction=r, beta=0), np.abs),
    "huber": (lambda r: nn.HuberLoss(r, 0.5), lambda d: huber(np.abs(d), 0.5)),
}


@pytest.mark.parametrize("name", REGRESSION)
@given(shapes, reductions, seeds)
def test_regression_losses(name: str, shape: Any, reduction: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    make, formula = REGRESSION[name]
    loss = make(reduction)
    d = rng.choice([-1, 1], shape) * (
        rng.uniform(0.01, 0.49, shape) + rng.integers(0, 3, shape) / 2
    )
    target = rng.standard_normal(shape)
    x, t = leaf(target + d), leaf(target)
    np.testing.assert_allclose(loss(x, t).value, reduced(formula(d), reduction), rtol=1e-12)
    assert gradcheck(loss, (x, t), atol=1e-6, rtol=1e-5)


def test_losses_of_nothing() -> None:
    for make, _ in REGRESSION.values():
        assert make("sum")(leaf(np.zeros((0, 2))), leaf(np.zeros((0, 2)))).item() == 0
        assert make("none")(leaf(np.zeros((0, 2))), leaf(np.zeros((0, 2)))).shape == (0, 2)


def test_sizes_that_differ_are_noticed() -> None:
    for make, _ in REGRESSION.values():
        with pytest.warns(UserWarning, match=r"target size \(3,\).*input size \(3, 1\)"):
            make("mean")(leaf(np.zeros((3, 1))), leaf(np.zeros(3)))
        with pytest.warns(UserWarning), pytest.raises(RuntimeError):
            make("mean")(leaf(np.zeros((3, 4))), leaf(np.zeros(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nn.MSELoss()(leaf(np.zeros(3)), leaf(np.zeros(3)))


def test_settings_that_make_no_sense() -> None:
    x = leaf([1.0])
    for module in (nn.MSELoss, nn.HuberLoss, nn.CrossEntropyLoss, nn.BCELoss):
        with pytest.raises(ValueError, match="reduction"):
            module(reduction="average")
    for call in (
        lambda: F.huber_loss(x, x, delta=0),
        lambda: F.smooth_l1_loss(x, x, beta=-1),
        lambda: F.cross_entropy(x, mg.tensor(0), label_smoothing=2),
        lambda: F.cross_entropy(x, mg.tensor(0), weight=mg.tensor([1.0, 2.0])),
    ):
        with pytest.raises(RuntimeError):
            call()


# --- classes --------------------------------------------------------------------------------------


@st.composite
def classified(draw: Any) -> Any:
    """Scores (C,), (N, C) or (N, C, ...), classes, and maybe weights of the classes."""
    rng = np.random.default_rng(draw(seeds))
    C = draw(st.integers(1, 4))
    rest = draw(st.none() | st.lists(st.integers(1, 3), min_size=1, max_size=3))
    shape = (C,) if rest is None else (rest[0], C, *rest[1:])
    x = 2 * rng.standard_normal(shape)
    t = rng.integers(0, C, () if rest is None else tuple(rest))
    if draw(st.booleans()):
        t = np.where(rng.random(t.shape) < 0.3, -100, t)
    w = rng.uniform(0.5, 2, C) if draw(st.booleans()) else None
    return x, t, w


def cross_entropy_by_numpy(
    x: np.ndarray, t: np.ndarray, w: Any, reduction: str, smoothing: float = 0
) -> Any:
    dim = 0 if x.ndim == 1 else 1
    C = x.shape[dim]
    log_p = np.moveaxis(np.log(softmax(x, dim)), dim, -1)
    w = np.ones(C) if w is None else w
    counts = t != -100
    safe = np.where(counts, t, 0)
    q = np.eye(C)[safe] * (1 - smoothing) + smoothing / C
    losses = np.where(counts, -(q * w * log_p).sum(-1), 0.0)
    total = (w[safe] * counts).sum()
    return reduced(losses, reduction, total if total else np.nan)


@given(classified(), reductions, st.sampled_from([0.0, 0.3]))
def test_cross_entropy_of_classes(case: Any, reduction: str, smoothing: float) -> None:
    x, t, w = case
    if reduction == "mean" and (t == -100).all():
        return
    weight = None if w is None else mg.tensor(w)
    loss = nn.CrossEntropyLoss(weight, reduction=reduction, label_smoothing=smoothing)
    y = loss(leaf(x), mg.tensor(t))
    expected = cross_entropy_by_numpy(x, t, w, reduction, smoothing)
    np.testing.assert_allclose(y.value, expected, rtol=1e-10, atol=1e-12)
    assert y.shape == np.shape(expected)
    assert gradcheck(lambda x: loss(x, mg.tensor(t)), (leaf(x),), atol=1e-6, rtol=1e-5)
    if not smoothing:
        log_p = leaf(np.log(softmax(x, 0 if x.ndim == 1 else 1)))
        nll = nn.NLLLoss(weight, reduction=reduction)
        np.testing.assert_allclose(nll(log_p, mg.tensor(t)).value, y.value, rtol=1e-9, atol=1e-12)
        assert gradcheck(lambda x: nll(x, mg.tensor(t)), (log_p,), atol=1e-6, rtol=1e-5)


@given(classified(), reductions, st.sampled_from([0.0, 0.3]))
def test_cross_entropy_of_probabilities(case: Any, reduction: str, smoothing: float) -> None:
    x, _, w = case
    dim = 0 if x.ndim == 1 else 1
    q = softmax(np.random.default_rng(0).standard_normal(x.shape), dim)
    loss = nn.CrossEntropyLoss(
        None if w is None else mg.tensor(w), reduction=reduction, label_smoothing=smoothing
    )
    C = x.shape[dim]
    mixed = q * (1 - smoothing) + smoothing / C
    scale = np.ones(C) if w is None else w
    losses = -np.moveaxis(mixed * np.log(softmax(x, dim)), dim, -1) @ scale
    y = loss(leaf(x), leaf(q))
    np.testing.assert_allclose(y.value, reduced(losses, reduction), rtol=1e-10)
    assert gradcheck(loss, (leaf(x), leaf(q)), atol=1e-6, rtol=1e-5)


def test_cross_entropy_to_second_order() -> None:
    rng = np.random.default_rng(0)
    t = mg.tensor(np.array([0, -100, 2]))
    for reduction in REDUCTIONS:
        loss = nn.CrossEntropyLoss(mg.tensor([1.0, 2.0, 3.0]).double(), reduction=reduction)
        assert gradgradcheck(lambda x, loss=loss: loss(x, t), (leaf(rng.standard_normal((3, 3))),))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_by_its_rule_and_by_its_twin(reduction: str, rows: int) -> None:
    """The twin is what create_graph differentiates."""
    x, t = leaf(np.random.default_rng(0).standard_normal((rows, 3))), mg.arange(rows)
    loss = [F.cross_entropy(x, t, reduction=reduction).sum() for _ in range(2)]
    (by_rule,), (by_twin,) = mg.grad(loss[0], x), mg.grad(loss[1], x, create_graph=True)
    np.testing.assert_allclose(by_twin.detach().numpy(), by_rule.numpy(), rtol=1e-12)


def test_cross_entropy_of_extreme_scores() -> None:
    x = leaf([[1000.0, 0.0], [-1000.0, 0.0], [0.0, -np.inf]])
    loss = F.cross_entropy(x, mg.tensor([0, 0, 0]), reduction="none")
    np.testing.assert_array_equal(loss.value, [0, 1000, 0])
    loss.sum().backward()
    np.testing.assert_array_equal(x.grad.value, [[0, 0], [-1, 1], [0, 0]])


def test_cross_entropy_twice_through_one_graph() -> None:
    """The residuals of the fused op survive a first backward pass that keeps the graph."""
    x = leaf(np.random.default_rng(0).standard_normal((4, 3)))
    loss = F.cross_entropy(x, mg.tensor([0, 1, 2, 0]))
    loss.backward(retain_graph=True)
    once = x.grad.value.copy()
    loss.backward()
    np.testing.assert_array_equal(x.grad.value, 2 * once)


def test_ignoring_all_or_another_class() -> None:
    x = leaf(np.random.default_rng(0).standard_normal((2, 3)))
    with np.errstate(invalid="ignore"):
        assert np.isnan(F.cross_entropy(x, mg.tensor([-100, -100])).item())
    a = F.cross_entropy(x, mg.tensor([1, 2]), ignore_index=2)
    np.testing.assert_allclose(a.item(), F.cross_entropy(x[:1], mg.tensor([1])).item())
    assert F.cross_entropy(x, mg.tensor([-100, -100]), reduction="sum").item() == 0


def test_dtypes_of_cross_entropy() -> None:
    x = mg.tensor(np.zeros((2, 3), np.float32), requires_grad=True)
    w = mg.tensor(np.ones(3))  # float64, on float32 scores
    for kind in (np.uint8, np.int32, np.int64):
        for reduction in REDUCTIONS:
            loss = F.cross_entropy(x, mg.tensor(np.array([0, 1], kind)), w, reduction=reduction)
            assert loss.dtype == np.float32
    F.cross_entropy(x, mg.tensor(np.full((2, 3), 1 / 3))).backward()
    assert x.grad.dtype == np.float32


@pytest.mark.cpu_only("a GPU is not waited for: the loss is nan")
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_targets_that_do_not_fit(loss: Any) -> None:
    x = leaf(np.zeros((3, 4)))
    with pytest.raises(IndexError, match=r"Target 9 is out of bounds.*0 to 3"):
        loss(x, mg.tensor([0, 1, 9]))
    with pytest.raises(IndexError, match="Target -1"):
        loss(x, mg.tensor([0, 1, -1]))
    with pytest.raises(RuntimeError, match=r"integers.*float32.*long\(\)"):
        loss(x, mg.tensor([0.0, 1.0, 2.0]))
    with pytest.raises(RuntimeError, match=r"floating point.*float\(\)"):
        loss(x, mg.tensor(np.zeros((3, 4), int)))
    with pytest.raises(ValueError, match=r"batch_size \(3\).*\(2\)"):
        loss(x, mg.tensor([0, 1]))
    with pytest.raises(RuntimeError, match=r"expected a target of shape \(3,\)"):
        loss(x, mg.tensor([[0], [1], [2]]))
    with pytest.raises(RuntimeError, match="classes"):
        loss(leaf(3.0), mg.tensor(0))
    with pytest.raises(TypeError, match="list"):
        loss(x, [0, 1, 2])


# --- yes or no ------------------------------------------------------------------------------------


@given(shapes, reductions, seeds, st.booleans())
def test_binary_cross_entropy(shape: Any, reduction: str, seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    z, t = 2 * rng.standard_normal(shape), rng.uniform(0, 1, shape)
    w = rng.uniform(0.5, 2, shape) if weighted else None
    weight = None if w is None else mg.tensor(w)
    p = 1 / (1 + np.exp(-z))
    losses = -(t * np.log(p) + (1 - t) * np.log(1 - p)) * (1 if w is None else w)
    for loss, x in (
        (nn.BCELoss(weight, reduction=reduction), p),
        (nn.BCEWithLogitsLoss(weight, reduction=reduction), z),
    ):
        y = loss(leaf(x), leaf(t))
        np.testing.assert_allclose(y.value, reduced(losses, reduction), rtol=1e-9)
        assert gradcheck(loss, (leaf(x), leaf(t)), atol=1e-6, rtol=1e-5)


def test_pos_weight() -> None:
    rng = np.random.default_rng(0)
    z, t, w = rng.standard_normal((4, 3)), rng.uniform(0, 1, (4, 3)), np.array([1.0, 2, 3])
    p = 1 / (1 + np.exp(-z))
    loss = nn.BCEWithLogitsLoss(reduction="none", pos_weight=mg.tensor(w))
    expected = -(w * t * np.log(p) + (1 - t) * np.log(1 - p))
    np.testing.assert_allclose(loss(leaf(z), leaf(t)).value, expected)
    assert gradcheck(loss, (leaf(z), leaf(t)), atol=1e-6, rtol=1e-5)
    assert list(loss.state_dict()) == ["pos_weight"]


def test_binary_cross_entropy_at_the_ends() -> None:
    """A log is never below -100, and no gradient is infinite or nan."""
    x = leaf([0.0, 1.0, 0.0, 1.0])
    t = leaf([0.0, 1.0, 1.0, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = F.binary_cross_entropy(x, t, reduction="none")
        np.testing.assert_array_equal(loss.value, [0, 0, 100, 100])
        loss.sum().backward()
    np.testing.assert_allclose(x.grad.value, [0, 0, -1e12, 1e12])
    np.testing.assert_allclose(t.grad.value, [100, -100, 100, -100])
    z = leaf([1000.0, -1000.0])
    loss = F.binary_cross_entropy_with_logits(z, leaf([0.0, 1.0]), reduction="none")
    np.testing.assert_array_equal(loss.value, [1000, 1000])
    loss.sum().backward()
    np.testing.assert_array_equal(z.grad.value, [1, -1])


@pytest.mark.cpu_only("a GPU is not waited for: the loss is nan")
def test_binary_cross_entropy_refuses() -> None:
    with pytest.raises(RuntimeError, match=r"between 0 and 1.*with_logits"):
        F.binary_cross_entropy(leaf([1.5]), leaf([1.0]))
    for loss in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
        with pytest.raises(ValueError, match="same as input size"):
            loss(leaf([0.5]), leaf([[1.0]]))


def test_weights_are_buffers() -> None:
    loss = nn.CrossEntropyLoss(mg.tensor([1.0, 2.0, 3.0]))
    assert list(loss.state_dict()) == ["weight"] and not list(loss.parameters())
    assert loss.double().weight.dtype == np.float64


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_of_padding_alone_does_not_ruin_the_weights(smoothing: float) -> None:
    x = mg.randn(2, 3, requires_grad=True)
    nothing = mg.tensor([-100, -100])
    with np.errstate(invalid="ignore"):
        for loss in (
            F.cross_entropy(x, nothing, label_smoothing=smoothing),
            F.nll_loss(x, nothing),
        ):
            assert np.isnan(loss.item())  # as in PyTorch: the mean of nothing
            x.grad = None
            loss.backward()
            assert x.grad.tolist() == [[0, 0, 0], [0, 0, 0]]
