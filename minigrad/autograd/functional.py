"""Products with the Jacobian and the Hessian of a function, and both in full.

Each takes `func` and its `inputs`, a tensor or a tuple of tensors, and answers in kind: what
belongs to a single input is a tensor, to several a tuple.  With `create_graph` the results can be
differentiated.  With `strict` a result that is zero only because nothing connects it with the
inputs is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Identity, Node, wrap
from minigrad.autograd.grad_mode import enable_grad
from minigrad.autograd.gradients import grad
from minigrad.ops.shape import stack


def vjp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """The outputs, and v^T J: shaped as the inputs. `v`, shaped as the outputs, is 1 for a scalar.

    Raises RuntimeError where `v` is missing or of another shape.
    """
    with enable_grad():
        xs, in_tuple = _inputs("vjp", inputs, create_graph)
        ys, out_tuple = _outputs("vjp", func(*xs), strict)
        vs = _vectors("output", v, ys)
        found = _gradients(ys, xs, vs, create_graph, strict)
    return _answer(ys, out_tuple, create_graph), _answer(found, in_tuple, create_graph)


def jvp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """The outputs, and J v: shaped as the outputs. `v`, shaped as the inputs, is 1 for a scalar.

    By reverse mode alone: u^T J is linear in u, and its derivative with respect to u, applied
    to v, is J v.  Raises RuntimeError where `v` is missing or of another shape.
    """
    with enable_grad():
        xs, _ = _inputs("jvp", inputs, create_graph)
        ys, out_tuple = _outputs("jvp", func(*xs), strict)
        vs = _vectors("input", v, xs)
        us = [wrap(np.zeros_like(y.value), None, True) for y in ys]
        rows = _gradients(ys, xs, us, True, strict)
        found = _gradients(rows, us, vs, create_graph, strict=False)
    return _answer(ys, out_tuple, create_graph), _answer(found, out_tuple, create_graph)


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """dy/dx, of shape (*y.shape, *x.shape); for tuples, indexed [output][input].

    One backward pass for each element of the outputs; with `strategy="forward-mode"` one `jvp`
    for each element of the inputs.  `vectorize` is accepted and changes nothing.
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise ValueError(f"strategy must be 'reverse-mode' or 'forward-mode', not {strategy!r}")
    with enable_grad():
        xs, in_tuple = _inputs("jacobian", inputs, create_graph)
        ys, out_tuple = _outputs("jacobian", func(*xs), strict)
        block = _rows if strategy == "reverse-mode" else _columns
        jacobians = [
            _answer(block(y, xs, create_graph, strict), in_tuple, create_graph) for y in ys
        ]
    return tuple(jacobians) if out_tuple else jacobians[0]


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a scalar function; for tuples, indexed [input][input].

    Raises RuntimeError where the function's value is not a single element.
    """

    def gradient(*xs: Any) -> Any:
        ys, _ = _outputs("hessian", func(*xs), strict)
        _scalar("hessian", ys)
        found = _gradients(ys, xs, [None], True, strict)
        return tuple(found) if isinstance(inputs, tuple | list) else found[0]

    return jacobian(gradient, inputs, create_graph, strict, vectorize, outer_jacobian_strategy)


def hvp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """The value of a scalar function, and H v: shaped as the inputs, as is `v`.

    It is v^T H, and H is symmetric.  Raises RuntimeError if the value is not a single element.
    """
    with enable_grad():
        xs, in_tuple = _inputs("hvp", inputs, create_graph)
        ys, out_tuple = _outputs("hvp", func(*xs), strict)
        _scalar("hvp", ys)
        vs = _vectors("input", v, xs)
        slopes = _gradients(ys, xs, [None], True, strict)
        found = _gradients(slopes, xs, vs, create_graph, strict)
    return _answer(ys, out_tuple, create_graph), _answer(found, in_tuple, create_graph)


def _inputs(name: str, inputs: Any, create_graph: bool) -> tuple[list[Any], bool]:
    """New tensors with the inputs' values: with their history too, if there is to be a graph."""
    xs, is_tuple = _tensors(f"inputs given to {name}", inputs)
    return [
        Identity()(x) if create_graph and x.requires_grad else wrap(x.value, None, True) for x in xs
    ], is_tuple


def _tensors(what: str, given: Any) -> tuple[list[Any], bool]:
    is_tuple = isinstance(given, tuple | list)
    tensors = list(given) if is_tuple else [given]
    for x in tensors:
        if not isinstance(x, Node):
            raise TypeError(
                f"the {what} must be a Tensor or a tuple of Tensors, not {type(x).__name__}"
            )
    return tensors, is_tuple


def _outputs(name: str, outputs: Any, strict: bool) -> tuple[list[Any], bool]:
    ys, is_tuple = _tensors(f"outputs of the function given to {name}", outputs)
    for i, y in enumerate(ys):
        if strict and not y.requires_grad:
            raise RuntimeError(
                f"strict: output {i} does not require grad: it was not computed from the inputs, "
                "or not by differentiable operations"
            )
    return ys, is_tuple


def _scalar(name: str, ys: list[Any]) -> None:
    if len(ys) != 1 or ys[0].value.size != 1:
        shapes = ", ".join(str(tuple(y.shape)) for y in ys)
        raise RuntimeError(
            f"the function given to {name} must return a single element, and its output has shape "
            f"{shapes}: reduce it (.sum(), .mean())"
        )


def _vectors(what: str, v: Any, like: list[Any]) -> list[Any]:
    """The vector of a product, checked against what it must be shaped as."""
    if v is None:
        if len(like) != 1 or like[0].value.size != 1:
            raise RuntimeError(
                f"v can be left out only where the {what} of the function is a single tensor with "
                "a single element"
            )
        return [wrap(np.ones_like(like[0].value))]
    vs, _ = _tensors("vector v", v)
    if [tuple(u.shape) for u in vs] != [tuple(x.shape) for x in like]:
        raise RuntimeError(
            f"v must be shaped as the {what}s of the function, "
            f"{[tuple(x.shape) for x in like]}, and is {[tuple(u.shape) for u in vs]}"
        )
    return vs


def _gradients(
    ys: Sequence[Any], xs: Sequence[Any], vs: Sequence[Any], create_graph: bool, strict: bool
) -> list[Any]:
    """The gradients of some outputs, zeros where there is no connection."""
    pairs = [(y, v) for y, v in zip(ys, vs, strict=True) if y.requires_grad]
    found: Sequence[Any] = [None] * len(xs)
    if pairs:
        found = grad(
            [y for y, _ in pairs],
            xs,
            [v for _, v in pairs],
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
    if strict and any(g is None for g in found):
        i = next(i for i, g in enumerate(found) if g is None)
        raise RuntimeError(
            f"strict: the result does not depend on input {i}, so its derivative would be zero "
            "everywhere"
        )
    return [wrap(np.zeros_like(x.value)) if g is None else g for x, g in zip(xs, found)]


def _unit(like: Any, element: int) -> Any:
    v = np.zeros_like(like.value)
    v.reshape(-1)[element] = 1
    return wrap(v)


def _rows(y: Any, xs: list[Any], create_graph: bool, strict: bool) -> list[Any]:
    """The Jacobians of one output, a row for each of its elements."""
    rows = [_gradients([y], xs, [_unit(y, j)], create_graph, strict) for j in range(y.value.size)]
    return [
        _stacked([row[i] for row in rows], tuple(y.shape), tuple(x.shape), x)
        for i, x in enumerate(xs)
    ]


def _columns(y: Any, xs: list[Any], create_graph: bool, strict: bool) -> list[Any]:
    """The same, a column for each element of the inputs (see `jvp`)."""
    u = wrap(np.zeros_like(y.value), None, True)
    blocks = []
    for x, row in zip(xs, _gradients([y], xs, [u], True, strict), strict=True):
        columns = [
            _gradients([row], [u], [_unit(x, j)], create_graph, strict=False)[0]
            for j in range(x.value.size)
        ]
        block = _stacked(columns, tuple(x.shape), tuple(y.shape), x)
        split = len(x.shape)
        blocks.append(block.permute(*range(split, block.ndim), *range(split)))
    return blocks


def _stacked(slices: list[Any], outer: tuple[int, ...], inner: tuple[int, ...], like: Any) -> Any:
    if not slices:
        return wrap(np.zeros_like(like.value, shape=outer + inner))
    return stack(slices).reshape(outer + inner)


def _answer(found: Sequence[Any], as_tuple: bool, create_graph: bool) -> Any:
    if not create_graph:
        found = [x.detach() for x in found]
    return tuple(found) if as_tuple else found[0]
