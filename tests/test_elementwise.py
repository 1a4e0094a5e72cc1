"""Elementwise functions at the edges: extreme values, kinks, warnings."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import minigrad as mg

EXTREME = [-math.inf, -1e4, -100.0, -50.0, 0.0, 50.0, 100.0, 1e4, math.inf]
FUNCTIONS = [
    "exp",
    "log",
    "log1p",
    "expm1",
    "sqrt",
    "rsqrt",
    "square",
    "abs",
    "neg",
    "reciprocal",
    "sin",
    "cos",
    "tan",
    "tanh",
    "sinh",
    "cosh",
    "sigmoid",
    "floor",
    "ceil",
    "round",
    "trunc",
    "isnan",
    "isinf",
    "isfinite",
]


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "relu", "tanh"])
@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
def test_saturation_without_warnings(name: str, dtype: np.dtype) -> None:
    x = mg.tensor(EXTREME, dtype=dtype, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = getattr(mg, name)(x)
        y[1:-1].sum().backward()
    assert y.dtype == dtype and not y.isnan().any()
    assert x.grad.isfinite().all()


def test_sigmoid_keeps_small_values() -> None:
    y = mg.sigmoid(mg.tensor([-50.0], dtype=mg.float64))
    np.testing.assert_allclose(y.value, [math.exp(-50)], rtol=1e-12)


def test_kinks() -> None:
    for name in ("relu", "abs", "sign", "floor", "round"):
        x = mg.tensor([0.0, -0.0], requires_grad=True)
        getattr(mg, name)(x).sum().backward()
        assert x.grad.tolist() == [0, 0], name


def test_halves_round_to_even() -> None:
    assert mg.round(mg.tensor([0.5, 1.5, 2.5, -0.5])).tolist() == [0, 2, 2, 0]
    assert mg.round(mg.tensor([1.25]), decimals=1).item() == pytest.approx(1.2)


def test_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match="Tensor"):
        mg.exp(1.0)  # type: ignore[arg-type]


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    values = np.array([0, -0.0, 1, -1, 2.5, -0.5, 1.5, math.inf, -math.inf, math.nan, 90, -90])
    for array in (values.astype(np.float32), values, np.arange(4), np.zeros((0, 2)), values[2]):
        theirs, ours = (
            getattr(torch, name)(torch.tensor(array)),
            getattr(mg, name)(mg.tensor(array)),
        )
        assert str(theirs.dtype) == f"torch.{ours.dtype}"
        np.testing.assert_allclose(ours.value, theirs.numpy(), rtol=1e-5, atol=1e-38)
