"""Rows for the ops behind `Function`."""

from __future__ import annotations

from typing import Any

from op_case import OpCase

from minigrad.autograd import Function
from minigrad.autograd.function import Apply


class ProductAndSum(Function):
    """a b and a + b, the first rule using an input and an output."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any, scale: float) -> Any:
        product = a * b * scale
        ctx.save_for_backward(a, product)
        ctx.scale = scale
        return product, a + b

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        a, product = ctx.saved_tensors
        return g * product / a + h, g * a * ctx.scale + h, None


CASES = [
    OpCase(
        Apply,
        "Function with two outputs",
        lambda a, b: ProductAndSum.apply(a, b, 2.0),
        lambda rng: [1 + rng.random((3, 2)), rng.standard_normal((3, 2))],
        reference=lambda a, b: (2 * a * b, a + b),
    ),
]
