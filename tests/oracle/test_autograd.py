"""Higher orders beside HIPS autograd, which has been differentiating NumPy code since 2014."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

pytestmark = pytest.mark.oracle

# f(library, x), with x > 0; `library` is minigrad, or autograd's NumPy.
SCALAR: dict[str, Callable[[Any, Any], Any]] = {
    "exp of sin": lambda L, x: L.exp(L.sin(x)),
    "x to the x": lambda L, x: L.exp(x * L.log(x)),
    "power": lambda L, x: x**2.7 + x**3 - x ** (-0.5),
    "rational": lambda L, x: (1 + x * x) / (2 + x**4) - 1 / x,
    "tanh": lambda L, x: L.tanh(x) * L.tanh(2 * x - 1),
    "sinh and cosh": lambda L, x: L.sinh(x) / L.cosh(x) + L.cosh(0.5 * x),
    "trigonometric": lambda L, x: L.tan(0.5 * x) + L.cos(x * x),
    "roots": lambda L, x: L.sqrt(1 + L.sqrt(x)),
    "logarithms": lambda L, x: L.log1p(x) * L.expm1(-x) + L.log(x),
    "sigmoid": lambda L, x: 1 / (1 + L.exp(-x)),
    "maximum": lambda L, x: L.maximum(x, 0.3 * x * x) * x,
    "where": lambda L, x: L.where(x > 1, x**3, L.exp(x)),
    "absolute": lambda L, x: abs(L.sin(3 * x)) * x,
    "a number over": lambda L, x: 3.0 / (x + 1) - (2.0 - x) * 1.5,
}


def derivatives(f: Callable[[Any], Any], point: np.ndarray, orders: int) -> list[np.ndarray]:
    """f, f', f'', ... by minigrad, elementwise."""
    x = mg.tensor(point, requires_grad=True)
    found = [f(x)]
    for _ in range(orders):
        (g,) = mg.grad(found[-1].sum(), [x], create_graph=True)
        found.append(g)
    return [y.detach().numpy() for y in found]


@pytest.mark.parametrize("name", SCALAR)
def test_derivatives_of_scalar_functions(name: str) -> None:
    """The first, second and third."""
    autograd = pytest.importorskip("autograd")
    theirs_np = pytest.importorskip("autograd.numpy")
    point = np.array([0.2, 0.7, 1.3, 2.1])
    theirs = lambda x: SCALAR[name](theirs_np, x)  # noqa: E731
    for order, found in enumerate(derivatives(lambda x: SCALAR[name](mg, x), point, 3)):
        np.testing.assert_allclose(found, theirs(point), rtol=1e-9, atol=1e-11, err_msg=str(order))
        theirs = autograd.elementwise_grad(theirs)


# f(library, x) of a matrix x (3, 4), to a scalar.
MATRIX: dict[str, Callable[[Any, Any], Any]] = {
    "products": lambda L, x: ((x @ x.T) @ x).sum() ** 2,
    "reductions": lambda L, x: (x.mean(0) * L.exp(x).sum(0)).sum() + ((x - x.mean()) ** 2).mean(),
    "broadcasting": lambda L, x: ((x - x.mean(1, keepdims=True)) ** 3 * x[0]).sum(),
    "maxima": lambda L, x: (L.amax(x, 1) ** 3 * L.amin(x, 1)).sum(),
    "indices": lambda L, x: (x[[0, 0, 2]] ** 3 * x[1, ::2].sum()).sum() + x[:, 1:].prod(),
    "shapes": lambda L, x: (L.tanh(x.reshape(2, 6)) @ x.T.reshape(6, 2)).sum() ** 2,
    "softmax": lambda L, x: ((L.exp(x).T / L.exp(x).sum(1)).T ** 2 * x).sum(),
    "einsum": lambda L, x: (L.einsum("ij,kj->ik", x, L.sin(x)) ** 2).sum(),
    "cumulative": lambda L, x: (L.cumsum(x, 1) ** 3).sum(),
    "concatenated": lambda L, x: (L.concatenate([x, x * x], 1) ** 3).sum(),
}


@pytest.mark.parametrize("name", MATRIX)
def test_derivatives_along_directions(name: str) -> None:
    """f' u, f'' u v and f''' u v w for random directions."""
    autograd = pytest.importorskip("autograd")
    theirs_np = pytest.importorskip("autograd.numpy")
    f, rng = MATRIX[name], np.random.default_rng(0)
    point = rng.standard_normal((3, 4))
    directions = [rng.standard_normal((3, 4)) for _ in range(3)]

    x = mg.tensor(point, requires_grad=True)
    y = f(mg, x)
    theirs = lambda x: f(theirs_np, x)  # noqa: E731
    np.testing.assert_allclose(y.item(), theirs(point), rtol=1e-10)
    for order, u in enumerate(directions, 1):
        (g,) = mg.grad(y, [x], create_graph=True)
        y = (g * mg.tensor(u)).sum()
        gradient = autograd.grad(theirs)
        theirs = lambda x, gradient=gradient, u=u: theirs_np.sum(gradient(x) * u)  # noqa: E731
        np.testing.assert_allclose(y.item(), theirs(point), rtol=1e-8, err_msg=f"order {order}")


def loss_of_rnn(L: Any, W: Any, U: Any, b: Any, x: Any) -> Any:
    """A tanh RNN written out: the sum of squares of its states, x (T, B, D)."""
    h, loss = 0.0 * (x[0] @ W.T), 0.0
    for t in range(len(x)):
        h = L.tanh(x[t] @ W.T + h @ U.T + b)
        loss = loss + (h**2).sum()
    return loss


def test_a_recurrent_net_to_third_order() -> None:
    """Written out in both libraries; and nn.RNN, whose higher orders go through its twin."""
    autograd = pytest.importorskip("autograd")
    theirs_np = pytest.importorskip("autograd.numpy")
    T, B, D, H = 4, 2, 3, 2
    rng = np.random.default_rng(0)
    x = rng.standard_normal((T, B, D))
    weights = [rng.standard_normal(s) for s in ((H, D), (H, H), (H,))]
    directions = [[rng.standard_normal(w.shape) for w in weights] for _ in range(3)]

    def theirs(*weights: Any) -> Any:
        return loss_of_rnn(theirs_np, *weights, x)

    expected = [theirs(*weights)]
    f: Any = theirs
    for us in directions:
        gradient = autograd.grad(f, (0, 1, 2))

        def f(*weights: Any, gradient: Any = gradient, us: Any = us) -> Any:
            return sum(theirs_np.sum(g * u) for g, u in zip(gradient(*weights), us, strict=True))

        expected.append(f(*weights))

    def along(loss: Any, leaves: list[Any]) -> list[float]:
        found = [loss.item()]
        for us in directions:
            gradients = mg.grad(loss, leaves, create_graph=True)
            loss = sum((g * mg.tensor(u)).sum() for g, u in zip(gradients, us, strict=True))
            found.append(loss.item())
        return found

    leaves = [mg.tensor(w, requires_grad=True) for w in weights]
    found = along(loss_of_rnn(mg, *leaves, mg.tensor(x)), leaves)
    np.testing.assert_allclose(found, expected, rtol=1e-9)

    layer = nn.RNN(D, H).double()
    with mg.no_grad():
        for p, w in zip(layer.parameters(), [*weights, np.zeros(H)], strict=True):
            p.copy_(mg.tensor(w))
    y, _ = layer(mg.tensor(x))
    found = along((y**2).sum(), list(layer.parameters())[:3])
    np.testing.assert_allclose(found, expected, rtol=1e-9)
