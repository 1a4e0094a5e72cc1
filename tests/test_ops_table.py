"""Every op in one table: value, first and second derivative, dtype, non-mutation, both modes."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_case import OpCase

import minigrad as mg
from minigrad.autograd import engine, gradcheck, gradgradcheck
from minigrad.autograd.engine import Node, Op, wrap

TABLES = sorted(path.stem for path in Path(__file__).parent.glob("op_cases_*.py"))
CASES: list[OpCase] = [case for table in TABLES for case in importlib.import_module(table).CASES]

# The joint behind an op with several outputs, and a mark that refuses to be differentiated.
INTERNAL = {"Output", "OnceOnly"}

draws = pytest.mark.parametrize(
    ("case", "seed"),
    [
        pytest.param(case, seed, id=f"{case.name}-{seed}")
        for case in CASES
        for seed in range(case.seeds)
    ],
)
differentiable_draws = pytest.mark.parametrize(
    ("case", "seed"),
    [
        pytest.param(case, seed, id=f"{case.name}-{seed}")
        for case in CASES
        if case.differentiable
        for seed in range(case.seeds)
    ],
)


def frozen(array: np.ndarray) -> np.ndarray:
    """A copy that raises when written to."""
    array = np.array(array)
    array.flags.writeable = False
    return array


def leaves(arrays: list[np.ndarray], dtype: Any = np.float64) -> list[Any]:
    """Tensors of frozen copies; the floating ones, cast to `dtype`, require a gradient."""
    return [
        wrap(frozen(a.astype(dtype)), None, True) if a.dtype.kind == "f" else wrap(frozen(a))
        for a in map(np.asarray, arrays)
    ]


def outputs_of(case: OpCase, inputs: list[Any]) -> list[Any]:
    found = case.function(*inputs)
    return list(found) if isinstance(found, tuple | list) else [found]


def live(nodes: list[Any]) -> list[Any]:
    return [x for x in nodes if isinstance(x, Node) and x.requires_grad]


def gradients(case: OpCase, inputs: list[Any], seed: int, create_graph: bool) -> list[Any]:
    """The gradients of the inputs for frozen random cotangents."""
    outputs = live(outputs_of(case, inputs))
    rng = np.random.default_rng(seed + 100)
    given = [wrap(frozen(rng.standard_normal(y.shape).astype(y.dtype))) for y in outputs]
    return list(mg.grad(outputs, live(inputs), given, create_graph=create_graph, allow_unused=True))


def subclasses(base: type) -> set[type]:
    found = set(base.__subclasses__())
    return found.union(*(subclasses(sub) for sub in found))


def test_every_op_is_in_the_table() -> None:
    for module in pkgutil.walk_packages(mg.__path__, "minigrad."):
        importlib.import_module(module.name)
    defined = {
        op
        for op in subclasses(Op)
        if op.__module__.startswith("minigrad.")
        and op.__name__ not in INTERNAL
        and op.forward is not Op.forward  # an abstract base
    }
    missing = defined - {op for case in CASES for op in case.ops}
    assert not missing, "no case for " + ", ".join(
        sorted(f"{op.__module__}.{op.__name__}" for op in missing)
    )


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)), {name for name in names if names.count(name) > 1}


def test_each_case_applies_the_ops_it_claims() -> None:
    """A case that lists an op without applying it would make the table a fiction."""

    class Seen:
        def __init__(self) -> None:
            self.ops: set[type[Op]] = set()

        def forward(self, op: Op, inputs: Any, output: Any) -> None:
            self.ops.add(type(op))

        def failed(self, op: Op, inputs: Any) -> None: ...
        def backward(self, op: Op, g: Any, gradients: Any) -> None: ...

    for case in CASES:
        seen = Seen()
        engine.observers.append(seen)
        try:
            inputs = leaves(case.inputs(np.random.default_rng(0)))
            if case.differentiable:
                gradients(case, inputs, 0, create_graph=True)
            else:
                case.function(*inputs)
        finally:
            engine.observers.remove(seen)
        assert set(case.ops) <= seen.ops, f"{case.name} does not apply {set(case.ops) - seen.ops}"


@draws
def test_value(case: OpCase, seed: int) -> None:
    """The value is the reference's; on non-contiguous inputs too; inputs are left alone."""
    arrays = case.inputs(np.random.default_rng(seed))
    values = [y.value for y in outputs_of(case, leaves(arrays))]
    strided = [wrap(_strided(np.asarray(a)), None, np.asarray(a).dtype.kind == "f") for a in arrays]
    for y, z in zip(values, outputs_of(case, strided), strict=True):
        np.testing.assert_allclose(z.value, y, rtol=1e-12, atol=1e-12)
    if case.reference is not None:
        expected = case.reference(*[np.array(a) for a in arrays])
        expected = expected if isinstance(expected, tuple | list) else [expected]
        for y, z in zip(values, expected, strict=True):
            assert y.shape == np.shape(z)
            np.testing.assert_allclose(y, z, rtol=case.tolerance, atol=case.tolerance)


def _strided(array: np.ndarray) -> np.ndarray:
    """The same values, not contiguous: every second element of a larger array, axes reversed."""
    if not array.ndim:
        return array
    room = np.zeros([2 * n for n in array.shape[::-1]], array.dtype)
    view = room[tuple(slice(None, None, 2) for _ in array.shape)].T
    view[...] = array
    return view


@differentiable_draws
def test_first_derivative(case: OpCase, seed: int) -> None:
    inputs = leaves(case.inputs(np.random.default_rng(seed)))
    assert gradcheck(case.function, inputs, rtol=1e-5, atol=1e-6)


@differentiable_draws
def test_second_derivative(case: OpCase, seed: int) -> None:
    if not case.second_order:
        pytest.skip("first order only")
    inputs = leaves(case.inputs(np.random.default_rng(seed)))
    assert gradgradcheck(case.function, inputs, rtol=1e-4, atol=1e-5, fast_mode=True)


@differentiable_draws
def test_both_modes_agree(case: OpCase, seed: int) -> None:
    """The rule on arrays and the rule on tensors are one rule (or a fused op and its twin)."""
    arrays = case.inputs(np.random.default_rng(seed))
    plain = gradients(case, leaves(arrays), seed, create_graph=False)
    graph = gradients(case, leaves(arrays), seed, create_graph=True)
    for g, h in zip(plain, graph, strict=True):
        assert (g is None) == (h is None)
        if g is not None:
            np.testing.assert_allclose(g.value, h.value, rtol=1e-10, atol=1e-12)


@differentiable_draws
def test_strided_inputs_and_cotangents(case: OpCase, seed: int) -> None:
    arrays = [np.asarray(a) for a in case.inputs(np.random.default_rng(seed))]
    plain = gradients(case, leaves(arrays), seed, create_graph=False)
    strided = [wrap(_strided(a), None, a.dtype.kind == "f") for a in arrays]
    outputs = live(outputs_of(case, strided))
    rng = np.random.default_rng(seed + 100)
    given = [wrap(_strided(rng.standard_normal(y.shape))) for y in outputs]
    found = mg.grad(outputs, live(strided), given, allow_unused=True)
    for g, h in zip(plain, found, strict=True):
        if g is not None:
            np.testing.assert_allclose(h.value, g.value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if c.float32])
def test_float32_stays_float32(case: OpCase) -> None:
    """In the value, and in the gradients of both modes."""
    arrays = case.inputs(np.random.default_rng(0))
    inputs = leaves(arrays, np.float32)
    for y in outputs_of(case, inputs):
        assert y.value.dtype.kind != "f" or y.value.dtype == np.float32
    if case.differentiable:
        for create_graph in (False, True):
            for g in gradients(case, leaves(arrays, np.float32), 0, create_graph):
                assert g is None or g.value.dtype == np.float32
