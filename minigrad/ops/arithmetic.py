"""Addition, multiplication and their kin: two inputs that broadcast together."""

from __future__ import annotations

from typing import Any

from minigrad.autograd.engine import Array, Op
from minigrad.dtypes import operands


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
    return Add()(a, b if alpha == 1 else mul(b, alpha))


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
