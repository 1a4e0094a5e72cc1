"""Sorting and counting: values against NumPy and PyTorch, ties, NaN, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad.autograd import gradcheck, gradgradcheck
from minigrad.autograd.engine import wrap

# Few different numbers: ties everywhere.
arrays = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5),
    elements=st.sampled_from([-1.0, 0.0, 0.5, np.inf, np.nan]),
)


def leaf(array: Any) -> Any:
    return wrap(np.asarray(array), None, True)


@given(arrays, st.data())
def test_sort_and_topk(array: np.ndarray, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-array.ndim, array.ndim - 1))
    x = leaf(array)
    expected = np.argsort(array, dim, kind="stable")
    values, indices = x.sort(dim)
    assert np.array_equal(indices.value, expected)
    assert np.array_equal(values.value, np.sort(array, dim), equal_nan=True)
    assert np.array_equal(mg.argsort(x, dim).value, expected)

    down = mg.sort(x, dim, descending=True)
    key = np.where(np.isnan(array), -np.inf, -array)  # NaN above infinity
    above = np.where(np.isnan(array), -1.0, 0.0)
    order = np.lexsort((key, above), axis=dim) if array.size else expected
    assert np.array_equal(down.indices.value, order)

    k = data.draw(st.integers(0, array.shape[dim]))
    for largest, full in ((True, down), (False, mg.sort(x, dim))):
        top = mg.topk(x, k, dim, largest)
        first = (*[slice(None)] * (dim % array.ndim), slice(k))
        assert np.array_equal(top.values.value, full.values.value[first], equal_nan=True)
        assert np.array_equal(top.indices.value, full.indices.value[first])
    assert values.requires_grad
    assert not indices.requires_grad


def test_gradients_go_to_where_the_values_came_from() -> None:
    x = leaf(np.array([[3.0, 1.0, 2.0], [1.0, 5.0, 4.0]]))
    assert gradcheck(lambda x: x.sort(1, descending=True).values, x)
    assert gradgradcheck(lambda x: (x * x).topk(2, 0).values, x)


def test_numbers_without_dimensions() -> None:
    x = leaf(2.0)
    assert [part.item() for part in x.sort()] == [2, 0]
    assert [part.item() for part in x.topk(1)] == [2, 0]
    assert x.argsort().shape == ()
    (g,) = mg.grad(x.topk(1).values, [x])
    assert g.item() == 1


def test_unique() -> None:
    x = mg.tensor([[3, 1], [3, 2]])
    assert mg.unique(x).tolist() == [1, 2, 3]
    values, inverse, counts = x.unique(return_inverse=True, return_counts=True)
    assert np.array_equal(values.value[inverse.value], x.value)
    assert counts.tolist() == [1, 1, 2]


@given(hnp.arrays(np.int64, st.integers(0, 9), elements=st.integers(0, 5)), st.integers(0, 8))
def test_bincount(array: np.ndarray, minlength: int) -> None:
    x = wrap(array)
    assert np.array_equal(
        mg.bincount(x, minlength=minlength).value, np.bincount(array, minlength=minlength)
    )
    weights = leaf(np.random.default_rng(0).standard_normal(array.shape))
    y = mg.bincount(x, weights, minlength)
    np.testing.assert_allclose(
        y.value, np.bincount(array, weights.numpy(force=True), minlength), atol=1e-12
    )
    g = np.arange(float(y.value.size))
    (gw,) = mg.grad(y, [weights], wrap(g))
    assert np.array_equal(gw.value, g[array])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda x: x.topk(4), RuntimeError, "out of range"),
        (lambda x: x.topk(-1), RuntimeError, "out of range"),
        (lambda x: x.sort(2), IndexError, "out of range"),
        (lambda x: mg.bincount(x), RuntimeError, "vector of integers"),
        (lambda x: mg.bincount(mg.tensor([-1])), RuntimeError, "negative"),
        (lambda x: mg.bincount(mg.tensor([1]), x), RuntimeError, "weights"),
    ],
)
def test_errors(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(leaf(np.ones((2, 3))))


@pytest.mark.oracle
@pytest.mark.parametrize("descending", [False, True])
def test_as_pytorch(descending: bool) -> None:
    torch = pytest.importorskip("torch")
    array = np.random.default_rng(0).integers(0, 4, (5, 6)).astype(float)
    array[0, ::2] = np.nan
    ours = mg.sort(leaf(array), 1, descending)
    theirs = torch.sort(torch.tensor(array), dim=1, descending=descending, stable=True)
    assert np.array_equal(ours.values.value, theirs.values.numpy(), equal_nan=True)
    assert np.array_equal(ours.indices.value, theirs.indices.numpy())
    assert ours.indices.dtype == np.int64
