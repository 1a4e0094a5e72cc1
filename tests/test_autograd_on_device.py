"""The tools on top of the engine, on arrays that are not NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import strict_cupy

import minigrad as mg
from minigrad.autograd import Function, gradcheck, gradgradcheck
from minigrad.autograd.functional import hvp, jacobian, jvp
from minigrad.utils.checkpoint import checkpoint

VALUES = np.array([[0.5, -1.0], [2.0, 0.3]])


@pytest.fixture
def x(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A float64 leaf on the stand-in."""
    strict_cupy.install(monkeypatch)
    return mg.tensor(VALUES, device="cuda", requires_grad=True)


def test_gradcheck(x: Any) -> None:
    assert gradcheck(lambda x: (x * x).tanh(), x)
    assert gradgradcheck(lambda x: (x * x).tanh(), x)
    with pytest.raises(mg.autograd.GradcheckError, match="zero"):
        gradcheck(lambda x: x.detach() * 2.0, x)


def test_functional(x: Any) -> None:
    found = jacobian(lambda x: x * x, x)
    assert found.device.type == "cuda"
    expected = np.einsum("ij,ik,jl->ijkl", 2 * VALUES, np.eye(2), np.eye(2))
    np.testing.assert_allclose(found.cpu().numpy(), expected)
    _, found = hvp(lambda x: (x * x * x).sum(), x, mg.ones_like(x))
    np.testing.assert_allclose(found.cpu().numpy(), 6 * VALUES)
    _, found = jvp(lambda x: x * x, x, mg.ones_like(x))
    np.testing.assert_allclose(found.cpu().numpy(), 2 * VALUES)


def test_function_and_checkpoint(x: Any) -> None:
    class Two(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x, x * 3.0

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * x * 2.0 + h * 3.0

    checkpoint(lambda x: Two.apply(x)[0].tanh(), x).sum().backward()
    expected = 2 * VALUES * (1 - np.tanh(VALUES**2) ** 2)
    np.testing.assert_allclose(x.grad.cpu().numpy(), expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_detect_anomaly(x: Any) -> None:
    message = r"at \[0, 1\], computed from -1\n.*\n.*\n.*negative"
    with pytest.raises(RuntimeError, match=message), mg.autograd.detect_anomaly():
        x.log()
    with mg.autograd.detect_anomaly():
        (x * x).sum().backward()
