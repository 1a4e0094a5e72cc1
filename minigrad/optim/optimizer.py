"""What all optimizers share: parameter groups, state, and where a rule may write."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from minigrad.autograd import engine
from minigrad.autograd.engine import Array, wrap
from minigrad.autograd.grad_mode import enable_grad
from minigrad.cuda import elementwise as gpu
from minigrad.device import array_module, device_of, to_device
from minigrad.memory import owned, scratch
from minigrad.optim.together import Together
from minigrad.tensor import Tensor

CHUNK = 65_536  # elements: a rule passes over its data a dozen times, and they should stay in cache


class Optimizer:
    """Updates parameters from their gradients: `zero_grad()`, `backward()`, `step()`.

    `params`: tensors, (name, tensor) pairs, or dicts, each a group with options of its own:
    `[{"params": net.parameters(), "lr": 0.1}]`; what a group leaves out is taken from `defaults`.
    `state` has what the rule keeps for each parameter, and may be changed between steps.
    A rule defines `names`, `settings` and `rule`.  Raises TypeError for anything that is not a
    Tensor, and ValueError for none at all, one given twice, or the result of an operation.
    """

    counts: ClassVar[bool] = True  # whether the rule needs to know how many updates there were

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("params must be an iterable of Tensors or dicts, not one Tensor")
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self.stepped = False  # for schedulers, which must come after the first step()
        self._on_gpu = gpu.Update()
        self._together: dict[int, Together] = {}  # by group
        self._numbers = _Numbers()
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

    def settings(self, group: dict[str, Any], t: int) -> tuple[float, ...]:
        """The numbers that `rule` takes: options, and what follows from them at update `t`, from 1.

        A kernel takes the same.  `rule` gets the floats among them in the parameter's dtype.
        """
        raise NotImplementedError

    def rule(
        self, x: Array, g: Array, state: list[Array], s: Array, settings: Sequence[Any]
    ) -> None:
        """Update `x`, some elements of the parameters, in place; `g` is their gradient.

        `state`: their part of what `names` lists, to be updated in place.  `s`: an array to work
        in.  All have one shape.
        """
        raise NotImplementedError

    def kernel(self, group: dict[str, Any]) -> str:
        """The name of the same rule in cuda/elementwise.cu; "" if it is not there."""
        return ""

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
            names, kernel = self.names(group), self.kernel(group)
            launches: dict[int, list[list[Tensor]]] = {}  # what a kernel does at once, by age
            params = [p for p in group["params"] if p._grad is not None]
            for p in self._update_together(i, params, names):
                t, state = self._begin(p, names, group)
                if kernel and type(p.value) is not np.ndarray and gpu.usable(p.value):
                    launches.setdefault(t, []).append([p, *state])
                    continue
                settings = self.settings(group, t)
                self._run([owned(p), p._grad.value, *map(owned, state)], settings)
                p.note_write()
            for t, rows in launches.items():
                self._launch(kernel, rows, self.settings(group, t))
        return loss

    def _begin(
        self, p: Tensor, names: tuple[str, ...], group: dict[str, Any]
    ) -> tuple[int, list[Tensor]]:
        """Which update of `p` this is, and its state, in the order of `names`."""
        x, g, state = p.value, p._grad.value, self.state[p]
        if g.shape != x.shape or g.dtype != x.dtype:
            raise RuntimeError(
                f"a parameter of shape {x.shape} and dtype {x.dtype} has a gradient of shape "
                f"{g.shape} and dtype {g.dtype}: was it changed after backward()?"
            )
        tensors, new = self._complete(state, x, names, group)
        t = 1 if new else 2  # this is all that a rule needs to know that does not count
        if self.counts:
            step = state["step"]
            t = int(step.value) + 1
            step.value = np.array(float(t))
        return t, tensors

    def _complete(
        self, state: dict[str, Any], x: Array, names: tuple[str, ...], group: dict[str, Any]
    ) -> tuple[list[Tensor], bool]:
        """The state of the parameter `x`, made where it is missing, and whether any was missing."""
        tensors, new = [], False
        for name in names:
            tensor = state.get(name)
            if tensor is None:
                tensor = state[name] = wrap(np.full_like(x, self.initial(group)))
                new = True
            elif tensor.value.dtype != x.dtype or tensor.value.device != x.device:
                tensor.value = _like(tensor.value, x)  # after model.to(...)
                tensor.joined = None
            tensors.append(tensor)
        if self.counts and "step" not in state:
            state["step"] = wrap(np.array(0.0))  # on the host: reading it never waits for a GPU
        return tensors, new

    def _update_together(
        self, i: int, params: list[Tensor], names: tuple[str, ...]
    ) -> list[Tensor]:
        """Update those parameters of group `i` that lie in few arrays. The others are returned."""
        together = self._together.pop(i, None)
        if together is None or not together.is_current(params, self.state, names):
            together = None  # with its references to all arrays
            together = Together(params, self.state, names, self.counts)
        self._together[i] = together
        if not together.params:
            return together.others
        g = together.gather()
        if g is None:
            return params  # one by one, and an error at the one that does not fit
        settings = self.settings(self.param_groups[i], together.next_update())
        largest = min(CHUNK, together.largest)
        self._run([together.values, g, *together.kept], settings, largest)
        engine.note_writes(together.params)
        return together.others

    def _run(self, arrays: list[Array], settings: tuple[float, ...], largest: int = CHUNK) -> None:
        """Run the rule over parameters, gradients and state, in chunks of at most `largest`."""
        x, g, *state = arrays
        numbers = self._numbers.of(settings, x)
        if x.size <= largest or type(x) is not np.ndarray:
            self.rule(x, g, state, scratch(x), numbers)
            return
        if x.ndim > 1 and not x.flags.c_contiguous:
            arrays = [array.T for array in arrays]
        if x.ndim > 1 and all(array.flags.c_contiguous for array in arrays):
            arrays = [array.reshape(-1) for array in arrays]
        length, chunks = len(arrays[0]), -(-x.size // largest)
        rows = -(-length // chunks)
        for start in range(0, length, rows):
            x, g, *state = [array[start : start + rows] for array in arrays]
            self.rule(x, g, state, scratch(x), numbers)

    def _launch(
        self, kernel: str, together: list[list[Tensor]], settings: tuple[float, ...]
    ) -> None:
        """Run the rule over several parameters, each with its state, in one launch on their GPU."""
        rows = []
        for p, *state in together:
            g = array_module(p.value).ascontiguousarray(p._grad.value)
            rows.append([owned(p), g, *[owned(tensor) for tensor in state]])
            p.note_write()
        self._on_gpu.run(kernel, rows, *settings)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (or fill them with zeros) before the next backward pass."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p._grad = None
                elif p._grad is not None:
                    p._grad = wrap(np.zeros_like(p._grad.value))

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
            index[p]: {k: v.detach() if isinstance(v, Tensor) else v for k, v in entries.items()}
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
        """For a copy, which finds out itself what lies together."""
        return {**self.__dict__, "_together": {}, "_numbers": _Numbers()}

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {group[k]}" for k in sorted(group) if k != "params"]
        return "\n".join([*lines, ")"])


class _Numbers:
    """The settings of a rule as NumPy takes them fastest: floats as arrays, always the same."""

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[Array, list[Array]]] = {}  # by dtype and how many
        self._last: tuple[Any, ...] = ()
        self._numbers: list[Any] = []

    def of(self, settings: tuple[float, ...], like: Array) -> Sequence[Any]:
        """`settings` in the dtype of `like`, until the next call."""
        if type(like) is not np.ndarray:
            return tuple(np.array(settings, like.dtype))
        last = like.dtype, settings
        if self._last != last:
            key = like.dtype, len(settings)
            if key not in self._kept:
                room = np.empty(len(settings), like.dtype)
                self._kept[key] = room, [room[i : i + 1].reshape(()) for i in range(len(settings))]
            room, arrays = self._kept[key]
            room[:] = settings
            pairs = zip(settings, arrays)
            self._numbers = [array if type(value) is float else value for value, array in pairs]
            self._last = last
        return self._numbers


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
        array = value.value
    else:
        array = (value if type(value) in engine._ARRAYS else np.asarray(value)).copy()
    if array.shape != p.shape:
        raise ValueError(
            f"{name} of parameter {index} has shape {array.shape} in the state dict, the "
            f"parameter {p.shape}"
        )
    return wrap(_like(array, p.value))


def descent(x: Array, g: Array, decay: float, sign: float) -> Array:
    """The gradient of what is to become small: `sign * g + decay * x`; sign: -1 to maximize."""
    if sign == -1:
        g = -g
    return g + decay * x if decay else g


def check_not_negative(**options: Any) -> None:
    """Raise ValueError for an option that is below 0 or not a number."""
    for name, value in options.items():
        if not value >= 0.0:
            raise ValueError(f"Invalid {name} value: {value} (it must be at least 0)")
