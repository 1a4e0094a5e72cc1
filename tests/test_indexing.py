"""Reading and writing parts: values against NumPy, gradients by counting and by differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import op_cases_structure
import pytest
import strict_cupy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad.autograd import gradcheck
from minigrad.autograd.engine import wrap
from minigrad.ops import indexing
from minigrad.ops.indexing import setitem

shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


def leaf(array: Any) -> Any:
    return wrap(np.asarray(array), None, True)


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Anything that may stand in brackets: basic, arrays, or a mask."""
    kind = draw(st.sampled_from(["basic", "arrays", "mask", "mixed"]))
    if kind == "basic":
        return draw(hnp.basic_indices(shape, allow_newaxis=True))
    if kind == "arrays":
        return draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2)))
    if kind == "mask":
        ndim = draw(st.integers(1, len(shape)))
        return draw(hnp.arrays(bool, shape[:ndim]))
    parts: list[Any] = []
    for n in shape[: draw(st.integers(1, len(shape)))]:
        array = hnp.arrays(np.int64, 3, elements=st.integers(-n, n - 1))
        parts.append(draw(st.one_of(array, st.slices(n), st.integers(-n, n - 1))))
    return tuple(parts)


@settings(max_examples=150)
@given(shapes, st.data())
def test_getitem_and_its_gradient(shape: tuple[int, ...], data: st.DataObject) -> None:
    """The value is NumPy's; the gradient adds up over repeated places, to any order."""
    index = data.draw(indices(shape))
    rng = np.random.default_rng(0)
    x = leaf(rng.standard_normal(shape[::-1]).T)
    y = x[index]
    assert np.array_equal(y.value, x.numpy(force=True)[index])
    g = leaf(rng.standard_normal(y.shape))
    (gx,) = mg.grad(y, [x], g, create_graph=True)
    expected = np.zeros(shape)
    np.add.at(expected, index, g.numpy(force=True))
    np.testing.assert_allclose(gx.value, expected, atol=1e-12)
    if g.numpy(force=True).size:
        w = rng.standard_normal(shape)
        (gg,) = mg.grad(gx, [g], wrap(w))  # reading again
        assert np.array_equal(gg.value, w[index])


@settings(max_examples=150)
@given(shapes, st.data())
def test_setitem_and_its_gradients(shape: tuple[int, ...], data: st.DataObject) -> None:
    """As NumPy; an overwritten value has no gradient, be it of x or of v."""
    index = data.draw(indices(shape))
    rng = np.random.default_rng(0)
    x = leaf(rng.standard_normal(shape))
    target = x.numpy(force=True)[index].shape
    narrow = [1 if data.draw(st.booleans()) else n for n in target]
    v = leaf(rng.standard_normal(narrow[data.draw(st.integers(0, len(narrow))) :]))
    expected = x.numpy(force=True).copy()
    expected[index] = v.numpy(force=True)
    y = setitem(x, index, v)
    assert np.array_equal(y.value, expected)

    g = rng.standard_normal(shape)
    gx, gv = mg.grad(y, [x, v], wrap(g))
    number = np.arange(v.value.size, dtype=float).reshape(v.shape)  # where did each v go?
    went = np.full(shape, -1.0)
    went[index] = number
    assert np.array_equal(gx.value, np.where(went < 0, g, 0))
    sums = [g[went == n].sum() for n in range(v.value.size)]
    np.testing.assert_allclose(gv.value.reshape(-1), sums, atol=1e-12)


@given(st.integers(1, 40), st.integers(1, 6), st.sampled_from([1, 3, 1024]), st.integers(0, 99))
def test_sums_of_repeated_rows_agree(n: int, rows: int, width: int, seed: int) -> None:
    """By sorting, by counting, by products of long rows, and by doubling (the GPU's way)."""
    rng = np.random.default_rng(seed)
    x, where = rng.standard_normal((n, width)), rng.integers(0, rows, n)
    expected = np.zeros((rows, width))
    np.add.at(expected, where, x)
    for rule in (indexing.add_rows, indexing._add_rows_by_doubling):
        np.testing.assert_allclose(rule(x, where, rows), expected, atol=1e-12)
        assert rule(x.astype(np.float32), where, rows).dtype == np.float32
    apart = 20_000  # few rows used: no counting; some numbers need more than 16 bits
    many = indexing.add_rows(x[:, :3], where * apart, rows * apart)
    np.testing.assert_allclose(many[::apart], expected[:, :3], atol=1e-12)


def test_an_infinite_row_stays_alone() -> None:
    """A product with a one-hot matrix would make every row NaN: 0 * inf."""
    for width in 2, 1024:
        W = leaf(np.zeros((3, width)))
        g = np.ones((3, width))
        g[1] = np.inf
        (gW,) = mg.grad(W[[0, 2, 0]], [W], wrap(g))
        assert np.array_equal(gW.value[:, 0], [2, 0, np.inf])
        assert (gW.value == gW.value[:, :1]).all()


def test_a_small_integer_may_name_one_of_many_rows() -> None:
    W = leaf(np.zeros((300, 2)))
    (gW,) = mg.grad(W[mg.tensor(np.array([1, -1, 1], np.int8))].sum(), [W])
    assert np.array_equal(np.flatnonzero(gW.value[:, 0]), [1, 299])
    assert gW.value.sum() == 6


def test_indices_of_every_kind() -> None:
    x = leaf(np.arange(12.0).reshape(3, 4))
    for index in (
        mg.tensor([0, 2, 0]),
        [0, 2, 0],
        np.array([0, 2, 0]),
        np.array([0, 2, 0], dtype=np.int8),
    ):
        assert np.array_equal(x[index].value, x.value[[0, 2, 0]])
    assert np.array_equal(x[range(2)].value, x.value[:2])
    assert np.array_equal(x[mg.tensor([True, False, True])].value, x.value[[0, 2]])
    assert np.array_equal(x[x > 5].value, x.value[x.value > 5])
    assert x[mg.tensor(1)].shape == (4,)
    assert x[np.int64(1), mg.tensor(2)].item() == 6
    assert x[: mg.tensor(2)].shape == (2, 4)
    assert x[[]].shape == (0, 4)
    assert x[True].shape == (1, 3, 4)
    assert x[..., None].shape == (3, 4, 1)


def test_an_index_array_is_copied() -> None:
    """Writing to it between forward and backward must not move the gradient."""
    x, index = leaf(np.zeros(3)), np.array([0, 0])
    y = x[index]
    index[:] = 2
    (g,) = mg.grad(y, [x], wrap(np.ones(2)))
    assert np.array_equal(g.value, [2, 0, 0])


def test_assignment_is_recorded() -> None:
    x, v = leaf([1.0, 2.0, 3.0]), leaf(5.0)
    y = x * 2.0
    square = y * y
    y[1] = v
    y[mg.tensor([True, False, False])] = 0.5
    assert np.array_equal(y.value, [0.5, 5, 6])
    gx, gv = mg.grad((y * y).sum() + square.sum(), [x, v])
    assert np.array_equal(gx.value, [8, 16, 24 + 24])
    assert gv.value == 10


def test_a_value_that_requires_grad_makes_its_target_require_it() -> None:
    x, v = mg.tensor(np.zeros((2, 3))), leaf(np.arange(3.0))
    x[:] = v
    assert x.requires_grad
    (g,) = mg.grad(x.sum(), [v])
    assert np.array_equal(g.value, [2, 2, 2])


def test_assigned_values_take_the_dtype_of_their_target() -> None:
    x, i = mg.tensor([1.0, 2.0]), mg.tensor([1, 2])
    x[0] = np.float64(0.1)
    i[0] = 2.7
    i[1] = mg.tensor(3.9)
    assert x.dtype == np.float32
    assert i.dtype == np.int64
    assert i.tolist() == [2, 3]
    v = leaf(np.array(1.5))
    x[1] = v
    (g,) = mg.grad(x.sum(), [v])
    assert g.dtype == np.float64


def test_in_place_methods() -> None:
    x = leaf(np.zeros((2, 3)))
    y = x * 1.0
    y.masked_fill_(mg.tensor([[True], [False]]), 2.0)
    y.scatter_(1, mg.tensor([[0], [2]]), 7.0)
    y.scatter_add_(1, mg.tensor([[0, 0], [1, 1]]), wrap(np.ones((2, 2))))
    y.index_add_(0, mg.tensor([1, 1]), wrap(np.ones((2, 3))))
    assert np.array_equal(y.value, [[9, 2, 2], [2, 4, 9]])
    (g,) = mg.grad(y.sum(), [x])
    assert np.array_equal(g.value, [[0, 0, 0], [1, 1, 0]])


@given(shapes, st.data())
def test_gather_scatter_and_kin(shape: tuple[int, ...], data: st.DataObject) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    smaller = [data.draw(st.integers(0, n)) for n in shape]
    smaller[dim] = data.draw(st.integers(0, 5))
    rng = np.random.default_rng(0)
    index = rng.integers(0, shape[dim], smaller)
    x, v = leaf(rng.standard_normal(shape)), leaf(rng.standard_normal([n + 1 for n in smaller]))
    corner = tuple(
        slice(n) if d != dim % len(shape) else slice(None) for d, n in enumerate(smaller)
    )
    assert np.array_equal(
        x.gather(dim, wrap(index)).value,
        np.take_along_axis(x.numpy(force=True)[corner], index, dim),
    )
    places = list(np.indices(smaller))
    places[dim] = index
    added, written = x.numpy(force=True).copy(), x.numpy(force=True).copy()
    cut = v.numpy(force=True)[tuple(map(slice, smaller))]
    np.add.at(added, tuple(places), cut)
    written[tuple(places)] = cut
    np.testing.assert_allclose(x.scatter_add(dim, wrap(index), v).value, added, atol=1e-12)
    assert np.array_equal(x.scatter(dim, wrap(index), v).value, written)
    rows = rng.integers(0, shape[dim], 4)
    assert np.array_equal(
        x.index_select(dim, wrap(rows)).value, x.numpy(force=True).take(rows, dim)
    )
    counts = rng.integers(0, 3, shape[dim])
    assert np.array_equal(
        mg.repeat_interleave(x, wrap(counts), dim).value,
        np.repeat(x.numpy(force=True), counts, dim),
    )
    assert np.array_equal(x.repeat_interleave(2).value, np.repeat(x.numpy(force=True), 2))
    assert np.array_equal(mg.flip(x, (dim,)).value, np.flip(x.numpy(force=True), dim))


def test_of_a_number() -> None:
    """A 0-d tensor has one element along dim 0, as in PyTorch."""
    x, first = leaf(np.array(3.0)), mg.tensor(0)
    found = x.index_select(0, first) + x.gather(0, first) * 2.0
    assert found.item() == 9.0
    found.backward()
    assert x.grad.item() == 3.0
    if x.device.type == "cpu":  # a GPU would have to wait to notice
        with pytest.raises(RuntimeError, match="out of bounds"):
            x.gather(0, mg.tensor(1))


def test_take_along_dim() -> None:
    x = leaf(np.random.default_rng(0).standard_normal((3, 4)))
    index = mg.tensor([[1, -1, 0]])
    expected = np.take_along_axis(x.numpy(force=True), np.broadcast_to(index.numpy(), (3, 3)), 1)
    assert np.array_equal(mg.take_along_dim(x, index, 1).value, expected)
    assert np.array_equal(
        mg.take_along_dim(x, mg.tensor([5, 0])).value, x.numpy(force=True).reshape(-1)[[5, 0]]
    )
    assert gradcheck(lambda x: mg.take_along_dim(x, index, 1), x)


@given(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=4), st.integers(-5, 5))
def test_triangles_and_diagonals(shape: tuple[int, ...], k: int) -> None:
    x = leaf(np.random.default_rng(0).standard_normal(shape))
    assert np.array_equal(x.tril(k).value, np.tril(x.numpy(force=True), k))
    assert np.array_equal(x.triu(k).value, np.triu(x.numpy(force=True), k))
    for d1, d2 in ((0, 1), (-1, 0)):
        n, m = shape[d1], shape[d2]
        expected = (
            np.diagonal(x.numpy(force=True), k, d1, d2)
            if -n <= k <= m
            else np.zeros((*np.delete(shape, (d1, d2)), 0))
        )
        assert np.array_equal(x.diagonal(k, d1, d2).value, expected)


def test_a_triangle_drops_infinities() -> None:
    x = leaf(np.full((2, 2), np.inf))
    y = x.tril()
    (g,) = mg.grad(y, [x], wrap(np.full((2, 2), np.inf)))
    assert y.value[0, 1] == 0
    assert g.value[0, 1] == 0


def test_where() -> None:
    mask = mg.tensor([True, False])
    x = leaf(np.array([1.0, np.nan]))
    assert mg.where(mask, x, 0).tolist() == [1, 0]
    (g,) = mg.grad(mg.where(mask, x, 0), [x], wrap(np.array([np.nan, np.inf])))
    assert np.isnan(g.value[0])
    assert g.value[1] == 0  # not 0 * inf
    assert mg.where(mask, 1, 0).dtype == np.int64
    assert mg.where(mask, 1.0, 0).dtype == np.float32
    assert mg.where(mask, mg.tensor([1.0, 2.0]), wrap(np.ones(2))).dtype == np.float64
    assert mg.where(mask, mg.tensor([1, 2]), 0.5).dtype == np.float32
    assert x.where(mask, 7.0).tolist() == [1, 7]
    columns = mg.where(mg.tensor([[0, 3], [4, 0]]))
    assert [c.tolist() for c in columns] == [[0, 1], [1, 0]]
    assert mg.nonzero(mg.tensor([[0, 3], [4, 0]])).tolist() == [[0, 1], [1, 0]]
    assert mg.nonzero(mg.tensor(3)).shape == (1, 0)
    assert [c.tolist() for c in mg.nonzero(mg.tensor(3), as_tuple=True)] == [[0]]


def test_masks() -> None:
    x, mask = leaf(np.arange(6.0).reshape(2, 3)), mg.tensor([True, False, True])
    assert x.masked_select(mask).tolist() == [0, 2, 3, 5]
    assert mg.masked_select(mask, mask).tolist() == [True, True]
    assert x.masked_fill(mask, 9).tolist() == [[9, 1, 9], [9, 4, 9]]
    value = leaf(1.0)
    (g,) = mg.grad(x.masked_fill(mask, value).sum(), [value])
    assert g.item() == 4
    assert mg.tensor([1, 2, 3]).masked_fill(mask, 1.5).tolist() == [1, 2, 1]


def test_one_hot() -> None:
    assert mg.one_hot(mg.tensor([[0, 2]])).tolist() == [[[1, 0, 0], [0, 0, 1]]]
    assert mg.one_hot(mg.tensor([1]), 2).dtype == np.int64
    assert mg.one_hot(wrap(np.zeros((0, 2), int)), 3).shape == (0, 2, 3)


MASK, POSITIONS = mg.tensor([True, False]), mg.tensor([0, 1])


@pytest.mark.cpu_only("a GPU is not waited for: indices are not checked")
@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda x: x[2], IndexError, "out of bounds"),
        (lambda x: x[mg.tensor([5])], IndexError, "out of bounds"),
        (lambda x: x[0, 0, 0], IndexError, "too many"),
        (lambda x: x[1.5], IndexError, "float 1.5"),
        (lambda x: x["a"], TypeError, "str 'a'"),
        (lambda x: x[mg.tensor([1.0])], IndexError, "not float32"),
        (lambda x: x[np.zeros(2, np.uint8)], IndexError, "mask or positions"),
        (lambda x: x[mg.tensor([True, False, True])], IndexError, "boolean index"),
        (lambda x: setitem(x, 5, 1.0), IndexError, "out of bounds"),
        (lambda x: setitem(x, 0, mg.tensor([1.0, 2.0])), RuntimeError, "SetItem"),
        (lambda x: setitem(x, POSITIONS, leaf(np.ones(4))), RuntimeError, "SetItem"),
        (lambda x: x.gather(1, mg.tensor([[3]])), RuntimeError, "index 3 is out of bounds"),
        (lambda x: x.gather(1, mg.tensor([[-1]])), RuntimeError, "index -1 is out of bounds"),
        (lambda x: x.gather(1, mg.tensor([0])), RuntimeError, "as many dimensions"),
        (lambda x: x.gather(1, mg.tensor([[0]] * 3)), RuntimeError, "none larger"),
        (lambda x: x.gather(1, mg.tensor([[0.0]])), RuntimeError, "integers"),
        (lambda x: x.gather(2, mg.tensor([[0]])), IndexError, "out of range"),
        (lambda x: x.scatter(1, mg.tensor([[0]]), mg.tensor([[0]])), RuntimeError, "dtype"),
        (lambda x: x.scatter_add(1, mg.tensor([[0, 0]]), x[:, :1]), RuntimeError, "src"),
        (lambda x: x.take_along_dim(mg.tensor([0]), 1), RuntimeError, "as many"),
        (lambda x: x.index_select(0, mg.tensor([[0]])), IndexError, "vector"),
        (lambda x: x.index_select(0, mg.tensor([2])), IndexError, "out of bounds"),
        (lambda x: x.index_add(0, POSITIONS, x[:1]), RuntimeError, "expected"),
        (lambda x: x.index_add(0, mg.tensor([2]), x[:1]), IndexError, "from 0 to 1 along dim 0"),
        (lambda x: x.index_add(0, mg.tensor([-9]), x[:1]), IndexError, "from 0 to 1 along dim 0"),
        (lambda x: x.repeat_interleave(mg.tensor([1, 2, 3]), 0), RuntimeError, "3 repeats"),
        (lambda x: x.diagonal(0, 1, -1), RuntimeError, "identical"),
        (lambda x: x[0].tril(), RuntimeError, "at least 2"),
        (lambda x: x.masked_fill(POSITIONS, 1.0), RuntimeError, "bools"),
        (lambda x: x.masked_fill(x > 0, x), RuntimeError, "no dimensions"),
        (lambda x: x.masked_select(POSITIONS), RuntimeError, "bools"),
        (lambda x: mg.where(POSITIONS, 1.0, 0.0), RuntimeError, "bools"),
        (lambda x: mg.where(MASK, x), TypeError, "both values"),
        (lambda x: mg.one_hot(mg.tensor([3]), 2), RuntimeError, "smaller than num_classes 2"),
        (lambda x: mg.one_hot(mg.tensor([-1])), RuntimeError, "non-negative"),
        (lambda x: mg.one_hot(mg.tensor([1.0])), RuntimeError, "integers"),
        (lambda x: mg.one_hot(wrap(np.zeros(0, int))), RuntimeError, "no positions"),
    ],
)
def test_errors(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(leaf(np.ones((2, 3))))


CALLS: list[Any] = [
    lambda t, x: x[1:, None, ::2],
    lambda t, x: x[t.tensor([0, 2, 0])],
    lambda t, x: x[:, t.tensor([[0, 1], [1, 1]])],
    lambda t, x: x[t.tensor([0, 0, 1]), t.tensor([2, 2, 1])],
    lambda t, x: x[x > 0],
    lambda t, x: x.gather(1, t.tensor([[0, 3, 3], [1, 1, 1]])),
    lambda t, x: x.scatter(0, t.tensor([[0, 2]]), x[1:2, 1:3]),
    lambda t, x: x.scatter(1, t.tensor([[0, 2]]), 1.5),
    lambda t, x: x.scatter_add(1, t.tensor([[0, 0]]), x[1:2, 1:3]),
    lambda t, x: x.index_add(0, t.tensor([1, 1]), x[:2], alpha=3),
    lambda t, x: x.index_select(-1, t.tensor([3, 3, 0])),
    lambda t, x: x.take_along_dim(t.tensor([[1], [0], [1]]), 1),
    lambda t, x: x.masked_fill(x < 0, -7),
    lambda t, x: x.masked_select(t.tensor([True, False, True, True])),
    lambda t, x: t.where(x > 0, x, x * x),
    lambda t, x: x.repeat_interleave(t.tensor([2, 0, 1]), dim=0),
    lambda t, x: x.repeat_interleave(3, 1),
    lambda t, x: t.flip(x, (0, 1)),
    lambda t, x: x.flip(-1),
    lambda t, x: x.diagonal(1),
    lambda t, x: x.diagonal(-1, 1, 0),
    lambda t, x: t.tril(x, -1) + t.triu(x, 2),
]


@pytest.mark.oracle
@pytest.mark.parametrize("call", CALLS)
def test_as_pytorch(call: Any) -> None:
    torch = pytest.importorskip("torch")
    array = np.random.default_rng(0).standard_normal((3, 4))
    a, b = leaf(array), torch.tensor(array, requires_grad=True)
    y, z = call(mg, a), call(torch, b)
    np.testing.assert_allclose(y.value, z.detach().numpy(), rtol=1e-12)
    g = np.random.default_rng(1).standard_normal(y.shape)
    (ga,), (gb,) = mg.grad(y, [a], wrap(g)), torch.autograd.grad(z, b, torch.tensor(g))
    np.testing.assert_allclose(ga.value, gb.numpy(), rtol=1e-12)


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in op_cases_structure.CASES])
def test_structural_ops_on_a_strict_device(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same values and gradients as on the CPU; only a mask makes the host wait."""
    strict_cupy.install(monkeypatch)
    arrays = [np.asarray(x) for x in case.inputs(np.random.default_rng(0))]

    def results(move: Any) -> list[Any]:
        inputs = [wrap(move(x), None, x.dtype.kind == "f") for x in arrays]
        ys = case.function(*inputs)
        ys = list(ys) if isinstance(ys, tuple) else [ys]
        rng = np.random.default_rng(1)
        given = [wrap(move(rng.standard_normal(y.shape))) for y in ys]
        live = [x for x in inputs if x.requires_grad]
        return [*ys, *mg.autograd.grad(ys, live, given, create_graph=True)]

    expected = results(lambda x: x)
    before = strict_cupy.syncs
    found = results(strict_cupy.asarray)

    assert strict_cupy.syncs == before or "mask" in case.name
    for y, z in zip(found, expected, strict=True):
        assert y.device.type == "cuda"
        np.testing.assert_allclose(strict_cupy.asnumpy(y.value), z.value, atol=1e-12)
