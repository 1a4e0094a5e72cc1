"""On a real GPU: the kernels against float64 on the CPU, at the sizes they are made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import generation, nn, optim
from minigrad.cuda import kernels
from minigrad.device import cupy
from minigrad.nn import functional as F

HAS_GPU = mg.cuda.is_available() and hasattr(cupy(), "RawModule")  # which the stand-in lacks
pytestmark = pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")


def error(found: Any, expected: Any) -> float:
    """Relative, in the Euclidean norm."""
    a = found.detach().cpu().double()
    b = expected.detach().cpu().double()
    return float((a - b).norm() / (b.norm() + 1e-30))


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that are launched from now on."""
    launches: list[str] = []
    real = kernels.launch

    def launch(like: Any, name: str, function: str, *arguments: Any, **settings: Any) -> None:
        launches.append(function)
        real(like, name, function, *arguments, **settings)

    monkeypatch.setattr(kernels, "launch", launch)
    return launches


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize(
    ("T", "B", "H"), [(25, 1, 100), (50, 30, 300), (64, 64, 512), (7, 5, 37), (3, 2, 1024)]
)
def test_layers(kind: Any, T: int, B: int, H: int, monkeypatch: pytest.MonkeyPatch) -> None:
    launches = watched(monkeypatch)
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


@pytest.mark.parametrize("proj_size", [0, 20])
def test_sequences_that_end_and_projections(
    proj_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = watched(monkeypatch)
    mg.set_default_device("cpu")
    rng = np.random.default_rng(0)
    exact = nn.LSTM(5, 100, 2, bidirectional=True, proj_size=proj_size).double()
    fast = nn.LSTM(5, 100, 2, bidirectional=True, proj_size=proj_size, device="cuda")
    fast.load_state_dict(exact.state_dict())
    sequences = [mg.tensor(rng.standard_normal((T, 5))) for T in (9, 9, 7, 4, 4, 1)]
    y, (_, c) = exact(nn.utils.rnn.pack_sequence(sequences))
    z, (_, d) = fast(nn.utils.rnn.pack_sequence([s.float().cuda() for s in sequences]))
    g = mg.tensor(rng.standard_normal(tuple(y.data.shape)))
    y.data.backward(g)
    z.data.backward(g.float().cuda())
    assert launches.count("forward") == launches.count("backward") == 4
    assert error(z.data, y.data) < 1e-5 and error(d, c) < 1e-5
    for (name, p), q in zip(exact.named_parameters(), fast.parameters(), strict=True):
        assert error(q.grad, p.grad) < 1e-4, name


def test_layers_of_several_sizes_in_turns() -> None:
    """Each launch has the shared memory it needs, also after one that needed less."""
    layers = [nn.LSTM(3, H, device="cuda") for H in (512, 300, 512, 20, 512)]
    x = mg.randn(4, 64, 3, device="cuda")
    assert all(bool(layer(x)[0].isfinite().all()) for layer in layers * 2)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize(("L", "H"), [(1, 100), (1, 37), (2, 256), (2, 512), (3, 1500)])
def test_it_writes_what_the_cpu_writes(
    kind: Any, L: int, H: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few characters: after a draw that falls between two roundings all would differ."""
    launches = watched(monkeypatch)
    mg.set_default_device("cpu")
    modules = nn.Embedding(65, 16), kind(16, H, L), nn.Linear(H, 65)
    texts = []
    for device in ("cpu", "cuda"):
        for module in modules:
            module.to(device)
        seeded = mg.Generator().manual_seed(1)
        texts.append(generation.generate(*modules, [3, 1, 2], 40, top_k=30, generator=seeded))
    assert texts[0] == texts[1]
    assert "write_text" in launches


def test_tf32_only_when_it_is_asked_for() -> None:
    """Its factors have 10 bits after the point: errors of 1e-4 to 1e-3 in place of 1e-7."""
    a, b = (mg.randn(512, 512, device="cuda") for _ in range(2))
    exact = a.double() @ b.double()
    assert error(a @ b, exact) < 1e-5
    mg.set_float32_matmul_precision("high")
    coarse = error(a @ b, exact)
    mg.set_float32_matmul_precision("highest")
    assert coarse < 2e-3 and error(a @ b, exact) < 1e-5


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
