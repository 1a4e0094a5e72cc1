"""Values of several nodes in one array: nobody can tell, whoever looks, and whenever."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tracing import bytes_of_arrays

import minigrad as mg
from minigrad import nn, optim
from minigrad.autograd.engine import wrap
from minigrad.fused import recurrence
from minigrad.memory import (
    LARGE,
    LINE,
    Joined,
    aligned,
    in_a_row,
    joined_among,
    owned,
    scratch,
    side_by_side,
)

pytestmark = pytest.mark.cpu_only("values are joined only there")

SHAPES = [(2, 3), (), (0, 4), (5,)]
KINDS = [nn.RNN, nn.GRU, nn.LSTM]


def join(shapes: Any = SHAPES, first: float = 0.0) -> tuple[Joined, list[Any]]:
    """Nodes with the numbers from `first`, joined."""
    nodes = []
    for shape in shapes:
        size = int(np.prod(shape))
        nodes.append(wrap(np.arange(first, first + size).reshape(shape)))
        first += size
    found = Joined(np.empty(sum(node.value.size for node in nodes)), in_a_row(shapes))
    found.take(nodes)
    return found, nodes


def numbers(net: Any) -> list[Any]:
    return [p.tolist() for p in net.parameters()]


def train(net: Any, optimizer: Any, steps: int = 1, B: int = 2) -> None:
    for i in range(steps):
        optimizer.zero_grad()
        loss(net, B, i).backward()
        optimizer.step()


def loss(net: Any, B: int = 2, seed: int = 0) -> Any:
    p = next(net.parameters())
    x = np.random.default_rng(seed).standard_normal((4, B, 3)).astype(p.dtype)
    y, _ = net(mg.tensor(x))
    return (y * y.cos()).sum()


def is_one_block(*tensors: Any) -> bool:
    """Whether they lie in the same memory."""
    bases = {id(t.value.base) for t in tensors}
    return len(bases) == 1 and tensors[0].value.base is not None


# --- the arrays ---------------------------------------------------------------------------------


def test_parts_have_the_values_and_share_the_array() -> None:
    joined, nodes = join()
    assert joined.array.tolist() == list(range(12))
    assert [node.shape for node in nodes] == SHAPES
    joined.array += 1
    assert nodes[1].item() == 7
    assert joined.holds(nodes)
    assert not joined.holds(nodes[::-1])
    assert not joined.holds(nodes[:-1])
    nodes[0].value = nodes[0].value.copy()
    assert not joined.holds(nodes)
    assert not nodes[0].is_joined
    assert nodes[1].is_joined


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "the value": lambda node: node.detach(),
    "a view": lambda node: node.detach().numpy(),
    "a view of a view": lambda node: node.detach().numpy().reshape(-1)[:1].T,
    "a buffer": lambda node: memoryview(node.detach().numpy()),
    "an op": lambda node: node.requires_grad_() * node,
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("i", [0, 1, 3])
def test_who_holds_a_part_is_seen(holder: str, i: int) -> None:
    joined, nodes = join()
    assert joined.is_alone()
    held = HOLDERS[holder](nodes[i])
    assert not joined.is_alone()
    before = nodes[i].value
    assert owned(nodes[i]) is not before
    del held, before
    joined, nodes = join()
    assert owned(nodes[i]) is joined.parts[i]
    assert not joined.is_alone(0)
    nodes.clear()
    assert joined.is_alone(0)


@pytest.mark.parametrize("count", range(1, 20))
def test_views_are_seen_whatever_else_in_the_memory_is_gone(count: int) -> None:
    """So many views as there were references from others, which no longer exist."""
    likes = [join()[0], join([(3,)])[0]]
    whole, (first, second) = side_by_side(likes)
    assert first.is_alone(0)
    assert second.is_alone(0)
    seen = [first.parts[0][i % 2 :] for i in range(count)]
    del whole, second
    assert not first.is_alone(0)
    seen.clear()
    assert first.is_alone(0)


def test_side_by_side_is_in_one_array_in_order() -> None:
    (a, nodes), (b, others) = join(), join([(3,)], 100.0)
    whole, (c, d) = side_by_side([a, b])
    c.take(nodes)
    d.take(others)
    assert whole.tolist() == [*range(12), 100, 101, 102]
    assert joined_among([*others, *nodes]) == ([(d, others), (c, nodes)], [])
    assert joined_among(nodes[1:]) == ([], nodes[1:])
    assert a.is_alone(0)


def test_room_is_lent_to_one_at_a_time() -> None:
    joined, _ = join()
    room = joined.lend()
    assert joined.lend() is not room
    joined.give_back(room)
    assert joined.lend() is room
    joined.give_back(room)
    gradient = room.parts[0][:1]
    other = joined.lend()
    assert other is not room
    joined.give_back(other)
    del gradient
    assert joined.lend() is room


@pytest.mark.parametrize("size", [0, 5, LARGE, LARGE + 3])
def test_large_arrays_start_at_a_line_of_the_cache(size: int) -> None:
    array = aligned((size,), np.zeros(0, np.float32))
    assert array.shape == (size,)
    assert array.dtype == np.float32
    if size >= LARGE:
        assert array.__array_interface__["data"][0] % LINE == 0
    like = np.zeros((size, 2)).T
    assert scratch(like).strides == like.strides or size == 0
    assert scratch(like) is not like


# --- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("B", [1, 2])
def test_weights_lie_together_and_gradients_too(kind: Any, B: int) -> None:
    net = kind(3, 4)
    optimizer = optim.Adam(net.parameters())
    train(net, optimizer, 4, B)
    params = list(net.parameters())
    assert is_one_block(*params)
    assert is_one_block(*[p.grad for p in params])
    assert is_one_block(*[optimizer.state[p]["exp_avg"] for p in params])
    memory = params[0].value.base.ctypes.data, params[0].grad.value.base.ctypes.data
    train(net, optimizer, 4, B)
    assert memory == (params[0].value.base.ctypes.data, params[0].grad.value.base.ctypes.data)


@pytest.mark.parametrize("B", [1, 2])
@pytest.mark.parametrize("looks", range(1, 9))
def test_what_was_seen_of_another_optimizers_values_stays(B: int, looks: int) -> None:
    net, other = nn.LSTM(3, 4), nn.LSTM(3, 4)
    optimizer = optim.SGD([*net.parameters(), *other.parameters()], lr=0.1)
    train(net, optimizer, 1, B)
    loss(other, B).backward()
    optimizer.step()
    seen = [net.weight_hh_l0.detach().numpy() for _ in range(looks)]
    before = seen[0].copy()
    other = None
    del optimizer  # with its references to the memory
    train(net, optim.Adam(net.parameters(), lr=0.1), 1, B)
    for array in seen:
        np.testing.assert_array_equal(array, before)
    assert not np.array_equal(net.weight_hh_l0.detach().numpy(), before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("B", [1, 2])
def test_gradients_are_values(kind: Any, B: int) -> None:
    """Those of `grad`, of hooks, and views of those in `.grad`."""
    net = kind(3, 3)
    params = list(net.parameters())
    seen: list[tuple[Any, Any]] = []

    def look(g: Any) -> None:
        held = g.detach().numpy() if len(seen) % 2 else g
        seen.append((held, np.array(g.tolist())))

    for p in params:
        p.register_hook(look)
    optimizer = optim.SGD(params, lr=0.1)
    for i in range(4):
        for g in mg.grad(loss(net, B, i), params):
            look(g)
        train(net, optimizer, 1, B)
        nn.utils.clip_grad_norm_(params, 0.01)
        look(params[i % len(params)].grad.detach())
        nn.utils.clip_grad_value_(params, 0.001)
        for held, was in seen:
            np.testing.assert_array_equal(np.asarray(held), was)


@pytest.mark.parametrize("B", [1, 2])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_graph_refuses_values_that_a_step_wrote_over(B: int, create_graph: bool) -> None:
    net = nn.LSTM(3, 4)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    train(net, optimizer, 3, B)
    held = loss(net, B)
    held.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="was changed after"):
        mg.grad(held, list(net.parameters()), create_graph=create_graph)


@pytest.mark.parametrize("B", [1, 2])
def test_a_frozen_weight_may_change_before_the_backward_pass(B: int) -> None:
    """The gradients of the others are those at the old value."""
    net = nn.RNN(3, 4).double()
    net.weight_hh_l0.requires_grad_(False)
    others = [p for p in net.parameters() if p.requires_grad]
    loss(net, B).backward()
    expected = [p.grad.tolist() for p in others]
    optimizer = optim.SGD([net.weight_hh_l0], lr=0.1)
    for _ in range(3):
        held = loss(net, B)
        was = net.weight_hh_l0.tolist()
        net.weight_hh_l0.grad = mg.ones(4, 4, dtype=mg.float64)
        optimizer.step()
        assert net.weight_hh_l0.tolist() != was
        found = mg.grad(held, others)
        for g, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(g.tolist(), e, rtol=1e-12)
        net.weight_hh_l0.data = mg.tensor(was, dtype=mg.float64)


def test_one_graph_with_batches_and_single_sequences() -> None:
    """The layout of the weights changes between forward passes, and between their backwards."""
    net = nn.GRU(3, 3).double()
    params = list(net.parameters())
    sizes = [1, 2, 1, 3]
    apart = [mg.grad(loss(net, B, B), params) for B in sizes]
    together = mg.grad(sum(loss(net, B, B) for B in sizes), params)
    for g, *parts in zip(together, *apart, strict=True):
        np.testing.assert_allclose(g.numpy(), sum(part.numpy() for part in parts), rtol=1e-10)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
@pytest.mark.parametrize("B", [1, 3])
def test_a_cell_at_every_step_trains_as_the_layer_does(kind: Any, B: int) -> None:
    cell = kind(3, 4).double()
    layer = getattr(nn, kind.__name__[:-4])(3, 4).double()
    for p, q in zip(layer.parameters(), cell.parameters(), strict=True):
        p.data = q.detach()
    by_cell = optim.Adam(cell.parameters(), lr=0.1)
    by_layer = optim.Adam(layer.parameters(), lr=0.1)
    for seed in range(4):
        x = mg.tensor(np.random.default_rng(seed).standard_normal((5, B, 3)))
        by_layer.zero_grad()
        layer(x)[0].sum().backward()
        by_cell.zero_grad()
        state, total = None, 0.0
        for part in x:
            state = cell(part, state)
            total = total + (state[0] if kind is nn.LSTMCell else state).sum()
        total.backward()
        by_layer.step()
        by_cell.step()
        for p, q in zip(layer.parameters(), cell.parameters(), strict=True):
            np.testing.assert_allclose(p.tolist(), q.tolist(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_packed_sequence_is_a_sequence(kind: Any) -> None:
    net = kind(3, 4, num_layers=2, bidirectional=True).double()
    params = list(net.parameters())
    x = mg.tensor(np.random.default_rng(0).standard_normal((5, 1, 3)))
    y, _ = net(nn.utils.rnn.pack_padded_sequence(x, [5]))
    found = mg.grad((y.data * y.data.cos()).sum(), params)
    expected = mg.grad(loss_of(net(x)[0]), params)
    for g, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=1e-10, atol=1e-13)


def loss_of(y: Any) -> Any:
    return (y * y.cos()).sum()


def test_weights_that_are_computed_are_not_joined() -> None:
    W, U = (mg.randn(4, 4, requires_grad=True) for _ in range(2))
    assert recurrence.joined(True, W * 2, U, None, None) is None
    assert recurrence.joined(True, W, U * 2, None, None) is None
    assert recurrence.joined(True, W, U.double().detach(), None, None) is None
    assert not W.is_joined
    assert recurrence.joined(True, W, U, None, None) is not None
    assert W.is_joined


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("B", [1, 2])
def test_training_goes_on_in_another_precision(dtype: str, B: int) -> None:
    net = nn.LSTM(3, 4)
    optimizer = optim.Adam(net.parameters(), lr=0.01, eps=1e-3)
    train(net, optimizer, 3, B)
    before = [(p.detach(), p.tolist()) for p in net.parameters()]
    net.to(dtype=getattr(mg, dtype))
    train(net, optimizer, 3, B)
    for p in net.parameters():
        assert p.dtype == p.grad.dtype == optimizer.state[p]["exp_avg"].dtype == np.dtype(dtype)
        assert optimizer.state[p]["step"].item() == 6
    assert all(held.tolist() == was for held, was in before)


# --- at once --------------------------------------------------------------------------------------


def in_threads(work: Callable[[int], Any], count: int = 4) -> None:
    failed: list[BaseException] = []

    def run(i: int) -> None:
        try:
            work(i)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("kind", KINDS)
def test_threads_get_their_own_gradients_of_one_net(kind: Any) -> None:
    """Some with batches, some with single sequences, so that the weights are moved all the time."""
    net = kind(3, 16).double()
    params = list(net.parameters())
    expected = [[g.numpy() for g in mg.grad(loss(net, 1 + i % 2, i), params)] for i in range(4)]

    def work(i: int) -> None:
        for _ in range(40):
            for g, e in zip(mg.grad(loss(net, 1 + i % 2, i), params), expected[i], strict=True):
                np.testing.assert_allclose(g.numpy(), e, rtol=1e-9, atol=1e-12)

    in_threads(work)


@pytest.mark.parametrize("B", [1, 2])
def test_threads_add_up_their_gradients(B: int) -> None:
    net = nn.LSTM(3, 8).double()
    params = list(net.parameters())
    expected = [g.numpy() * 80 for g in mg.grad(loss(net, B), params)]
    in_threads(lambda i: [loss(net, B).backward() for _ in range(20)])
    for p, e in zip(params, expected, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), e, rtol=1e-9, atol=1e-12)


def test_a_step_is_not_given_the_gradients_of_another_thread() -> None:
    """Room that a backward pass is working in is not room for gradients at the same time."""
    net = nn.LSTM(3, 4).double()
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    train(net, optimizer, 3)
    joined = net.weight_hh_l0.joined
    before = numbers(net)
    for p in net.parameters():
        p.grad = mg.ones(*p.shape, dtype=mg.float64)
    room = joined.lend()  # another thread's backward pass begins ...
    optimizer.step()
    room.array[...] = 7  # ... and computes
    joined.give_back(room)
    for p, was in zip(net.parameters(), before, strict=True):
        np.testing.assert_allclose(p.tolist(), np.array(was) - 1)
        assert p.grad.tolist() == np.ones(p.shape).tolist()


# --- memory ---------------------------------------------------------------------------------------


def test_many_steps_take_no_more_memory() -> None:
    """Batches and single sequences in turn, clipped, with a value looked at now and then."""
    net = nn.GRU(3, 4)
    optimizer = optim.Adam(net.parameters())

    def held(steps: int) -> int:
        for i in range(steps):
            train(net, optimizer, 1, 1 + i // 10 % 2)
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            if i % 7 == 0:
                looked = net.weight_hh_l0.detach(), net.weight_ih_l0.grad.detach().numpy()
                train(net, optimizer)
                del looked
        return bytes_of_arrays()

    tracemalloc.start()
    try:
        held(60)
        early, late = held(60), held(480)
    finally:
        tracemalloc.stop()
    assert early == late


@pytest.mark.parametrize("B", [1, 2])
def test_net_and_optimizer_free_all_arrays_without_the_collector(B: int) -> None:
    net = nn.Sequential(nn.LSTM(3, 4), nn.LSTM(4, 4))
    net, other = net[0], net[1]
    optimizer = optim.Adam([*net.parameters(), *other.parameters()])
    for _ in range(3):
        optimizer.zero_grad()
        y, _ = other(net(mg.ones(4, B, 3))[0])
        y.sum().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
    p = net.weight_hh_l0
    memories = [p.value.base, p.grad.value.base, optimizer.state[p]["exp_avg"].value.base]
    alive = [weakref.ref(array) for array in memories]
    gc.collect()
    gc.disable()
    try:
        del net, other, optimizer, p, y, _, memories
        assert [ref() for ref in alive] == [None] * 3
    finally:
        gc.enable()
