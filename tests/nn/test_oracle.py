"""nn beside PyTorch: values, gradients, texts, keys and kinds of error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

pytestmark = pytest.mark.oracle

RNG = np.random.default_rng(0)
REDUCTIONS = ("none", "mean", "sum")


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def unit(*shape: int) -> np.ndarray:
    return RNG.uniform(0, 1, shape)


def classes(C: int, *shape: int) -> np.ndarray:
    t = RNG.integers(0, C, shape)
    return np.where(RNG.random(shape) < 0.2, -100, t)


def simplex(*shape: int) -> np.ndarray:
    q = unit(*shape)
    return q / q.sum(0 if len(shape) == 1 else 1, keepdims=True)


def compare(torch: Any, call: Any, arrays: list[np.ndarray]) -> None:
    """`call(library, nn, tensors)` gives the same value and gradients on both sides."""
    mine = [mg.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    theirs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y, z = call(mg, nn, *mine), call(torch, torch.nn, *theirs)
    near = {"rtol": 1e-8, "atol": 1e-12} if y.dtype == mg.float64 else {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), **near)
    assert tuple(y.shape) == tuple(z.shape) and str(y.dtype) in str(z.dtype)
    g = RNG.standard_normal(y.shape)
    y.backward(mg.tensor(g).type_as(y))
    z.backward(torch.tensor(g).type_as(z))
    for a, b in zip(mine, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if b.grad is not None:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), **near)


LOSSES = {
    "mse": (lambda L, n, x, t, **k: n.MSELoss(**k)(x, t), [normal(3, 2), normal(3, 2)]),
    "l1": (lambda L, n, x, t, **k: n.L1Loss(**k)(x, t), [normal(3, 2), normal(3, 2)]),
    "smooth": (
        lambda L, n, x, t, **k: n.SmoothL1Loss(beta=0.7, **k)(x, t),
        [normal(9), normal(9)],
    ),
    "huber": (lambda L, n, x, t, **k: n.HuberLoss(delta=0.7, **k)(x, t), [normal(9), normal(9)]),
    "bce": (lambda L, n, x, t, **k: n.BCELoss(**k)(x, t), [unit(3, 2), unit(3, 2)]),
    "bce-ends": (  # (PyTorch's gradient of the target is infinite there, ours +-100)
        lambda L, n, x, t, **k: n.BCELoss(**k)(x, t.detach()),
        [np.array([0.0, 1, 0, 1]), np.array([0.0, 1, 1, 0])],
    ),
    "bce-weight": (
        lambda L, n, x, t, **k: n.BCELoss(L.tensor([1.0, 2.0]).double(), **k)(x, t),
        [unit(3, 2), unit(3, 2)],
    ),
    "logits": (lambda L, n, x, t, **k: n.BCEWithLogitsLoss(**k)(x, t), [normal(5), unit(5)]),
    "logits-weights": (
        lambda L, n, x, t, **k: n.BCEWithLogitsLoss(
            L.tensor([1.0, 3.0]).double(), pos_weight=L.tensor([2.0, 5.0]).double(), **k
        )(x, t),
        [normal(3, 2), unit(3, 2)],
    ),
    "logits-far": (
        lambda L, n, x, t, **k: n.BCEWithLogitsLoss(**k)(x, t),
        [np.array([900.0, -900.0]), np.array([0.0, 1.0])],
    ),
}
W = [0.5, 2.0, 1.0, 3.0]
for name, arrays in {
    "flat": [normal(4), np.array(2)],
    "plain": [normal(6, 4), classes(4, 6)],
    "deep": [normal(3, 4, 2, 5), classes(4, 3, 2, 5)],
    "float32": [normal(6, 4).astype(np.float32), classes(4, 6)],
}.items():
    LOSSES |= {
        f"ce-{name}": (lambda L, n, x, t, **k: n.CrossEntropyLoss(**k)(x, t), arrays),
        f"ce-{name}-weight": (
            lambda L, n, x, t, **k: n.CrossEntropyLoss(L.tensor(W).type_as(x), **k)(x, t),
            arrays,
        ),
        f"ce-{name}-smooth": (
            lambda L, n, x, t, **k: n.CrossEntropyLoss(
                L.tensor(W).type_as(x), label_smoothing=0.2, ignore_index=1, **k
            )(x, t.clamp(min=0)),
            arrays,
        ),
        f"nll-{name}": (
            lambda L, n, x, t, **k: n.NLLLoss(L.tensor(W).type_as(x), **k)(x, t),
            arrays,
        ),
    }
for name, arrays in {
    "flat": [normal(4), simplex(4)],
    "plain": [normal(6, 4), simplex(6, 4)],
    "deep": [normal(3, 4, 2), simplex(3, 4, 2)],
}.items():
    LOSSES[f"ce-probabilities-{name}"] = (
        lambda L, n, x, t, **k: n.CrossEntropyLoss(
            L.tensor(W).type_as(x), label_smoothing=0.1, **k
        )(x, t),
        arrays,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(torch: Any, name: str, reduction: str) -> None:
    call, arrays = LOSSES[name]
    compare(torch, lambda L, n, *x: call(L, n, *x, reduction=reduction), arrays)


LAYERS = {
    "linear": (lambda L, n, x, W, b: n.functional.linear(x, W, b), [(2, 3, 4), (5, 4), (5,)]),
    "linear-1": (lambda L, n, x, W: n.functional.linear(x, W), [(4,), (5, 4)]),
    "layer_norm": (
        lambda L, n, x, w, b: n.functional.layer_norm(x, (3, 4), w, b),
        [(2, 3, 4), (3, 4), (3, 4)],
    ),
    "layer_norm-plain": (lambda L, n, x: n.functional.layer_norm(x, (4,)), [(2, 3, 4)]),
    "embedding": (
        lambda L, n, w: n.functional.embedding(L.tensor([[0, 2], [2, 1]]), w, padding_idx=1),
        [(3, 4)],
    ),
    "softmax": (lambda L, n, x: n.functional.softmax(x, dim=1), [(2, 3, 4)]),
    "log_softmax": (lambda L, n, x: n.functional.log_softmax(x, dim=0), [(2, 3, 4)]),
    "relu": (lambda L, n, x: n.ReLU()(x), [(2, 3)]),
    "softplus": (lambda L, n, x: n.functional.softplus(30 * x, 2, 10), [(2, 3)]),
    "pad": (lambda L, n, x: n.functional.pad(x, (1, -1, 2, 0), value=3.0), [(2, 3, 4)]),
    "flatten": (lambda L, n, x: n.Flatten(0, 1)(x), [(2, 3, 4)]),
    "vector": (
        lambda L, n, x, y: n.utils.parameters_to_vector([x, y]) ** 2,
        [(2, 3), (4,)],
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(torch: Any, name: str) -> None:
    call, shapes = LAYERS[name]
    compare(torch, call, [normal(*shape) for shape in shapes])


MODULES = [
    lambda n: n.Identity(3),
    lambda n: n.Flatten(),
    lambda n: n.Linear(3, 2, bias=False),
    lambda n: n.Embedding(3, 4),
    lambda n: n.Embedding(3, 4, padding_idx=-1),
    lambda n: n.LayerNorm(3),
    lambda n: n.LayerNorm((3, 4), eps=1e-3, bias=False),
    lambda n: n.LayerNorm(3, elementwise_affine=False),
    lambda n: n.Dropout(0.2, inplace=True),
    lambda n: n.Sequential(n.Sigmoid(), n.Tanh(), n.ReLU(), n.ReLU(inplace=True)),
    lambda n: n.Sequential(n.Softmax(dim=1), n.LogSoftmax(dim=-1)),
    lambda n: n.ModuleList([n.Linear(1, 2), n.Linear(1, 2), n.Sequential(n.Linear(1, 1))]),
    lambda n: n.ModuleList(),
    lambda n: n.ModuleDict({"a": n.Linear(1, 2), "b": n.ModuleList([n.Tanh()])}),
    lambda n: n.Sequential(),
    lambda n: n.Module(),
    lambda n: n.ModuleList(
        [
            *[n.MSELoss(), n.L1Loss(), n.SmoothL1Loss(), n.HuberLoss(), n.CrossEntropyLoss()],
            *[n.NLLLoss(), n.BCELoss(), n.BCEWithLogitsLoss()],
        ]
    ),
]


@pytest.mark.parametrize("make", MODULES)
def test_repr_and_state_dict_both_ways(torch: Any, make: Any) -> None:
    mine, theirs = make(nn), make(torch.nn)
    assert repr(mine) == repr(theirs)
    state = theirs.state_dict()
    assert list(mine.state_dict()) == list(state)
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in mine.named_modules()] == [n for n, _ in theirs.named_modules()]
    mine.load_state_dict(state)  # PyTorch's own tensors
    for key, value in mine.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[key].numpy())
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()})


@pytest.mark.parametrize("order", [1, 2, 3, math.inf])
def test_clipping(torch: Any, order: float) -> None:
    arrays = [normal(3, 2), normal(4)]
    for largest in (0.5, 100.0):
        mine = [nn.Parameter(mg.tensor(a)) for a in arrays]
        theirs = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
        for p, q, a in zip(mine, theirs, arrays, strict=True):
            p.grad, q.grad = mg.tensor(3 * a), torch.tensor(3 * a)
        norm = nn.utils.clip_grad_norm_(mine, largest, order)
        other = torch.nn.utils.clip_grad_norm_(theirs, largest, order)
        np.testing.assert_allclose(norm.item(), other.item())
        nn.utils.clip_grad_value_(mine, 0.3)
        torch.nn.utils.clip_grad_value_(theirs, 0.3)
        for p, q in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy())


def test_init(torch: Any) -> None:
    for name in ("linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu", "conv_transpose2d"):
        assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    for groups in (1, 2):
        mine, theirs = mg.zeros(4, 3, 3, 2), torch.zeros(4, 3, 3, 2)
        nn.init.dirac_(mine, groups)
        torch.nn.init.dirac_(theirs, groups)
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    for fill in (
        lambda n, t: n.xavier_uniform_(t, 2),
        lambda n, t: n.xavier_normal_(t),
        lambda n, t: n.kaiming_uniform_(t, 1, "fan_out"),
        lambda n, t: n.kaiming_normal_(t, nonlinearity="relu"),
        lambda n, t: n.trunc_normal_(t, 1.0, 2.0, -1.0, 4.0),
        lambda n, t: n.orthogonal_(t, 2),
        lambda n, t: n.sparse_(t, 0.3, 2),
    ):
        mine, theirs = mg.zeros(200, 300), torch.zeros(200, 300)
        fill(nn.init, mine)
        fill(torch.nn.init, theirs)
        a, b = mine.numpy(), theirs.numpy()
        np.testing.assert_allclose(a.std(), b.std(), rtol=0.02)
        np.testing.assert_allclose(a.mean(), b.mean(), atol=0.02 * a.std() + 0.01)
        np.testing.assert_allclose((a == 0).mean(), (b == 0).mean(), atol=1e-3)


ERRORS = {
    "class out of range": lambda L, n: n.CrossEntropyLoss()(L.zeros(2, 3), L.tensor([0, 9])),
    "float classes": lambda L, n: n.CrossEntropyLoss()(L.zeros(2, 3), L.tensor([0.0, 1.0])),
    "integer probabilities": lambda L, n: n.CrossEntropyLoss()(
        L.zeros(2, 3), L.zeros(2, 3, dtype=L.int64)
    ),
    "batch": lambda L, n: n.CrossEntropyLoss()(L.zeros(2, 3), L.tensor([0])),
    "nll batch": lambda L, n: n.NLLLoss()(L.zeros(2, 3), L.tensor([0])),
    "smoothing": lambda L, n: n.CrossEntropyLoss(label_smoothing=2.0)(
        L.zeros(2, 3), L.tensor([0, 1])
    ),
    "weight": lambda L, n: n.CrossEntropyLoss(L.ones(2))(L.zeros(2, 3), L.tensor([0, 1])),
    "bce range": lambda L, n: n.BCELoss()(L.tensor([2.0]), L.tensor([1.0])),
    "bce shape": lambda L, n: n.BCELoss()(L.tensor([0.5]), L.tensor([[1.0]])),
    "logits shape": lambda L, n: n.BCEWithLogitsLoss()(L.tensor([0.5]), L.tensor([[1.0]])),
    "linear shape": lambda L, n: n.Linear(3, 2)(L.zeros(2, 2)),
    "linear dtype": lambda L, n: n.Linear(3, 2)(L.zeros(2, 3).double()),
    "layer_norm": lambda L, n: n.LayerNorm(3)(L.zeros(2, 2)),
    "embedding": lambda L, n: n.Embedding(3, 2)(L.tensor([3])),
    "embedding negative": lambda L, n: n.Embedding(3, 2)(L.tensor([-1])),
    "embedding float": lambda L, n: n.Embedding(3, 2)(L.tensor([1.0])),
    "padding": lambda L, n: n.Embedding(3, 2, padding_idx=3),
    "dropout": lambda L, n: n.Dropout(2.0),
    "reduction": lambda L, n: n.MSELoss(reduction="x")(L.zeros(1), L.zeros(1)),
    "huber": lambda L, n: n.HuberLoss(delta=0.0)(L.zeros(1), L.zeros(1)),
    "module": lambda L, n: n.Sequential(3),
    "index": lambda L, n: n.ModuleList()[0],
    "state": lambda L, n: n.Linear(1, 1).load_state_dict({}),
    "state kind": lambda L, n: n.Linear(1, 1).load_state_dict([]),
    "parameter": lambda L, n: setattr(n.Linear(1, 1), "weight", L.zeros(1, 1)),
    "attribute": lambda L, n: n.Linear(1, 1).wieght,
    "delete": lambda L, n: delattr(n.Linear(1, 1), "wieght"),
    "train": lambda L, n: n.Linear(1, 1).train("yes"),
    "to": lambda L, n: n.Linear(1, 1).to(L.int64),
    "buffer name": lambda L, n: n.Linear(1, 1).register_buffer("a.b", None),
    "buffer kind": lambda L, n: n.Linear(1, 1).register_buffer("a", 3),
    "submodule": lambda L, n: n.Linear(1, 1).get_submodule("x"),
    "forward": lambda L, n: n.Module()(3),
    "integer parameter": lambda L, n: n.Parameter(L.tensor([1])),
    "relu in place": lambda L, n: n.ReLU(inplace=True)(L.zeros(1, requires_grad=True)),
    "gain": lambda L, n: n.init.calculate_gain("sine"),
    "fan": lambda L, n: n.init.xavier_normal_(L.zeros(3)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_of_the_same_kind(torch: Any, name: str) -> None:
    with pytest.raises(Exception) as theirs:
        ERRORS[name](torch, torch.nn)
    with pytest.raises(theirs.type):
        ERRORS[name](mg, nn)
