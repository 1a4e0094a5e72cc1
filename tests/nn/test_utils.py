"""Clipping gradients; parameters as a vector."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.autograd.engine import wrap
from minigrad.nn import utils


def parameters_with_gradients(seed: int, count: int = 3) -> list[Any]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        p = nn.Parameter(mg.tensor(rng.standard_normal(rng.integers(0, 4, 2))))
        p.grad = mg.tensor(rng.standard_normal(p.shape))
        made.append(p)
    made.append(nn.Parameter(mg.tensor([1.0])))  # this one has none
    return made


@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 10),
    st.sampled_from([1, 2, 2.0, 3, math.inf, float("inf")]),
)
def test_clip_grad_norm(seed: int, max_norm: float, order: float) -> None:
    parameters = parameters_with_gradients(seed)
    grads = [p.grad for p in parameters[:-1]]
    before = np.concatenate([g.value.ravel() for g in grads])
    norm = np.linalg.norm(before, order) if before.size else 0.0
    found = utils.clip_grad_norm_(parameters, max_norm, norm_type=order)
    assert isinstance(found, mg.Tensor) and found.shape == ()
    np.testing.assert_allclose(found.item(), norm, rtol=1e-10)
    after = np.concatenate([g.value.ravel() for g in grads])
    np.testing.assert_allclose(after, before * min(1, max_norm / (norm + 1e-6)), rtol=1e-10)
    assert all(p.grad is g for p, g in zip(parameters, grads, strict=False))
    assert parameters[-1].grad is None


def test_clipping_writes_to_nobody_elses_gradient() -> None:
    (p, *_) = parameters_with_gradients(1)
    array, seen = p.grad.value, p.grad.detach()
    before = array.copy()
    utils.clip_grad_norm_(p, 1e-3)
    utils.clip_grad_value_(p, 1e-5)
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(seen.value, before)
    assert abs(p.grad.value).max() <= 1e-5


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("order", [1, 2, 3, math.inf])
def test_the_norm_is_the_same_wherever_gradients_lie(B: int, order: float) -> None:
    """To the last bit: a run that is resumed starts with gradients that are not joined."""
    net = nn.ModuleList([nn.Embedding(5, 3), nn.LSTM(3, 7), nn.Linear(7, 3)])
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    for step in range(6):
        optimizer.zero_grad()
        y = net[2](net[1](net[0](mg.randint(5, (6, B))))[0])
        (y * y - 3 * y).sum().backward()
        apart = list(copy.deepcopy(net).parameters())
        for p, q in zip(net.parameters(), apart, strict=True):
            q.grad = wrap(p.grad.value.copy("K"))
        norms = [utils.clip_grad_norm_(m, 0.5, order).item() for m in (net.parameters(), apart)]
        assert norms[0] == norms[1], f"step {step}"
        optimizer.step()


def test_clip_grad_norm_stays_float32_and_reports() -> None:
    p = nn.Parameter(mg.tensor([3.0, 4.0]))
    assert utils.clip_grad_norm_([p], 1.0).item() == 0
    p.grad = mg.tensor([30.0, 40.0])
    norm = utils.clip_grad_norm_(iter([p]), 1.0)
    assert norm.item() == 50 and norm.dtype == p.grad.dtype == np.float32
    np.testing.assert_allclose(p.grad.value, [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradients_that_are_not_finite(bad: float) -> None:
    p = nn.Parameter(mg.tensor([1.0, 2.0]))
    p.grad = mg.tensor([bad, 1.0])
    with pytest.raises(RuntimeError, match="cannot be clipped"):
        utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.value[1] == 1.0
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(utils.clip_grad_norm_([p], 1.0).item())


def test_clip_grad_value() -> None:
    p = nn.Parameter(mg.tensor([1.0, 2.0, 3.0]))
    utils.clip_grad_value_([p], 1.5)
    p.grad = mg.tensor([-3.0, 1.0, 2.0])
    utils.clip_grad_value_([p], 1.5)
    assert p.grad.tolist() == [-1.5, 1.0, 1.5]


def test_parameters_as_a_vector() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = list(net.parameters())
    vector = utils.parameters_to_vector(net.parameters())
    assert vector.shape == (13,) and vector.requires_grad
    (vector * vector).sum().backward()
    np.testing.assert_allclose(net[0].weight.grad.value, 2 * net[0].weight.value)
    new = mg.tensor(np.arange(13, dtype=np.float64))
    utils.vector_to_parameters(new, net.parameters())
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert net[0].weight.dtype == np.float32 and net[0].weight.tolist() == [[0, 1], [2, 3], [4, 5]]
    np.testing.assert_array_equal(utils.parameters_to_vector(net.parameters()).value, np.arange(13))
    with pytest.raises(RuntimeError, match="14 elements for parameters with 13"):
        utils.vector_to_parameters(mg.tensor(np.zeros(14)), net.parameters())
    with pytest.raises(TypeError, match="expected a Tensor"):
        utils.vector_to_parameters(np.zeros(13), net.parameters())
