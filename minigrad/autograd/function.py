"""PyTorch's way to define an operation, on top of `Op`.

    class Exp(Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * y

    y = Exp.apply(x)

Here `forward` and `backward` see tensors.  An `Op` is the leaner way: it sees arrays, and what its
rule names is saved by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Node, Op, picks, wrap
from minigrad.autograd.grad_mode import grad_mode, no_grad


class FunctionCtx:
    """What `forward` hands to `backward`: saved tensors, and any attribute set on it."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad  # for each argument of apply()
        self.saved_tensors: tuple[Any, ...] = ()
        self.not_differentiable: tuple[Any, ...] = ()
        self.materialize_grads = True

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors (or None) for `backward`, which finds them in `saved_tensors`.

        Inputs and outputs come back with their history, so `backward` can be differentiated.
        """
        for x in tensors:
            if x is not None and not isinstance(x, Node):
                raise TypeError(
                    f"save_for_backward takes Tensors, not {type(x).__name__}: keep anything else "
                    "as an attribute, ctx.name = value"
                )
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *outputs: Any) -> None:
        """No gradient flows through these outputs."""
        self.not_differentiable = outputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether outputs that nobody used have a gradient of zeros (the default) or None."""
        self.materialize_grads = value


class Function:
    """Base of operations written as a pair of static methods; use them through `apply`.

    `forward(ctx, *args)` returns a tensor or a tuple; anything may be among the arguments.
    `backward(ctx, *g)` gets a gradient for each output and returns one for each argument (None for
    what is not a tensor).  Instead of giving `forward` a ctx, a class may define
    `setup_context(ctx, inputs, output)`.
    """

    setup_context: Callable[..., None] | None = None

    @staticmethod
    def forward(*args: Any) -> Any:
        raise NotImplementedError("a Function defines forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        raise NotImplementedError("a Function defines backward(ctx, *g) to be differentiated")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The result of `forward`, recorded."""
        op = Apply(cls, args)
        found = op(*[x for x in args if isinstance(x, Node)])
        outputs = list(found) if isinstance(found, tuple) else [found]
        for k, differentiable in enumerate(op.differentiable):
            y = outputs[k]
            if not isinstance(y, Node):  # no tensor among the arguments
                outputs[k] = wrap(y)
            elif not differentiable:
                outputs[k] = wrap(y.value)
        results = [outputs.pop(0) if kept is None else kept[0] for kept in op.template]
        return tuple(results) if op.gives_tuple else results[0]


class Apply(Op):
    """One call of a Function."""

    def __init__(self, function: type[Function], args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args  # those that are tensors are taken out by forward()

    @property
    def name(self) -> str:
        return self.function.__name__

    def forward(self, *values: Array) -> Any:
        inputs = [wrap(value) for value in values]
        given = iter(inputs)
        self.positions = [i for i, x in enumerate(self.args) if isinstance(x, Node)]
        self.count = len(self.args)
        arguments = [next(given) if isinstance(x, Node) else x for x in self.args]
        del self.args
        ctx = self.residuals = FunctionCtx(self._needed(lambda i: bool(self.is_recorded)))
        with no_grad():
            if self.function.setup_context is None:
                found = self.function.forward(ctx, *arguments)
            else:
                found = self.function.forward(*arguments)
                self.function.setup_context(ctx, tuple(arguments), found)
        return self._sorted_out(ctx, inputs, found)

    def _needed(self, asked: Callable[[int], bool]) -> tuple[bool, ...]:
        needed = [False] * self.count
        for n, i in enumerate(self.positions):
            edge = self.edges[n] if self.edges else None
            needed[i] = edge is not None and asked(n)
        return tuple(needed)

    def _sorted_out(self, ctx: FunctionCtx, inputs: list[Any], found: Any) -> Any:
        """Note which outputs are tensors, and where each saved tensor comes from."""
        self.gives_tuple = isinstance(found, tuple)
        results = found if isinstance(found, tuple) else (found,)
        outputs = [y for y in results if isinstance(y, Node)]
        if not outputs:
            raise TypeError(f"{self.name}.forward must return a Tensor or a tuple with Tensors")
        self.template = [None if isinstance(y, Node) else (y,) for y in results]
        self.differentiable = [
            y.value.dtype.kind == "f" and not any(y is other for other in ctx.not_differentiable)
            for y in outputs
        ]
        ctx.not_differentiable = ()
        self.zeros = [np.empty_like(y.value, shape=(0,)) for y in outputs]
        # The engine keeps inputs (by number) and the output (-1); the rest stays on ctx.
        sources: list[Any] = []
        positions: list[int] = []
        for x in ctx.saved_tensors:
            kind: Any = x
            for i, other in enumerate(inputs):
                if x is other:
                    kind = ("saved", len(positions), None)
                    positions.append(i)
            for k, other in enumerate(outputs):
                if x is other and kind is x:
                    kind = ("saved", len(positions), k if len(outputs) > 1 else None)
                    positions.append(-1)
            sources.append(kind)
        self._saves = tuple(positions)  # type: ignore[misc]  # for this call alone
        if positions:
            self._keep = picks(self._saves)  # type: ignore[misc]
        ctx.saved_tensors = ()
        self.residuals = (ctx, sources)
        values = [y.value for y in outputs]
        return tuple(values) if len(values) > 1 else values[0]

    def vjp(self, g: Any, *saved: Any) -> tuple[Any, ...]:
        ctx, sources = self.residuals
        given = g if isinstance(g, list) else [g]
        graph = any(isinstance(gy, Node) for gy in given)
        ctx.needs_input_grad = self._needed(self.wants)
        ctx.saved_tensors = tuple([_recalled(source, saved) for source in sources])
        try:
            found = self.function.backward(ctx, *self._completed(ctx, given))
        finally:
            ctx.saved_tensors = ()
        gradients = self._checked(found)
        return gradients if graph else tuple([None if gx is None else gx.value for gx in gradients])

    def _completed(self, ctx: FunctionCtx, given: list[Any]) -> list[Any]:
        """The gradients of the outputs as tensors, with zeros for those that nobody used."""
        shapes = self.shape if len(self.zeros) > 1 else [self.shape]
        completed = []
        for gy, like, shape in zip(given, self.zeros, shapes, strict=True):
            if gy is None and ctx.materialize_grads:
                gy = np.zeros_like(like, shape=shape)
            completed.append(gy if gy is None or isinstance(gy, Node) else wrap(gy))
        results = iter(completed)
        return [next(results) if kept is None else None for kept in self.template]

    def _checked(self, found: Any) -> tuple[Any, ...]:
        """One gradient for each tensor among the arguments."""
        gradients = found if isinstance(found, tuple) else (found,)
        extra = gradients[self.count :]
        if len(gradients) < self.count or any(gx is not None for gx in extra):
            raise RuntimeError(
                f"{self.name}.backward returned {len(gradients)} gradient(s) for {self.count} "
                "argument(s) of forward: there must be one for each, None for what is no tensor"
            )
        for i, gx in enumerate(gradients[: self.count]):
            if gx is None:
                continue
            if i not in self.positions:
                raise RuntimeError(
                    f"{self.name}.backward returned a gradient for argument {i}, which is no "
                    "tensor: return None for it"
                )
            if not isinstance(gx, Node):
                raise TypeError(
                    f"{self.name}.backward returned a {type(gx).__name__} as the gradient of "
                    f"argument {i}: it must be a Tensor or None"
                )
            edge = self.edges[self.positions.index(i)] if self.edges else None
            if edge is not None and tuple(gx.shape) != tuple(edge.shape):
                raise RuntimeError(
                    f"{self.name}.backward returned a gradient of shape {tuple(gx.shape)} for "
                    f"argument {i}, of shape {tuple(edge.shape)}: they must be equal"
                )
        return tuple([gradients[i] for i in self.positions])


def _recalled(source: Any, saved: tuple[Any, ...]) -> Any:
    """A saved tensor: what the engine kept, one of several outputs, or the tensor itself."""
    if not isinstance(source, tuple):
        return source
    _, position, part = source
    value = saved[position] if part is None else saved[position][part]
    return value if isinstance(value, Node) else wrap(value)


def _detached(x: Any) -> Any:
    return wrap(x.value) if isinstance(x, Node) else x


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For a `backward` that is not made of tensor operations: differentiating it is an error.

    Without this mark, a second derivative through NumPy code would silently be zero.
    """

    @functools.wraps(backward)
    def guarded(ctx: Any, *g: Any) -> Any:
        if not grad_mode.enabled:
            return backward(ctx, *g)
        history = [x for x in (*g, *ctx.saved_tensors) if isinstance(x, Node) and x.live]
        ctx.saved_tensors = tuple(map(_detached, ctx.saved_tensors))
        with no_grad():
            found = backward(ctx, *map(_detached, g))
        gradients = found if isinstance(found, tuple) else (found,)
        return tuple([gx if gx is None else OnceOnly()(gx, *history) for gx in gradients])

    return guarded


class OnceOnly(Op):
    """y = x, with a history that must not be followed."""

    def forward(self, x: Array, *history: Array) -> Array:
        return x

    def vjp(self, g: Any) -> tuple[Any, ...]:
        raise RuntimeError(
            "trying to differentiate twice a Function whose backward is marked "
            "@once_differentiable: write it with tensor operations, and remove the mark"
        )
