"""Matrix products and einsum: values against NumPy, gradients by finite differences, work done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad.autograd import gradcheck, gradgradcheck
from minigrad.autograd.engine import wrap
from minigrad.ops.linalg import MatMul

matrix_products = hnp.mutually_broadcastable_shapes(
    signature="(m?,k),(k,n?)->(m?,n?)", max_dims=2, min_side=0, max_side=3
)


def test_einsum_that_changes_nothing_gives_a_tensor_of_its_own() -> None:
    x = mg.ones(2, 3)
    y = mg.einsum("ij->ij", x)
    y.add_(1)
    assert x.tolist() == [[1] * 3] * 2


def leaf(array: Any) -> Any:
    return wrap(np.asarray(array), None, True)


def transposed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers in an array that is not contiguous."""
    return rng.standard_normal(shape[::-1]).T


@settings(max_examples=60)
@given(matrix_products)
def test_matmul(case: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (leaf(transposed(rng, shape)) for shape in case.input_shapes)
    y = a @ b
    np.testing.assert_allclose(y.value, np.matmul(a.value, b.value), atol=1e-12)
    assert y.shape == case.result_shape
    assert gradcheck(mg.matmul, (a, b), fast_mode=True)
    assert gradgradcheck(mg.matmul, (a, b), fast_mode=True)


def test_only_the_needed_factor_is_kept() -> None:
    W, x = leaf(np.ones((3, 2))), wrap(np.ones((4, 3)))
    y = x @ W
    assert y.grad_fn.saved[1] is None  # W is needed for the gradient of x, which nobody wants
    (gW,) = mg.grad(y, [W], wrap(np.ones((4, 2))))
    assert np.array_equal(gW.value, np.full((3, 2), 4))


@pytest.mark.cpu_only("it spies on a NumPy array")
def test_the_gradient_of_weights_is_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """(B, T, D) (D, H): not B products and a sum."""
    x, W = wrap(np.ones((5, 4, 3))), leaf(np.ones((3, 2)))
    y = x @ W
    op = y.grad_fn
    seen: list[Any] = []

    class Spy(np.ndarray):
        def __matmul__(self, other: Any) -> Any:
            seen.append((self.shape, other.shape))
            return np.asarray(self) @ np.asarray(other)

    op.vjp(np.ones((5, 4, 2)), x.value.view(Spy), None)
    assert seen == [((3, 20), (20, 2))]


def test_named_products() -> None:
    rng = np.random.default_rng(0)
    A, B = leaf(rng.standard_normal((2, 3))), leaf(rng.standard_normal((3, 4)))
    v = leaf(rng.standard_normal(3))
    batch = leaf(rng.standard_normal((5, 2, 3)))
    assert np.array_equal(mg.mm(A, B).value, A.value @ B.value)
    assert np.array_equal(A.mv(v).value, A.value @ v.value)
    assert np.array_equal(v.dot(v).value, v.value @ v.value)
    assert np.array_equal(v.outer(A[0]).value, np.outer(v.value, A.value[0]))
    assert np.array_equal(batch.bmm(batch.mT).value, batch.value @ batch.value.swapaxes(1, 2))
    assert np.array_equal((A.value @ B).value, A.value @ B.value)  # an array on the left
    bias = leaf(np.full(4, np.nan))
    assert not np.isnan(mg.addmm(bias, A, B, beta=0).value).any()
    np.testing.assert_allclose(
        mg.addmm(B[0], A, B, beta=2, alpha=3).value, 2 * B.value[0] + 3 * A.value @ B.value
    )


@st.composite
def equations(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """A random equation of one to three operands, and shapes for it; some sizes 0, 1."""
    size = {name: draw(st.sampled_from([0, 1, 2, 2, 3])) for name in "abcd"}
    terms = [
        "".join(draw(st.lists(st.sampled_from("abcd"), max_size=3)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    used = sorted(set("".join(terms)))
    result = "".join(draw(st.permutations(used))[: draw(st.integers(0, len(used)))])
    arrow = f"->{result}" if draw(st.booleans()) else ""
    return ",".join(terms) + arrow, [tuple(size[name] for name in term) for term in terms]


@settings(max_examples=100)
@given(equations())
def test_einsum(case: tuple[str, list[tuple[int, ...]]]) -> None:
    equation, shapes = case
    rng = np.random.default_rng(0)
    xs = [leaf(transposed(rng, shape)) for shape in shapes]
    y = mg.einsum(equation, *xs)
    expected = np.einsum(equation, *[x.value for x in xs])
    np.testing.assert_allclose(y.value, expected, atol=1e-12)
    assert gradcheck(lambda *xs: mg.einsum(equation, *xs), xs, fast_mode=True)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("...ij,...jk", [(4, 1, 2, 3), (5, 3, 2)]),
        ("b...,b...->...", [(2, 3, 4), (2, 4)]),
        ("...,...->...", [(2, 1), (3,)]),
        ("i...->...", [(2, 3)]),
        (" i j , j -> i ", [(2, 3), (3,)]),
        ("ij,ij->ij", [(1, 3), (2, 1)]),
    ],
)
def test_einsum_with_dots_and_broadcasting(equation: str, shapes: Any) -> None:
    rng = np.random.default_rng(0)
    xs = [leaf(rng.standard_normal(shape)) for shape in shapes]
    expected = np.einsum(equation, *[x.value for x in xs])
    np.testing.assert_allclose(mg.einsum(equation, xs).value, expected, atol=1e-12)
    assert gradgradcheck(lambda *xs: mg.einsum(equation, *xs), xs, fast_mode=True)


def test_einsum_of_matrices_is_a_matrix_product() -> None:
    """Not NumPy's loop: einsum must be as fast as what it says."""
    seen: list[Any] = []

    class Seen:
        def forward(self, op: Any, inputs: Any, output: Any) -> None:
            seen.append(type(op))

        def failed(self, op: Any, inputs: Any) -> None: ...
        def backward(self, op: Any, g: Any, gradients: Any) -> None: ...

    mg.autograd.engine.observers.append(Seen())
    try:
        mg.einsum("bij,bkj->bik", leaf(np.ones((2, 3, 4))), leaf(np.ones((2, 5, 4))))
    finally:
        mg.autograd.engine.observers.pop()
    assert MatMul in seen


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda x: x @ x, RuntimeError, "MatMul"),
        (lambda x: x @ x[0, 0], RuntimeError, "MatMul"),
        (lambda x: x @ x.value.astype(np.float32).T, RuntimeError, "same dtype"),
        (lambda x: x @ 2.0, TypeError, "float"),
        (lambda x: mg.mm(x, x[0]), RuntimeError, "expected 2-D, got shape \\(3,\\)"),
        (lambda x: mg.mv(x, x), RuntimeError, "1-D"),
        (lambda x: mg.dot(x, x), RuntimeError, "1-D"),
        (lambda x: mg.dot(x[0], x[:, 0]), RuntimeError, "MatMul"),
        (lambda x: mg.bmm(x[None], x.T.expand(2, 3, 2)), RuntimeError, "batches of 1 and 2"),
        (lambda x: mg.einsum("ij,jk", x, x), RuntimeError, "subscript j has sizes 3 and 2"),
        (lambda x: mg.einsum("ij->ij", x, x), RuntimeError, "2 operands"),
        (lambda x: mg.einsum("ijk->i", x), RuntimeError, "'ijk' does not fit"),
        (lambda x: mg.einsum("i->i", x), RuntimeError, "'i' does not fit"),
        (lambda x: mg.einsum("i1->i", x), RuntimeError, "'i1' does not fit"),
        (lambda x: mg.einsum("ij->iz", x), RuntimeError, "subscript z"),
        (lambda x: mg.einsum("ij->ii", x), RuntimeError, "subscript i"),
    ],
)
def test_errors(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(leaf(np.ones((2, 3))))


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("...ij,...kj->...ik", [(2, 3, 4), (5, 4)]),
        ("bn,anm,bm->ba", [(2, 3), (4, 3, 2), (2, 2)]),
        ("Bi,bi", [(2, 3), (4, 3)]),
        ("ii", [(3, 3)]),
        ("ij,j->", [(1, 3), (3,)]),
        ("ij,jk->ik", [(2, 3), (1, 4)]),
    ],
)
def test_einsum_as_pytorch(equation: str, shapes: Any) -> None:
    torch = pytest.importorskip("torch")
    arrays = [np.random.default_rng(0).standard_normal(shape) for shape in shapes]
    ours = [leaf(x) for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, z = mg.einsum(equation, *ours), torch.einsum(equation, *theirs)
    np.testing.assert_allclose(y.value, z.detach().numpy(), atol=1e-12)
    g = np.random.default_rng(1).standard_normal(y.shape)
    pairs = zip(
        mg.grad(y, ours, wrap(g)), torch.autograd.grad(z, theirs, torch.tensor(g)), strict=True
    )
    for ga, gb in pairs:
        np.testing.assert_allclose(ga.value, gb.numpy(), atol=1e-12)
