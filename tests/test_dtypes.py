"""Promotion: PyTorch's rules, for tensors with and without dimensions and for numbers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import minigrad as mg

DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"]
OPERATIONS = {
    "add": lambda m, a, b: a + b,
    "mul": lambda m, a, b: a * b,
    "div": lambda m, a, b: a / b,
    "less": lambda m, a, b: a < b,
}


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
