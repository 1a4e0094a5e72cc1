"""Module: what layers and models are made of."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from minigrad.autograd.engine import Array, Node, wrap
from minigrad.device import array_module, device_of, to_device
from minigrad.nn.parameter import Parameter
from minigrad.tensor import Tensor, parse_to


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


class HookHandle:
    """Takes a forward hook off again: `handle.remove()`, or the end of `with handle:`."""

    _numbers = itertools.count()

    def __init__(self, hooks: dict[int, Any], entry: Any, first: bool) -> None:
        self._hooks, self._number = hooks, next(self._numbers)
        others = dict(hooks) if first else {}
        if first:
            hooks.clear()
        hooks[self._number] = entry
        hooks.update(others)

    def remove(self) -> None:
        self._hooks.pop(self._number, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Module:
    """A function with parameters: a layer, or a model made of layers.

    A subclass calls `super().__init__()`, then assigns Parameters and Modules to attributes, which
    registers them, and defines `forward`.  Attributes inside plain lists, tuples and dicts are not
    seen: use ModuleList and ModuleDict.
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init__(self) -> None:
        own = self.__dict__  # not by assignment: __setattr__ looks into these
        own["training"] = True
        own["_parameters"] = {}
        own["_buffers"] = {}
        own["_non_persistent_buffers"] = set()
        own["_modules"] = {}
        own["_forward_pre_hooks"] = {}
        own["_forward_hooks"] = {}

    # --- calling --------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes: to be defined by the subclass."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`, and before and after it the hooks."""
        if not self._forward_pre_hooks and not self._forward_hooks:
            return self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._forward_pre_hooks.values()):
            if with_kwargs:
                changed = hook(self, args, kwargs)
                if changed is not None:
                    args, kwargs = changed
            else:
                changed = hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        output = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._forward_hooks.values()):
            given = (args, kwargs) if with_kwargs else (args,)
            changed = hook(self, *given, output)
            if changed is not None:
                output = changed
        return output

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Call `hook(module, args)` before forward; what it returns takes the place of `args`."""
        return HookHandle(self._forward_pre_hooks, (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Call `hook(module, args, output)` after forward; what it returns replaces `output`."""
        return HookHandle(self._forward_hooks, (hook, with_kwargs), prepend)

    # --- attributes -----------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if isinstance(value, Parameter):
            self._forget(name, "parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name, "modules")
            self.add_module(name, value)
        elif name in own.get("_parameters", ()):
            if value is not None:
                raise TypeError(
                    f"cannot assign {type(value).__name__} to the parameter {name!r} of "
                    f"{type(self).__name__} (nn.Parameter or None expected)"
                )
            self._parameters[name] = None
        elif name in own.get("_modules", ()):
            if value is not None:
                raise TypeError(
                    f"cannot assign {type(value).__name__} to the child module {name!r} of "
                    f"{type(self).__name__} (nn.Module or None expected)"
                )
            self._modules[name] = None
        elif name in own.get("_buffers", ()):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign {type(value).__name__} to the buffer {name!r} of "
                    f"{type(self).__name__} (Tensor or None expected)"
                )
            self._buffers[name] = value
        else:
            object.__setattr__(self, name, value)

    def _forget(self, name: str, becomes: str) -> None:
        """Make room for a parameter or module of this name; what has it already stays in place."""
        own = self.__dict__
        if "_parameters" not in own:
            raise AttributeError(
                f"cannot assign {becomes} before Module.__init__() call: {type(self).__name__}."
                f"__init__ must call super().__init__() before it sets {name!r}"
            )
        own.pop(name, None)
        for kind in ("parameters", "buffers", "modules"):
            if kind != becomes:
                own["_" + kind].pop(name, None)
        self._non_persistent_buffers.discard(name)

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        for kind in ("_modules", "_parameters", "_buffers"):
            if name in own.get(kind, ()):
                return own[kind][name]
        if hasattr(type(self), name):  # a property that raised: let it say why
            return object.__getattribute__(self, name)
        hint = ""
        if "_parameters" not in own:
            hint = " (has its __init__ called super().__init__()?)"
        elif not name.startswith("__"):
            hint = _did_you_mean(name, dir(self))
        # obj=None: Python would print a suggestion of its own behind ours
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=None
        )

    def __delattr__(self, name: str) -> None:
        for kind in (self._parameters, self._buffers, self._modules):
            if name in kind:
                del kind[name]
                self._non_persistent_buffers.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        registered = (*self._parameters, *self._buffers, *self._modules)
        return sorted({*object.__dir__(self), *registered})

    def _check_name(self, kind: str, name: str, registry: Iterable[str]) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in registry and name in dir(self):  # hasattr would look for similar names
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter: what assigning it to an attribute does. None reserves the name."""
        self._check_name("parameter", name, self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign {type(param).__name__} object to parameter {name!r} "
                "(nn.Parameter or None required)"
            )
        if param is not None and param.op is not None:
            raise ValueError(
                f"cannot assign a non-leaf tensor to parameter {name!r}: a parameter must be "
                f"created explicitly. To express {name!r} as a function of another tensor, compute "
                "the value in forward()"
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that belongs to the module's state and is not learnt.

        It moves with the module, and is in its state_dict unless `persistent` is False.
        """
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name("buffer", name, self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign {type(tensor).__name__} object to buffer {name!r} "
                "(Tensor or None required)"
            )
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers.discard(name)
        else:
            self._non_persistent_buffers.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child: what assigning it to an attribute does."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_name("module", name, self._modules)
        self._modules[name] = module

    def register_module(self, name: str, module: Module | None) -> None:
        """Alias for `add_module`."""
        self.add_module(name, module)

    # --- looking through it ---------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """The module itself and all below it, with their paths; each once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, _join(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """The module itself and all below it; each once."""
        return iter(self._tree({}))

    def _tree(self, found: dict[Module, None]) -> dict[Module, None]:
        """`found`, with this module and all below it added (parameters() is asked for often)."""
        if self not in found:
            found[self] = None
            for child in self._modules.values():
                if child is not None:
                    child._tree(found)
        return found

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, with their names; each once."""
        seen = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        """The modules directly below this one; each once."""
        return (child for _, child in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their paths; one that is used in two places comes once.

        Warns of modules and parameters in plain lists, tuples and dicts, which it cannot see.
        """
        self._warn_of_hidden(self.modules())
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, in the order of their registration; each once. Give it an optimizer."""
        tree = self._tree({})
        self._warn_of_hidden(tree)
        modules = tree if recurse else (self,)
        found = [p for module in modules for p in module._parameters.values() if p is not None]
        return iter(dict.fromkeys(found))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The buffers with their paths; each once."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers; each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        holders: Iterable[tuple[str, Module]] = [(prefix, self)]
        if recurse:
            holders = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        seen = set()
        for path, module in holders:
            for name, value in module.__dict__[kind].items():
                if value is None or value in seen:
                    continue
                if remove_duplicate:
                    seen.add(value)
                yield _join(path, name), value

    def _warn_of_hidden(self, modules: Iterable[Module]) -> None:
        """Warn of what stands in plain containers and nowhere else: it would not be learnt."""
        hidden = [
            (module, name, item)
            for module in modules
            for name, value in module.__dict__.items()
            if type(value) in _CONTAINERS and name not in _OWN
            for item in _things_in(value)
        ]
        if not hidden:
            return
        known = set(self.modules()) | {p for _, p in self._named("_parameters", "", True, True)}
        for module, name, item in hidden:
            if item not in known:
                fix = "use nn.ModuleList or nn.ModuleDict"
                if isinstance(item, Parameter):
                    fix = "assign it to an attribute, or use register_parameter"
                kind = type(module.__dict__[name]).__name__
                warnings.warn(
                    f"{type(module).__name__}.{name} is a plain {kind} that holds a "
                    f"{type(item).__name__}: parameters(), state_dict() and to() do not see it, "
                    f"so it will not be learnt, saved or moved; {fix}",
                    UserWarning,
                    stacklevel=4,
                )
                known.add(item)

    def get_submodule(self, target: str) -> Module:
        """The module at the path `target`, such as "encoder.layers.0"; "" is this one."""
        module = self
        for name in target.split(".") if target else ():
            child = module._modules.get(name)
            if child is None:
                raise AttributeError(
                    f"{type(module).__name__} has no child module {name!r} (of {target!r})"
                    + _did_you_mean(name, module._modules)
                )
            module = child
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at the path `target`, such as "lstm.weight_hh_l0"."""
        return self._get("_parameters", "parameter", target)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at the path `target`."""
        return self._get("_buffers", "buffer", target)

    def _get(self, registry: str, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        found = module.__dict__[registry].get(name)
        if found is None:
            raise AttributeError(
                f"{type(module).__name__} has no {kind} {name!r} (of {target!r})"
                + _did_you_mean(name, module.__dict__[registry])
            )
        return found

    # --- changing it as a whole -----------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module below this one, then on this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set `training` here and below: Dropout acts only in training."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Learn the parameters, or (False) freeze them."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero."""
        for parameter in self.parameters():
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad = wrap(np.zeros_like(parameter.grad.value))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device, or change the floating dtype: to(device, dtype) or to(tensor).

        Parameters remain the same objects with another value, so optimizers stay valid.  Integer
        and bool buffers keep their dtype.
        """
        where, dtype = parse_to(*args, **kwargs)
        if dtype is not None and dtype.kind != "f":
            raise TypeError(f"Module.to only accepts floating dtypes, got {dtype}")

        def convert(array: Array) -> Array:
            if where is not None:
                array = to_device(array, where)
            if dtype is not None and array.dtype.kind == "f":
                array = array.astype(dtype, copy=False)
            return array

        return self._convert(convert)

    def _convert(self, convert: Callable[[Array], Array]) -> Self:
        for module in self.modules():
            for parameter in module._parameters.values():
                if parameter is None:
                    continue
                _replace_value(parameter, convert(parameter.value))
                if parameter.grad is not None:
                    parameter.grad = wrap(convert(parameter.grad.value))
            for buffer in module._buffers.values():
                if buffer is not None:
                    _replace_value(buffer, convert(buffer.value))
        return self

    def cpu(self) -> Self:
        """Move to main memory."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Move to a GPU: the current one, or the one of this number."""
        return self.to("cuda" if device is None else device)

    def type(self, dst_type: Any) -> Self:
        """Parameters and floating buffers in this dtype."""
        return self.to(dtype=dst_type)

    def float(self) -> Self:
        """Parameters and floating buffers in float32."""
        return self.to(dtype="float32")

    def double(self) -> Self:
        """Parameters and floating buffers in float64."""
        return self.to(dtype="float64")

    def half(self) -> Self:
        """Parameters and floating buffers in float16 (for storage)."""
        return self.to(dtype="float16")

    # --- its state ------------------------------------------------------------------------------

    def state_dict(
        self,
        *,
        destination: dict[str, Any] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:
        """All parameters and persistent buffers by their paths.

        The values are what they are now: training on does not change them, while what is written
        to them in place goes to the module.  With `keep_vars` they are the Parameters themselves.
        """
        self._warn_of_hidden(self.modules())
        destination = {} if destination is None else destination
        for path, value in self._state(prefix):
            destination[path] = value if keep_vars else value.data[...]
        return destination

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Parameters and persistent buffers; what is used in two places, under both paths."""
        for name, parameter in self._parameters.items():
            if parameter is not None:
                yield prefix + name, parameter
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers:
                yield prefix + name, buffer
        for name, child in self._modules.items():
            if child is not None:
                yield from child._state(f"{prefix}{name}.")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Take over the values of a state_dict: tensors, or arrays of any kind.

        All or nothing: raises RuntimeError, with everything that is wrong, before any value is
        changed.  With `strict` False, missing and unexpected keys are passed over and returned.
        Values take the dtype and device of what they replace, unless `assign`.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"expected state_dict to be dict-like, got {type(state_dict).__name__}")
        mine = dict(self._state())
        missing = [key for key in mine if key not in state_dict]
        unexpected = [key for key in state_dict if key not in mine]
        problems = []
        if strict and unexpected:
            listed = "".join(f'\n\t\t"{key}"{_did_you_mean(key, missing)}' for key in unexpected)
            problems.append(f"Unexpected key(s) in state_dict:{listed}")
        if strict and missing:
            listed = ", ".join(f'"{key}"' for key in missing)
            problems.append(f"Missing key(s) in state_dict: {listed}")
        new = []
        for key, old in mine.items():
            if key not in state_dict:
                continue
            try:
                value = _value_like(state_dict[key], old.value, keep=assign)
            except (TypeError, ValueError) as error:
                problems.append(f"{key}: {error}")
                continue
            if value.shape != old.value.shape:
                problems.append(
                    f"size mismatch for {key}: copying a param with shape {tuple(value.shape)} "
                    f"from checkpoint, the shape in current model is {tuple(old.value.shape)}"
                )
            new.append((old, value))
        if problems:
            raise RuntimeError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t"
                + "\n\t".join(problems)
            )
        for old, value in new:
            _replace_value(old, value)
        return IncompatibleKeys(missing, unexpected)

    # --- in words -------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The settings that `repr` shows."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        if len(lines) <= 1 and not self._modules:
            return f"{self._get_name()}({extra})"
        lines += [f"({name}): {child!r}" for name, child in self._modules.items()]
        return _block(self._get_name(), lines)


_OWN = frozenset(Module().__dict__) | {"_all_weights"}  # the latter has names
_CONTAINERS = frozenset((list, tuple, dict))
_LEARNT = (Module, Parameter)  # a tuple: isinstance looks through a union far more slowly


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _block(name: str, lines: list[str]) -> str:
    """`name(`, the lines indented by two, `)`."""
    body = "\n".join(lines).replace("\n", "\n  ")
    return f"{name}(\n  {body}\n)"


def _did_you_mean(name: str, candidates: Iterable[str]) -> str:
    import difflib  # only to say what went wrong

    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f". Did you mean {close[0]!r}?" if close else ""


def _things_in(container: Any, depth: int = 2) -> Iterator[Module | Parameter]:
    """The modules and parameters in a plain container, or in containers in it.

    Only among its first items: it may be a list of a million numbers, and this is asked often.
    """
    items = container.values() if isinstance(container, dict) else container
    for item in itertools.islice(items, 64):
        if isinstance(item, _LEARNT):
            yield item
        elif depth > 1 and type(item) in _CONTAINERS:
            yield from _things_in(item, depth - 1)


def _replace_value(node: Node, value: Array) -> None:
    """Give a leaf another value, seen by any graph that still needs the old one."""
    if value is not node.value:
        node.value = value
        node.joined = None  # or the old memory would stay
        node.note_write()


def _value_like(given: Any, old: Array, keep: bool) -> Array:
    """What a state_dict holds, as an array on the device and in the dtype of `old`."""
    if isinstance(given, Node):
        value = given.value  # shared: arrays inside nodes are never written to
    elif hasattr(given, "__array__") or hasattr(given, "__cuda_array_interface__"):
        module = array_module(given) if hasattr(given, "__cuda_array_interface__") else np
        value = module.asarray(given).copy()
    else:
        raise TypeError(f"expected a Tensor or an array, got {type(given).__name__}")
    if keep:
        return value
    return to_device(value, device_of(old)).astype(old.dtype, copy=False)
