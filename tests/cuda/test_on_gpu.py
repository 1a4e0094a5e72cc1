"""On a real GPU: the kernels against float64 on the CPU, at the sizes they are made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.cuda import recurrent
from minigrad.nn import functional as F

pytestmark = pytest.mark.skipif(
    not mg.cuda.is_available(), reason="needs a GPU (mg.cuda.is_available() is False)"
)


def error(found: Any, expected: Any) -> float:
    """Relative, in the Euclidean norm."""
    a = found.detach().cpu().double()
    b = expected.detach().cpu().double()
    return float((a - b).norm() / (b.norm() + 1e-30))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize(
    ("T", "B", "H"), [(25, 1, 100), (50, 30, 300), (64, 64, 512), (7, 5, 37), (3, 2, 1024)]
)
def test_layers(kind: Any, T: int, B: int, H: int, monkeypatch: pytest.MonkeyPatch) -> None:
    launches: list[str] = []
    real = recurrent._launch

    def launch(*arguments: Any) -> None:
        launches.append(arguments[0])
        real(*arguments)

    monkeypatch.setattr(recurrent, "_launch", launch)
    mg.set_default_device("cpu")
    rng = np.random.default_rng(0)
    x = mg.tensor(rng.standard_normal((T, B, 9)))
    exact = kind(9, H).double()
    fast = kind(9, H, device="cuda")
    fast.load_state_dict(exact.state_dict())
    g = mg.tensor(rng.standard_normal((T, B, H)))
    slow_x, fast_x = x.requires_grad_(), x.detach().float().cuda().requires_grad_()
    y, _ = exact(slow_x)
    y.backward(g)
    z, _ = fast(fast_x)
    z.backward(g.float().cuda())
    assert launches == ["forward", "backward"]
    assert error(z, y) < 1e-5 and error(fast_x.grad, slow_x.grad) < 1e-4
    for (name, p), q in zip(exact.named_parameters(), fast.parameters(), strict=True):
        assert error(q.grad, p.grad) < 1e-4, name


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adagrad"])
def test_a_training_run(name: str) -> None:
    """Cross-entropy and an optimizer, ten steps: as on the CPU in float64."""
    mg.set_default_device("cpu")
    mg.manual_seed(0)
    exact = nn.Sequential(nn.Linear(20, 70), nn.Tanh(), nn.Linear(70, 65)).double()
    fast = nn.Sequential(nn.Linear(20, 70), nn.Tanh(), nn.Linear(70, 65)).cuda()
    fast.load_state_dict(exact.state_dict())
    one, two = (getattr(optim, name)(net.parameters(), lr=0.01) for net in (exact, fast))
    x, t = mg.randn(40, 20, dtype=mg.float64), mg.randint(0, 65, (40,))
    for _ in range(10):
        for net, optimizer, inputs, targets in (
            (exact, one, x, t), (fast, two, x.float().cuda(), t.cuda()),
        ):  # fmt: skip
            optimizer.zero_grad()
            F.cross_entropy(net(inputs), targets).backward()
            optimizer.step()
    for p, q in zip(exact.parameters(), fast.parameters(), strict=True):
        assert error(q, p) < 1e-3


def test_dropout_and_its_gradient() -> None:
    mg.manual_seed(0)
    x = mg.ones(1001, 7, device="cuda", requires_grad=True)
    y = F.dropout(x, 0.3)
    y.backward(mg.ones_like(y))
    assert mg.equal(y.detach(), x.grad)
    assert abs(float((y == 0).float().mean()) - 0.3) < 0.02


def test_memory_does_not_grow() -> None:
    mg.set_default_device("cuda")
    net = nn.LSTM(8, 64)
    optimizer = optim.Adam(net.parameters())
    x = mg.randn(10, 4, 8)
    held = []
    for step in range(300):
        optimizer.zero_grad()
        net(x)[0].sum().backward()
        optimizer.step()
        if step in (50, 299):
            held.append(mg.cuda.memory_allocated())
    assert held[0] == held[1]
