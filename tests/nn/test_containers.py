"""Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn


class Add(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Any) -> Any:
        return x + self.n


def numbers(modules: Any) -> list[int]:
    return [module.n for module in modules]


@given(st.data(), st.sampled_from([nn.Sequential, nn.ModuleList]))
def test_behaves_as_a_list(data: st.DataObject, kind: Any) -> None:
    """Any series of changes leaves what it leaves of a list, under names 0, 1, 2, ..."""
    modules, expected = kind(), []
    for n in range(data.draw(st.integers(1, 8))):
        action = data.draw(
            st.sampled_from(["append", "extend", "insert", "pop", "set", "del", "cut", "add"])
        )
        i = data.draw(st.integers(-len(expected), len(expected) - 1)) if expected else 0
        if action == "append":
            modules.append(Add(n))
            expected.append(n)
        elif action == "extend":
            modules.extend([Add(n), Add(n)])
            expected.extend([n, n])
        elif action == "insert":
            modules.insert(i, Add(n))
            expected.insert(i, n)
        elif action == "add":
            modules = modules + kind(*[[Add(n)]] if kind is nn.ModuleList else [Add(n)])
            expected = [*expected, n]
        elif not expected:
            continue
        elif action == "pop":
            assert modules.pop(i).n == expected.pop(i)
        elif action == "set":
            modules[i] = Add(n)
            expected[i] = n
        elif action == "del":
            del modules[i]
            del expected[i]
        else:
            del modules[i:]
            del expected[i:]
    assert numbers(modules) == expected and len(modules) == len(expected)
    assert [name for name, _ in modules.named_children()] == [str(i) for i in range(len(expected))]
    assert numbers(modules[1:]) == expected[1:] and type(modules[1:]) is kind
    assert [modules[i].n for i in range(-len(expected), 0)] == expected


@pytest.mark.parametrize("kind", [nn.Sequential, nn.ModuleList])
def test_out_of_range(kind: Any) -> None:
    with pytest.raises(IndexError, match="out of range"):
        kind()[0]
    with pytest.raises(IndexError, match="out of range"):
        kind()[-1] = nn.Identity()


def test_sequential() -> None:
    net = nn.Sequential({"one": Add(1), "two": Add(2)})
    assert net(mg.tensor([1.0])).item() == 4.0
    assert net.one is net[0] and list(dict(net[:1].named_children())) == ["one"]
    assert nn.Sequential()(3) == 3
    net += [Add(3)]
    assert net(mg.tensor([1.0])).item() == 7.0
    assert numbers(net + nn.Sequential(Add(5))) == [1, 2, 3, 5]
    with pytest.raises(TypeError, match="not a Module"):
        nn.Sequential(3)


def test_module_list_has_no_forward() -> None:
    with pytest.raises(NotImplementedError):
        nn.ModuleList([Add(1)])(3)


def test_module_dict() -> None:
    modules = nn.ModuleDict({"a": Add(1)})
    modules["b"] = Add(2)
    modules.update([("c", Add(3))])
    assert list(modules) == list(modules.keys()) == ["a", "b", "c"] and len(modules) == 3
    assert numbers(modules.values()) == [1, 2, 3] and dict(modules.items())["b"].n == 2
    assert modules["b"].n == 2
    assert "b" in modules and modules.pop("b").n == 2 and "b" not in modules
    del modules["a"]
    assert list(dict(modules.named_modules())) == ["", "c"]
    modules.clear()
    assert not len(modules)
    with pytest.raises(TypeError, match="not a Module"):
        modules["x"] = 3  # type: ignore[assignment]


def test_repr() -> None:
    net = nn.Sequential(
        nn.ModuleList([nn.Linear(1, 2) for _ in range(3)] + [nn.ReLU()]),
        nn.ModuleDict({"a": nn.Sequential(nn.Tanh()), "b": nn.ModuleList()}),
    )
    assert repr(net) == (
        "Sequential(\n"
        "  (0): ModuleList(\n"
        "    (0-2): 3 x Linear(in_features=1, out_features=2, bias=True)\n"
        "    (3): ReLU()\n"
        "  )\n"
        "  (1): ModuleDict(\n"
        "    (a): Sequential(\n"
        "      (0): Tanh()\n"
        "    )\n"
        "    (b): ModuleList()\n"
        "  )\n"
        ")"
    )
    assert np.all(
        [repr(nn.Sequential()) == "Sequential()", repr(nn.ModuleList()) == "ModuleList()"]
    )
