"""The kernel that writes texts writes what the plain loop over the modules does."""

from __future__ import annotations

from typing import Any

import numpy as np
import on_cpu
import pytest
from on_cpu import needs_compiler

import minigrad as mg
from minigrad import generation, nn
from minigrad.cuda import generation as kernel

CELLS: dict[str, Any] = {
    "tanh": nn.RNN,
    "relu": lambda D, H, L, **options: nn.RNN(D, H, L, "relu", **options),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


def net(cell: str, V: int, D: int, H: int, L: int, bias: bool = True) -> tuple[Any, Any, Any]:
    """Embedding, layers and scores, with weights so large that the scores differ."""
    modules = nn.Embedding(V, D), CELLS[cell](D, H, L, bias=bias), nn.Linear(H, V, bias=bias)
    for module in modules[1:]:
        for p in module.parameters():
            p.data.copy_(2 * p.detach())
    return modules


@needs_compiler
@pytest.mark.cpu_only("the kernel is emulated")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("V", "D", "H", "L", "bias", "prompt", "temperature", "top_k", "capacity"),
    [
        (11, 3, 8, 1, True, [4], 1.0, None, 96 * 1024),  # one block, all weights in it
        (5, 2, 37, 2, True, [1, 0, 3], 0.7, 3, 24 * 1024),  # several; sizes that divide by nothing
        (40, 4, 12, 3, False, [39, 1], 1.5, 50, 4 * 1024),  # of the weights some fit, some do not
        (2, 3, 1, 1, True, [0], 0.0, None, 96 * 1024),  # one unit, the likeliest
        (70, 2, 20, 2, True, [8, 8], 0.0, 1, 3 * 1024),
    ],
)
def test_equals_the_plain_loop(
    cell: str, V: int, D: int, H: int, L: int, bias: bool, prompt: list[int],
    temperature: float, top_k: int | None, capacity: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    modules = net(cell, V, D, H, L, bias)

    def write() -> list[int]:
        settings: Any = {"temperature": temperature, "top_k": top_k}
        seeded = mg.Generator().manual_seed(3)
        return generation.generate(*modules, prompt, 20, generator=seeded, **settings)

    expected = write()
    launched = on_cpu.install(monkeypatch, processors=3, capacity=capacity)
    monkeypatch.setattr(generation, "usable", lambda x: True)
    assert write() == expected
    assert launched == ["write_text"]
    assert temperature == 0 or len(set(expected)) > 1


@needs_compiler
@pytest.mark.cpu_only("the kernel is emulated")
def test_hooks_of_the_modules_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = net("lstm", 4, 2, 3, 1)
    launched = on_cpu.install(monkeypatch)
    monkeypatch.setattr(generation, "usable", lambda x: True)
    seen: list[Any] = []
    handle = modules[1].register_forward_hook(lambda module, args, y: seen.append(module))
    generation.generate(*modules, [0], 5)
    assert len(seen) == 5 and not launched
    handle.remove()
    generation.generate(*modules, [0], 5)
    assert len(seen) == 5 and launched == ["write_text"]


@needs_compiler
@pytest.mark.cpu_only("the kernel is emulated")
def test_nan_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = net("lstm", 4, 2, 3, 1)
    modules[2].bias.data[1] = float("nan")
    on_cpu.install(monkeypatch)
    for usable in (False, True):
        monkeypatch.setattr(generation, "usable", lambda x, usable=usable: usable)
        with pytest.raises(RuntimeError, match="NaN"):
            generation.generate(*modules, [0], 5)


def test_the_plan_keeps_what_fits() -> None:
    h100 = 132, 232_448
    small, large, huge = (
        kernel.plan("lstm", L, H, 65, *h100) for L, H in ((1, 100), (2, 512), (3, 2048))
    )
    assert small is not None and small.blocks == 1
    assert large is not None and large.blocks == 128  # on chip: all rows of its 4 units, and scores
    assert large.held == 4 * 4 * 512 * 3 + 512
    assert huge is not None and huge.held < 16 * 4 * 2048 * 5 and huge.shared <= 232_448
    assert kernel.plan("lstm", 1, 64, 100_000, *h100) is None  # not even the scores fit


def test_draws_are_those_of_multinomial() -> None:
    """A seed gives what drawing with mg.multinomial would give."""
    scores = mg.randn(1, 9)
    seeded = mg.Generator().manual_seed(1), mg.Generator().manual_seed(1)
    for uniform in seeded[0].numpy.random(50):
        chosen = generation.choose(scores, uniform, 0.8, None)
        p = nn.functional.softmax(scores / 0.8, dim=-1)
        assert chosen.item() == mg.multinomial(p, 1, generator=seeded[1]).item()


def test_what_is_wrong_is_said() -> None:
    modules = net("gru", 4, 2, 3, 1)
    with pytest.raises(ValueError, match="at least one symbol"):
        generation.generate(*modules, [], 5)
    with pytest.raises(ValueError, match="negative"):
        generation.generate(*modules, [1], 5, temperature=-1)
    assert generation.generate(*modules, [1], 0) == []


def test_it_reads_on_from_a_state() -> None:
    modules = net("lstm", 6, 2, 5, 2)
    first, second = mg.Generator().manual_seed(0), mg.Generator().manual_seed(0)
    whole = generation.generate(*modules, [1, 2, 3, 4], 8, generator=first)
    _, state = modules[1](modules[0](mg.tensor([[1], [2]])))
    assert generation.generate(*modules, [3, 4], 8, state=state, generator=second) == whole


def test_only_top_k_are_chosen() -> None:
    scores = mg.tensor([[0.0, 3.0, 1.0, 3.0, 2.0]])
    uniforms = np.linspace(0, 0.999, 50)
    assert {generation.choose(scores, u, 5.0, 2).item() for u in uniforms} == {1, 3}
    assert {generation.choose(scores, u, 5.0, 1).item() for u in uniforms} == {1, 3}  # equals
    assert {generation.choose(scores, u, 0.0, None).item() for u in uniforms} == {1}
