"""What users call: `backward` and `grad` check what they are given, and start the walk."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Node, accumulate, run_backward, wrap


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradient of `tensors`, one or several, to `.grad` of every leaf they depend on.

    With `inputs`, one tensor or several, to theirs alone.  The graph is freed on the way unless
    `retain_graph` (by default as `create_graph`).
    """
    targets = None if inputs is None else _targets("backward", inputs)
    roots, starts = _starts(tensors, grad_tensors, create_graph)
    keep = create_graph if retain_graph is None else retain_graph
    found = run_backward(roots, starts, targets, keep, create_graph)
    if targets is not None:
        accumulate((t, g) for t, g in zip(targets, found, strict=True) if g is not None)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs` with respect to `inputs`: a tuple, one for each input.

    Both may be one tensor or a sequence.  Outputs that are not scalars need `grad_outputs`.  With
    `create_graph` the result can be differentiated again.  An input that the outputs do not depend
    on is an error, or None with `allow_unused`, or zero with `materialize_grads`.  `.grad` of the
    leaves is not touched.  (`only_inputs`, kept by PyTorch from its early days, changes nothing.)
    """
    if allow_unused is False and materialize_grads:
        raise ValueError("materialize_grads needs allow_unused, which was set to False")
    targets = _targets("grad", inputs)
    roots, starts = _starts(outputs, grad_outputs, create_graph)
    keep = create_graph if retain_graph is None else retain_graph
    found = run_backward(roots, starts, targets, keep, create_graph)
    for i, g in enumerate(found):
        if g is None and materialize_grads:
            found[i] = np.zeros_like(targets[i].value)
        elif g is None and not allow_unused:
            raise RuntimeError(
                f"input {i} of grad() is not used in computing the outputs (was it replaced by a "
                "new tensor after use?). Pass allow_unused=True to get None for it"
            )
    return tuple([g if g is None or isinstance(g, Node) else wrap(g) for g in found])


def _targets(name: str, inputs: Any) -> list[Node]:
    """The inputs, one or several, that gradients are asked for."""
    targets = [inputs] if isinstance(inputs, Node) else list(inputs)
    if not targets:
        raise RuntimeError(f"{name}() needs non-empty inputs")
    for i, target in enumerate(targets):
        if not target.requires_grad:
            raise RuntimeError(f"input {i} of {name}() does not require grad")
    return targets


def _starts(outputs: Any, given: Any, create_graph: bool) -> tuple[list[Node], list[Any]]:
    """The outputs, one or several, and the gradient to start from at each."""
    if given is None and isinstance(outputs, Node):
        return [outputs], [_starting_gradient(outputs, None, create_graph)]
    roots = [outputs] if isinstance(outputs, Node) else list(outputs)
    gradients = [given] * len(roots) if given is None or isinstance(given, Node) else list(given)
    if len(gradients) != len(roots) or (isinstance(given, Node) and len(roots) != 1):
        raise ValueError(f"{len(roots)} outputs, but {len(gradients)} grad_outputs")
    return roots, [
        _starting_gradient(r, g, create_graph) for r, g in zip(roots, gradients, strict=True)
    ]


def _starting_gradient(root: Node, given: Any, create_graph: bool) -> Any:
    """The gradient to start from: 1 for a scalar, otherwise it must be given."""
    if not root.live:
        raise RuntimeError(
            "nothing to differentiate: the output does not require grad and has no grad_fn. Was it "
            "computed under no_grad, from .detach()ed values, or from tensors made without "
            "requires_grad=True?"
        )
    value = root.value
    if given is None:
        if value.size != 1:
            raise RuntimeError(
                f"grad can be implicitly created only for scalar outputs, and this one has shape "
                f"{tuple(value.shape)}: reduce it (.sum(), .mean()), or pass the gradient with "
                "respect to it"
            )
        one = np.empty_like(value)
        one.fill(1)  # a third of what np.ones_like takes
        return wrap(one) if create_graph else one
    given = given if isinstance(given, Node) else wrap(given)
    if given.shape != value.shape:
        raise RuntimeError(
            f"the gradient given has shape {tuple(given.shape)}, the output {tuple(value.shape)}"
        )
    if given.value.dtype != value.dtype:
        given = wrap(given.value.astype(value.dtype))
    return given if create_graph else given.value
