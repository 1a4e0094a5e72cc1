"""PyTorch where finite differences cannot tell: at kinks and ties; and over whole trainings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg

pytestmark = pytest.mark.oracle

inf, nan = float("inf"), float("nan")

# Where a function has no derivative, or one that is infinite, both give the same one.
KINKS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "abs": (lambda L, x: x.abs(), [[0.0, -0.0, 1.0, -1.0]]),
    "sign": (lambda L, x: x.sign(), [[0.0, 2.0]]),
    "relu": (lambda L, x: L.relu(x), [[0.0, -0.0, 1.0, -1.0]]),
    "clamp": (lambda L, x: x.clamp(-1.0, 1.0), [[-1.0, 1.0, 0.0, 2.0, -2.0]]),
    "clamp min": (lambda L, x: x.clamp(min=0.0), [[0.0, 1.0, -1.0]]),
    "sqrt": (lambda L, x: x.sqrt(), [[0.0, 4.0]]),
    "rsqrt": (lambda L, x: x.rsqrt(), [[0.0, 4.0]]),
    "log": (lambda L, x: x.log(), [[0.0, 4.0]]),
    "log1p": (lambda L, x: x.log1p(), [[-1.0, 4.0]]),
    "reciprocal": (lambda L, x: x.reciprocal(), [[0.0, 4.0]]),
    "x ** 0": (lambda L, x: x**0, [[0.0, 2.0]]),
    "x ** 1": (lambda L, x: x**1, [[0.0, 2.0]]),
    "x ** 2": (lambda L, x: x**2, [[0.0, -2.0]]),
    "x ** 0.5": (lambda L, x: x**0.5, [[0.0, 2.0]]),
    "a ** x": (lambda L, x: 2.0**x, [[0.0, -1.0]]),
    "0 ** x": (lambda L, x: 0.0**x, [[0.0, 1.0, 2.0]]),
    "pow": (lambda L, x, y: x**y, [[0.0, 0.0, 0.0, 2.0, -2.0], [0.0, 1.0, 2.0, 0.0, 3.0]]),
    "maximum": (lambda L, x, y: L.maximum(x, y), [[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]]),
    "minimum": (lambda L, x, y: L.minimum(x, y), [[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]]),
    "max": (lambda L, x: x.max(), [[2.0, 3.0, 3.0, 1.0]]),
    "min": (lambda L, x: x.min(), [[2.0, 1.0, 3.0, 1.0]]),
    "max of rows": (lambda L, x: x.max(1).values, [[[2.0, 3.0, 3.0], [1.0, 1.0, 1.0]]]),
    "amax": (lambda L, x: x.amax(1), [[[2.0, 3.0, 3.0], [1.0, 1.0, 1.0]]]),
    "amin": (lambda L, x: x.amin(0), [[[2.0, 3.0, 3.0], [2.0, 1.0, 3.0]]]),
    "sort": (lambda L, x: x.sort(stable=True).values, [[2.0, 1.0, 2.0, 1.0]]),
    "prod": (lambda L, x: x.prod(1), [[[0.0, 3.0, 2.0], [0.0, 0.0, 2.0], [4.0, 3.0, 2.0]]]),
    "cumprod": (lambda L, x: x.cumprod(1), [[[0.0, 3.0, 2.0], [2.0, 0.0, 0.0]]]),
    "norm": (lambda L, x: x.norm(), [[0.0, 0.0]]),
    "norm 1": (lambda L, x: x.norm(p=1), [[0.0, -2.0]]),
    "norm inf": (lambda L, x: x.norm(p=inf), [[3.0, -3.0, 1.0]]),
    "std": (lambda L, x: x.std(), [[2.0, 2.0, 2.0]]),
    "logsumexp": (lambda L, x: x.logsumexp(1), [[[-inf, 0.0], [1000.0, 1000.0], [-inf, 1.0]]]),
    "softmax": (lambda L, x: x.softmax(1), [[[-inf, 0.0], [1000.0, -1000.0]]]),
    "log_softmax": (lambda L, x: x.log_softmax(1), [[[1000.0, -1000.0], [0.0, 0.0]]]),
    "sigmoid": (lambda L, x: x.sigmoid(), [[1000.0, -1000.0, 0.0]]),
    "tanh": (lambda L, x: x.tanh(), [[1000.0, -1000.0, 0.0]]),
    "softplus": (lambda L, x: L.nn.functional.softplus(x), [[20.0, 21.0, -1000.0]]),
    "where": (lambda L, x: L.where(x > 0, x.log(), x), [[0.0, 1.0]]),
    "masked_fill": (lambda L, x: x.masked_fill(x > 0, -inf).exp(), [[0.0, 1.0]]),
    "round": (lambda L, x: x.round() + x.floor() + x.ceil(), [[0.5, 1.5, 2.0]]),
    "division": (lambda L, x, y: x / y, [[0.0, 1.0, 2.0], [0.0, 0.0, inf]]),
    "remainder": (lambda L, x, y: x % y, [[5.0, -5.0, 4.0], [3.0, 3.0, -3.0]]),
    "nan": (lambda L, x: x.max(), [[1.0, nan]]),
    "smooth_l1": (
        lambda L, x, y: L.nn.functional.smooth_l1_loss(x, y, reduction="sum"),
        [[0.0, 1.0, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0]],
    ),
    "l1": (
        lambda L, x, y: L.nn.functional.l1_loss(x, y, reduction="sum"),
        [[0.0, 1.0, -1.0], [0.0, 0.0, 0.0]],
    ),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", KINKS)
def test_gradients_where_there_is_none(name: str) -> None:
    torch = pytest.importorskip("torch")
    function, values = KINKS[name]
    ours = [mg.tensor(v, dtype=mg.float64, requires_grad=True) for v in values]
    theirs = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    y, z = function(mg, *ours), function(torch, *theirs)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12)
    g = np.random.default_rng(0).standard_normal(tuple(z.shape))
    y.backward(mg.tensor(g))
    z.backward(torch.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-12)


RULES: dict[str, Callable[[Any, Any], Any]] = {
    "SGD": lambda L, p: L.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adagrad": lambda L, p: L.optim.Adagrad(p, lr=0.1),
    "RMSprop": lambda L, p: L.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adam": lambda L, p: L.optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda L, p: L.optim.AdamW(p, lr=0.01),
}


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("rule", RULES)
def test_fifty_steps_of_a_character_model(rule: str, kind: str) -> None:
    """Embedding, two recurrent layers, state carried over, clipping, a schedule: the same losses.

    PyTorch's weights are loaded into ours at the start, and ours into PyTorch's at the end.
    """
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    text = rng.integers(0, 7, (50, 6, 3))  # (steps, T + 1, B)

    def model(L: Any) -> Any:
        nn = L.nn
        parts = {
            "embed": nn.Embedding(7, 4),
            "recurrent": getattr(nn, kind)(4, 5, num_layers=2, bidirectional=False),
            "norm": nn.LayerNorm(5),
            "out": nn.Linear(5, 7),
        }
        return nn.ModuleDict(parts).double()

    def train(L: Any, model: Any) -> list[float]:
        optimizer = RULES[rule](L, model.parameters())
        schedule = L.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
        state, losses = None, []
        for chunk in text:
            x, t = L.tensor(chunk[:-1]), L.tensor(chunk[1:])
            y, state = model["recurrent"](model["embed"](x), state)
            scores = model["out"](model["norm"](y)).reshape(-1, 7)
            loss = L.nn.functional.cross_entropy(scores, t.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            L.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            pair = isinstance(state, tuple)
            state = tuple(s.detach() for s in state) if pair else state.detach()
        return losses

    torch.manual_seed(0)
    theirs, ours = model(torch), model(mg)
    ours.load_state_dict(theirs.state_dict())
    expected, found = train(torch, theirs), train(mg, ours)
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), atol=1e-7)
    back = {name: torch.tensor(v.numpy()) for name, v in ours.state_dict().items()}
    assert str(theirs.load_state_dict(back)) == "<All keys matched successfully>"
