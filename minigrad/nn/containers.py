"""Modules made of modules, Sequential, ModuleList and ModuleDict; lists and dicts of parameters."""

from __future__ import annotations

import operator
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Generic, Self, TypeVar

from minigrad.nn.module import Module, _block
from minigrad.nn.parameter import Parameter
from minigrad.tensor import Tensor


class _Sequence(Module):
    """What Sequential and ModuleList share: children in order, found by their number."""

    _modules: dict[str, Module]  # type: ignore[assignment]  # never None here

    def _key(self, index: int) -> str:
        """The name of child number `index`, which may count from the end."""
        number, n = operator.index(index), len(self)
        if not -n <= number < n:
            raise IndexError(
                f"index {index} is out of range: {type(self).__name__} has {n} modules"
            )
        return list(self._modules)[number]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(*self._constructor_arguments(list(self._modules.items())[index]))
        return self._modules[self._key(index)]

    def _constructor_arguments(self, items: list[tuple[str, Module]]) -> tuple[Any, ...]:
        raise NotImplementedError

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        keys = list(self._modules)
        for key in keys[index] if isinstance(index, slice) else [self._key(index)]:
            del self._modules[key]
        self._renumber(list(self._modules.values()))

    def _renumber(self, modules: Iterable[Module]) -> None:
        self._modules = {}
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Add a module before child number `index`; those after it get new numbers."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, index: int | slice) -> Any:
        """Remove a child and return it."""
        module = self[index]
        del self[index]
        return module

    def __iadd__(self, other: Iterable[Module]) -> Self:
        return self.extend(other)


class Sequential(_Sequence):
    """y = f_n(... f_2(f_1(x))): modules one after another.

    Made from modules, or from a dict of named ones.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], dict):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            self.extend(args)

    def _constructor_arguments(self, items: list[tuple[str, Module]]) -> tuple[Any, ...]:
        return (dict(items),)

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *other)

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input


class ModuleList(_Sequence):
    """A list of modules that the module it is assigned to knows of."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def _constructor_arguments(self, items: list[tuple[str, Module]]) -> tuple[Any, ...]:
        return ([module for _, module in items],)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __repr__(self) -> str:
        """Neighbours that look the same share a line: `(0-2): 3 x Linear(...)`."""
        runs: list[tuple[int, int, str]] = []  # first, last, what
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], i, text)
            else:
                runs.append((i, i, text))
        if not runs:
            return f"{self._get_name()}()"
        lines = [
            f"({i}): {text}" if i == j else f"({i}-{j}): {j - i + 1} x {text}"
            for i, j, text in runs
        ]
        return _block(self._get_name(), lines)


Entry = TypeVar("Entry")


class _Dict(Module, Generic[Entry]):
    """What ModuleDict and ParameterDict have in common: `_held` are the entries by name."""

    @property
    def _held(self) -> dict[str, Entry]:
        raise NotImplementedError

    def __init__(self, entries: Any = None) -> None:
        super().__init__()
        self.update(entries or {})

    def __getitem__(self, key: str) -> Entry:
        return self._held[key]

    def __setitem__(self, key: str, entry: Entry) -> None:
        raise NotImplementedError

    def __delitem__(self, key: str) -> None:
        del self._held[key]

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._held)

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def clear(self) -> None:
        """Remove all."""
        self._held.clear()

    def pop(self, key: str) -> Entry:
        """Remove an entry and return it."""
        return self._held.pop(key)

    def keys(self) -> KeysView[str]:
        return self._held.keys()

    def items(self) -> ItemsView[str, Entry]:
        return self._held.items()

    def values(self) -> ValuesView[Entry]:
        return self._held.values()

    def update(self, entries: Mapping[str, Entry] | Iterable[tuple[str, Entry]]) -> None:
        """Add entries from a mapping, or from pairs of a name and an entry."""
        for key, entry in dict(entries).items():
            self[key] = entry


class ModuleDict(_Dict[Module]):
    """A dict of modules that the module it is assigned to knows of."""

    _modules: dict[str, Module]  # type: ignore[assignment]  # never None here

    def __init__(self, modules: Any = None) -> None:
        super().__init__(modules)

    @property
    def _held(self) -> dict[str, Module]:
        return self._modules

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)


class ParameterDict(_Dict[Any]):
    """A dict of parameters that the module it is assigned to knows of; tensors become such."""

    def __init__(self, parameters: Any = None) -> None:
        super().__init__(parameters)

    @property
    def _held(self) -> dict[str, Any]:
        return self._parameters

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(str(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, Tensor) and not isinstance(value, Parameter):
            value = Parameter(value)
        self.register_parameter(str(key), value)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(str(key))

    def __repr__(self) -> str:
        lines = [
            f"({name}): Parameter containing: [{p.dtype} of size {'x'.join(map(str, p.shape))}]"
            for name, p in self._parameters.items()
            if p is not None
        ]
        return _block(self._get_name(), lines)


class ParameterList(ParameterDict):
    """A list of parameters that the module it is assigned to knows of; tensors become such."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        Module.__init__(self)
        self.extend(values or ())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ParameterList(list(self)[index])
        return self._parameters[self._key(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(self._key(index), value)

    def _key(self, index: int) -> str:
        """The name of parameter number `index`, which may count from the end."""
        n = len(self)
        if not -n <= operator.index(index) < n:
            raise IndexError(f"index {index} is out of range: there are {n} parameters")
        return str(index % n)

    def append(self, value: Any) -> Self:
        """Add a parameter at the end."""
        super().__setitem__(len(self), value)
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add parameters at the end."""
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)
