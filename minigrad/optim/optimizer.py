"""What all optimizers share: parameter groups, state, and where a rule may write."""

from __future__ import annotations

import copy
import math
import sys
from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from minigrad.autograd import engine
from minigrad.autograd.engine import Array, wrap
from minigrad.autograd.grad_mode import enable_grad
from minigrad.cuda import elementwise as gpu
from minigrad.device import array_module, device_of, to_device
from minigrad.tensor import Tensor

CHUNK = 65_536  # elements: a rule passes over its data a dozen times, and they should stay in cache
SMALL = 4_096  # elements: parameters up to this size are updated together


def _references(tensor: Tensor) -> int:
    return sys.getrefcount(tensor.value)


_ALONE = _references(wrap(np.zeros(1)))  # what this counts for an array that only a tensor holds


def owned(tensor: Tensor) -> Array:
    """The array of `tensor`, ready to be written to: first replaced by a copy if others hold it.

    Tensors are values: `before = p.detach()` must not change when `p` is updated.  Whatever could
    still show the old value holds a reference to the array: another tensor, an op that saved it for
    a backward pass, and any view (NumPy's and CuPy's views hold their base).  If there is none but
    the tensor's own, nobody can tell a new array from the old one written over.
    """
    alone = _references(tensor) == _ALONE
    value = tensor.value
    if not alone or value.base is not None or not value.flags.c_contiguous:
        tensor.value = value = value.copy()
    return value


def _row(size: int, like: Array) -> Array:
    """An array (size,) to be filled, which starts where a line of the processor's cache does.

    NumPy's start anywhere, and a rule's passes over them take a fifth longer.
    """
    if not isinstance(like, np.ndarray):
        return np.empty_like(like, shape=(size,))
    line = 64  # bytes
    room = np.empty(size * like.itemsize + line, np.uint8)
    start = -room.ctypes.data % line
    return room[start : start + size * like.itemsize].view(like.dtype)


class _Block:
    """Parameters that are updated in one go: of one group, dtype, device and age.

    `state` has their state end to end, in one array for each name, of which every parameter's is a
    view.  A rule is a dozen NumPy calls, and for a bias each costs more than its arithmetic: one
    parameter at a time, Adagrad for an RNN and a Linear takes 1.4 times as long (min-char-rnn of
    `python -m benchmarks.cpu`).
    """

    def __init__(
        self,
        members: list[tuple[Tensor, dict[str, Any]]],
        names: tuple[str, ...],
        shown: tuple[str, ...],
        age: int,
    ) -> None:
        self.params = [p for p, _ in members]
        like = self.params[0].value
        self.dtype, self.device = like.dtype, like.device
        self.shapes = [p.value.shape for p in self.params]
        self.count = np.array(float(age))
        self.state = [self._joined([state[name] for _, state in members]) for name in names]
        for _, state in members:
            for name in shown:
                state[name] = wrap(self.count)
        self.held = [  # what `is_current` expects to find
            [(name, state[name].value) for name in (*names, *shown)] for _, state in members
        ]
        if len(members) > 1:
            size = sum([p.value.size for p in self.params])
            self.x, self.g = _row(size, like), _row(size, like)
            self.x_parts, self.g_parts = self._parts(self.x), self._parts(self.g)

    def _joined(self, tensors: list[Tensor]) -> Array:
        """The arrays of `tensors` end to end; the tensors become views of that."""
        joined = _row(sum([t.value.size for t in tensors]), tensors[0].value)
        for t, part in zip(tensors, self._parts(joined), strict=True):
            part[...] = t.value
            t.value = part
        return joined

    def _parts(self, row: Array) -> list[Array]:
        """For each parameter its part of `row`, in its shape."""
        parts, start = [], 0
        for shape in self.shapes:
            end = start + math.prod(shape)
            parts.append(row[start:end].reshape(shape))
            start = end
        return parts

    def is_current(self, states: dict[Tensor, dict[str, Any]]) -> bool:
        """Whether parameters and state are what they were: users may replace any of them."""
        for p, shape, held in zip(self.params, self.shapes, self.held, strict=True):
            x, state = p.value, states[p]
            if x.shape != shape or x.dtype != self.dtype or x.device != self.device:
                return False
            for name, array in held:
                if name not in state or state[name].value is not array:
                    return False
        return True

    def check_gradients(self) -> None:
        """Raise RuntimeError for a gradient that does not fit its parameter."""
        for p, shape in zip(self.params, self.shapes, strict=True):
            g = p._grad.value
            if g.shape != shape or g.dtype != self.dtype:
                raise RuntimeError(
                    f"a parameter of shape {shape} and dtype {self.dtype} has a gradient of shape "
                    f"{g.shape} and dtype {g.dtype}: was it changed after backward()?"
                )

    def gather(self) -> tuple[Array, Array]:
        """The parameters and their gradients, each end to end."""
        self.check_gradients()
        if len(self.params) == 1:
            (p,) = self.params
            p.note_write()
            return owned(p).reshape(-1), p._grad.value.reshape(-1)
        for p, x, g in zip(self.params, self.x_parts, self.g_parts, strict=True):
            x[...], g[...] = p.value, p._grad.value
        return self.x, self.g

    def write_back(self) -> None:
        """Give the parameters their new values."""
        if len(self.params) > 1:
            for p, x in zip(self.params, self.x_parts, strict=True):
                owned(p)[...] = x
                p.note_write()


class Optimizer:
    """Updates parameters from their gradients: `zero_grad()`, `backward()`, `step()`.

    `params`: tensors, (name, tensor) pairs, or dicts, each a group with options of its own:
    `[{"params": net.parameters(), "lr": 0.1}]`; what a group leaves out is taken from `defaults`.
    `state` shows what the rule keeps for each parameter, in arrays that steps write to.
    A rule defines `rule` and `names`.  Raises TypeError for anything that is not a Tensor, and
    ValueError for none at all, one given twice, or the result of an operation.
    """

    counts: ClassVar[bool] = True  # whether the rule needs to know how many updates there were

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("params must be an iterable of Tensors or dicts, not one Tensor")
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self.stepped = False  # for schedulers, which must come after the first step()
        self._blocks: dict[int, tuple[Any, list[_Block]]] = {}  # by group: for what, and which
        self._update = gpu.Update()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list (has the module parameters?)")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    # --- what a rule defines --------------------------------------------------------------------

    def names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The state that the rule keeps for each parameter: arrays of the parameter's shape."""
        raise NotImplementedError

    def initial(self, group: dict[str, Any]) -> float:
        """What the state is filled with before the first update."""
        return 0.0

    kernel: ClassVar[str] = ""  # the name of the same rule in cuda/elementwise.cu

    def settings(self, group: dict[str, Any], t: int) -> tuple[float, ...] | None:
        """What that kernel takes after its arrays; None if it cannot do this."""
        return None

    def rule(
        self, x: Array, g: Array, state: list[Array], t: int, group: dict[str, Any], s: list[Array]
    ) -> None:
        """Update `x`, some elements of a parameter, in place; `g` is their gradient.

        `state`: their part of what `names` lists, to be updated in place.  `t`: 1 for the first
        update.  `s`: two arrays to work in (the second belongs to `descent`).
        """
        raise NotImplementedError

    # --- stepping -------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        `closure` computes the loss anew, with its gradients, and the loss is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self.stepped = True
        for i, group in enumerate(self.param_groups):
            blocks = self._blocks_of(i, group)
            if blocks and self._update_on_gpu(blocks, group):
                continue
            for block in blocks:
                x, g = block.gather()
                block.count += 1
                self._apply([x, g, *block.state], int(block.count), group)
                block.write_back()
        return loss

    def _update_on_gpu(self, blocks: list[_Block], group: dict[str, Any]) -> bool:
        """Update all parameters of these blocks in one launch, if there is a kernel for that."""
        first = blocks[0]
        if type(first.state[0] if first.state else None) in (np.ndarray, type(None)):
            return False
        alike = all((b.count, b.device) == (first.count, first.device) for b in blocks)
        settings = self.settings(group, int(first.count) + 1)
        if settings is None or not alike or not all(gpu.usable(b.state[0]) for b in blocks):
            return False
        rows = []
        names = self.names(group)
        for block in blocks:
            block.check_gradients()
            block.count += 1
            for p in block.params:
                g = array_module(first.state[0]).ascontiguousarray(p._grad.value)
                rows.append([owned(p), g, *[self.state[p][name].value for name in names]])
                p.note_write()
        self._update.run(self.kernel, rows, *settings)
        return True

    def _blocks_of(self, i: int, group: dict[str, Any]) -> list[_Block]:
        """The parameters of group number `i` that have gradients, in blocks."""
        params = [p for p in group["params"] if p._grad is not None]
        names = self.names(group)
        before, blocks = self._blocks.pop(i, ((), []))
        if before != (names, [id(p) for p in params]) or not all(
            block.is_current(self.state) for block in blocks
        ):
            blocks = self._arrange(params, names, group)
        self._blocks[i] = (names, [id(p) for p in params]), blocks
        return blocks

    def _arrange(
        self, params: list[Tensor], names: tuple[str, ...], group: dict[str, Any]
    ) -> list[_Block]:
        """Blocks of the small parameters of one dtype, device and age; large ones stay alone."""
        together: dict[Any, list[Tensor]] = {}
        for p in params:
            state, x = self.state[p], p.value
            age = 1 if all(name in state for name in names) else 0
            self._begin(state, names, x, group)
            if self.counts:
                age = int(float(state["step"]))
            alone = id(p) if x.size > SMALL else None
            together.setdefault((age, x.dtype, str(x.device), alone), []).append(p)
        shown = ("step",) if self.counts else ()
        return [
            _Block([(p, self.state[p]) for p in several], names, shown, age)
            for (age, *_), several in together.items()
        ]

    def _apply(self, rows: list[Array], t: int, group: dict[str, Any]) -> None:
        """Run the rule over the rows, in chunks."""
        size = rows[0].size
        chunk = min(size, CHUNK) if isinstance(rows[0], np.ndarray) else size  # GPU: all at once
        # To work in (`descent` may need a second one).  Taken anew each time: no slower, as far as
        # could be measured, and the forward pass has the memory.
        two = group["weight_decay"] or group["maximize"]
        spare = [_row(chunk, rows[0]) for _ in range(2 if two else 1)]
        for start in range(0, size, chunk or 1):
            x, g, *state = [row[start : start + chunk] for row in rows]
            self.rule(x, g, state, t, group, [s[: x.size] for s in (spare[0], spare[-1])])

    def _begin(
        self, state: dict[str, Any], names: tuple[str, ...], x: Array, group: dict[str, Any]
    ) -> None:
        """Make the state that is missing, and let what is there follow the parameter `x`."""
        if self.counts and "step" not in state:
            state["step"] = wrap(np.array(0.0))  # on the host: reading it never waits for a GPU
        for name in names:
            if name not in state:
                state[name] = wrap(np.full_like(x, self.initial(group)))
            else:
                held = state[name].value
                if not _are_alike(held, x):  # after model.to(...)
                    state[name] = wrap(_like(held, x))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (or fill them with zeros) before the next backward pass."""
        for group in self.param_groups:
            for p in group["params"]:
                if p._grad is not None:
                    p._grad = None if set_to_none else wrap(np.zeros_like(p._grad.value))

    # --- groups ---------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimize further parameters, with options of their own: `{"params": ..., "lr": ...}`."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, not {type(param_group).__name__}")
        params = param_group["params"]
        if isinstance(params, set | frozenset):
            raise TypeError("params must have an order, and a set has none: give a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        if names and len(names) != len(params):
            raise ValueError("either all parameters of an optimizer have names, or none")
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        before = {p for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"an optimizer can only optimize Tensors, not {type(p).__name__}")
            if p.op is not None:
                raise ValueError(
                    f"can't optimize a non-leaf Tensor: this one, of shape {p.shape}, is the "
                    f"result of {p.op.name}. Optimize what it was computed from"
                )
            if p in before:
                raise ValueError(
                    f"a parameter, of shape {p.shape}, appears more than once in the optimizer"
                )
            before.add(p)
        group = {**param_group, "params": params}
        if names:
            group["param_names"] = names
        if any(("param_names" in group) != ("param_names" in g) for g in self.param_groups):
            raise ValueError("either all parameter groups have names, or none")
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        self.param_groups.append(group)

    # --- saving and restoring -------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """A snapshot of the state and the options, which later steps do not change.

        `{"state": {index: {"exp_avg": Tensor, ...}}, "param_groups": [{"lr": ..., "params":
        [index, ...]}]}`: parameters are numbered through all groups, as in PyTorch.
        """
        params = [p for group in self.param_groups for p in group["params"]]
        index = {p: i for i, p in enumerate(params)}
        groups = []
        for group in self.param_groups:
            options = {k: copy.copy(v) for k, v in group.items() if k != "params"}
            groups.append({**options, "params": [index[p] for p in group["params"]]})
        state = {
            index[p]: {
                k: wrap(v.value.copy()) if isinstance(v, Tensor) else v for k, v in entries.items()
            }
            for p, entries in self.state.items()
            if entries
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict()`, which may hold NumPy arrays or PyTorch's CPU tensors too.

        Arrays take the dtype and device of their parameter.  Raises ValueError, before anything is
        changed, where groups or shapes do not match.
        """
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(
                f"the state dict has {len(saved)} parameter groups, this optimizer "
                f"{len(self.param_groups)}"
            )
        for i, (group, theirs) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(group["params"]) != len(theirs["params"]):
                raise ValueError(
                    f"group {i} of the state dict has {len(theirs['params'])} parameters, that of "
                    f"this optimizer {len(group['params'])}"
                )
        numbers = chain.from_iterable(group["params"] for group in saved)
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        by_number = dict(zip(numbers, params, strict=True))
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for i, entries in state_dict["state"].items():
            if i not in by_number:
                raise ValueError(f"the state dict has a state for parameter {i}, but no such one")
            state[by_number[i]] = {k: _loaded(v, k, by_number[i], i) for k, v in entries.items()}
        self.state = state
        for group, theirs in zip(self.param_groups, saved, strict=True):
            mine = group["params"]
            group.update(copy.deepcopy(theirs))
            group["params"] = mine

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy, after which views are arrays of their own: no blocks."""
        return {**self.__dict__, "_blocks": {}}

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {group[k]}" for k in sorted(group) if k != "params"]
        return "\n".join([*lines, ")"])


def _are_alike(a: Array, b: Array) -> bool:
    """Whether both have one dtype and one device."""
    return bool(a.dtype == b.dtype and a.device == b.device)


def _like(array: Array, x: Array) -> Array:
    """`array` in the dtype and on the device of `x`."""
    return to_device(array, device_of(x)).astype(x.dtype, copy=False)


def _loaded(value: Any, name: str, p: Tensor, index: int) -> Any:
    """One entry of a saved state, as the state of `p`."""
    if name == "step":
        return wrap(np.array(float(value)))
    if not hasattr(value, "shape"):  # some rule's own number
        return value
    if isinstance(value, Tensor):
        array = value.value  # shared until the next step, which copies it into a block
    else:
        array = (value if type(value) in engine._ARRAYS else np.asarray(value)).copy()
    if array.shape != p.shape:
        raise ValueError(
            f"{name} of parameter {index} has shape {array.shape} in the state dict, the "
            f"parameter {p.shape}"
        )
    return wrap(_like(array, p.value))


def descent(x: Array, g: Array, group: dict[str, Any], out: Array) -> Array:
    """The gradient of what is to become small: `g` (`-g` to maximize) `+ weight_decay * x`."""
    decay = float(group["weight_decay"])
    if decay:
        np.multiply(x, decay, out=out)
        return np.subtract(out, g, out=out) if group["maximize"] else np.add(out, g, out=out)
    return np.negative(g, out=out) if group["maximize"] else g


def check_not_negative(**options: Any) -> None:
    """Raise ValueError for an option that is below 0 or not a number."""
    for name, value in options.items():
        if not value >= 0.0:
            raise ValueError(f"Invalid {name} value: {value} (it must be at least 0)")
