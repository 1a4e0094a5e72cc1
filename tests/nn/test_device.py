"""nn on a device that is as strict as CuPy: same numbers as on the CPU, and no hidden wait."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import strict_cupy

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn

T = [0, 2, -100, 1]
CALLS = {
    "linear": lambda x, L: F.linear(x, L([[1.0, 2, 3]] * 2), L([1.0, 2])),
    "embedding": lambda x, L: F.embedding(L([[0, 1], [1, 1]]), x),
    "embedding-padding": lambda x, L: F.embedding(L([[0, 1], [1, 1]]), x, padding_idx=1),
    "layer_norm": lambda x, L: F.layer_norm(x, (3,), L([1.0, 2, 3]), L([1.0, 2, 3])),
    "dropout": lambda x, L: F.dropout(x, 0.3),
    "softmax": lambda x, L: F.softmax(x, dim=1),
    "relu": lambda x, L: F.relu(x),
    "pad": lambda x, L: F.pad(x, (1, 2), value=3.0),
    "mse": lambda x, L: F.mse_loss(x, x * 2),
    "l1": lambda x, L: F.l1_loss(x, x * 2),
    "smooth": lambda x, L: F.smooth_l1_loss(x, x * 2),
    "huber": lambda x, L: F.huber_loss(x, x * 2),
    "bce": lambda x, L: F.binary_cross_entropy(F.sigmoid(x), F.sigmoid(-x)),
    "logits": lambda x, L: F.binary_cross_entropy_with_logits(
        x, F.sigmoid(-x), pos_weight=L([1.0, 2, 3])
    ),
    "cross_entropy": lambda x, L: F.cross_entropy(x, L(T)),
    "cross_entropy-none": lambda x, L: F.cross_entropy(x, L(T), reduction="none"),
    "cross_entropy-weight": lambda x, L: F.cross_entropy(x, L(T), L([1.0, 2, 3])),
    "cross_entropy-smooth": lambda x, L: F.cross_entropy(
        x, L(T), L([1.0, 2, 3]), label_smoothing=0.1
    ),
    "cross_entropy-probabilities": lambda x, L: F.cross_entropy(x, F.softmax(x * 2, dim=1)),
    "cross_entropy-deep": lambda x, L: F.cross_entropy(
        x.reshape(2, 3, 2), L([[0, 1], [2, 0]]), reduction="sum"
    ),
    "nll": lambda x, L: F.nll_loss(x, L(T)),
}


@pytest.mark.parametrize("name", CALLS)
def test_same_as_on_the_cpu_without_waiting(name: str, monkeypatch: Any) -> None:
    strict_cupy.install(monkeypatch)
    array = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    results = []
    for where in ("cpu", "cuda"):
        constants: list[Any] = []
        x = mg.tensor(array, device=where, requires_grad=True)

        def constant(data: Any, where: str = where, constants: Any = constants) -> Any:
            constants.append(mg.tensor(data, device=where))
            return constants[-1]

        mg.manual_seed(0)
        before = strict_cupy.syncs
        y = CALLS[name](x, constant)
        y.backward(mg.ones_like(y))
        if where == "cuda":
            assert strict_cupy.syncs == before
        assert y.device.type == x.grad.device.type == where
        results.append((y.detach().cpu().numpy(), x.grad.cpu().numpy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-7)


def test_a_class_out_of_range_gives_nan(monkeypatch: Any) -> None:
    strict_cupy.install(monkeypatch)
    x = mg.zeros(2, 3, device="cuda", requires_grad=True)
    loss = F.cross_entropy(x, mg.tensor([0, 3], device="cuda"))
    assert np.isnan(loss.item())


def test_a_module_moves(monkeypatch: Any) -> None:
    strict_cupy.install(monkeypatch)
    mg.manual_seed(0)
    net = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 5))
    net.register_buffer("count", mg.tensor([1, 2]))
    before = list(net.parameters())
    state = net.state_dict()
    assert net.to(0) is net and net.count.device == mg.device("cuda:0")
    assert net.cpu().cuda() is net and net.count.device.type == "cuda"
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    net.load_state_dict(state)  # from the CPU
    assert all(p.device.type == "cuda" for p in net.parameters())
    F.cross_entropy(
        net(mg.tensor([1, 2], device="cuda")), mg.tensor([2, 3], device="cuda")
    ).backward()
    waited = strict_cupy.syncs
    norm = nn.utils.clip_grad_norm_(net.parameters(), 0.1)
    nn.utils.clip_grad_value_(net.parameters(), 0.01)
    assert strict_cupy.syncs == waited and norm.device.type == "cuda"
    assert net.cpu()[2].weight.grad.device.type == "cpu"
    nn.init.orthogonal_(net.cuda()[2].weight)
    assert net[2].weight.device.type == "cuda"
    assert nn.Linear(2, 3, device="cuda").bias.device.type == "cuda"
    vector = nn.utils.parameters_to_vector(net.parameters())
    nn.utils.vector_to_parameters(vector.detach() * 0, net.parameters())
    assert not net[2].weight.detach().cpu().numpy().any()
