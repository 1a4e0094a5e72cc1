"""Reshaping, joining, splitting: values against NumPy's and PyTorch's, errors, long sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad.autograd import gradcheck
from minigrad.autograd.engine import wrap

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
some_shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    """Every element is different; the array is not contiguous."""
    return np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape[::-1]).T


def leaf(array: np.ndarray) -> Any:
    return wrap(array, None, True)


@given(shapes, st.data())
def test_permutations(shape: tuple[int, ...], data: st.DataObject) -> None:
    x = numbered(shape)
    order = data.draw(st.permutations(range(len(shape))))
    signed = [d - len(shape) if data.draw(st.booleans()) else d for d in order]
    assert np.array_equal(leaf(x).permute(signed).value, x.transpose(order))
    assert np.array_equal(leaf(x).permute(*signed).value, x.transpose(order))
    back = sorted(range(len(shape)))
    assert np.array_equal(mg.movedim(leaf(x), signed, back).value, np.moveaxis(x, order, back))
    assert np.array_equal(leaf(x).T.value, x.T)
    if len(shape) >= 2:
        i, j = signed[:2]
        assert np.array_equal(mg.transpose(leaf(x), i, j).value, x.swapaxes(i, j))
        assert np.array_equal(leaf(x).mT.value, x.swapaxes(-1, -2))


@given(shapes, st.data())
def test_reshaping(shape: tuple[int, ...], data: st.DataObject) -> None:
    x = numbered(shape)
    if x.size:
        assert np.array_equal(leaf(x).reshape(-1).value, x.reshape(-1))
        assert np.array_equal(leaf(x).view(1, -1).value, x.reshape(1, -1))
    ndim = max(len(shape), 1)
    start = data.draw(st.integers(0, ndim - 1))
    end = data.draw(st.integers(start, ndim - 1))
    full = shape or (1,)
    flat = (*full[:start], int(np.prod(full[start : end + 1])), *full[end + 1 :])
    assert np.array_equal(leaf(x).flatten(start, end - ndim).value, x.reshape(flat))
    assert np.array_equal(leaf(x).squeeze().value, x.squeeze())
    place = data.draw(st.integers(-len(shape) - 1, len(shape)))
    y = leaf(x).unsqueeze(place)
    assert np.array_equal(y.value, np.expand_dims(x, place))
    assert np.array_equal(y.squeeze(place).value, x)
    many = [d for d in range(len(shape)) if data.draw(st.booleans())]
    kept = tuple([n for d, n in enumerate(shape) if not (d in many and n == 1)])
    assert leaf(x).squeeze(tuple(many)).shape == kept


@given(shapes, st.lists(st.integers(0, 3), max_size=5))
def test_repeating(shape: tuple[int, ...], counts: list[int]) -> None:
    x = numbered(shape)
    assert np.array_equal(leaf(x).tile(counts).value, np.tile(x, counts))
    if len(counts) >= len(shape):
        assert np.array_equal(leaf(x).repeat(counts).value, np.tile(x, counts))
    wide = leaf(x).expand(*counts, *[-1] * len(shape))
    assert np.array_equal(wide.value, np.broadcast_to(x, (*counts, *shape)))


@given(some_shapes, st.data())
def test_joining_undoes_splitting(shape: tuple[int, ...], data: st.DataObject) -> None:
    x = numbered(shape)
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[dim]
    size = data.draw(st.integers(1, 5))
    parts = leaf(x).split(size, dim)
    assert [part.shape[dim] for part in parts] == [
        min(size, n - i) for i in range(0, n, size)
    ] or not n
    assert np.array_equal(mg.cat(parts, dim).value, x)
    count = data.draw(st.integers(1, 5))
    chunks = mg.chunk(leaf(x), count, dim)
    assert len(chunks) <= count
    assert np.array_equal(mg.cat(chunks, dim).value, x)
    slices = mg.unbind(leaf(x), dim)
    assert len(slices) == n
    if n:
        assert np.array_equal(mg.stack(slices, dim).value, x)
        assert np.array_equal(slices[-1].value, x.take(-1, dim))
    shift = data.draw(st.integers(-5, 5))
    assert np.array_equal(leaf(x).roll(shift, dim).value, np.roll(x, shift, dim))
    assert np.array_equal(leaf(x).roll(shift).value, np.roll(x, shift))


@given(shapes)
def test_stacks(shape: tuple[int, ...]) -> None:
    x = numbered(shape)
    pair = [leaf(x), leaf(x + 1)]
    assert np.array_equal(mg.hstack(pair).value, np.hstack([x, x + 1]))
    assert np.array_equal(mg.vstack(pair).value, np.vstack([x, x + 1]))
    assert np.array_equal(mg.stack(pair, -1).value, np.stack([x, x + 1], -1))


def test_joining_promotes_dtypes() -> None:
    x, i = mg.tensor([1.0]), mg.tensor([1])
    assert mg.cat([x, i]).dtype == np.float32
    assert mg.stack([i, mg.tensor([True])]).dtype == np.int64
    assert mg.cat([x, wrap(np.ones(2))]).dtype == np.float64


def test_cat_skips_empty_vectors() -> None:
    x = leaf(np.ones((2, 3)))
    assert mg.cat([mg.tensor([]), x], 1).shape == (2, 3)
    assert mg.cat([leaf(np.zeros(0)), leaf(np.zeros(0))]).shape == (0,)


def test_a_name_used_twice_gets_both_gradients() -> None:
    x = leaf(np.random.default_rng(0).standard_normal((2, 3)))
    assert gradcheck(lambda x: mg.cat([x, x * x, x], 1).roll(1, 0).flip(1), x)


@pytest.mark.parametrize("function", ["unbind", "split"])
def test_slices_of_a_long_sequence(function: str) -> None:
    """Each slice's gradient is stored once: 20,000 steps must not cost 20,000 full arrays."""
    x = leaf(np.ones((20_000, 3)))
    parts = x.unbind(0) if function == "unbind" else x.split(1, 0)
    join = mg.stack if function == "unbind" else mg.cat
    (g,) = mg.grad(join([part * 2.0 for part in parts]), [x], wrap(np.ones(x.shape)))
    assert (g.value == 2).all()


def test_only_the_used_slices_matter() -> None:
    x = leaf(np.ones((3, 2)))
    a, b, _ = x.unbind(0)
    (g,) = mg.grad((a * 2.0 + a * b), [x], wrap(np.ones(2)))
    assert np.array_equal(g.value, [[3, 3], [1, 1], [0, 0]])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda x: x.reshape(4, -1), RuntimeError, "reshape"),
        (lambda x: x.reshape(2, -3), RuntimeError, "invalid size"),
        (lambda x: x.reshape(), TypeError, "needs a shape"),
        (lambda x: x.squeeze(2), IndexError, "range of \\[-2, 1\\], but got 2"),
        (lambda x: x.unsqueeze(-4), IndexError, "out of range"),
        (lambda x: x.transpose(0, 3), IndexError, "out of range"),
        (lambda x: x.permute(0, 0), RuntimeError, "more than once"),
        (lambda x: x.permute(0), RuntimeError, "1 dims for a tensor with 2"),
        (lambda x: x.flatten(1, 0), RuntimeError, "comes after"),
        (lambda x: x.expand(3, 3), RuntimeError, "BroadcastTo"),
        (lambda x: x.expand(3), RuntimeError, "expand"),
        (lambda x: x.expand(-1, 2, 3), RuntimeError, "expand"),
        (lambda x: x.repeat(2), RuntimeError, "repeat"),
        (lambda x: x.split(0), RuntimeError, "size 0"),
        (lambda x: x.split([1, 2]), RuntimeError, "add up"),
        (lambda x: x.chunk(0), RuntimeError, "greater than 0"),
        (lambda x: x.unflatten(1, (2, 2)), RuntimeError, "multiply"),
        (lambda x: x.roll((1, 2), 0), RuntimeError, "2 shifts for 1"),
        (lambda x: x.movedim((0, 1), (0, 0)), RuntimeError, "more than once"),
        (lambda x: x.movedim((0, 1), 0), RuntimeError, "2 source dims"),
        (lambda x: mg.cat([]), ValueError, "non-empty"),
        (lambda x: mg.cat([x, x[:, :1]]), RuntimeError, "Cat"),
        (lambda x: mg.cat([x[0, 0]]), RuntimeError, "use stack"),
        (lambda x: mg.stack([x, x[0]]), RuntimeError, "Stack"),
        (lambda x: mg.unbind(x[0, 0]), IndexError, "no slices"),
        (lambda x: mg.split(x[0, 0], 1), RuntimeError, "1-dimensional"),
        (lambda x: mg.chunk(x[0, 0], 1), RuntimeError, "1-dimensional"),
        (lambda x: x.unsqueeze(0).t(), RuntimeError, "at most 2"),
        (lambda x: x[0].mT, RuntimeError, "at least 2"),
    ],
)
def test_errors(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(leaf(np.ones((2, 3))))


@pytest.mark.parametrize("grad", [False, True])
def test_contiguous_is_the_tensor_itself_or_a_copy(grad: bool) -> None:
    """A write to the copy leaves what it was made of alone."""
    x = leaf(np.arange(6.0).reshape(2, 3)) if grad else wrap(np.arange(6.0).reshape(2, 3))
    assert x.contiguous() is x
    turned = x.T
    y = turned.contiguous()
    assert y.is_contiguous() and y.shape == (3, 2)
    y.mul_(2)
    assert np.array_equal(turned.value, np.arange(6.0).reshape(2, 3).T)
    assert np.array_equal(y.value, 2 * turned.value)
    if grad:
        (g,) = mg.grad(y.sum(), x)
        assert np.array_equal(g.value, np.full((2, 3), 2.0))


CALLS: list[Any] = [
    lambda t, x: x.reshape(3, -1),
    lambda t, x: x.unflatten(-1, (2, -1)),
    lambda t, x: x.flatten(1),
    lambda t, x: x.squeeze(1),
    lambda t, x: x.squeeze((0, 1)),
    lambda t, x: x.unsqueeze(-1),
    lambda t, x: t.movedim(x, (0, 2), (1, -3)),
    lambda t, x: t.swapaxes(x, 0, -1),
    lambda t, x: t.swapdims(x, 0, -1),
    lambda t, x: x.mT,
    lambda t, x: x[0].T,
    lambda t, x: x[0, 0].t(),
    lambda t, x: x.expand(2, 3, 3, -1),
    lambda t, x: t.broadcast_to(x, (3, 2, 4)),
    lambda t, x: x.repeat(2, 1, 1, 3),
    lambda t, x: x.tile((2,)),
    lambda t, x: x.split(3, -1)[1],
    lambda t, x: x.split([1, 3], 2)[1],
    lambda t, x: x.chunk(3, 2)[-1],
    lambda t, x: t.hstack(x.unbind(2)),
    lambda t, x: t.vstack([x[0], x[1]]),
    lambda t, x: t.roll(x, (1, 5), (0, 2)),
    lambda t, x: x.reshape_as(x.permute(2, 0, 1)),
    lambda t, x: x.view_as(x),
    lambda t, x: x.contiguous(),
]


@pytest.mark.oracle
@pytest.mark.parametrize("call", CALLS)
def test_as_pytorch(call: Any) -> None:
    torch = pytest.importorskip("torch")
    array = np.random.default_rng(0).standard_normal((3, 1, 4))
    a, b = leaf(array), torch.tensor(array, requires_grad=True)
    y, z = call(mg, a), call(torch, b)
    assert np.array_equal(y.value, z.detach().numpy())
    g = np.random.default_rng(1).standard_normal(y.shape)
    (ga,), (gb,) = mg.grad(y, [a], wrap(g)), torch.autograd.grad(z, b, torch.tensor(g))
    np.testing.assert_allclose(ga.value, gb.numpy(), rtol=1e-12)
