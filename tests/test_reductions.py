"""Reductions: dims, ties, nothing, infinities, and agreement with PyTorch."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3), st.data())
def test_dims(shape: list[int], data: Any) -> None:
    """Any dims, negative ones too, kept or not, empty shapes too: as NumPy."""
    ndim = len(shape)
    dims = data.draw(st.sets(st.integers(0, ndim - 1), min_size=1))
    given_dims = tuple(d - data.draw(st.sampled_from([0, ndim])) for d in dims)
    keep = data.draw(st.booleans())
    x = np.random.default_rng(0).standard_normal(shape)
    t = mg.tensor(x)
    for name in ("sum", "all", "any"):
        found = getattr(t, name)(given_dims, keep)
        np.testing.assert_allclose(
            found.value, getattr(x, name)(given_dims, keepdims=keep), atol=1e-12
        )
    assert t.sum(axis=given_dims, keepdims=keep).equal(t.sum(given_dims, keep))


def test_ties() -> None:
    x = mg.tensor([[1.0, 3, 3], [2, 0, 1]], requires_grad=True)
    x.amax(1).sum().backward()
    assert x.grad.tolist() == [[0, 0.5, 0.5], [1, 0, 0]]
    x.grad = None
    values, indices = x.max(1)
    values.sum().backward()
    assert indices.tolist() == [1, 0] and x.grad.tolist() == [[0, 1, 0], [1, 0, 0]]
    x.grad = None
    x.max().backward()
    assert x.grad.tolist() == [[0, 0.5, 0.5], [0, 0, 0]]


def test_max_in_all_its_forms() -> None:
    a, b = mg.tensor([[1.0, 5], [4, 2]]), mg.tensor([3.0, 3])
    assert mg.max(a).item() == 5 and mg.max(a, b).tolist() == [[3, 5], [4, 3]]
    found = mg.min(a, dim=-2, keepdim=True)
    assert found.values.tolist() == [[1, 2]] and found.indices.tolist() == [[0, 1]]
    assert a.argmax().item() == 1 and a.argmax(0).tolist() == [1, 0]


def test_the_first_nan_is_the_largest_and_the_smallest() -> None:
    x = mg.tensor([[1.0, math.nan, 5, math.nan], [1, 2, 0, -1]])
    for found, expected in ((x.max(1), [1, 1]), (x.min(1), [1, 3])):
        assert found.indices.tolist() == expected
        assert found.values[0].isnan() and found.values[1] in (2, -1)


def test_no_variance_of_integers() -> None:
    for name in ("var", "std"):
        with pytest.raises(RuntimeError, match="float"):
            getattr(mg.tensor([1, 2]), name)()


def test_of_nothing() -> None:
    nothing = mg.zeros(0, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nothing.mean().isnan() and nothing.sum().item() == 0 and nothing.prod().item() == 1
        assert nothing.softmax(0).shape == nothing.log_softmax(0).shape == (0, 3)
        assert nothing.logsumexp(0).tolist() == [-math.inf] * 3
    for refused in (lambda: nothing.max(0), lambda: nothing.amax(0), lambda: nothing.argmax()):
        with pytest.raises(IndexError):
            refused()
    with pytest.raises(RuntimeError):
        nothing.max()


@pytest.mark.parametrize("create_graph", [False, True])
def test_the_gradient_of_products_of_nothing(create_graph: bool) -> None:
    x = mg.zeros(0, 3, requires_grad=True)
    (g,) = mg.grad(x.cumprod(0).sum(), [x], create_graph=create_graph)
    assert g.shape == (0, 3)


def test_norms_that_are_none() -> None:
    with pytest.raises(RuntimeError, match="'nuc'"):
        mg.ones(2, 2).norm("nuc")


def test_dims_out_of_range() -> None:
    x = mg.ones(2, 3)
    for name in ("sum", "mean", "amax", "max", "cumsum", "softmax", "logsumexp", "var", "argmax"):
        with pytest.raises(IndexError, match="range"):
            getattr(x, name)(2)
    with pytest.raises(RuntimeError, match="more than once"):
        x.sum((0, -2))


def test_logsumexp_with_infinities() -> None:
    rows = [[-math.inf, -math.inf], [-math.inf, 1.0], [1000.0, 1000.0]]
    x = mg.tensor(rows, dtype=mg.float64, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = x.logsumexp(1)
        y[:].sum().backward()
    np.testing.assert_allclose(y.detach().value, [-math.inf, 1, 1000 + math.log(2)])
    np.testing.assert_allclose(x.grad.value, [[0, 0], [0, 1], [0.5, 0.5]])


def test_zero_norms_have_no_slope() -> None:
    for function in (
        lambda x: x.norm(),
        lambda x: x.norm(3),
        lambda x: x.norm(1),
        lambda x: x.std(),
    ):
        x = mg.zeros(3, dtype=mg.float64, requires_grad=True)
        function(x).backward()
        assert x.grad.tolist() == [0, 0, 0]


def test_integers() -> None:
    x = mg.tensor([True, True, False])
    assert x.sum().dtype == mg.int64 and x.sum().item() == 2
    assert mg.tensor([1, 2], dtype=mg.uint8).prod().dtype == mg.int64
    assert mg.tensor([1, 2]).sum(dtype=mg.float64).dtype == mg.float64
    with pytest.raises(RuntimeError, match="float"):
        mg.tensor([1, 2]).mean()


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        "sum",
        "mean",
        "prod",
        "var",
        "std",
        "amax",
        "amin",
        "logsumexp",
        "softmax",
        "log_softmax",
        "cumsum",
        "cumprod",
    ],
)
def test_as_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ties = np.array([[1.0, 2, 2], [3, 3, 3], [0, -1, 0]])
    for array in (rng.standard_normal((3, 4, 2)), ties, np.array(2.5), np.zeros((3, 2))):
        for dim in (0, -1):
            x = torch.tensor(array, requires_grad=True)
            t = mg.tensor(array, requires_grad=True)
            theirs, ours = getattr(x, name)(dim), getattr(t, name)(dim)
            assert tuple(theirs.shape) == ours.shape
            np.testing.assert_allclose(ours.detach().value, theirs.detach(), rtol=1e-9)
            g = rng.standard_normal(ours.shape)
            theirs.backward(torch.tensor(g))
            ours.backward(mg.tensor(g))
            np.testing.assert_allclose(t.grad.value, x.grad, rtol=1e-7, atol=1e-9)
