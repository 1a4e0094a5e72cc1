"""Addition, multiplication and their kin, and comparisons: two inputs that broadcast together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.autograd.engine import _NUMBERS, Array, Node, Op, wrap
from minigrad.dtypes import floating, operands, result_type

Function = Callable[..., Any]


def no_slope(g: Any) -> Any:
    """Zeros like the gradient `g`, array or tensor: what a step passes on, even of infinity."""
    return wrap(np.zeros_like(g.value)) if isinstance(g, Node) else np.zeros_like(g)


def is_number(x: Any) -> bool:
    """Whether `x` counts as a Python number: NumPy's own scalars do."""
    return isinstance(x, _NUMBERS)


class Add(Op):
    """y = a + b."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        return a + b

    def vjp(self, g: Any) -> tuple[Any, Any]:
        return g, g


def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """input + alpha other, elementwise."""
    a, b = operands(input, other)
    if alpha == 1:
        return Add()(a, b)
    return add(a, b * _checked_alpha(alpha, a, b))


def _checked_alpha(alpha: float, a: Any, b: Any) -> float:
    if isinstance(alpha, float) and result_type(a, b).kind != "f":
        raise RuntimeError(f"for integer tensors alpha must be an integer, not {alpha}")
    return alpha


class Sub(Op):
    """y = a - b."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        try:
            return a - b
        except TypeError as error:  # as in PyTorch, a RuntimeError
            raise ValueError("booleans cannot be subtracted: use ^ or logical_xor") from error

    def vjp(self, g: Any) -> tuple[Any, Any]:
        return g, -g if self.wants(1) else None


def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """input - alpha other, elementwise."""
    a, b = operands(input, other)
    if alpha == 1:
        return Sub()(a, b)
    return sub(a, b * _checked_alpha(alpha, a, b))


class Mul(Op):
    """y = a b,  dy/da = b,  dy/db = a."""

    broadcasts = bilinear = True

    def forward(self, a: Array, b: Array) -> Array:
        return a * b

    def vjp(self, g: Any, a: Any, b: Any) -> tuple[Any, Any]:
        return None if b is None else g * b, None if a is None else g * a


def mul(input: Any, other: Any) -> Any:
    """input * other, elementwise."""
    a, b = operands(input, other)
    return Mul()(a, b)


class Div(Op):
    """y = a / b,  dy/da = 1 / b,  dy/db = -y / b."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        return a / b

    def vjp(self, g: Any, b: Any, y: Any) -> tuple[Any, Any]:
        ga = g / b
        return ga, -(ga * y) if self.wants(1) else None


class DivNumber(Op):
    """y = a / b for a number b: nothing has to be kept."""

    def __init__(self, b: float) -> None:
        self.b = b

    def forward(self, a: Array) -> Array:
        return a / self.b

    def vjp(self, g: Any) -> tuple[Any]:
        return (g / self.b,)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """input / other, elementwise: always floating; rounded with `rounding_mode` floor or trunc.

    Raises RuntimeError for another `rounding_mode`.
    """
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        return TruncDivide()(*operands(input, other))
    if rounding_mode is not None:
        raise RuntimeError(f"rounding_mode must be None, 'floor' or 'trunc', not {rounding_mode!r}")
    if is_number(other):
        a, b = operands(floating(input), other)
        return DivNumber(b)(a)
    if is_number(input):
        return Div()(*operands(input, floating(other)))
    a, b = operands(input, other)
    return Div()(floating(a), floating(b))


class Neg(Op):
    """y = -x."""

    def forward(self, x: Array) -> Array:
        try:
            return -x
        except TypeError as error:  # as in PyTorch, a RuntimeError
            raise ValueError("booleans cannot be negated: use ~ or logical_not") from error

    def vjp(self, g: Any) -> tuple[Any]:
        return (-g,)


def neg(input: Any) -> Any:
    """-input, elementwise."""
    return Neg()(input)


def _no_division_by_zero(function: Function, a: Array, b: Array) -> Array:
    """`function` of the two; of integers by 0 an error, where NumPy would give 0."""
    if np.result_type(a, b).kind == "f":
        return function(a, b)
    try:
        with np.errstate(divide="raise"):
            return function(a, b)
    except FloatingPointError as error:
        raise ValueError("division of an integer by 0") from error


class FloorDivide(Op):
    """y = a / b rounded down: a step, with no slope."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        return _no_division_by_zero(np.floor_divide, a, b)

    def vjp(self, g: Any) -> tuple[Any, Any]:
        return no_slope(g), no_slope(g)


def floor_divide(input: Any, other: Any) -> Any:
    """input / other rounded down, elementwise: Python's //."""
    return FloorDivide()(*operands(input, other))


class TruncDivide(FloorDivide):
    """y = a / b rounded towards 0."""

    def forward(self, a: Array, b: Array) -> Array:
        if np.result_type(a, b).kind == "f":
            return np.trunc(np.true_divide(a, b))
        down = _no_division_by_zero(np.floor_divide, a, b)
        return down + ((down < 0) & (down * b != a))  # of a negative quotient, one up


class Remainder(Op):
    """y = a - b floor(a / b),  with the sign of b."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        return _no_division_by_zero(np.remainder, a, b)

    def vjp(self, g: Any, a: Any, b: Any) -> tuple[Any, Any]:
        return g, -(g * (a // b)) if self.wants(1) else None


def remainder(input: Any, other: Any) -> Any:
    """What is left of input / other rounded down: Python's %, with the sign of the divisor."""
    a, b = operands(input, other)
    return Remainder()(a, b)


class Pow(Op):
    """y = a**b,  dy/da = b a**(b-1),  dy/db = y log(a);  0 where a = 0 makes these 0 * infinity."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        return a**b

    def vjp(self, g: Any, a: Any, b: Any, y: Any) -> tuple[Any, Any]:
        ga = gb = None
        if self.wants(0):  # 0**0: the exponent stays 0, and b makes the product 0
            ga = g * (b * a ** (b - ((b != 0) | (a != 0))))
        if self.wants(1):  # 0**b: log(1) instead of log(0)
            gb = g * (y * Log()(a + ((a == 0) & (b >= 0))))
        return ga, gb


class PowNumber(Op):
    """y = x**n,  dy/dx = n x**(n-1)."""

    def __init__(self, n: float) -> None:
        self.n = n

    def forward(self, x: Array) -> Array:
        if self.n == 2:
            return x * x
        if self.n < 0 and type(self.n) is int and x.dtype.kind in "iu":  # CuPy would give 0
            raise ValueError("Integers to negative integer powers are not allowed.")
        return x**self.n

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        n = self.n
        if n == 0:
            return (no_slope(g),)
        return (g * (x * 2 if n == 2 else PowNumber(n - 1)(x) * n),)


class NumberPow(Op):
    """y = a**x for a number a,  dy/dx = y log(a);  0 for a = 0."""

    def __init__(self, a: float) -> None:
        self.a = a

    def forward(self, x: Array) -> Array:
        return self.a**x

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        if self.a == 0:
            return (no_slope(g),)
        return (g * (y * (math.log(self.a) if self.a > 0 else math.nan)),)


def pow(input: Any, exponent: Any) -> Any:
    """input ** exponent, elementwise. Either may be a number."""
    a, b = operands(input, exponent)
    if is_number(b):
        return PowNumber(b)(a)
    if is_number(a):
        return NumberPow(a)(b)
    return Pow()(a, b)


class Log(Op):
    """y = log(x),  dy/dx = 1 / x."""

    def forward(self, x: Array) -> Array:
        return np.log(x)

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        return (g / x,)


def log(input: Any) -> Any:
    """The natural logarithm; -inf at 0, nan below."""
    return Log()(floating(input))


class Maximum(Op):
    """y = max(a, b): the gradient goes to the larger; to each a half where they are equal."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)

    def vjp(self, g: Any, a: Any, b: Any) -> tuple[Any, Any]:
        ga = (g * (a >= b) + g * (a > b)) * 0.5
        return ga, g - ga


def maximum(input: Any, other: Any) -> Any:
    """The larger of the two, elementwise; nan if either is."""
    a, b = operands(input, other)
    return Maximum()(a, b)


class Minimum(Op):
    """y = min(a, b): the gradient goes to the smaller; to each a half where they are equal."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)

    def vjp(self, g: Any, a: Any, b: Any) -> tuple[Any, Any]:
        ga = (g * (a <= b) + g * (a < b)) * 0.5
        return ga, g - ga


def minimum(input: Any, other: Any) -> Any:
    """The smaller of the two, elementwise; nan if either is."""
    a, b = operands(input, other)
    return Minimum()(a, b)


class Clamp(Op):
    """y = min(max(x, low), high): the gradient goes to x on [low, high], else to the bound."""

    broadcasts = True

    def forward(self, x: Array, low: Array, high: Array) -> Array:
        if low is not None:
            x = np.maximum(x, low)
        return x if high is None else np.minimum(x, high)

    def vjp(self, g: Any, x: Any, low: Any, high: Any) -> tuple[Any, Any, Any]:
        inside, to_low, to_high = g, None, None
        if low is not None:
            inside = inside * (x >= low)
            if self.wants(1):
                to_low = g * (x < low)
                to_low = to_low if high is None else to_low * (low < high)
        if high is not None:
            inside = inside * (x <= high)
            if self.wants(2):
                high_wins = x > high
                if low is not None:  # max(x, low) > high
                    high_wins = high_wins | (low > high)
                to_high = g * high_wins
        return inside, to_low, to_high


def clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    """`input` limited to [min, max], numbers or tensors; `max` wins where they cross.

    Raises RuntimeError when neither is given.
    """
    if min is None and max is None:
        raise RuntimeError("clamp: at least one of min and max must be given")
    x, low, high = input, min, max
    if low is not None:
        x, low = operands(x, low)
    if high is not None:
        before = x
        x, high = operands(x, high)
        if low is not None and x is not before:  # `high` raised the dtype
            x, low = operands(x, low)
    return Clamp()(x, low, high)


# --- not recorded: their values are steps, or no real numbers at all -----------------------------


def unrecorded(function: Function, input: Any) -> Any:
    """`function` of an array, as a tensor if `input` is one."""
    return wrap(function(input.value)) if isinstance(input, Node) else function(input)


def _of_two(function: Function, input: Any, other: Any) -> Any:
    """`function` of two arrays that broadcast together, as a tensor if one of the inputs is."""
    a, b = operands(input, other)
    if isinstance(a, Node):
        return wrap(function(a.value, b.value if isinstance(b, Node) else b))
    return wrap(function(a, b.value)) if isinstance(b, Node) else function(a, b)


def eq(input: Any, other: Any) -> Any:
    """input == other, elementwise."""
    return _of_two(np.equal, input, other)


def ne(input: Any, other: Any) -> Any:
    """input != other, elementwise."""
    return _of_two(np.not_equal, input, other)


def lt(input: Any, other: Any) -> Any:
    """input < other, elementwise."""
    return _of_two(np.less, input, other)


def le(input: Any, other: Any) -> Any:
    """input <= other, elementwise."""
    return _of_two(np.less_equal, input, other)


def gt(input: Any, other: Any) -> Any:
    """input > other, elementwise."""
    return _of_two(np.greater, input, other)


def ge(input: Any, other: Any) -> Any:
    """input >= other, elementwise."""
    return _of_two(np.greater_equal, input, other)


def logical_and(input: Any, other: Any) -> Any:
    """Whether both are nonzero, elementwise."""
    return _of_two(np.logical_and, input, other)


def logical_or(input: Any, other: Any) -> Any:
    """Whether either is nonzero, elementwise."""
    return _of_two(np.logical_or, input, other)


def logical_xor(input: Any, other: Any) -> Any:
    """Whether exactly one is nonzero, elementwise."""
    return _of_two(np.logical_xor, input, other)


def logical_not(input: Any) -> Any:
    """Whether it is zero, elementwise."""
    return unrecorded(np.logical_not, input)


def _bitwise(function: Function, input: Any, other: Any) -> Any:
    try:
        return _of_two(function, input, other)
    except TypeError as error:  # as in PyTorch, a RuntimeError
        raise RuntimeError("& | and ^ are for integers and booleans only") from error


def bitwise_and(input: Any, other: Any) -> Any:
    """input & other, elementwise, of integers or booleans."""
    return _bitwise(np.bitwise_and, input, other)


def bitwise_or(input: Any, other: Any) -> Any:
    """input | other, elementwise, of integers or booleans."""
    return _bitwise(np.bitwise_or, input, other)


def bitwise_xor(input: Any, other: Any) -> Any:
    """input ^ other, elementwise, of integers or booleans."""
    return _bitwise(np.bitwise_xor, input, other)


def bitwise_not(input: Any) -> Any:
    """~input, elementwise, of integers or booleans."""
    return unrecorded(np.invert, input)


def isclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether |input - other| <= atol + rtol |other|, elementwise."""

    def close(a: Array, b: Array) -> Array:
        return np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)

    return _of_two(close, input, other)


def allclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close; see `isclose`."""
    close = isclose(input, other, rtol, atol, equal_nan)
    return bool((close.value if isinstance(close, Node) else close).all())


def equal(input: Any, other: Any) -> bool:
    """Whether both have the same shape and the same elements."""
    if tuple(input.shape) != tuple(other.shape):
        return False
    same = eq(input, other)
    return bool((same.value if isinstance(same, Node) else same).all())
