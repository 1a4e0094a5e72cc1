"""The table's rows for arithmetic, elementwise functions, reductions, norms and casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from op_case import OpCase

import minigrad as mg
from minigrad.autograd.engine import Identity
from minigrad.dtypes import Cast, ToDevice
from minigrad.ops import arithmetic as ar
from minigrad.ops import elementwise as el
from minigrad.ops import reductions as re

Inputs = Callable[[np.random.Generator], list[np.ndarray]]


def apart(rng: np.random.Generator, shape: Any) -> np.ndarray:
    """No two elements, and none and an integer, are close: kinks and ties are out of reach."""
    n = math.prod(shape)
    return (rng.permutation(n) - n // 2 + rng.uniform(0.3, 0.7, n)).reshape(shape)


def anywhere(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.standard_normal(rng.integers(1, 4, 2))]


def separate(rng: np.random.Generator) -> list[np.ndarray]:
    return [apart(rng, rng.integers(1, 4, 3))]


def positive(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.uniform(0.5, 2.5, rng.integers(1, 4, 2))]


def pair(rng: np.random.Generator) -> list[np.ndarray]:
    """Two that broadcast together, with no ties."""
    n, m = rng.integers(1, 4, 2)
    both = apart(rng, (n * m + m,))
    shapes = [(n, m), [(m,), (1, m)][rng.integers(2)]]
    return [both[: n * m].reshape(shapes[0]), both[n * m :].reshape(shapes[1])]


def positive_pair(rng: np.random.Generator) -> list[np.ndarray]:
    n, m = rng.integers(1, 4, 2)
    return [rng.uniform(0.5, 2.5, (n, m)), rng.uniform(0.5, 2.5, (m,))]


def scalar(rng: np.random.Generator) -> list[np.ndarray]:
    return [np.array(rng.uniform(0.5, 2.5))]


def nothing(rng: np.random.Generator) -> list[np.ndarray]:
    return [np.zeros((0, 3))]


def with_zeros(rng: np.random.Generator) -> list[np.ndarray]:
    x = rng.uniform(0.5, 2.0, (4, 3))
    x[rng.integers(4, size=2), rng.integers(3, size=2)] = 0
    x[1, 0] = x[2, 0] = 0
    return [x]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    y = np.exp(x)
    return y / y.sum(axis, keepdims=True)


UNARY: list[tuple[type, Any, Any, Inputs]] = [
    (ar.Neg, mg.neg, np.negative, anywhere),
    (ar.Log, mg.log, np.log, positive),
    (el.Exp, mg.exp, np.exp, anywhere),
    (el.Expm1, mg.expm1, np.expm1, anywhere),
    (el.Log1p, mg.log1p, np.log1p, positive),
    (el.Sqrt, mg.sqrt, np.sqrt, positive),
    (el.Rsqrt, mg.rsqrt, lambda x: x**-0.5, positive),
    (el.Square, mg.square, np.square, anywhere),
    (el.Reciprocal, mg.reciprocal, np.reciprocal, positive),
    (el.Abs, mg.abs, np.abs, separate),
    (el.Sin, mg.sin, np.sin, anywhere),
    (el.Cos, mg.cos, np.cos, anywhere),
    (el.Tan, mg.tan, np.tan, positive),
    (el.Sinh, mg.sinh, np.sinh, anywhere),
    (el.Cosh, mg.cosh, np.cosh, anywhere),
    (el.Tanh, mg.tanh, np.tanh, anywhere),
    (el.Sigmoid, mg.sigmoid, sigmoid, anywhere),
    (el.Relu, mg.relu, lambda x: x * (x > 0), separate),
    (el.Softplus, mg.softplus, lambda x: np.log1p(np.exp(x)), anywhere),
    (el.Sign, mg.sign, np.sign, separate),
    (el.Floor, mg.floor, np.floor, separate),
    (el.Ceil, mg.ceil, np.ceil, separate),
    (el.Trunc, mg.trunc, np.trunc, separate),
    (Identity, lambda x: x.clone(), lambda x: x, anywhere),
]

# Name, op, function, NumPy's, inputs.
OTHERS: list[tuple[str, Any, Any, Any, Inputs]] = [
    ("add", ar.Add, mg.add, np.add, pair),
    ("add alpha", ar.Add, lambda a, b: mg.add(a, b, alpha=3), lambda a, b: a + 3 * b, pair),
    ("add number", ar.Add, lambda a: 2.5 + a + 1, lambda a: a + 3.5, anywhere),
    ("sub", ar.Sub, mg.sub, np.subtract, pair),
    ("sub reflected", ar.Sub, lambda a: 2 - a, lambda a: 2 - a, scalar),
    ("mul", ar.Mul, mg.mul, np.multiply, pair),
    ("mul with itself", ar.Mul, lambda a: a * a, np.square, anywhere),
    ("mul empty", ar.Mul, lambda a: a * 2, lambda a: a, nothing),
    ("div", ar.Div, mg.div, np.divide, positive_pair),
    ("div reflected", ar.Div, lambda a: 1 / a, np.reciprocal, positive),
    ("div number", ar.DivNumber, lambda a: a / 3, lambda a: a / 3, anywhere),
    (
        "floor divide",
        ar.FloorDivide,
        lambda a, b: (a + 0.1) // (b + 9),
        lambda a, b: (a + 0.1) // (b + 9),
        lambda rng: [np.array([-20.0, 5.0]), np.array([[1.0], [2.0]])],
    ),
    (
        "truncated quotient",
        ar.TruncDivide,
        lambda a, b: mg.div(a, b, rounding_mode="trunc"),
        lambda a, b: np.trunc(a / b),
        lambda rng: [np.array([-20.0, 5.0]), np.array([[11.0], [2.3]])],
    ),
    ("remainder", ar.Remainder, lambda a: a % 0.9, lambda a: a % 0.9, positive),
    (
        "remainder of two",
        ar.Remainder,
        lambda a, b: (a + 3.14) % (0.3 + b * 0.01),
        lambda a, b: (a + 3.14) % (0.3 + b * 0.01),
        lambda rng: [np.array([0.5, 1.0]), np.array([[1.0], [2.0]])],
    ),
    ("pow", ar.Pow, mg.pow, np.power, positive_pair),
    (
        "pow of a negative",
        ar.Pow,
        lambda a: a ** mg.tensor([2.0, 3.0, 0.0], dtype=a.dtype),
        lambda a: a ** np.array([2.0, 3.0, 0.0]),
        lambda rng: [-rng.uniform(0.5, 2, (2, 3))],
    ),
    ("pow 0", ar.PowNumber, lambda a: a**0, lambda a: a**0, anywhere),
    ("pow 1", ar.PowNumber, lambda a: a**1, lambda a: a, anywhere),
    ("pow 2", ar.PowNumber, lambda a: a**2, np.square, anywhere),
    ("pow 3", ar.PowNumber, lambda a: a**3, lambda a: a**3, anywhere),
    ("pow -0.5", ar.PowNumber, lambda a: a**-0.5, lambda a: a**-0.5, positive),
    ("number pow", ar.NumberPow, lambda a: 3**a, lambda a: 3**a, anywhere),
    ("maximum", ar.Maximum, mg.maximum, np.maximum, pair),
    ("minimum", ar.Minimum, mg.minimum, np.minimum, pair),
    ("clamp", ar.Clamp, lambda a: a.clamp(-1, 1), lambda a: a.clip(-1, 1), separate),
    ("clamp below", ar.Clamp, lambda a: a.clamp(min=0), lambda a: a.clip(0), separate),
    ("clamp above", ar.Clamp, lambda a: a.clamp(max=0), lambda a: a.clip(None, 0), separate),
    (
        "clamp by tensors",
        ar.Clamp,
        mg.clamp,
        lambda x, low, high: np.minimum(np.maximum(x, low), high),
        lambda rng: np.split(apart(rng, (9, 4)), [3, 6]),
    ),
    (
        "softplus beta",
        el.Softplus,
        lambda a: mg.softplus(a, 2.0, 3.0),
        lambda a: np.where(a * 2 > 3, a, np.log1p(np.exp(2 * a)) / 2),
        lambda rng: [np.array([-4.0, -0.3, 0.4, 1.4, 2.5, 60.0])],
    ),
    ("round", el.Round, lambda a: mg.round(a, decimals=0), np.round, positive),
    ("overwrite", el.Overwrite, lambda a, b: el.Overwrite()(a, b), lambda a, b: b + 0 * a, pair),
    ("cast", Cast, lambda a: Cast(mg.float64)(a) * 2, lambda a: a * 2, anywhere),
    ("to device", ToDevice, lambda a: ToDevice(mg.device("cpu"))(a), lambda a: a, anywhere),
    ("sum", re.Sum, mg.sum, np.sum, separate),
    ("sum dim", re.Sum, lambda a: a.sum(1), lambda a: a.sum(1), separate),
    (
        "sum dims",
        re.Sum,
        lambda a: a.sum((0, -1), True),
        lambda a: a.sum((0, 2), keepdims=True),
        separate,
    ),
    ("sum of a number", re.Sum, lambda a: a.sum(0), lambda a: a, scalar),
    ("sum of nothing", re.Sum, lambda a: a.sum(0), lambda a: a.sum(0), nothing),
    ("spread", re.Spread, lambda a: a - a.sum(0), lambda a: a - a.sum(0), anywhere),
    ("mean", re.Mean, mg.mean, np.mean, separate),
    (
        "mean dim",
        re.Mean,
        lambda a: a.mean(-1, True),
        lambda a: a.mean(-1, keepdims=True),
        separate,
    ),
    ("amax", re.Amax, lambda a: a.amax((0, 2)), lambda a: a.max((0, 2)), separate),
    ("amin", re.Amin, lambda a: a.amin(0, True), lambda a: a.min(0, keepdims=True), separate),
    ("max of all", re.Amax, mg.max, np.max, separate),
    ("max along", re.MaxAlong, lambda a: a.max(1).values, lambda a: a.max(1), separate),
    (
        "min along",
        re.MinAlong,
        lambda a: a.min(-3, True)[0],
        lambda a: a.min(0, keepdims=True),
        separate,
    ),
    ("cumsum", re.Cumsum, lambda a: a.cumsum(1), lambda a: a.cumsum(1), separate),
    ("prod", re.Prod, mg.prod, np.prod, anywhere),
    ("prod with zeros", re.Prod, lambda a: a.prod(0), lambda a: a.prod(0), with_zeros),
    (
        "prod along",
        re.Prod,
        lambda a: a.prod(-1, True),
        lambda a: a.prod(-1, keepdims=True),
        positive,
    ),
    ("prod of nothing", re.Prod, lambda a: a.prod(0), lambda a: a.prod(0), nothing),
    ("cumprod", re.Cumprod, lambda a: a.cumprod(-1), lambda a: a.cumprod(-1), anywhere),
    ("cumprod with zeros", re.Cumprod, lambda a: a.cumprod(0), lambda a: a.cumprod(0), with_zeros),
    ("norm", re.Norm, mg.norm, lambda a: np.sqrt((a * a).sum()), separate),
    ("norm along", re.Norm, lambda a: a.norm(2, 1), lambda a: np.sqrt((a * a).sum(1)), separate),
    (
        "norm 3",
        re.Norm,
        lambda a: a.norm(3, (0, 1), True),
        lambda a: (np.abs(a) ** 3).sum((0, 1), keepdims=True) ** (1 / 3),
        separate,
    ),
    ("norm 1", el.Abs, lambda a: a.norm(1, 0), lambda a: np.abs(a).sum(0), separate),
    (
        "norm inf",
        re.Amax,
        lambda a: a.norm(math.inf, 0),
        lambda a: np.abs(a).max(0),
        lambda rng: [rng.permutation(12).reshape(4, 3) - 3.3],
    ),
    (
        "logsumexp",
        re.LogSumExp,
        lambda a: a.logsumexp((0, 1)),
        lambda a: np.log(np.exp(a).sum((0, 1))),
        anywhere,
    ),
    (
        "logsumexp along",
        re.LogSumExp,
        lambda a: a.logsumexp(1, True),
        lambda a: np.log(np.exp(a).sum(1, keepdims=True)),
        anywhere,
    ),
    ("softmax", re.Softmax, lambda a: a.softmax(0), lambda a: softmax(a, 0), anywhere),
    (
        "log_softmax",
        re.LogSoftmax,
        lambda a: a.log_softmax(-1),
        lambda a: np.log(softmax(a, -1)),
        anywhere,
    ),
    (
        "var",
        re.Var,
        lambda a: a.var(1),
        lambda a: a.var(1, ddof=1),
        lambda rng: [apart(rng, (2, 3))],
    ),
    (
        "var of all",
        re.Var,
        lambda a: a.var((0, 1), keepdim=True, correction=0),
        lambda a: a.var(keepdims=True),
        lambda rng: [apart(rng, (2, 3))],
    ),
    (
        "std",
        re.Norm,
        lambda a: a.std(correction=0),
        np.std,
        lambda rng: [apart(rng, (2, 3))],
    ),
]

CASES = [
    OpCase(op, op.__name__.lower(), function, inputs, reference)
    for op, function, reference, inputs in UNARY
] + [
    OpCase(op, name, function, inputs, reference, float32=op is not Cast)
    for name, op, function, reference, inputs in OTHERS
]
