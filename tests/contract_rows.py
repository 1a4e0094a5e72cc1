"""Runs one row of the contract on a library, and describes all that came of it."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np


def inputs() -> dict[str, np.ndarray]:
    """The arrays that rows name; floating ones require a gradient, unless they end in `_`."""
    rng = np.random.default_rng(5)

    def real(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "x": real(3, 4),
        "y": real(3, 4),
        "m": real(4, 5),
        "v": real(4),
        "s": np.array(0.7, np.float32),
        "c": real(2, 3, 4),
        "p": rng.uniform(0.2, 2, (3, 4)).astype(np.float32),  # positive
        "d": rng.standard_normal((3, 4)),  # double
        "z": np.array(1.5),  # double, without dimensions
        "e": real(0, 4),  # empty
        "h": real(3, 4).astype(np.float16),  # half
        "noncontiguous": real(4, 3),  # transposed in `run`
        "ties": np.array([[2, 1, 2, 0], [1, 1, 1, 1], [0, 3, 3, 3]], np.float32),
        "odd": np.array([[np.nan, 1, -2], [np.inf, -np.inf, 0], [1, 2, 3]], np.float32),
        "i": rng.integers(-4, 5, (3, 4)),
        "j": rng.integers(1, 5, (3, 4)).astype(np.int32),
        "u": rng.integers(0, 9, (3, 4)).astype(np.uint8),
        "b": rng.random((3, 4)) < 0.5,
        "k": np.array([2, 0, 2]),
        "g": np.array([[0, 1, 1, 2], [2, 2, 0, 0]]),
        "x_": real(3, 4),
        "w_": rng.uniform(0.2, 1, 4).astype(np.float32),
        "q_": rng.uniform(0, 1, (3, 4)).astype(np.float32),
    }


@dataclass
class Outcome:
    """What came of a row: an error's kind, or values and the gradients of the inputs."""

    error: str | None = None
    message: str = ""
    values: list[Any] = field(default_factory=list)  # (dtype, shape, array), or a Python value
    gradients: dict[str, Any] = field(default_factory=dict)


def run(library: str, row: str) -> Outcome:
    """The row on `library`, with fresh inputs."""
    torch = importlib.import_module(library)
    names: dict[str, Any] = {"torch": torch, "np": np, "nn": torch.nn, "optim": torch.optim}
    names["F"] = torch.nn.functional
    leaves = {}
    for name, array in inputs().items():
        tensor = torch.tensor(array)
        if name == "noncontiguous":
            tensor = tensor.T
        if array.dtype.kind == "f" and not name.endswith("_"):
            tensor.requires_grad_()
            leaves[name] = tensor
        names[name] = tensor
    torch.manual_seed(0)
    *statements, last = row.split("; ")
    outcome = Outcome()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            exec("; ".join(statements), names)
            try:
                code = compile(last, row, "eval")
            except SyntaxError:  # an assignment, for the sake of its error
                exec(last, names)
                return outcome
            result = eval(code, names)
        except Exception as error:
            outcome.error, outcome.message = kind(error), f"{type(error).__name__}: {error}"
            return outcome
        finally:
            torch.set_grad_enabled(True)
            torch.set_default_dtype(torch.float32)
        for leaf in leaves.values():
            leaf.grad = None
        live = [described(part, torch, outcome) for part in parts(result)]
        live = [part for part in live if part is not None]
        try:
            gradients(live, leaves, torch, outcome)
        except Exception as error:
            outcome.error, outcome.message = "backward: " + kind(error), str(error)
    return outcome


def kind(error: Exception) -> str:
    """The nearest of Python's own kinds: PyTorch has subclasses of RuntimeError."""
    kinds = (IndexError, RuntimeError, TypeError, ValueError, AttributeError)
    return next((k.__name__ for k in kinds if isinstance(error, k)), type(error).__name__)


def parts(result: Any) -> list[Any]:
    """The leaves of nested tuples and lists."""
    if isinstance(result, tuple | list):
        return [leaf for part in result for leaf in parts(part)]
    return [result]


def described(part: Any, torch: Any, outcome: Outcome) -> Any:
    """Note the value; return it if a gradient can flow from it."""
    if isinstance(part, torch.Tensor):
        dtype = str(part.dtype).removeprefix("torch.")
        array = np.asarray(part.detach().numpy())
        outcome.values.append((dtype, tuple(part.shape), array, bool(part.requires_grad)))
        return part if part.requires_grad else None
    if type(part).__name__ in ("dtype", "dtype[float32]") or isinstance(part, np.dtype):
        part = str(part).removeprefix("torch.")
    if isinstance(part, np.ndarray):
        outcome.values.append((str(part.dtype), part.shape, part, False))
    else:
        outcome.values.append(part)
    return None


def gradients(live: list[Any], leaves: dict[str, Any], torch: Any, outcome: Outcome) -> None:
    """Backpropagate fixed, uneven weights from all results."""
    total = None
    for n, part in enumerate(live):
        weights = np.cos(np.arange(part.numel()) + n).reshape(tuple(part.shape))
        term = (part * torch.tensor(weights, dtype=part.dtype)).double().sum()
        total = term if total is None else total + term
    if total is None:
        return
    total.backward()
    for name, leaf in leaves.items():
        if leaf.grad is not None:
            outcome.gradients[name] = (str(leaf.grad.dtype), np.array(leaf.grad.tolist()))


def difference(ours: Outcome, theirs: Outcome) -> str | None:
    """In what the two differ; None if they agree."""
    if ours.error != theirs.error:
        return f"{ours.message or 'no error'} | PyTorch: {theirs.message or 'no error'}"
    if ours.error:
        return None
    if len(ours.values) != len(theirs.values):
        return f"{len(ours.values)} values | PyTorch: {len(theirs.values)}"
    for a, b in zip(ours.values, theirs.values, strict=True):
        if not same(a, b):
            return f"{a} | PyTorch: {b}"
    if sorted(ours.gradients) != sorted(theirs.gradients):
        return f"gradients of {sorted(ours.gradients)} | PyTorch: {sorted(theirs.gradients)}"
    for name, (dtype, mine) in ours.gradients.items():
        dtype_b, other = theirs.gradients[name]
        dtype_b = dtype_b.removeprefix("torch.")
        if dtype != dtype_b or not close(mine, other, dtype):
            return f"gradient of {name}: {dtype} {mine} | PyTorch: {dtype_b} {other}"
    return None


def same(a: Any, b: Any) -> bool:
    """Two noted values."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return (*a[:2], a[3]) == (*b[:2], b[3]) and close(a[2], b[2], a[0])
    if isinstance(a, float) and isinstance(b, float):
        return bool(np.isclose(a, b, rtol=1e-5, equal_nan=True))
    return type(a) is type(b) and bool(a == b)


def close(a: np.ndarray, b: np.ndarray, dtype: str) -> bool:
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    tolerance = {"float16": 3e-3, "float32": 2e-5}.get(dtype, 1e-6)
    return a.shape == b.shape and np.allclose(a, b, tolerance, tolerance, equal_nan=True)
