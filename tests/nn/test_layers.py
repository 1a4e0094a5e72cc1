"""Linear, Embedding, LayerNorm, Dropout, the activations, pad."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.autograd import gradcheck, gradgradcheck

sizes = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)


def leaf(array: Any) -> mg.Tensor:
    return mg.tensor(np.asarray(array, np.float64), requires_grad=True)


# --- Linear ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), max_size=3), sizes, sizes, st.booleans(), seeds)
def test_linear(batch: list[int], D: int, H: int, bias: bool, seed: int) -> None:
    x = leaf(np.random.default_rng(seed).standard_normal((*batch, D)))
    layer = nn.Linear(D, H, bias, dtype=mg.float64)
    y = layer(x)
    expected = x.value @ layer.weight.value.T + (layer.bias.value if bias else 0)
    np.testing.assert_allclose(y.value, expected, rtol=1e-12)
    inputs = (x, *layer.parameters())
    assert gradcheck(lambda x, *parameters: layer(x), inputs)


@pytest.mark.parametrize("lanes", [64, 80])
@pytest.mark.parametrize("reverse", [False, True])
def test_linear_on_what_a_recurrent_layer_gives(lanes: int, reverse: bool) -> None:
    """Features before the batch in memory, perhaps with spare columns: a product for each step."""
    rng = np.random.default_rng(lanes)
    memory = rng.standard_normal((3, 128, lanes))

    def as_given(memory: Any) -> Any:
        return memory[:: -1 if reverse else 1, :, :64].transpose(0, 2, 1)  # (T, B, D)

    copy = leaf(np.ascontiguousarray(as_given(memory)))
    x = leaf(0)  # NumPy would put a copy in another order
    x.value = as_given(mg.tensor(memory).value)
    W, b = leaf(rng.standard_normal((5, 128))), leaf(rng.standard_normal(5))
    g = mg.tensor(rng.standard_normal((3, 64, 5)))
    assert F._is_by_step(x.value, W.value) == isinstance(x.value, np.ndarray)
    assert not F._is_by_step(copy.value, W.value)
    results = []
    for leaves in [x, W, b], [copy, W, b]:
        y = F.linear(*leaves)
        recorded = mg.grad(y, leaves, g, create_graph=True)
        assert all(r.requires_grad for r in recorded[:2])
        results.append([y, *recorded, *mg.grad(y, leaves, g)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one.value, other.value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("D", "H"), [(0, 2), (2, 0)])
def test_linear_of_nothing(D: int, H: int) -> None:
    layer = nn.Linear(D, H)
    y = layer(mg.tensor(np.ones((3, D), np.float32)))
    assert y.shape == (3, H)
    y.sum().backward()
    assert layer.weight.grad.shape == (H, D)


def test_linear_starts_uniform() -> None:
    layer = nn.Linear(400, 300)
    for p in layer.parameters():
        assert p.dtype == np.float32 and abs(p.value).max() <= 1 / 20
        assert abs(p.value.std() * 20 * math.sqrt(3) - 1) < 0.15
    before = layer.weight.value.copy()
    layer.reset_parameters()
    assert (layer.weight.value != before).any()


def test_linear_refuses() -> None:
    layer = nn.Linear(3, 2)
    for x in (np.zeros((3, 2), np.float32), np.float32(1)):
        with pytest.raises(RuntimeError, match=r"does not fit a weight of shape \(2, 3\)"):
            layer(mg.tensor(x))
    with pytest.raises(RuntimeError, match=r"float64.*float32.*same dtype"):
        layer(mg.tensor(np.zeros(3)))
    x, W = mg.ones(3), layer.weight
    for wrong in ([[1.0], W], [None, W], [x, [1.0]], [x, None], [x, W, [1.0, 2.0]], [x, W, 0.0]):
        with pytest.raises(TypeError, match="linear: expected a Tensor, got "):
            F.linear(*wrong)
    with pytest.raises(TypeError, match="embedding: expected a Tensor, got NoneType"):
        F.embedding(None, W)
    for weight in (mg.ones(3), mg.ones(1, 2, 3)):
        with pytest.raises(RuntimeError, match="does not fit a weight"):
            F.linear(x, weight)
    with pytest.raises(RuntimeError, match="the bias float64: they must have the same dtype"):
        F.linear(x, W, mg.ones(2, dtype=mg.float64))
    with pytest.raises(RuntimeError, match="bias has shape"):
        F.linear(leaf([1.0]), leaf([[1.0]]), leaf([1.0, 2.0]))


@pytest.mark.parametrize("elementwise_affine", [True, False])
def test_layer_norm_gives_each_gradient_alone(elementwise_affine: bool) -> None:
    rng = np.random.default_rng(0)
    net = nn.LayerNorm(3, elementwise_affine=elementwise_affine)
    for p in net.parameters():
        p.data.uniform_()
    array, g = rng.normal(size=(2, 4, 3)), mg.tensor(rng.normal(size=(2, 4, 3)))
    x = mg.tensor(array, requires_grad=True)
    net.double()(x).backward(g)
    expected = [x.grad, *(p.grad for p in net.parameters())]
    leaves = [x, *net.parameters()]
    for wanted, gradient in zip(leaves, expected, strict=True):
        for other in leaves:
            other.grad = None
            other.requires_grad_(other is wanted)
        net(x).backward(g)
        np.testing.assert_array_equal(wanted.grad.value, gradient.value)
        assert all(other.grad is None for other in leaves if other is not wanted)


def test_linear_does_not_compute_gradients_nobody_wants() -> None:
    layer = nn.Linear(2, 2).requires_grad_(False)
    x = mg.tensor(np.ones((1, 2), np.float32), requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None


def test_identity_and_flatten() -> None:
    x = leaf(np.zeros((2, 3, 4, 5)))
    assert nn.Identity(3, anything=True)(x) is x
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0, 1)(x).shape == (6, 4, 5)


# --- Embedding ------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), max_size=3), sizes, sizes, seeds, st.booleans())
def test_embedding(shape: list[int], V: int, D: int, seed: int, padded: bool) -> None:
    rng = np.random.default_rng(seed)
    index = rng.integers(0, V, shape)
    layer = nn.Embedding(V, D, padding_idx=-1 if padded else None, dtype=mg.float64)
    y = layer(mg.tensor(index))
    np.testing.assert_array_equal(y.value, layer.weight.numpy(force=True)[index])
    g = rng.standard_normal(y.shape)
    y.backward(mg.tensor(g))
    expected = np.zeros((V, D))
    np.add.at(expected, index, g)
    if padded:
        expected[-1] = 0
        assert layer.padding_idx == V - 1 and not layer.weight.value[-1].any()
    np.testing.assert_allclose(layer.weight.grad.value, expected, atol=1e-12)


def test_embedding_to_second_order() -> None:
    index = mg.tensor([[0, 2], [2, 2]])
    weight = leaf(np.random.default_rng(0).standard_normal((3, 2)))
    assert gradgradcheck(lambda w: F.embedding(index, w) ** 3, (weight,))


@pytest.mark.cpu_only("a GPU is not waited for: a bad index is not noticed")
def test_embedding_refuses() -> None:
    layer = nn.Embedding(3, 2)
    for bad in (3, -1):
        with pytest.raises(IndexError, match=rf"index {bad} is out of range.*0 to 2"):
            layer(mg.tensor([0, bad]))
    with pytest.raises(RuntimeError, match=r"integers, got float32.*long\(\)"):
        layer(mg.tensor([1.0]))
    with pytest.raises(AssertionError):
        nn.Embedding(3, 2, padding_idx=3)
    with pytest.raises(ValueError, match="padding_idx"):
        F.embedding(mg.tensor([0]), layer.weight, padding_idx=3)


def test_embedding_from_pretrained() -> None:
    rows = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    frozen = nn.Embedding.from_pretrained(rows)
    assert not frozen.weight.requires_grad
    np.testing.assert_array_equal(frozen(mg.tensor(1)).value, [3, 4])
    assert nn.Embedding.from_pretrained(rows, freeze=False).weight.requires_grad
    with pytest.raises(AssertionError):
        nn.Embedding.from_pretrained(rows[0])


def test_a_frozen_row_to_second_order() -> None:
    """The gradient as a function of g has no row either: finite differences of y would see it."""
    weight = leaf(np.ones((3, 2)))
    (gw,) = mg.grad(
        (F.embedding(mg.tensor([0, 1, 2]), weight, 1) ** 3).sum(), weight, create_graph=True
    )
    gw.sum().backward()
    np.testing.assert_array_equal(weight.grad.value, [[6, 6], [0, 0], [6, 6]])


# --- LayerNorm ------------------------------------------------------------------------------------


@given(st.lists(sizes, min_size=1, max_size=3), st.integers(1, 3), st.booleans(), seeds)
def test_layer_norm(shape: list[int], ndim: int, bias: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = [*shape[:-1], shape[-1] + 1]  # one number alone has no variance
    normalized = shape[-ndim:]
    layer = nn.LayerNorm(normalized, eps=1e-2, bias=bias, dtype=mg.float64)
    for p in layer.parameters():
        nn.init.normal_(p)
    x = rng.standard_normal(shape)
    axes = tuple(range(-len(normalized), 0))
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-2)
    expected = expected * layer.weight.numpy(force=True)
    expected = expected + (layer.bias.numpy(force=True) if bias else 0)
    np.testing.assert_allclose(layer(leaf(x)).value, expected, rtol=1e-9, atol=1e-12)
    assert gradcheck(lambda x, *parameters: layer(x), (leaf(x), *layer.parameters()))


def test_layer_norm_starts_as_plain_normalization() -> None:
    layer = nn.LayerNorm(3)
    assert (layer.weight.value == 1).all() and (layer.bias.value == 0).all()
    plain = nn.LayerNorm(3, elementwise_affine=False)
    x = mg.tensor([[1.0, 2.0, 4.0]])
    np.testing.assert_array_equal(layer(x).value, plain(x).value)
    assert plain.weight is None and not plain.state_dict()
    np.testing.assert_allclose(plain(x).value.mean(), 0, atol=1e-7)


def test_layer_norm_refuses() -> None:
    with pytest.raises(RuntimeError, match=r"normalized_shape=\[3\].*\[\*, 3\].*\[2, 4\]"):
        nn.LayerNorm(3)(mg.tensor(np.zeros((2, 4), np.float32)))
    with pytest.raises(RuntimeError, match="weight has shape"):
        F.layer_norm(leaf([[1.0, 2.0]]), (2,), leaf([1.0]))


# --- Dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_dropout(p: float) -> None:
    x = mg.tensor(np.ones((200, 301), np.float32), requires_grad=True)
    layer = nn.Dropout(p)
    y = layer(x)
    kept = y.value != 0
    assert abs(kept.mean() - (1 - p)) < 0.01
    if p < 1:
        np.testing.assert_allclose(y.value[kept], 1 / (1 - p), rtol=1e-6)
    assert y.dtype == np.float32
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.value, y.value)
    assert layer.eval()(x) is x
    for axis in (0, 1):  # no pattern: as many in every row and column
        assert abs(kept.mean(axis) - (1 - p)).max() < 0.25


def test_dropout_is_repeatable_and_differs_each_time() -> None:
    x = mg.tensor(np.ones(100, np.float32))
    state = mg.random.get_rng_state()
    first, second = F.dropout(x).value, F.dropout(x).value
    assert (first != second).any()
    mg.random.set_rng_state(state)
    np.testing.assert_array_equal(F.dropout(x).value, first)


def test_dropout_in_place_and_of_nothing() -> None:
    x = mg.tensor(np.ones(100, np.float32))
    y = x
    assert nn.Dropout(0.5, inplace=True)(x) is x and (y.value == 0).any()
    assert F.dropout(mg.tensor(np.zeros((0, 3)))).shape == (0, 3)
    assert F.dropout(mg.tensor(1.0)).shape == ()


def test_dropout_refuses() -> None:
    for p in (-0.1, 1.5):
        with pytest.raises(ValueError, match="between 0 and 1"):
            nn.Dropout(p)
        with pytest.raises(ValueError, match="between 0 and 1"):
            F.dropout(mg.tensor(1.0), p)


# --- activations ----------------------------------------------------------------------------------


@given(st.lists(sizes, min_size=1, max_size=3), seeds)
def test_activations(shape: list[int], seed: int) -> None:
    x = np.random.default_rng(seed).uniform(0.1, 2, shape)
    x *= np.random.default_rng(seed).choice([-1, 1], shape)
    e = np.exp(x - x.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    for module, expected in (
        (nn.Sigmoid(), 1 / (1 + np.exp(-x))),
        (nn.Tanh(), np.tanh(x)),
        (nn.ReLU(), np.maximum(x, 0)),
        (nn.Softmax(dim=-1), p),
        (nn.LogSoftmax(dim=-1), np.log(p)),
    ):
        np.testing.assert_allclose(module(leaf(x)).value, expected, rtol=1e-12, atol=1e-14)
        assert gradcheck(module, (leaf(x),))


def test_relu_in_place() -> None:
    x = mg.tensor([-1.0, 1.0])
    assert nn.ReLU(inplace=True)(x) is x and x.tolist() == [0, 1]
    with pytest.raises(RuntimeError):
        F.relu(leaf([1.0]), inplace=True)


def test_softmax_without_dim_warns_and_follows_pytorch() -> None:
    for shape, dim in (((3,), 0), ((2, 3), 1), ((2, 3, 4), 0), ((2, 3, 4, 5), 1)):
        x = leaf(np.random.default_rng(0).standard_normal(shape))
        for module in (nn.Softmax, nn.LogSoftmax):
            with pytest.warns(UserWarning, match="Implicit dimension"):
                y = module()(x)
            np.testing.assert_array_equal(y.value, module(dim)(x).value)


def test_softmax_dtype() -> None:
    assert F.softmax(mg.tensor([1.0]), 0, dtype=mg.float64).dtype == np.float64
    assert F.log_softmax(mg.tensor([1.0]), 0, dtype=mg.float64).dtype == np.float64


# --- pad ------------------------------------------------------------------------------------------


@given(st.data(), seeds)
def test_pad(data: Any, seed: int) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    amounts = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=len(shape))
    )
    x = np.random.default_rng(seed).standard_normal(shape)
    value = data.draw(st.sampled_from([None, 3.0]))
    flat = [n for pair in amounts for n in pair]
    widths = [(0, 0)] * (len(shape) - len(amounts)) + amounts[::-1]
    y = F.pad(leaf(x), flat, value=value)
    np.testing.assert_array_equal(y.value, np.pad(x, widths, constant_values=value or 0))
    assert gradcheck(lambda x: F.pad(x, flat, value=value), (leaf(x),))
    back = F.pad(y, [-n for n in flat])
    np.testing.assert_array_equal(back.value, x)


def test_pad_refuses() -> None:
    x = leaf([1.0])
    with pytest.raises(NotImplementedError, match="reflect"):
        F.pad(x, (1, 1), mode="reflect")
    for amounts in ((1,), (1, 1, 1, 1), (-1, -1)):
        with pytest.raises(RuntimeError):
            F.pad(x, amounts)


@pytest.mark.parametrize("name", ["leaky_relu", "elu", "silu", "hardtanh", "logsigmoid"])
@given(st.integers(0, 3), st.integers(0, 10**6))
def test_activations_have_the_slopes_they_should(name: str, n: int, seed: int) -> None:
    x = mg.tensor(np.random.default_rng(seed).normal(0, 2, (n, 3)), requires_grad=True)
    assert gradcheck(getattr(F, name), (x,)) and gradgradcheck(getattr(F, name), (x,))
    assert getattr(F, name)(x.float()).dtype == mg.float32


def test_activations_far_out() -> None:
    x = mg.tensor([-1e4, -100.0, 100.0, 1e4], requires_grad=True)
    for name in ("leaky_relu", "elu", "silu", "hardtanh", "logsigmoid"):
        y = getattr(F, name)(x)
        (g,) = mg.grad(y.sum(), x)
        assert np.isfinite(y.detach().numpy()).all() and np.isfinite(g.numpy()).all()
