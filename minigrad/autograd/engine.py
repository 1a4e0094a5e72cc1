"""Reverse-mode automatic differentiation. Read this file first.

Three ideas carry the whole library.

1.  An **op** is one small object: a value rule (`forward`, on arrays) and a gradient rule (`vjp`),
    each written once.

        class Tanh(Op):
            '''y = tanh(x),  dy/dx = 1 - y**2.'''

            def forward(self, x):
                return np.tanh(x)

            def vjp(self, g, y):
                return (g * (1 - y * y),)

    `g` is the gradient of the final scalar with respect to `y`, and `vjp` returns that gradient
    with respect to each input.  The rule gets what it names, and only that is kept in memory until
    the backward pass: `y` is the output, any other name is an input of `forward`.

2.  The **graph** is made of the ops that were applied.  A tensor points at the op that made it, an
    op points at the ops that made its inputs (`edges`), and a leaf (a parameter) is its own end.
    Everything points backwards in time: no reference cycle, so memory goes with the last reference.

3.  The **walk** (`run_backward`; users start it by `backward` or `grad`, in gradients.py) visits
    the ops, each after everything that used its result, and adds up what they send to their inputs.

`vjp` is written with operators and other ops, never with `np.`: the same line then runs on arrays
(fast: what ops do when no tensor is among their inputs) and on tensors (`create_graph=True`: the
backward pass is itself recorded, and can be differentiated again).
"""

from __future__ import annotations

import inspect
import itertools
import operator
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, ClassVar, Protocol

import numpy as np

from minigrad.autograd.grad_mode import grad_mode

Array = Any  # a numpy.ndarray, or a cupy.ndarray: nothing here may assume which


class Observer(Protocol):
    """Sees every op go by: debugging, profiling and drawing graphs all hang on this one seam."""

    def forward(self, op: Op, inputs: tuple[Any, ...], output: Any) -> None:
        """`op` was applied to `inputs` (as given) and made `output` (a Node, or a tuple)."""

    def failed(self, op: Op, inputs: tuple[Any, ...]) -> None:
        """`op.forward` raised on `inputs`."""

    def backward(self, op: Op, g: Any, gradients: Sequence[Any]) -> None:
        """`op.vjp` turned `g` into `gradients`, one for each input (None: no gradient)."""


observers: list[Observer] = []  # empty nearly always, and then free


tick = itertools.count(1).__next__  # the time: how many ops were recorded and values changed
_time = operator.attrgetter("time")


class Node:
    """A value in the graph. `Tensor` is a Node with operators and methods.

    Arrays inside nodes are never written to, with one exception: an optimizer may, when it holds
    the only reference.  So aliasing is harmless: `y = x.reshape(...)` shares memory with `x`, and
    writing to `y` gives `y` a new array.
    """

    __slots__ = ("__dict__", "__weakref__", "live", "op", "value")  # the rest is rarely set

    result_type: ClassVar[type[Node]]  # what ops return: tensor.py says which
    time: ClassVar[int] = 0  # a leaf counts as older than every op
    edges: ClassVar[tuple[()]] = ()  # a leaf is where the graph ends

    value: Array
    op: Op | None  # the op that made the value; None for a leaf
    live: bool  # requires_grad, which in a Tensor checks what it is set to
    _grad: Any = None  # what backward() left here: a Node; Tensor.grad checks what it is set to
    hooks: dict[int, Callable[[Any], Any]] | None = None
    written: int = 0  # when it was last changed without a record
    joined: Any = None  # where its value lay in one array with others (memory.py)

    shape = property(operator.attrgetter("value.shape"))

    @property
    def requires_grad(self) -> bool:
        return self.live

    @property
    def edge(self) -> Op | Node:
        """Where the gradient of this value goes: to the op that made it, or to the leaf itself."""
        return self.op or self

    @property
    def is_joined(self) -> bool:
        """Whether the value lies in one array with others."""
        return self.joined is not None and any(self.value is part for part in self.joined.parts)

    def note_write(self) -> None:
        """Remember that the value was changed behind the graph's back (see `Op.check_fresh`)."""
        note_writes((self,))


def note_writes(nodes: Iterable[Node]) -> None:
    """`note_write` for several at once."""
    global _last_write
    _last_write = now = tick()
    for node in nodes:
        (node.op or node).written = now


# When any node was last changed without a record.  No attribute of Node: setting one makes Python
# forget where it found all others, and a small training step 4 % slower.
_last_write = 0


_new = object.__new__


def wrap(value: Array, op: Op | None = None, requires_grad: bool = False) -> Any:
    """A new node around `value`."""
    node = _new(Node.result_type)
    node.value = value if value.__class__ is np.ndarray else _as_array(value)
    node.op = op
    node.live = requires_grad
    return node


_NUMBERS = (np.generic, float, int)  # isinstance takes three times as long with a union
_ARRAYS: tuple[Any, ...] = (np.ndarray,)  # device.py adds cupy.ndarray when it is first used


def _as_array(value: Any) -> Array:
    """NumPy's reductions return scalars, not 0-d arrays; nodes hold arrays only."""
    return np.asarray(value) if isinstance(value, _NUMBERS) else value


_STAR = inspect.Parameter.VAR_POSITIONAL
_FAST_CALLS: dict[int, Callable[..., Any]] = {}  # by the number of inputs; filled below


def picks(places: tuple[int, ...]) -> operator.itemgetter[Any]:
    """What takes the values at these places of a tuple, as a tuple."""
    if len(places) == 1:
        return operator.itemgetter(slice(places[0], places[0] + 1 or None))
    return operator.itemgetter(*places)


class Op:
    """One application of an operation: its rules, its settings, and its place in the graph.

    Settings (an axis, a shape) are given to the constructor, inputs to the call:
    `Sum(axis=0)(x)`.  Called on arrays only, an op returns the plain result of `forward`; called
    with at least one Node, it returns a Node, recorded if one of them requires a gradient.

    To define one, write `forward` and `vjp`.  `vjp(self, g, ...)` returns a tuple with a gradient
    (or None) for each input.  It never writes into `g` and skips what `self.wants(i)` denies.
    """

    broadcasts: ClassVar[bool] = False  # inputs broadcast together: the engine sums gradients back
    bilinear: ClassVar[bool] = False  # linear in each of two inputs: keeps a factor only if needed
    twin: ClassVar[Callable[..., Any] | None] = None  # fused ops: the same from primitive ops

    edges: Sequence[Op | Node | None] | None = ()  # None: freed by a backward pass
    saved: Sequence[Any] = ()
    time: int = 0  # when the op was applied
    written: int = 0  # when its output was last changed without a record
    residuals: Any = None  # what forward leaves here for vjp, besides inputs and output
    shape: Any = None  # of the output (of each output, if there are several)
    hooks: dict[int, Callable[[Any], Any]] | None = None
    outputs: Sequence[Any] = ()  # weak references to several outputs, if vjp names them
    wanted: tuple[bool, ...] | None = None  # set when only some inputs' gradients are asked for

    _saves: ClassVar[tuple[int, ...] | None] = ()  # which values vjp names; -1: output; None: all
    _keep: ClassVar[operator.itemgetter[Any]]  # takes these from (*inputs, output), as a tuple

    def forward(self, *inputs: Any) -> Any:
        """The value, from arrays (and Python scalars)."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def vjp(self, g: Any, *saved: Any) -> tuple[Any, ...]:
        """The gradient with respect to each input, given that with respect to the output."""
        raise NotImplementedError(f"{type(self).__name__} defines no vjp(): no gradient is known")

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Read off the gradient rule's own signature what has to be kept for it."""
        super().__init_subclass__(**keywords)
        inputs = list(inspect.signature(cls.forward).parameters.values())[1:]
        rule = list(inspect.signature(cls.vjp).parameters.values())[2:]
        names = [p.name for p in inputs]
        unknown = [p.name for p in rule if p.name not in (*names, "y") and p.kind is not _STAR]
        if unknown:
            raise TypeError(
                f"{cls.__name__}.vjp names {unknown}: it can have the inputs of forward {names} "
                "and 'y', the output"
            )
        if any(p.kind is _STAR for p in rule):
            cls._saves = None
        else:
            cls._saves = tuple([-1 if p.name == "y" else names.index(p.name) for p in rule])
        if cls._saves:
            cls._keep = picks(cls._saves)
        if cls.__call__ in (Op.__call__, *_FAST_CALLS.values()):
            fixed = cls._saves is not None and all(p.kind is not _STAR for p in inputs)
            cls.__call__ = _FAST_CALLS.get(len(inputs) if fixed else 0, Op.__call__)  # type: ignore

    def __call__(self, *inputs: Any) -> Any:
        """Apply the op, and record it if a gradient may be wanted."""
        values: list[Any] = []
        edges: list[Op | Node | None] = []
        live = traced = lent = False
        for x in inputs:
            if isinstance(x, Node):
                traced = True
                values.append(x.value)
                if x.live:
                    live = True
                    edges.append(x.op or x)
                    continue
            else:
                values.append(x)
                if x is not None:
                    lent = lent or isinstance(x, _ARRAYS)
            edges.append(None)
        live = live and grad_mode.enabled
        if live:
            if self.edges != ():
                raise RuntimeError(
                    f"this {self.name} was applied before: an op object is one application. Make "
                    f"a new one for each: {self.name}()(x)"
                )
            self.edges = edges
            if lent:  # an array has an owner, who may write to it before the backward pass
                pairs = zip(inputs, values, strict=True)
                values = [x.copy() if isinstance(x, _ARRAYS) else value for x, value in pairs]
        try:
            y = self.forward(*values)
        except (ValueError, TypeError) as error:
            raise self._clearer(error, inputs, values) from error
        if not traced:
            return y
        if live:
            out = self._record(values, y)
        elif type(y) is tuple:
            out = tuple([wrap(part) for part in y])
        else:
            out = wrap(y)
        if observers:
            for observer in observers:
                observer.forward(self, inputs, out)
        return out

    def _record(self, values: list[Any], y: Any) -> Any:
        """Keep what `vjp` names, and make the output(s) point here."""
        self.time = tick()
        saves = self._saves
        if saves is None:
            self.saved = values
        elif self.bilinear:  # the gradient of one factor needs the other
            a, b = values
            to_a, to_b = self.edges  # type: ignore[misc]
            self.saved = (None if to_b is None else a, None if to_a is None else b)
        elif saves:
            self.saved = self._keep((*values, y))
        if type(y) is tuple:
            self.shape = [part.shape for part in y]
            nodes = []
            for i, part in enumerate(y):
                op = Output(self, i, part.shape) if part.dtype.kind == "f" else None
                nodes.append(wrap(part, op, op is not None))
            if saves and -1 in saves:
                self.outputs = [node.op and weakref.ref(node.op) for node in nodes]
            return tuple(nodes)
        self.shape = y.shape
        return wrap(y, self, True)

    @property
    def is_recorded(self) -> bool:
        """Whether a backward pass may come: if not, `forward` need leave nothing for it."""
        return bool(self.edges)

    def wants(self, i: int) -> bool:
        """Whether the gradient of input `i` is asked for. (Without a graph, all are.)"""
        if self.wanted is not None:
            return self.wanted[i]
        return not self.edges or self.edges[i] is not None

    def check_fresh(self) -> None:
        """Refuse to use saved values that were changed since: the gradient would be of nothing."""
        for position, i in enumerate(self._saved_positions()):
            if self.saved[position] is None:
                continue
            node = self if i == -1 else self.edges[i]  # type: ignore[index]
            if node is not None and node.written > self.time:
                which = "its output" if i == -1 else f"input {i}"
                raise RuntimeError(
                    f"{self.name}: {which}, of shape {tuple(node.shape)}, was changed after "
                    f"{self.name} used it and before backward() needed it (by an optimizer step, "
                    "through .data, or in place under no_grad). Call backward() before changing "
                    "it, or compute with a .clone()"
                )

    def _saved_positions(self) -> Iterable[int]:
        return range(len(self.saved)) if self._saves is None or self.bilinear else self._saves

    def saved_nodes(self) -> tuple[Any, ...]:
        """The saved values as tensors that know where they came from, for `create_graph`."""
        nodes: list[Any] = []
        for value, i in zip(self.saved, self._saved_positions(), strict=True):
            edge = self if i == -1 else self.edges[i]  # type: ignore[index]
            if edge is None:  # a constant; anything but an array (a scalar, an index) stays as is
                nodes.append(wrap(value) if isinstance(value, _ARRAYS) else value)
            elif value is None:
                nodes.append(None)
            elif isinstance(edge, Node):
                nodes.append(edge)
            elif type(value) is tuple:
                nodes.append(
                    tuple([wrap(part, self._output(j), True) for j, part in enumerate(value)])
                )
            else:
                nodes.append(wrap(value, edge, True))
        return tuple(nodes)

    def _output(self, i: int) -> Output:
        """Output `i` as its users know it, if there are some."""
        known = self.outputs[i]
        return (known and known()) or Output(self, i, self.shape[i])

    @property
    def name(self) -> str:
        """The op's name in messages."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def _clearer(self, error: Exception, inputs: tuple[Any, ...], values: list[Any]) -> Exception:
        """NumPy's complaint, with the op and its inputs named, as the kind PyTorch raises."""
        for observer in observers:
            observer.failed(self, inputs)
        kind: type[Exception] = RuntimeError
        if isinstance(error, IndexError):  # NumPy's AxisError is both
            kind = IndexError
        elif isinstance(error, TypeError):
            kind = TypeError
        came = ", ".join(
            f"{tuple(v.shape)} {v.dtype}" if hasattr(v, "shape") else type(v).__name__
            for v in values
        )
        return kind(f"{self.name}({came}): {error}")


# Most ops have one input or two.  For those, `Op.__call__` again with its loops and calls written
# out: recording takes a third less time.  Whatever is not the usual case goes the general way.


def _call_with_one(self: Op, x: Any) -> Any:
    value = x
    if isinstance(x, Node) and x.live and grad_mode.enabled and not observers and not self.edges:
        value = x.value
        self.edges = (x.op or x,)
    elif x.__class__ is not np.ndarray:
        return Op.__call__(self, x)
    try:
        y = self.forward(value)
    except (ValueError, TypeError) as error:
        raise self._clearer(error, (x,), [value]) from error
    if value is x:  # an array: a gradient rule is at work
        return y
    if y.__class__ is not np.ndarray:
        if not isinstance(y, np.generic):
            return self._record([value], y)
        y = np.asarray(y)  # NumPy's reductions return scalars
    if self._saves:
        self.saved = self._keep((value, y))
    self.time = tick()
    self.shape = y.shape
    node = _new(Node.result_type)
    node.value = y
    node.op = self
    node.live = True
    return node


def _call_with_two(self: Op, a: Any, b: Any) -> Any:
    if isinstance(a, Node):
        value_a, to_a = a.value, (a.op or a) if a.live else None
    elif type(a) is float:
        value_a, to_a = a, None
    else:
        return Op.__call__(self, a, b)
    if isinstance(b, Node):
        value_b, to_b = b.value, (b.op or b) if b.live else None
    elif type(b) is float:
        value_b, to_b = b, None
    else:
        return Op.__call__(self, a, b)
    live = grad_mode.enabled and not (to_a is None and to_b is None)
    if not live or observers or self.edges:
        return Op.__call__(self, a, b)
    self.edges = (to_a, to_b)
    try:
        y = self.forward(value_a, value_b)
    except (ValueError, TypeError) as error:
        raise self._clearer(error, (a, b), [value_a, value_b]) from error
    if y.__class__ is not np.ndarray:
        if not isinstance(y, np.generic):
            return self._record([value_a, value_b], y)
        y = np.asarray(y)
    if self.bilinear:
        self.saved = (None if to_b is None else value_a, None if to_a is None else value_b)
    elif self._saves:
        self.saved = self._keep((value_a, value_b, y))
    self.time = tick()
    self.shape = y.shape
    node = _new(Node.result_type)
    node.value = y
    node.op = self
    node.live = True
    return node


_FAST_CALLS.update({1: _call_with_one, 2: _call_with_two})


class Output(Op):
    """Output number `index` of an op that has several: it stands between that op and its users."""

    def __init__(self, op: Op, index: int, shape: tuple[int, ...]) -> None:
        self.edges: Sequence[Op] = (op,)
        self.time = tick()
        self.index = index
        self.shape = shape

    def deliver(
        self, g: Any, cotangents: dict[Op | Node, Any], ready: list[tuple[int, Op]]
    ) -> None:
        """Put `g` where the op's rule expects it: in a list with a place for each output.

        All outputs share that list: were each to bring its own, the backward pass of the slices of
        T time steps would take T * T steps.
        """
        op = self.edges[0]
        held = cotangents.get(op)
        if held is None:  # not setdefault: it would make the list each time
            held = cotangents[op] = [None] * len(op.shape)
            heappush(ready, (-op.time, op))
        held[self.index] = g if held[self.index] is None else held[self.index] + g


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum `g` over the axes along which an input of this `shape` was repeated.

    Each of the repeated elements had its own effect on the output: the input's gradient is their
    sum.  `(2, 3) + (3,)`: the gradient of the second is the sum over the rows.
    """
    extra = g.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1
    )
    return g.sum(axes).reshape(shape) if axes else g.reshape(shape)


def run_backward(
    roots: Sequence[Node],
    gradients: Sequence[Any],
    targets: Sequence[Node] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> list[Any]:
    """Walk the graph backwards from `roots`, whose gradients are given.

    With `targets`, return their gradients (None where a target has no part in the roots) and touch
    nothing else; without, leave the gradients in `.grad` of the leaves.  `gradients` and the
    result are arrays, or Nodes with `create_graph`.
    """
    before, grad_mode.enabled = grad_mode.enabled, create_graph
    try:
        return _walk(roots, gradients, targets, retain_graph, create_graph)
    finally:
        grad_mode.enabled = before


def _walk(
    roots: Sequence[Node],
    gradients: Sequence[Any],
    targets: Sequence[Node] | None,
    retain_graph: bool,
    create_graph: bool,
) -> list[Any]:
    cotangents: dict[Op | Node, Any] = {}  # the gradients sent so far
    for root, g in zip(roots, gradients, strict=True):
        place: Any = root.op or root
        cotangents[place] = cotangents[place] + g if place in cotangents else g
    wanted = {target.edge for target in targets} if targets else set()
    leading = _leading_to(wanted, cotangents) if wanted else wanted
    useful = leading | wanted
    # The ops among the cotangents, as a heap, the newest first.
    ready: list[tuple[int, Any]] = [
        (-place.time, place)
        for place in cotangents
        if place.time and (not wanted or place in useful)
    ]
    heapify(ready)
    found: dict[Op | Node, Any] = {}

    # Why the order matters: in b = a + a; c = b + b, the op that made b is sent 1 twice by c.  Were
    # its rule run after the first, `a` would get 1 + 1 now, and 2 + 2 when the second arrives.
    # Newest first is always right: whatever used a result was made after it, and is either ready
    # too or behind an op that is, which is newer still.
    while ready:
        node = heappop(ready)[1]
        g = cotangents.pop(node)
        if node.hooks:
            g = _run_hooks(node, g)
        if wanted:
            if node in wanted:
                found[node] = g
            if node not in leading:
                continue
        if type(node) is Output:
            node.deliver(g, cotangents, ready)
            continue
        edges: Any = node.edges
        if edges is None:
            raise RuntimeError(_FREED.format(node))
        if wanted:
            node.wanted = tuple([edge in useful for edge in edges])
        elif node.wanted is not None:  # from an earlier pass that kept the graph
            node.wanted = None
        if node.time < _last_write:
            node.check_fresh()
        sent = _recorded_vjp(node, g) if create_graph else node.vjp(g, *node.saved)
        if type(sent) is not tuple or len(sent) != len(edges):
            raise RuntimeError(_MISCOUNTED.format(node.name, len(edges), _came(sent)))
        if observers:
            for observer in observers:
                observer.backward(node, g, sent)
        if not retain_graph:  # let go of everything that the rule needed
            node.edges = node.residuals = None
            node.saved = ()
        for edge, gx in zip(edges, sent):
            if edge is None or gx is None or (wanted and edge not in useful):
                continue
            if gx.shape != edge.shape:
                gx = _fitted(node, gx, edge.shape)
            if edge in cotangents:
                gx = cotangents[edge] + gx
            elif edge.time:
                heappush(ready, (-edge.time, edge))
            cotangents[edge] = gx

    arrived = [
        (leaf, _run_hooks(leaf, g) if leaf.hooks else g)
        for leaf, g in cotangents.items()
        if not wanted or leaf in wanted
    ]
    if targets is None:
        accumulate(arrived)  # type: ignore[arg-type]
        return []
    found.update(arrived)
    return [found.get(target.edge) for target in targets]


def _leading_to(wanted: set[Any], starts: Iterable[Op | Node]) -> set[Any]:
    """The ops behind `starts`, and these themselves, that used a `wanted` value, however far on."""
    nodes: list[Any] = [start for start in starts if start.time]
    seen: set[Any] = {None, *nodes}
    for node in nodes:  # the list grows as we go
        if node.edges is None and any(target.time < node.time for target in wanted):
            raise RuntimeError(_FREED.format(node))  # who knows whether they lie behind it
        for edge in node.edges or ():
            if edge not in seen:
                seen.add(edge)
                if edge.time:
                    nodes.append(edge)
    leading: set[Any] = set()
    for node in sorted(nodes, key=_time):
        if any(edge in wanted or edge in leading for edge in node.edges or ()):
            leading.add(node)
    return leading


_FREED = (
    "backward through {0} a second time: its graph was freed by the first backward(). If you need "
    "two backward passes, call the first with retain_graph=True. If this is a recurrent state "
    "carried over from the previous batch, cut its history first: h = h.detach() "
    "(for an LSTM: h, c = h.detach(), c.detach())"
)

_MISCOUNTED = "{0}.vjp must return a tuple with a gradient, or None, for each of {1} input(s): {2}"


def _came(sent: Any) -> str:
    return f"it has {len(sent)}" if type(sent) is tuple else f"it is a {type(sent).__name__}"


def _fitted(op: Op, g: Any, shape: tuple[int, ...]) -> Any:
    """Give the gradient the shape of its input, or say that the rule is wrong."""
    if not op.broadcasts:
        fix = "set broadcasts = True on an op whose inputs broadcast together"
        if tuple(g.shape) == tuple(shape)[::-1]:
            fix = "is it transposed?"
        raise RuntimeError(
            f"{op.name}.vjp returned a gradient of shape {tuple(g.shape)} for an input of shape "
            f"{tuple(shape)}: they must be equal ({fix})"
        )
    return unbroadcast(g, shape)


def _recorded_vjp(op: Op, g: Any) -> Sequence[Any]:
    """The gradient rule, run on tensors so that it is itself recorded."""
    inputs = op.saved_nodes()
    if op.twin is None:
        return op.vjp(g, *inputs)
    # A fused rule works on arrays only: differentiate its plain twin instead.  On copies of the
    # inputs: where one of them depends on another, or is given twice, the gradient with respect
    # to it would be the total derivative, while an op owes its caller the partial one.
    copies = [Identity()(x) if isinstance(x, Node) else x for x in inputs]
    wanted = [i for i, x in enumerate(copies) if isinstance(x, Node) and x.requires_grad]
    outputs = op.twin(*copies)
    pairs = [(outputs, g)] if isinstance(outputs, Node) else zip(outputs, g, strict=True)
    used = [(y, gy) for y, gy in pairs if gy is not None]
    found = run_backward(
        [y for y, _ in used],
        [gy for _, gy in used],
        [copies[i] for i in wanted],
        retain_graph=True,
        create_graph=True,
    )
    sent: list[Any] = [None] * len(inputs)
    for i, gx in zip(wanted, found, strict=True):
        sent[i] = gx
    return tuple(sent)


def _run_hooks(node: Op | Node, g: Any) -> Any:
    """Show `g` to the hooks of a node, as a tensor; what a hook returns takes its place."""
    assert node.hooks is not None
    is_node = isinstance(g, Node)
    shown = Identity()(g) if is_node else wrap(g)  # its own: others may be sent the same `g`
    for hook in list(node.hooks.values()):
        changed = hook(shown)
        if changed is not None:
            if tuple(changed.shape) != tuple(shown.shape):
                raise RuntimeError(
                    f"a hook returned a gradient of shape {tuple(changed.shape)} in place of one "
                    f"of shape {tuple(shown.shape)}"
                )
            shown = changed
    return shown if is_node else shown.value


def accumulate(gradients: Iterable[tuple[Node, Any]]) -> None:
    """Add to `.grad` of each leaf its gradient."""
    with _one_at_a_time:
        for leaf, g in gradients:
            # A tensor of its own for each: a + b sends the same one to both, and `.grad` is changed
            g = Identity()(g) if isinstance(g, Node) else wrap(g)
            if g.value.dtype != leaf.value.dtype:
                raise RuntimeError(
                    f"a gradient of dtype {g.value.dtype} arrived at a leaf of dtype "
                    f"{leaf.value.dtype}: an op's vjp changed the precision"
                )
            held = leaf._grad
            if held is None:
                leaf._grad = g
            elif g.live or held.live:
                leaf._grad = held + g
            else:
                held.value = held.value + g.value


_one_at_a_time = threading.RLock()  # two threads may have the same leaf in their graphs


class Identity(Op):
    """y = x: a new place in the graph for the same value."""

    def forward(self, x: Array) -> Array:
        return x

    def vjp(self, g: Any) -> tuple[Any]:
        return (g,)
