"""The NaN doctor: finds the first NaN or infinity, and says where it came from and why."""

from __future__ import annotations

import contextlib
import linecache
import math
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from minigrad.autograd import engine
from minigrad.autograd.engine import Array, Node, Op

_PACKAGE = str(Path(__file__).parent.parent)


class detect_anomaly(contextlib.ContextDecorator):
    """Raise RuntimeError at the first NaN or infinity, forward or backward, with a diagnosis.

    The message names the op, the line that applied it, the parameters involved
    (`lstm.weight_hh_l0`: as the outermost Module being called names them), the range of the op's
    inputs and the likely cause.  The forward pass has to run inside too, for a backward failure to
    know its line.  Everything is looked at: expect half the speed or less.

    What counts: any NaN; any infinity in a gradient; in the forward pass an infinity in a recorded
    result, made from finite inputs; a parameter that is not finite; data with NaN or +inf that
    reaches a result.  What does not: an infinity that was put there on purpose, as an input or
    a setting of the op (`masked_fill(mask, -inf)`, an additive mask with -inf), and what is
    computed from it as long as that is not NaN.

    `check_nan=False` only switches the check off (PyTorch then prints tracebacks; here an error in
    the backward pass has its own).
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan
        self._doctors: list[_Doctor] = []

    def __enter__(self) -> None:
        doctor = _Doctor()
        self._doctors.append(doctor)
        if self.check_nan:
            engine.observers.append(doctor)

    def __exit__(self, *exception: object) -> None:
        doctor = self._doctors.pop()
        if doctor in engine.observers:
            engine.observers.remove(doctor)


class set_detect_anomaly:
    """Switch the detection of NaN and infinity on or off, at once; or until the end of a `with`."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = list(engine.observers)
        others = [o for o in engine.observers if not isinstance(o, _Doctor)]
        engine.observers[:] = [*others, _Doctor()] if mode and check_nan else others

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        engine.observers[:] = self._before


def is_anomaly_enabled() -> bool:
    """Whether results and gradients are being checked."""
    return any(isinstance(observer, _Doctor) for observer in engine.observers)


@dataclass
class _Range:
    """What an input looked like."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    low: float  # of the finite elements
    high: float
    nan: bool
    plus: bool  # holds +inf
    minus: bool

    @property
    def finite(self) -> bool:
        return not (self.nan or self.plus or self.minus)

    @property
    def size(self) -> float:
        return max(abs(self.low), abs(self.high))

    def __str__(self) -> str:
        ranges = "empty" if math.isnan(self.low) else f"from {self.low:.4g} to {self.high:.4g}"
        odd = [
            name
            for name, there in (("nan", self.nan), ("inf", self.plus), ("-inf", self.minus))
            if there
        ]
        return f"shape {self.shape} {self.dtype}, {ranges}" + (
            f", and {', '.join(odd)}" if odd else ""
        )


def _range(x: Any) -> _Range | None:
    """Of a floating array, or a Python float; None for anything else."""
    x = x.value if isinstance(x, Node) else x
    if isinstance(x, float):
        x = np.asarray(x)
    if not hasattr(x, "dtype") or not hasattr(x, "shape") or x.dtype.kind != "f":
        return None
    finite = x[np.isfinite(x)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (math.nan,) * 2
    if finite.size == x.size:
        return _Range(tuple(x.shape), x.dtype, low, high, False, False, False)
    return _Range(
        tuple(x.shape),
        x.dtype,
        low,
        high,
        bool(np.isnan(x).any()),
        bool((x == math.inf).any()),
        bool((x == -math.inf).any()),
    )


@dataclass
class _Visit:
    """What is remembered of an op from its forward pass."""

    place: str
    ranges: list[_Range | None]
    module: weakref.ref[Any] | None


class _Doctor:
    """Watches all ops go by."""

    def __init__(self) -> None:
        self.visits: weakref.WeakKeyDictionary[Op, _Visit] = weakref.WeakKeyDictionary()

    def forward(self, op: Op, inputs: tuple[Any, ...], output: Any) -> None:
        place, module, in_backward = _stack()
        if in_backward:  # create_graph: the gradients it ends in are looked at, by backward()
            return
        ranges = [_range(x) for x in inputs]
        visit = self.visits[op] = _Visit(place, ranges, module)
        edges = [x.edge if isinstance(x, Node) else None for x in inputs]
        for i, (edge, r) in enumerate(zip(edges, ranges, strict=True)):
            if isinstance(edge, Node) and edge.live and r is not None and not r.finite:
                headline = f"{op.name} was given {_kinds(r)} values: {_input(i, edge, visit)}"
                raise RuntimeError(_report(headline, visit, edges, _BLOWN_UP))
        outputs = output if isinstance(output, tuple) else (output,)
        for k, y in enumerate(outputs):
            r = _range(y)
            if r is None or r.finite:
                continue
            cause = _forward_cause(op, inputs, ranges, r, y.live)
            if cause is None:
                continue
            which = f"output {k}" if len(outputs) > 1 else "output"
            headline = (
                f"{op.name} returned {_kinds(r)} values in the forward pass, in its {which}"
                f"{_first(y.value, inputs)}"
            )
            raise RuntimeError(_report(headline, visit, edges, cause))

    def failed(self, op: Op, inputs: tuple[Any, ...]) -> None:
        """An exception speaks for itself."""

    def backward(self, op: Op, g: Any, gradients: Sequence[Any]) -> None:
        visit = self.visits.get(op) or _Visit(
            "unknown: run the forward pass inside detect_anomaly() as well", [], None
        )
        given = [r for r in map(_range, g if isinstance(g, list) else [g]) if r is not None]
        edges = list(op.edges or ())
        for i, (gx, edge) in enumerate(zip(gradients, edges, strict=True)):
            r = _range(gx)
            if r is None or r.finite:
                continue
            headline = (
                f"{op.name} returned {_kinds(r)} values in the backward pass, in the gradient of "
                f"its {_input(i, edge, visit)}\n  the gradient that arrived: "
                + "; ".join(map(str, given))
            )
            cause = _backward_cause(op, visit.ranges, given, r)
            raise RuntimeError(_report(headline, visit, edges, cause))


def _kinds(r: _Range) -> str:
    return "nan" if r.nan else "infinite"


def _input(i: int, edge: Any, visit: _Visit) -> str:
    """Input `i`, with the parameter's path if it is one."""
    name = _name(edge, visit.module)
    return f"input {i}" + (f" ({name})" if name else "")


def _report(headline: str, visit: _Visit, edges: Sequence[Any], cause: str) -> str:
    lines = [headline, f"  applied at {visit.place}"]
    for i, (r, edge) in enumerate(zip(visit.ranges, edges, strict=False)):
        if r is not None:
            lines.append(f"  {_input(i, edge, visit)}: {r}")
    return "\n".join([*lines, f"  likely cause: {cause}"])


def _first(y: Array, inputs: tuple[Any, ...]) -> str:
    """Where the first bad element is, and what the inputs were there."""
    index = _first_bad(y)
    came = [
        f"{float(x.value[index]):.6g}"
        for x in inputs
        if isinstance(x, Node) and x.shape == y.shape and x.value.dtype.kind == "f"
    ]
    return _at(index) + (f", computed from {' and '.join(came)}" if came else "")


def _first_bad(y: Array) -> tuple[int, ...]:
    """The index of the first element that is not finite."""
    return tuple(int(i[0]) for i in np.nonzero(~np.isfinite(y))) if y.ndim else ()


def _at(index: tuple[int, ...]) -> str:
    return f" at [{', '.join(map(str, index))}]" if index else ""


def _stack() -> tuple[str, weakref.ref[Any] | None, bool]:
    """The user's line, the outermost module being called, and whether a backward pass runs."""
    frame: FrameType | None = sys._getframe(2)
    place: str | None = None
    module = None
    in_backward = False
    while frame is not None:
        code = frame.f_code
        if place is None and not code.co_filename.startswith(_PACKAGE):
            source = linecache.getline(code.co_filename, frame.f_lineno).strip()
            place = f"{code.co_filename}:{frame.f_lineno}, in {code.co_name}"
            place += f": {source}" if source else ""
        if code is engine._walk.__code__:
            in_backward = True
        owner = frame.f_locals.get("self")
        if hasattr(type(owner), "named_parameters"):
            module = owner
        frame = frame.f_back
    return place or "unknown", None if module is None else weakref.ref(module), in_backward


def _name(edge: Any, module: weakref.ref[Any] | None) -> str | None:
    """The path of the parameter that an input is, or was made from by operations on it alone."""
    root = None if module is None else module()
    direct = True
    while isinstance(edge, Op):
        before = [e for e in edge.edges or () if e is not None]
        if len(before) != 1:
            return None
        edge, direct = before[0], False
    if edge is None or root is None:
        return None
    for path, parameter in root.named_parameters():
        if parameter is edge:
            return path if direct else f"made from {path}"
    return None


# --- likely causes ------------------------------------------------------------------------------

_BLOWN_UP = (
    "a parameter that is not finite: an earlier update blew it up. Lower the learning rate, clip "
    "the gradients (clip_grad_norm_), or look at the initial values"
)


def _forward_cause(
    op: Op,
    inputs: tuple[Any, ...],
    ranges: list[_Range | None],
    result: _Range,
    recorded: bool,
) -> str | None:
    """Why the result is not finite; None if that is as it should be."""
    known = [r for r in ranges if r is not None]
    for x, r in zip(inputs, ranges, strict=True):
        if r is None or r.finite or not isinstance(x, Node) or x.op is not None:
            continue
        if r.nan or r.plus:
            return (
                f"the data: a tensor that no operation computed holds {_kinds(r)} values"
                f"{_at(_first_bad(x.value))}. Missing values, or a division by 0 when scaling?"
            )
    settings = [v for v in vars(op).values() if isinstance(v, float)]
    deliberate = any(not r.finite for r in known) or any(not math.isfinite(v) for v in settings)
    if not result.nan and (deliberate or not recorded):
        return None
    if any(r.nan for r in known):
        return "an input was nan already, made before the detection began or outside of any op"
    specific = _by_op(op, known)
    if specific:
        return specific
    if any(0 in r.shape for r in known):
        return "a mean over no elements: 0 / 0"
    if deliberate:
        return (
            "inf - inf, 0 * inf or inf / inf: an input was infinite (a row in which everything is "
            "masked with -inf?)"
        )
    return _overflow(known, result)


_DIVISIONS = ("div", "floordivide", "truncdivide", "remainder")


def _by_op(op: Op, known: list[_Range]) -> str | None:
    """What this kind of op is known to suffer from, if its inputs were such."""
    if not known:
        return None
    name, first, last = op.name.lower(), known[0], known[-1]
    if name == "log1p" and first.low <= -1:
        return "log1p of -1 or less"
    if name.startswith("log") and name not in ("logsumexp", "logsoftmax", "logsigmoid", "log1p"):
        if first.low < 0:
            return "the logarithm of a negative number"
        if first.low == 0:
            return "the logarithm of 0: log_softmax instead of softmax and log, or clamp(min=1e-12)"
    if name in ("sqrt", "rsqrt") and first.low < 0:
        return "the square root of a negative number (a variance rounded below 0?)"
    if name in ("rsqrt", "reciprocal") and first.low <= 0 <= first.high:
        return "a division by 0: add a small epsilon"
    by_zero = name == "divnumber" and any(v == 0 for v in vars(op).values() if type(v) is float)
    if by_zero or (name in _DIVISIONS and last.low <= 0 <= last.high):
        return "a division by 0: add a small epsilon, or mask those elements"
    if name in ("pow", "pownumber"):
        if first.low < 0:
            return "a negative number to a power that is not an integer, or an overflow"
        if first.low == 0:
            return "0 to a negative power: a division by 0"
    if name in ("exp", "expm1", "sinh", "cosh", "exp2"):
        limit = math.log(float(np.finfo(first.dtype).max))
        if first.size >= limit - 1:
            return (
                f"overflow of exp: in {first.dtype} it is infinite beyond {limit:.1f}. Subtract "
                "the maximum first, as softmax and logsumexp do"
            )
    return None


def _overflow(known: list[_Range], result: _Range) -> str:
    largest = float(np.finfo(result.dtype).max)
    message = f"overflow: the result is beyond the largest {result.dtype}, {largest:.3g}"
    if any(r.size > 1e6 for r in known):
        message += (
            ". The inputs are huge already: is the learning rate too high, or a state growing from "
            "step to step?"
        )
    return message


def _backward_cause(
    op: Op, ranges: list[_Range | None], given: list[_Range], result: _Range
) -> str:
    if any(not r.finite for r in given):
        return (
            f"the gradient that arrived was {_kinds(next(r for r in given if not r.finite))} "
            "already: the one given to backward(), or a hook's"
        )
    known = [r for r in ranges if r is not None]
    name = op.name.lower()
    at_zero = bool(known) and known[0].low <= 0 <= known[0].high
    if result.nan and any(r.low <= 0 <= r.high for r in given) and at_zero:
        zero = (
            " (a gradient of 0 times an infinite slope is nan: where() hides a value, not its "
            "slope; replace the op's input instead)"
        )
    else:
        zero = ""
    if name in ("sqrt", "norm", "rsqrt") and at_zero:
        return "the slope of the square root is infinite at 0: add a small epsilon under it" + zero
    if name == "log" and at_zero:
        return "the slope of the logarithm is infinite at 0: clamp(min=1e-12) its input" + zero
    if name in ("pow", "pownumber") and at_zero:
        return "the slope of x ** p is infinite at 0 for p < 1: add a small epsilon" + zero
    if name == "div" and known and known[-1].low <= 0 <= known[-1].high:
        return "a division by 0: mask the elements before dividing, not after" + zero
    if any(not r.finite for r in known):
        return "0 * inf: an input of the op was infinite"
    if any(r.size > 1e10 for r in given):
        return (
            "overflow: exploding gradients. Clip them (clip_grad_norm_), lower the learning rate, "
            "or shorten the sequence"
        )
    return _overflow(known, result) + zero
