"""Jacobians, Hessians and products with them, against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.autograd.engine import wrap
from minigrad.autograd.functional import hessian, hvp, jacobian, jvp, vjp

rng = np.random.default_rng(3)
A = rng.standard_normal((3, 2))


def leaf(value: Any) -> Any:
    return wrap(np.array(value, np.float64), None, True)


def linear(x: Any) -> Any:
    return wrap(A) @ x


def two_by_two(x: Any, y: Any) -> tuple[Any, Any]:
    """(x_i y_j, the sum of x**3)."""
    return x.reshape(-1, 1) * y, (x * x * x).sum()


X, Y = np.array([1.0, -2.0]), np.array([0.5, 3.0, 2.0])


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_jacobian(strategy: str, create_graph: bool) -> None:
    found = jacobian(linear, leaf(X), create_graph=create_graph, strategy=strategy)
    np.testing.assert_allclose(found.value, A)
    (jxx, jxy), (jyx, jyy) = jacobian(
        two_by_two, (leaf(X), leaf(Y)), create_graph=create_graph, strategy=strategy
    )
    np.testing.assert_allclose(jxx.value, np.einsum("j,ik->ijk", Y, np.eye(2)))
    np.testing.assert_allclose(jxy.value, np.einsum("i,jk->ijk", X, np.eye(3)))
    np.testing.assert_allclose(jyx.value, 3 * X**2)
    np.testing.assert_allclose(jyy.value, np.zeros(3))


def test_shapes_and_kinds_of_answers() -> None:
    x = leaf(np.ones((2, 3)))
    assert jacobian(lambda x: x.sum(0), x).shape == (3, 2, 3)
    assert isinstance(jacobian(lambda x: x.sum(0), (x,)), tuple)
    assert isinstance(jacobian(lambda x: (x.sum(0),), x), tuple)
    assert jacobian(lambda x: x[:0], x).shape == (0, 3, 2, 3)
    assert x.grad is None


def test_answers_have_no_history_unless_asked_for() -> None:
    def cubed(x: Any) -> Any:
        return (x * x * x).sum()

    for answer in (
        jacobian(cubed, leaf(X)),
        hessian(cubed, leaf(X)),
        *hvp(cubed, leaf(X), leaf(X)),
    ):
        assert not answer.requires_grad
    for answer in (*jvp(cubed, leaf(X), leaf(X)), *vjp(cubed, leaf(X))):
        assert not answer.requires_grad


def test_forward_mode_has_one_pass_for_each_input() -> None:
    class Repeated(mg.autograd.Op):
        passes = 0

        def forward(self, x: Any) -> Any:
            return np.repeat(x, 50)

        def vjp(self, g: Any) -> Any:
            Repeated.passes += 1
            return (g.reshape(2, 50).sum(1),)

    found = jacobian(lambda x: Repeated()(x), leaf(X), strategy="forward-mode")
    np.testing.assert_array_equal(found.value, np.repeat(np.eye(2), 50, 0))
    assert Repeated.passes <= 2  # in reverse mode there are 100


def test_products() -> None:
    u, v = rng.standard_normal(3), rng.standard_normal(2)
    y, found = vjp(linear, leaf(X), wrap(u))
    np.testing.assert_allclose(y.value, A @ X)
    np.testing.assert_allclose(found.value, u @ A)
    y, found = jvp(linear, leaf(X), wrap(v))
    np.testing.assert_allclose(y.value, A @ X)
    np.testing.assert_allclose(found.value, A @ v)
    assert not y.requires_grad


def test_products_of_tuples() -> None:
    xs = (leaf(X), leaf(Y))
    v, w = rng.standard_normal(2), rng.standard_normal(3)
    ys, js = jvp(two_by_two, xs, (wrap(v), wrap(w)))
    assert len(ys) == 2
    np.testing.assert_allclose(js[0].value, np.outer(v, Y) + np.outer(X, w))
    np.testing.assert_allclose(js[1].value, 3 * X**2 @ v)
    u = rng.standard_normal((2, 3))
    _, (gx, gy) = vjp(two_by_two, xs, (wrap(u), wrap(np.array(2.0))))
    np.testing.assert_allclose(gx.value, u @ Y + 6 * X**2)
    np.testing.assert_allclose(gy.value, X @ u)


def cubic(x: Any, y: Any) -> Any:
    return (x * x * x).sum() + x.sum() * (y * y).sum()


HXX, HXY, HYY = np.diag(6 * X), np.outer(np.ones(2), 2 * Y), 2 * X.sum() * np.eye(3)


def test_hessian() -> None:
    (hxx, hxy), (hyx, hyy) = hessian(cubic, (leaf(X), leaf(Y)))
    np.testing.assert_allclose(hxx.value, HXX)
    np.testing.assert_allclose(hxy.value, HXY)
    np.testing.assert_allclose(hyx.value, HXY.T)
    np.testing.assert_allclose(hyy.value, HYY)
    found = hessian(lambda x: (x * x * x).sum(), leaf(X), outer_jacobian_strategy="forward-mode")
    np.testing.assert_allclose(found.value, HXX)


def test_hvp() -> None:
    v, w = rng.standard_normal(2), rng.standard_normal(3)
    y, (hx, hy) = hvp(cubic, (leaf(X), leaf(Y)), (wrap(v), wrap(w)))
    np.testing.assert_allclose(y.item(), (X**3).sum() + X.sum() * (Y**2).sum())
    np.testing.assert_allclose(hx.value, HXX @ v + HXY @ w)
    np.testing.assert_allclose(hy.value, HXY.T @ v + HYY @ w)


def test_create_graph_reaches_the_inputs() -> None:
    x = leaf(X)
    found = jacobian(lambda x: x * x, x, create_graph=True)
    found.sum().backward()
    np.testing.assert_allclose(x.grad.value, [2.0, 2.0])
    x = leaf(X)
    _, found = hvp(lambda x: (x * x * x).sum(), x, wrap(np.ones(2)), create_graph=True)
    found.sum().backward()
    np.testing.assert_allclose(x.grad.value, [6.0, 6.0])
    x, v = leaf(X), leaf([1.0, 2.0])
    _, found = jvp(lambda x: x * x, x, v, create_graph=True)
    gx, gv = mg.grad(found.sum(), [x, v])
    np.testing.assert_allclose(gx.value, [2.0, 4.0])
    np.testing.assert_allclose(gv.value, 2 * X)
    x = leaf(X)
    _, found = vjp(lambda x: x * x, x, wrap(np.ones(2)), create_graph=True)
    found.sum().backward()
    np.testing.assert_allclose(x.grad.value, [2.0, 2.0])


def test_works_under_no_grad_and_for_inputs_that_require_none() -> None:
    with mg.no_grad():
        np.testing.assert_allclose(jacobian(linear, wrap(X)).value, A)
        np.testing.assert_allclose(hessian(lambda x: (x * x * x).sum(), wrap(X)).value, HXX)


def test_unconnected_is_zero_or_with_strict_an_error() -> None:
    x = leaf(X)

    def constant(x: Any) -> Any:
        return mg.tensor([1.0, 2.0])

    assert jacobian(constant, x).value.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    np.testing.assert_array_equal(hessian(lambda x: x.sum(), x).value, np.zeros((2, 2)))
    np.testing.assert_array_equal(hvp(lambda x: x.sum(), x, wrap(X))[1].value, np.zeros(2))
    with pytest.raises(RuntimeError, match="strict: output 0 does not require grad"):
        jacobian(constant, x, strict=True)
    with pytest.raises(RuntimeError, match="does not depend on input 1"):
        vjp(lambda x, y: x * 2.0, (x, leaf(Y)), wrap(X), strict=True)


def test_wrong_use() -> None:
    x = leaf(X)
    for call, kind, message in [
        (lambda: jacobian(linear, 3.0), TypeError, "inputs given to jacobian"),
        (lambda: jacobian(lambda x: 3.0, x), TypeError, "outputs of the function given to jac"),
        (lambda: vjp(linear, x), RuntimeError, "v can be left out only where the output"),
        (lambda: jvp(linear, x), RuntimeError, "v can be left out only where the input"),
        (lambda: vjp(linear, x, wrap(X)), RuntimeError, r"\[\(3,\)\], and is \[\(2,\)\]"),
        (lambda: hessian(linear, x), RuntimeError, r"given to hessian must return a single"),
        (lambda: hvp(linear, x, x), RuntimeError, "given to hvp must return a single"),
        (lambda: jacobian(linear, x, strategy="sideways"), ValueError, "strategy"),
    ]:
        with pytest.raises(kind, match=message):
            call()


def test_scalars_need_no_vector() -> None:
    _, g = vjp(lambda x: (x * x).sum(), leaf(X))
    np.testing.assert_allclose(g.value, 2 * X)
    _, j = jvp(lambda x: x * wrap(Y), leaf(2.0))
    np.testing.assert_allclose(j.value, Y)


@pytest.mark.oracle
def test_against_pytorch() -> None:
    torch = pytest.importorskip("torch")
    functional = torch.autograd.functional

    def net(w: Any, x: Any) -> Any:
        return ((x @ w).tanh() * x.sum()).sum()

    w, x, v, u = (rng.standard_normal(s) for s in ((3, 2), (4, 3), (3, 2), (4, 3)))
    ours = hvp(net, (leaf(w), leaf(x)), (wrap(v), wrap(u)))[1]
    theirs = functional.hvp(
        net, (torch.tensor(w), torch.tensor(x)), (torch.tensor(v), torch.tensor(u))
    )[1]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.value, b.numpy(), rtol=1e-9)
    ours = hessian(net, (leaf(w), leaf(x)))
    theirs = functional.hessian(net, (torch.tensor(w), torch.tensor(x)))
    for a, b in zip(ours, theirs, strict=True):
        for c, d in zip(a, b, strict=True):
            np.testing.assert_allclose(c.value, d.numpy(), rtol=1e-9, atol=1e-12)
