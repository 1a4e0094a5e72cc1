"""Sequences one at a time, on buffers that are lent from call to call."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.fused import recurrence, single

CELLS = [nn.RNN, nn.GRU, nn.LSTM]


def layer(kind: Any, D: int = 3, H: int = 5) -> Any:
    mg.manual_seed(0)
    return kind(D, H).double()


def run(net: Any, x: Any) -> tuple[Any, Any]:
    """Output, and the gradients of the weights and of x."""
    x = x.detach().requires_grad_()
    y, _ = net(x)
    gradients = mg.grad((y * y.cos()).sum(), [x, *net.parameters()])
    return y.detach(), gradients


def random(T: int, B: int = 1, D: int = 3, seed: int = 0) -> Any:
    return mg.tensor(np.random.default_rng(seed).standard_normal((T, B, D)))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(("T", "D"), [(1, 3), (7, 3), (7, 1)])
def test_one_sequence_equals_a_batch_of_two_alike(kind: Any, T: int, D: int) -> None:
    net = layer(kind, D)
    x = random(T, D=D)
    y, (gx, *gradients) = run(net, x)
    y2, (gx2, *gradients2) = run(net, mg.cat([x, x], 1))
    np.testing.assert_allclose(y.tolist(), y2[:, :1].tolist(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gx.tolist(), gx2[:, :1].tolist(), rtol=1e-11, atol=1e-13)
    for g, g2 in zip(gradients, gradients2, strict=True):
        np.testing.assert_allclose(2 * g.numpy(), g2.numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("at", [(0, 0), (0, 4), (1, 2), (2, 0), (3, 0), (3, 4)])
def test_gradients_that_are_zero_but_for_one_entry(kind: Any, at: tuple[int, int]) -> None:
    net, x = layer(kind), random(4)
    g = np.zeros((4, 2, 5))
    g[at[0], 0, at[1]] = 1
    alone, beside = x.clone().requires_grad_(), mg.cat([x, x], 1).requires_grad_()
    gradients = mg.grad(net(alone)[0], [*net.parameters(), alone], mg.tensor(g[:, :1]))
    expected = mg.grad(net(beside)[0], [*net.parameters(), beside], mg.tensor(g))
    for a, b in zip(gradients, [*expected[:-1], expected[-1][:, :1]], strict=True):
        np.testing.assert_allclose(a.tolist(), b.tolist(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", CELLS)
def test_a_state_is_of_its_own_call(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls with and without one, whose gradient is wanted or not, take turns in one space."""
    monkeypatch.setattr(single, "_kept", threading.local())
    net, x = layer(kind), random(4)
    parameters = list(net.parameters())
    h = [mg.ones(1, 1, 5, dtype=mg.float64, requires_grad=True) for _ in range(2)]

    def run_from(start: Any, wanted: list[Any]) -> list[Any]:
        y, last = net(x, start)
        total = (y * y).sum() + (last[1] * y[0] if kind is nn.LSTM else last).sum()
        return [*last, *mg.grad(total, wanted)]

    def read(found: list[Any]) -> list[Any]:
        return [array.tolist() for array in found]

    given = tuple(h) if kind is nn.LSTM else h[0]
    fixed = tuple(s.detach() for s in h) if kind is nn.LSTM else h[0].detach()
    states = h if kind is nn.LSTM else h[:1]
    both, n = run_from(given, [*parameters, *states]), len(states) + len(parameters)
    expected = read(both)
    without = read(run_from(None, parameters))
    assert read(run_from(fixed, parameters)) == expected[:n] != without
    assert read(run_from(given, states)) == expected[: len(states)] + expected[n:]
    assert read(run_from(None, parameters)) == without
    assert read(both) == expected  # nothing that later calls wrote to


@pytest.mark.parametrize("kind", CELLS)
def test_long_sequences_are_not_kept_and_give_the_same(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = layer(kind), random(9)
    y, gradients = run(net, x)
    monkeypatch.setattr(single, "LARGEST", 9 * 5 - 1)
    monkeypatch.setattr(single, "_kept", threading.local())
    monkeypatch.setattr(recurrence, "RUN", 4 * 8 * 5)  # local derivatives 4 steps at a time
    y2, gradients2 = run(net, x)
    assert not single._kept.__dict__.get("entries")
    np.testing.assert_allclose(y.numpy(), y2.numpy(), rtol=1e-12)
    for g, g2 in zip(gradients, gradients2, strict=True):
        np.testing.assert_allclose(g.numpy(), g2.numpy(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("kind", CELLS)
def test_many_graphs_at_once_do_not_share_their_buffers(kind: Any) -> None:
    net = layer(kind)
    inputs = [random(4, seed=seed) for seed in range(2 * single.KEPT)]
    alone = [[g.numpy() for g in run(net, x)[1]] for x in inputs]
    together = [(net(x)[0], x) for x in inputs]  # all of them wait for their backward pass
    shown = [y.detach().numpy().copy() for y, _ in together]
    for (y, _), values, expected in zip(together, shown, alone, strict=True):
        np.testing.assert_array_equal(y.detach().numpy(), values)  # later passes left it alone
        gradients = mg.grad((y * y.cos()).sum(), list(net.parameters()))
        for g, g_alone in zip(gradients, expected[1:], strict=True):
            np.testing.assert_array_equal(g.numpy(), g_alone)


class Space(single.Space):
    blocks = 1


def test_a_space_is_lent_again_when_nobody_uses_it() -> None:
    sizes = 6, 5, 2, True, np.dtype("float64")
    first, second = single.lend(Space, *sizes), single.lend(Space, *sizes)
    assert first is not second
    assert single.lend(Space, 7, *sizes[1:]).states.shape == (8, 5)
    address = id(first)
    del first
    assert id(single.lend(Space, *sizes)) == address


def test_each_thread_has_spaces_of_its_own() -> None:
    net, inputs = layer(nn.LSTM), [random(12, seed=seed) for seed in range(4)]
    expected = [run(net, x)[1][0].numpy() for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(run(net, inputs[i])[1][0].numpy(), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
