"""Random programs: every gradient is right, or an error says why not.

A program works on four tensors of shape (2, 3): ops, writes in place (recorded, under no_grad,
through .data, by an optimizer), views, detach, hooks, several backward passes. A small interpreter
runs it a second time with nothing of minigrad: it follows one direction forwards through the
program by finite differences of each operation (in NumPy), which must agree with the gradients.

What is right where a value was written behind the graph's back: its gradient goes where that of the
old value went, and operations that used the old value have the derivatives they had there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg

SHAPE = (2, 3)
MASK = np.array([[True, False, True], [False, False, True]])


class Cell:
    """What the interpreter knows of one tensor: its value, and where its gradient goes."""

    def __init__(self, value: np.ndarray, edge: int | None = None, is_leaf: bool = True) -> None:
        self.value, self.edge, self.is_leaf = value, edge, is_leaf
        self.own_edge: int | None = None  # as a leaf that requires grad
        self.retains = False


class Interpreter:
    """Values, and tangents along one direction for each leaf."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.tape: list[Any] = []  # for each edge a function of all tangents
        self.scales: list[float] = []  # by hooks
        self.directions: list[tuple[Any, np.ndarray]] = []  # for each leaf
        self.total = 0.0  # sum over leaves and backward passes of gradient * direction

    def require(self, tensor: Any, cell: Cell) -> None:
        """Both require a gradient from now on (again, perhaps)."""
        tensor.requires_grad_()
        if cell.own_edge is None:
            direction = self.rng.standard_normal(SHAPE)
            self.tape.append(lambda tangents: direction)
            self.scales.append(1.0)
            self.directions.append((tensor, direction))
            cell.own_edge = len(self.tape) - 1
        cell.edge, cell.is_leaf = cell.own_edge, True

    def apply(self, function: Callable[..., np.ndarray], *cells: Cell) -> Cell:
        values = [cell.value for cell in cells]
        edges = [cell.edge for cell in cells]
        if all(edge is None for edge in edges):
            return Cell(function(*values))

        def tangent(tangents: list[np.ndarray]) -> np.ndarray:
            step = 1e-5
            moves = [0 if e is None else step * tangents[e] for e in edges]
            ahead = function(*[v + m for v, m in zip(values, moves, strict=True)])
            back = function(*[v - m for v, m in zip(values, moves, strict=True)])
            return (ahead - back) / (2 * step)

        self.tape.append(tangent)
        self.scales.append(1.0)
        return Cell(function(*values), len(self.tape) - 1, False)

    def backward(self, edge: int, weights: np.ndarray) -> None:
        tangents: list[np.ndarray] = []
        for rule, scale in zip(self.tape, self.scales, strict=True):
            tangents.append(scale * rule(tangents))
        self.total += float((tangents[edge] * weights).sum())


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def put(x: np.ndarray, index: Any, v: Any) -> np.ndarray:
    x = x.copy()
    x[index] = v
    return x


def set_item(x: Any, index: Any, v: Any) -> None:
    x[index] = v


# Each pair: on tensors, and the same in NumPy.
ONE: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (lambda x: x.tanh(), np.tanh),
    (lambda x: x.sin() * 0.9, lambda x: np.sin(x) * 0.9),
    (lambda x: x * x, lambda x: x * x),
    (lambda x: (x * 0.3).exp(), lambda x: np.exp(x * 0.3)),
    (lambda x: x.T.reshape(2, 3), lambda x: x.T.reshape(2, 3)),
    (lambda x: x.view(3, 2).t().contiguous(), lambda x: x.reshape(3, 2).T),
    (lambda x: x.sum(0, keepdim=True).expand(2, 3), lambda x: x.sum(0, keepdims=True) + 0 * x),
    (lambda x: x.softmax(-1), softmax),
    (lambda x: x[[1, 1]], lambda x: x[[1, 1]]),
    (lambda x: x[:, [0, 0, 2]], lambda x: x[:, [0, 0, 2]]),
    (lambda x: x.flip(0).clone(), lambda x: x[::-1]),
    (lambda x: x.cumsum(1), lambda x: x.cumsum(1)),
    (lambda x: x.sigmoid().sqrt(), lambda x: np.sqrt(1 / (1 + np.exp(-x)))),
    (lambda x: x, lambda x: x),
]
TWO: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (lambda a, b: a + b, lambda a, b: a + b),
    (lambda a, b: a * b, lambda a, b: a * b),
    (lambda a, b: a - b[0], lambda a, b: a - b[0]),
    (lambda a, b: a / (b.sin() + 2), lambda a, b: a / (np.sin(b) + 2)),
    (lambda a, b: (a @ b.T) @ b, lambda a, b: (a @ b.T) @ b),
    (lambda a, b: mg.cat([a, b])[1:3], lambda a, b: np.concatenate([a, b])[1:3]),
    (lambda a, b: mg.stack([a, b], 1).mean(1), lambda a, b: (a + b) / 2),
    (lambda a, b: mg.where(mg.tensor(MASK), a, b), lambda a, b: np.where(MASK, a, b)),
]
# Into a, in place; the number says how many of the two are read.
WRITES: list[tuple[Callable[..., Any], Callable[..., Any], int]] = [
    (lambda a, b: a.add_(b), lambda a, b: a + b, 2),
    (lambda a, b: a.mul_(b), lambda a, b: a * b, 2),
    (lambda a, b: a.tanh_(), lambda a: np.tanh(a), 1),
    (lambda a, b: a.copy_(b), lambda a, b: b, 2),
    (lambda a, b: a.zero_(), lambda a: a * 0, 1),
    (lambda a, b: a.mul_(0.5), lambda a: a * 0.5, 1),
    (lambda a, b: set_item(a, 0, b[1]), lambda a, b: put(a, 0, b[1]), 2),
    (lambda a, b: set_item(a, mg.tensor(MASK), 0.25), lambda a: put(a, MASK, 0.25), 1),
    (
        lambda a, b: set_item(a, (slice(None), [0, 0]), b[:, 1:]),  # the last stays
        lambda a, b: put(a, (slice(None), 0), b[:, 2]),
        2,
    ),
    (lambda a, b: set_item(a, ..., a + b), lambda a, b: a + b, 2),
    (lambda a, b: a.masked_fill_(mg.tensor(MASK), 0.5), lambda a: np.where(MASK, 0.5, a), 1),
]

slot = st.integers(0, 3)
step = st.one_of(
    st.tuples(st.just("one"), slot, slot, st.integers(0, len(ONE) - 1)),
    st.tuples(st.just("two"), slot, slot, slot, st.integers(0, len(TWO) - 1)),
    st.tuples(st.just("write"), slot, slot, st.integers(0, len(WRITES) - 1)),
    st.tuples(st.just("unrecorded write"), slot, slot, st.integers(0, len(WRITES) - 1)),
    st.tuples(st.just("data write"), slot, slot, st.integers(0, len(WRITES) - 1)),
    st.tuples(st.just("data"), slot, slot),
    st.tuples(st.just("detach"), slot, slot),
    st.tuples(st.just("unrecorded"), slot, slot, st.integers(0, len(ONE) - 1)),
    st.tuples(st.just("detach_"), slot),
    st.tuples(st.just("require"), slot),
    st.tuples(st.just("hook"), slot),
    st.tuples(st.just("retain_grad"), slot),
    st.tuples(st.just("backward"), slot, st.booleans()),
    st.tuples(st.just("optimizer"), slot),
    st.tuples(st.just("recompute"), slot, slot),
)


def run(program: list[tuple[Any, ...]]) -> str:
    """Run it on both; "right", "refused" or "nothing" to differentiate. Fails if they disagree."""
    reference = Interpreter()
    rng = np.random.default_rng(3)
    values = [rng.standard_normal(SHAPE) for _ in range(4)]
    tensors = [mg.tensor(v) for v in values]
    cells = [Cell(v) for v in values]
    for tensor, cell in zip(tensors[:2], cells[:2], strict=True):
        reference.require(tensor, cell)

    def backward(tensor: Any, cell: Cell, retain_graph: bool) -> None:
        weights = np.cos(np.arange(6.0)).reshape(SHAPE) + 0.3
        tensor.backward(mg.tensor(weights), retain_graph=retain_graph)
        assert cell.edge is not None
        reference.backward(cell.edge, weights)

    outcome = "nothing"
    try:
        for kind, *arguments in [*program, ("end",)]:
            if kind == "one":
                a, to, n = arguments
                tensors[to], cells[to] = ONE[n][0](tensors[a]), _one(reference, n, cells[a])
            elif kind == "two":
                a, b, to, n = arguments
                tensors[to] = TWO[n][0](tensors[a], tensors[b])
                cells[to] = reference.apply(TWO[n][1], cells[a], cells[b])
            elif kind == "write":
                a, b, n = arguments
                WRITES[n][0](tensors[a], tensors[b])
                written = reference.apply(WRITES[n][1], *[cells[a], cells[b]][: WRITES[n][2]])
                cells[a].value, cells[a].edge = written.value, written.edge
                cells[a].is_leaf = written.edge is None
            elif kind == "unrecorded write":
                a, b, n = arguments
                with mg.no_grad():
                    WRITES[n][0](tensors[a], tensors[b])
                cells[a].value = written_value(n, cells[a], cells[b])
            elif kind == "data write":
                a, b, n = arguments
                WRITES[n][0](tensors[a].data, tensors[b].data)
                cells[a].value = written_value(n, cells[a], cells[b])
            elif kind == "data":
                a, b = arguments
                tensors[a].data = tensors[b].data
                cells[a].value = cells[b].value
            elif kind == "detach":
                a, to = arguments
                tensors[to], cells[to] = tensors[a].detach(), Cell(cells[a].value)
            elif kind == "unrecorded":
                a, to, n = arguments
                with mg.no_grad():
                    tensors[to] = ONE[n][0](tensors[a])
                same = n == len(ONE) - 1  # the very tensor, with its history
                cells[to] = cells[a] if same else _one(reference, n, Cell(cells[a].value))
            elif kind == "detach_":
                (a,) = arguments
                tensors[a].detach_()
                cells[a].edge, cells[a].is_leaf = None, True
            elif kind == "require":
                (a,) = arguments
                if cells[a].edge is None and not cells[a].retains:  # its .grad would have both
                    reference.require(tensors[a], cells[a])
            elif kind == "hook":
                (a,) = arguments
                edge = cells[a].edge
                if edge is not None:
                    tensors[a].register_hook(lambda g: g * 1.5)
                    reference.scales[edge] *= 1.5
            elif kind == "retain_grad":
                (a,) = arguments
                if cells[a].edge is not None and not cells[a].is_leaf:
                    tensors[a].retain_grad()
                    cells[a].retains = True
            elif kind == "backward":
                a, retain_graph = arguments
                if cells[a].edge is not None:
                    backward(tensors[a], cells[a], retain_graph)
                    outcome = "right"
            elif kind == "optimizer":
                (a,) = arguments
                if cells[a].edge is not None and cells[a].is_leaf and tensors[a].grad is not None:
                    grad = tensors[a].grad.numpy().copy()
                    mg.optim.SGD([tensors[a]], lr=0.1).step()
                    cells[a].value = cells[a].value - 0.1 * grad
            elif kind == "recompute":
                a, to = arguments
                tensors[to] = mg.utils.checkpoint.checkpoint(
                    lambda x: (x * x).tanh(), tensors[a], use_reentrant=False
                )
                cells[to] = reference.apply(lambda x: np.tanh(x * x), cells[a])
            elif kind == "end":
                for tensor, cell in zip(tensors, cells, strict=True):
                    if cell.edge is not None:
                        backward(tensor, cell, True)
                        outcome = "right"
    except RuntimeError as error:
        expected = ("was changed", "second time", "leaf tensor", "run again")
        assert any(words in str(error) for words in expected), error
        return "refused"
    for tensor, cell in zip(tensors, cells, strict=True):
        np.testing.assert_allclose(tensor.detach().numpy(), cell.value, rtol=1e-9, atol=1e-12)
    found = 0.0
    for leaf, direction in reference.directions:
        if leaf.grad is not None:
            found += float((leaf.grad.numpy() * direction).sum())
    scale = 1 + abs(reference.total)
    if np.isfinite(reference.total) and scale < 1e6:
        assert abs(found - reference.total) < 1e-5 * scale, (found, reference.total)
    return outcome


def written_value(n: int, a: Cell, b: Cell) -> np.ndarray:
    return WRITES[n][1](*[a.value, b.value][: WRITES[n][2]])


def _one(reference: Interpreter, n: int, cell: Cell) -> Cell:
    return cell if n == len(ONE) - 1 else reference.apply(ONE[n][1], cell)


@given(program=st.lists(step, min_size=2, max_size=14))
@settings(max_examples=400)
def test_a_gradient_is_right_or_refused(program: list[tuple[Any, ...]]) -> None:
    run(program)


recorded = st.one_of(
    st.tuples(st.just("one"), slot, slot, st.integers(0, len(ONE) - 1)),
    st.tuples(st.just("two"), slot, slot, slot, st.integers(0, len(TWO) - 1)),
    st.tuples(st.just("write"), slot, slot, st.integers(0, len(WRITES) - 1)),
)


@given(program=st.lists(recorded, min_size=1, max_size=5))
@settings(max_examples=40)
def test_so_is_the_gradient_of_a_gradient(program: list[tuple[Any, ...]]) -> None:
    def function(*leaves: Any) -> Any:
        tensors = [leaf * 1 for leaf in (*leaves, *leaves)]
        for kind, a, b, *rest in program:
            if kind == "one":
                tensors[b] = ONE[rest[0]][0](tensors[a])
            elif kind == "two":
                tensors[rest[0]] = TWO[rest[1]][0](tensors[a], tensors[b])
            else:
                WRITES[rest[0]][0](tensors[a], tensors[b])
        return mg.stack(tensors).tanh()

    rng = np.random.default_rng(3)
    leaves = [mg.tensor(rng.standard_normal(SHAPE), requires_grad=True) for _ in range(2)]
    assert mg.autograd.gradcheck(function, leaves)
    assert mg.autograd.gradgradcheck(function, leaves)


def test_most_programs_are_not_refused() -> None:
    """Or the test above would show nothing."""
    rng = np.random.default_rng(1)
    outcomes = [run(_random_program(rng)) for _ in range(400)]
    assert outcomes.count("right") > 200 and outcomes.count("refused") > 20, outcomes


def _random_program(rng: np.random.Generator) -> list[tuple[Any, ...]]:
    def draw(kind: str) -> tuple[Any, ...]:
        slots = [int(rng.integers(4)) for _ in range(3)]
        if kind in ("one", "unrecorded"):
            return kind, *slots[:2], int(rng.integers(len(ONE)))
        if kind == "two":
            return kind, *slots, int(rng.integers(len(TWO)))
        if "write" in kind:
            return kind, *slots[:2], int(rng.integers(len(WRITES)))
        if kind in ("detach", "data", "recompute"):
            return kind, *slots[:2]
        return (kind, slots[0], True) if kind == "backward" else (kind, slots[0])

    kinds = ["one", "two", "two", "write", "one", "unrecorded write", "data write", "detach"]
    kinds += ["data", "unrecorded", "hook", "require", "backward", "optimizer", "detach_"]
    kinds += ["recompute", "retain_grad"]
    return [draw(str(kind)) for kind in rng.choice(kinds, 9)]


def test_the_interpreter_can_tell() -> None:
    """A wrong rule is caught."""
    right = ONE[0]
    ONE[0] = (lambda x: x.tanh() + (x - x.detach()), np.tanh)  # one too much in the gradient
    try:
        with pytest.raises(AssertionError):
            run([("one", 0, 2, 0)])
    finally:
        ONE[0] = right
