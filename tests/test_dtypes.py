"""Promotion: PyTorch's rules, for tensors with and without dimensions and for numbers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.dtypes import cast, floating

DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"]
OPERATIONS = {
    "add": lambda m, a, b: a + b,
    "mul": lambda m, a, b: a * b,
    "div": lambda m, a, b: a / b,
    "less": lambda m, a, b: a < b,
}


def test_numpys_scalars_are_numbers_and_arrays_are_arrays() -> None:
    f32 = mg.ones(2)
    assert mg.result_type(f32, np.float64(2)) == mg.float32
    assert mg.result_type(mg.ones(2, dtype=mg.int8), np.int64(2)) == mg.int8
    assert floating(np.ones(2, int)).dtype == mg.float32  # within a gradient rule
    kept = np.ones(2, np.float16)
    assert floating(kept) is kept


def test_rules() -> None:
    f32, f64, i64 = mg.ones(2), mg.ones(2, dtype=mg.float64), mg.tensor([1, 2])
    assert (f32 * 2.0).dtype == (f32 * np.float64(2)).dtype == (2 * f32).dtype == mg.float32
    assert (f32 * mg.tensor(2.0, dtype=mg.float64)).dtype == mg.float32
    assert (f32 * f64).dtype == mg.float64
    assert (i64 * 2.0).dtype == (i64 / 2).dtype == (i64 / i64).dtype == mg.float32
    assert (i64 * mg.tensor(2.0, dtype=mg.float64)).dtype == mg.float64
    assert (i64 > 1).dtype == mg.bool_
    assert mg.cos(i64).dtype == mg.float32


@pytest.mark.cpu_only("it mixes tensors with NumPy arrays")
def test_numpy_arrays_count_as_tensors() -> None:
    assert (mg.ones(2) * np.ones(2)).dtype == mg.float64


def test_the_default_dtype() -> None:
    mg.set_default_dtype(mg.float64)
    try:
        assert mg.tensor(1.0).dtype == mg.zeros(1).dtype == (mg.tensor([1]) * 2.0).dtype
        assert mg.zeros(1).dtype == mg.float64
    finally:
        mg.set_default_dtype(mg.float32)
    with pytest.raises(TypeError):
        mg.set_default_dtype(mg.int64)


def test_a_gradient_passes_through_floats_only() -> None:
    x = mg.tensor([1.5, -2.5], dtype=mg.float64, requires_grad=True)
    steps = x.long()
    assert not steps.requires_grad
    assert steps.tolist() == [1, -2]
    (x.float() * steps).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == mg.float64
    assert x.grad.tolist() == [1, -2]
    assert cast(x, mg.float64) is x


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x + "1", r"unsupported operand type.* 'Tensor' and 'str'"),
        (lambda x: mg.add(x, "1"), "cannot combine a Tensor with str: '1'"),
        (lambda x: mg.mul([2.0], x), r"cannot combine a Tensor with list: \[2.0\]"),
        (lambda x: mg.add([1.0], [2.0]), "expected a Tensor, not list and list"),
        (lambda x: mg.exp([1.0]), r"expected a Tensor, not list: \[1.0\]"),
    ],
)
def test_what_is_no_operand(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(mg.ones(2))


@given(
    st.sampled_from(DTYPES),
    st.sampled_from([*DTYPES, "float", "int", "boolean"]),
    st.booleans(),
    st.booleans(),
)
def test_promotion_commutes_and_loses_no_category(
    a: str, b: str, a_is_number: bool, b_is_number: bool
) -> None:
    x: Any = mg.ones(() if a_is_number else 2, dtype=np.dtype(a))
    numbers: dict[str, Any] = {"float": 1.0, "int": 1, "boolean": True}
    y: Any = numbers.get(b)
    if y is None:
        y = mg.ones(() if b_is_number else 2, dtype=np.dtype(b))
    found = mg.result_type(x, y)
    assert found == mg.result_type(y, x) == (x * y).dtype == (y * x).dtype
    kind = {"float": "f", "int": "i", "boolean": "b"}.get(b) or np.dtype(b).kind
    assert "bif".index(found.kind.replace("u", "i")) == max(
        "bif".index(k.replace("u", "i")) for k in (np.dtype(a).kind, kind)
    )
    if found.kind == np.dtype(a).kind and x.ndim and not getattr(y, "ndim", 0):
        assert found == x.dtype  # a number, or a 0-d tensor, of the same kind never widens it


def test_integers_out_of_range() -> None:
    x = mg.tensor([1, 2], dtype=mg.uint8)
    assert (x + 300).tolist() == [45, 46]  # wraps, as in PyTorch
    np.testing.assert_allclose((x / 300).value, [1 / 300, 2 / 300], rtol=1e-6)
    for divide in (lambda: x // 0, lambda: x % 0):
        with pytest.raises(RuntimeError, match="by 0"):
            divide()


@pytest.mark.oracle
@pytest.mark.parametrize("operation", OPERATIONS)
def test_promotion_is_pytorchs(operation: str) -> None:
    torch = pytest.importorskip("torch")
    apply = OPERATIONS[operation]
    shapes: list[tuple[int, ...]] = [(3,), ()]
    tensors: list[Any] = [np.ones(s, d) for d in DTYPES for s in shapes]
    for a, b in itertools.product(tensors, [*tensors, 2, 2.5, True]):
        theirs = apply(torch, torch.tensor(a), torch.tensor(b) if hasattr(b, "dtype") else b)
        ours = apply(mg, mg.tensor(a), mg.tensor(b) if hasattr(b, "dtype") else b)
        assert str(theirs.dtype) == f"torch.{ours.dtype}", (a, b)
