"""Functions of one number, applied to each element."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op
from minigrad.dtypes import cast, floating, int64
from minigrad.ops.arithmetic import no_slope, unrecorded


class Exp(Op):
    """y = exp(x),  dy/dx = y."""

    def forward(self, x: Array) -> Array:
        return np.exp(x)

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        return (g * y,)


def exp(input: Any) -> Any:
    """e to the power of input."""
    return Exp()(floating(input))


class Expm1(Op):
    """y = exp(x) - 1, precise near 0,  dy/dx = y + 1."""

    def forward(self, x: Array) -> Array:
        return np.expm1(x)

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        return (g * (y + 1),)


def expm1(input: Any) -> Any:
    """exp(input) - 1, precise near 0."""
    return Expm1()(floating(input))


class Log1p(Op):
    """y = log(1 + x), precise near 0,  dy/dx = 1 / (1 + x)."""

    def forward(self, x: Array) -> Array:
        return np.log1p(x)

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        return (g / (1 + x),)


def log1p(input: Any) -> Any:
    """log(1 + input), precise near 0."""
    return Log1p()(floating(input))


class Sqrt(Op):
    """y = sqrt(x),  dy/dx = 1 / 2y."""

    def forward(self, x: Array) -> Array:
        return np.sqrt(x)

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        return (g * 0.5 / y,)


def sqrt(input: Any) -> Any:
    """The square root."""
    return Sqrt()(floating(input))


class Rsqrt(Op):
    """y = 1 / sqrt(x),  dy/dx = -y**3 / 2."""

    def forward(self, x: Array) -> Array:
        return 1 / np.sqrt(x)

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        return (g * (y * y * y * -0.5),)


def rsqrt(input: Any) -> Any:
    """1 over the square root."""
    return Rsqrt()(floating(input))


class Square(Op):
    """y = x**2,  dy/dx = 2x."""

    def forward(self, x: Array) -> Array:
        return x * x

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        return (g * (x * 2),)


def square(input: Any) -> Any:
    """input times itself."""
    return Square()(input if input.dtype.kind != "b" else cast(input, int64))


class Reciprocal(Op):
    """y = 1 / x,  dy/dx = -y**2."""

    def forward(self, x: Array) -> Array:
        return 1 / x

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        return (g * -(y * y),)


def reciprocal(input: Any) -> Any:
    """1 / input."""
    return Reciprocal()(floating(input))


class Abs(Op):
    """y = |x|,  dy/dx = sign(x): 0 at 0."""

    def forward(self, x: Array) -> Array:
        return np.abs(x)

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        return (g * Sign()(x),)


def abs(input: Any) -> Any:
    """The absolute value."""
    return Abs()(input)


class Sin(Op):
    """y = sin(x),  dy/dx = cos(x)."""

    def forward(self, x: Array) -> Array:
        return np.sin(x)

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        return (g * Cos()(x),)


def sin(input: Any) -> Any:
    """The sine."""
    return Sin()(floating(input))


class Cos(Op):
    """y = cos(x),  dy/dx = -sin(x)."""

    def forward(self, x: Array) -> Array:
        return np.cos(x)

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        return (g * -Sin()(x),)


def cos(input: Any) -> Any:
    """The cosine."""
    return Cos()(floating(input))


class Tan(Op):
    """y = tan(x),  dy/dx = 1 + y**2."""

    def forward(self, x: Array) -> Array:
        return np.tan(x)

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        return (g * (1 + y * y),)


def tan(input: Any) -> Any:
    """The tangent."""
    return Tan()(floating(input))


class Sinh(Op):
    """y = sinh(x),  dy/dx = cosh(x)."""

    def forward(self, x: Array) -> Array:
        return np.sinh(x)

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        return (g * Cosh()(x),)


def sinh(input: Any) -> Any:
    """The hyperbolic sine."""
    return Sinh()(floating(input))


class Cosh(Op):
    """y = cosh(x),  dy/dx = sinh(x)."""

    def forward(self, x: Array) -> Array:
        return np.cosh(x)

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        return (g * Sinh()(x),)


def cosh(input: Any) -> Any:
    """The hyperbolic cosine."""
    return Cosh()(floating(input))


class Tanh(Op):
    """y = tanh(x),  dy/dx = 1 - y**2."""

    def forward(self, x: Array) -> Array:
        return np.tanh(x)

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        return (g - g * (y * y),)  # two array passes beat one and a Python number


def tanh(input: Any) -> Any:
    """The hyperbolic tangent."""
    return Tanh()(floating(input))


class Sigmoid(Op):
    """y = 1 / (1 + exp(-x)),  dy/dx = y (1 - y)."""

    def forward(self, x: Array) -> Array:
        # exp(x) / (1 + exp(x)) where x < 0: there exp(-x) may overflow, and 1 + tanh would cancel
        return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        return (g * (y * (1 - y)),)


def sigmoid(input: Any) -> Any:
    """1 / (1 + exp(-input)), without overflow."""
    return Sigmoid()(floating(input))


class Relu(Op):
    """y = max(x, 0),  dy/dx = 1 where x > 0, else 0."""

    def forward(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def vjp(self, g: Any, y: Any) -> tuple[Any]:
        return (g * (y > 0),)


def relu(input: Any) -> Any:
    """input where it is positive, else 0."""
    return Relu()(input)


class Softplus(Op):
    """y = log(1 + exp(beta x)) / beta,  dy/dx = sigmoid(beta x);  y = x past the threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold

    def forward(self, x: Array) -> Array:
        scaled = x * self.beta
        y = np.logaddexp(scaled, 0) / self.beta
        return np.where(scaled > self.threshold, x, y)

    def vjp(self, g: Any, x: Any) -> tuple[Any]:
        scaled = x * self.beta
        s = Sigmoid()(scaled)
        return (g * (s + (1 - s) * (scaled > self.threshold)),)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta input)) / beta: a smooth relu."""
    return Softplus(beta, threshold)(floating(input))


# --- steps: the slope is 0 wherever there is one -------------------------------------------------


class Step(Op):
    """A function that is constant between its jumps."""

    def vjp(self, g: Any) -> tuple[Any]:
        return (no_slope(g),)


class Sign(Step):
    """y = -1, 0 or 1."""

    def forward(self, x: Array) -> Array:
        return np.sign(x)


def sign(input: Any) -> Any:
    """-1, 0 or 1, as input is negative, 0 or positive."""
    return Sign()(input) if input.dtype.kind != "b" else input


class Floor(Step):
    """y = the largest integer <= x."""

    def forward(self, x: Array) -> Array:
        return np.floor(x)


def floor(input: Any) -> Any:
    """Rounded down."""
    return Floor()(input)


class Ceil(Step):
    """y = the smallest integer >= x."""

    def forward(self, x: Array) -> Array:
        return np.ceil(x)


def ceil(input: Any) -> Any:
    """Rounded up."""
    return Ceil()(input)


class Trunc(Step):
    """y = x without its fraction."""

    def forward(self, x: Array) -> Array:
        return np.trunc(x)


def trunc(input: Any) -> Any:
    """Rounded towards 0."""
    return Trunc()(input)


class Round(Step):
    """y = x rounded to `decimals` digits, halves to even."""

    def __init__(self, decimals: int = 0) -> None:
        self.decimals = decimals

    def forward(self, x: Array) -> Array:
        return np.round(x, self.decimals)


def round(input: Any, *, decimals: int = 0) -> Any:
    """Rounded to the nearest, halves to even."""
    return Round(decimals)(input)


# --- not recorded --------------------------------------------------------------------------------


def isnan(input: Any) -> Any:
    """Where input is not a number."""
    return unrecorded(np.isnan, input)


def isinf(input: Any) -> Any:
    """Where input is infinite."""
    return unrecorded(np.isinf, input)


def isfinite(input: Any) -> Any:
    """Where input is neither infinite nor nan."""
    return unrecorded(np.isfinite, input)


# --- replacing -----------------------------------------------------------------------------------


class Overwrite(Op):
    """y = b in the shape of a: what copy_, fill_ and zero_ do to a."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        y = np.empty_like(a)
        y[...] = b
        return y

    def vjp(self, g: Any) -> tuple[Any, Any]:
        return no_slope(g), g
