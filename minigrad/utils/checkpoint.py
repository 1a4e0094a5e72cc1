"""Trading time for memory: forget what a part of the forward pass saved, compute it again."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from minigrad import random
from minigrad.autograd import engine
from minigrad.autograd.engine import Node, Op, wrap
from minigrad.autograd.grad_mode import enable_grad, grad_mode


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool = False,
    preserve_rng_state: bool = True,
    **keywords: Any,
) -> Any:
    """`function(*args, **keywords)`, whose intermediate results are not kept for the backward pass.

    When the backward pass gets there, the function runs a second time (with the same random
    numbers: the same dropout masks) and all that was forgotten is put back.  The graph itself is
    untouched, so gradients of inputs and of parameters, hooks and higher orders are the same as
    without.  Where checkpoints are nested, the outer one recomputes the inner ones at one go.

    `use_reentrant` is accepted and changes nothing.  Raises RuntimeError in the backward pass if
    the function did not do the same the second time, or a tensor it used was changed in between.
    """
    if not grad_mode.enabled or _recomputing.active:
        return function(*args, **keywords)
    held = {name: _held(x) for name, x in keywords.items()}
    segment = _Segment(function, [_held(x) for x in args], held, preserve_rng_state)
    return segment.first_run()


class _Recomputing(threading.local):
    active = False


_recomputing = _Recomputing()


def _held(x: Any) -> Any:
    """The argument as it is now: what the caller writes to it later does not reach it."""
    if isinstance(x, engine._ARRAYS):
        return x.copy()
    if not isinstance(x, Node) or (x.requires_grad and x.op is None):
        return x
    return wrap(x.value, x.op, x.requires_grad)


class _Recorder:
    """Lists the ops that this thread applies and records."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.thread = threading.get_ident()

    def forward(self, op: Op, inputs: Any, output: Any) -> None:
        if op.is_recorded and threading.get_ident() == self.thread:
            self.ops.append(op)

    def failed(self, op: Op, inputs: Any) -> None: ...

    def backward(self, op: Op, g: Any, gradients: Any) -> None: ...


class _Segment:
    """A part of the forward pass, and what it takes to run it again."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: list[Any],
        keywords: dict[str, Any],
        preserve_rng_state: bool,
    ) -> None:
        self.function, self.args, self.keywords = function, args, keywords
        self.rng_state = random.get_rng_state() if preserve_rng_state else None

    def run(self) -> tuple[Any, list[Op]]:
        recorder = _Recorder()
        engine.observers.append(recorder)
        try:
            with enable_grad():
                result = self.function(*self.args, **self.keywords)
        finally:
            engine.observers.remove(recorder)
        return result, recorder.ops

    def first_run(self) -> Any:
        """Run, and forget."""
        result, ops = self.run()
        # The ops point here (through _Forgotten): pointing back at them would be a cycle.
        self.ops = [weakref.ref(op) for op in ops]
        self.signature = [(op.name, op.shape) for op in ops]
        for op in ops:
            large = any(hasattr(value, "shape") or type(value) is tuple for value in op.saved)
            if large or op.residuals is not None:
                op.saved = _Forgotten(self, weakref.ref(op), len(op.saved))
                op.residuals = None
        return result

    def recall(self) -> None:
        """Run again, and give each op back what it had saved."""
        state = random.get_rng_state()
        if self.rng_state is not None:
            random.set_rng_state(self.rng_state)
        _recomputing.active = True
        try:
            _, ops = self.run()
        finally:
            _recomputing.active = False
            random.set_rng_state(state)
        if [(op.name, op.shape) for op in ops] != self.signature:
            raise RuntimeError(_DIFFERENT.format("it applied other operations, or other shapes"))
        pairs = [(ref(), new) for ref, new in zip(self.ops, ops, strict=True)]
        originals: dict[Any, Any] = {new: old for old, new in pairs}
        for old, new in pairs:
            if old is None or old.edges is None:  # nobody needs it any more
                continue
            for edge, again in zip(old.edges, new.edges or (), strict=True):
                if edge is not None and edge.written > old.time:
                    raise RuntimeError(
                        f"a tensor of shape {tuple(edge.shape)} that a checkpointed function used "
                        "was changed before backward() could compute it again (by an optimizer "
                        "step, through .data, or in place under no_grad)"
                    )
                if not _same_place(edge, again, originals):
                    raise RuntimeError(_DIFFERENT.format(f"{old.name} got another tensor"))
            old.saved, old.residuals = new.saved, new.residuals


_DIFFERENT = (
    "a checkpointed function did not do the same when it was run again for the backward pass: {0}. "
    "It depends on something that changed, such as a variable of the enclosing function that a "
    "loop has set anew: pass tensors as arguments, checkpoint(f, x)"
)


def _same_place(edge: Any, again: Any, originals: dict[Any, Any]) -> bool:
    """Whether a gradient sent to `again`, in the second run, would go to `edge` in the first."""
    if isinstance(edge, engine.Output) and isinstance(again, engine.Output):
        return edge.index == again.index and _same_place(edge.edges[0], again.edges[0], originals)
    return edge is originals.get(again, again)


class _Forgotten(Sequence[Any]):
    """Stands for what an op saved; whoever looks at it sets off the second run."""

    def __init__(self, segment: _Segment, op: weakref.ref[Op], length: int) -> None:
        self.segment, self.op, self.length = segment, op, length

    def _recalled(self) -> Sequence[Any]:
        op = self.op()
        assert op is not None
        if op.saved is self:
            self.segment.recall()
        return op.saved

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: Any) -> Any:
        return self._recalled()[i]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._recalled())
