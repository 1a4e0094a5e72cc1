"""Memory stays flat while training, with the garbage collector off: nothing refers in a circle."""

from __future__ import annotations

import gc
import tracemalloc
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import op_cases_autograd
import op_cases_elementwise
import op_cases_fused
import op_cases_structure
import pytest
from tracing import bytes_of_arrays

import minigrad as mg
from minigrad import nn, optim
from minigrad.autograd.engine import wrap
from minigrad.utils.checkpoint import checkpoint

CASES = [
    case
    for module in (op_cases_elementwise, op_cases_structure, op_cases_fused, op_cases_autograd)
    for case in module.CASES
]


@pytest.fixture(autouse=True, scope="module")
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    gc.freeze()  # what is there already need not be looked at again and again
    yield
    gc.unfreeze()
    gc.enable()


def is_ours(thing: Any) -> bool:
    return type(thing).__module__.startswith(("minigrad", __name__))


def garbage(work: Callable[[], Any]) -> Counter[str]:
    """What of ours, or of NumPy's, only the collector could free after `work`, by type."""
    work()  # caches are filled
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        work()
        gc.collect()
        return Counter(
            type(thing).__name__
            for thing in gc.garbage
            if is_ours(thing) or isinstance(thing, types.FrameType | np.ndarray)
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


# --- a training ---------------------------------------------------------------------------------


@pytest.mark.cpu_only("it counts the host's memory")
def test_a_thousand_steps_of_training_stay_flat() -> None:
    """LSTM with dropout, carried state, clipping, Adam."""
    embed, out = nn.Embedding(5, 3), nn.Linear(4, 5)
    lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.2)
    parameters = [p for m in (embed, lstm, out) for p in m.parameters()]
    optimizer = optim.Adam(parameters, lr=1e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)
    text = mg.tensor(np.random.default_rng(0).integers(0, 5, (7, 2)))
    state: Any = None

    def step() -> None:
        nonlocal state
        y, state = lstm(embed(text[:-1]), state)
        state = tuple(s.detach() for s in state)
        scores = out(nn.functional.dropout(y, 0.2))
        loss = nn.functional.cross_entropy(scores.reshape(-1, 5), text[1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()

    def held(steps: int) -> tuple[int, Counter[str]]:
        """After so many steps: the bytes of all arrays, and our objects by type."""
        for _ in range(steps):
            step()
        return bytes_of_arrays(), Counter(
            type(thing).__name__ for thing in gc.get_objects() if is_ours(thing)
        )

    tracemalloc.start()
    try:
        held(50)
        early, late = held(50), held(900)
    finally:
        tracemalloc.stop()
    assert early == late


# --- each way of using it -------------------------------------------------------------------------


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES])
def test_no_op_leaves_garbage(case: Any) -> None:
    """Forward, backward, and backward of backward."""
    arrays = [np.asarray(x) for x in case.inputs(np.random.default_rng(0))]

    def work() -> None:
        inputs = [wrap(x.copy(), None, x.dtype.kind == "f") for x in arrays]
        live = [x for x in inputs if x.requires_grad]
        ys = case.function(*inputs)
        ys = [y for y in (ys if isinstance(ys, tuple) else [ys]) if y.requires_grad]
        if not ys:
            return
        found = mg.grad(ys, live, [mg.ones_like(y) for y in ys], create_graph=True)
        again = [g for g in found if g.requires_grad]
        mg.grad(again, live, [mg.ones_like(g) for g in again], allow_unused=True)

    assert not garbage(work)


def net() -> Any:
    return nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Tanh(), nn.Dropout(0.5))


class Careless(nn.Module):
    """Keeps its last output, as people do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: Any) -> Any:
        self.last = self.inner(x)
        return self.last


class Fails(mg.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * 1

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        raise ZeroDivisionError


def raises(work: Callable[[], Any], kind: type[Exception]) -> None:
    try:
        work()
    except kind:
        return
    raise AssertionError("no error")


def with_hooks() -> None:
    model, x = net(), mg.randn(4, 2, requires_grad=True)
    seen = []
    handle = model.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    y = model(x)
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    x.register_hook(lambda g: seen.append(g.shape))
    y.sum().backward()
    handle.remove()


def packed() -> None:
    sequences = [mg.randn(n, 2, requires_grad=True) for n in (3, 1, 2)]
    data = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
    y, (h, c) = nn.LSTM(2, 3, bidirectional=True)(data)
    (nn.utils.rnn.pad_packed_sequence(y)[0].sum() + h.sum() + c.sum()).backward()


def backward_with_graph() -> None:
    x = mg.randn(3, requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    x.grad = None  # as PyTorch's users have to: .grad holds the graph, and the graph the leaf


def in_place() -> None:
    x = mg.randn(3, requires_grad=True)
    y = x * 2
    y[0] = x[1]
    y.mul_(x).add_(1)
    y.sum().backward()


def a_nan_found() -> None:
    def work() -> None:
        with mg.autograd.detect_anomaly():
            Careless()(mg.full((2, 2), float("nan"))).sum().backward()

    raises(work, RuntimeError)


def trained_by(rule: str) -> None:
    model = net()
    optimizer = getattr(optim, rule)(model.parameters(), lr=0.1)
    for _ in range(2):
        model(mg.ones(3, 2)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
    model.load_state_dict(model.state_dict())


WAYS: dict[str, Callable[[], Any]] = {
    "module": lambda: net()(mg.ones(4, 2)).sum().backward(),
    "module that keeps its output": lambda: Careless()(mg.ones(4, 2)).sum().backward(),
    "never differentiated": lambda: Careless()(mg.ones(4, 2)).sum(),
    "recurrent": lambda: [
        getattr(nn, kind)(2, 3, num_layers=2, dropout=0.5)(mg.ones(4, 1, 2))[0].sum().backward()
        for kind in ("RNN", "LSTM", "GRU")
    ],
    "cells": lambda: nn.LSTMCell(2, 3)(mg.ones(1, 2))[0].sum().backward(),
    "packed": packed,
    "hooks": with_hooks,
    "in place": in_place,
    "a backward pass with a graph": backward_with_graph,
    "an error in forward": lambda: raises(lambda: net()(mg.ones(4, 3)), RuntimeError),
    "an error in backward": lambda: raises(
        lambda: Fails.apply(net()(mg.ones(4, 2))).sum().backward(), ZeroDivisionError
    ),
    "a second backward": lambda: raises(
        lambda: [y.backward() for y in [net()(mg.ones(4, 2)).sum()] * 2], RuntimeError
    ),
    "a NaN found": a_nan_found,
    "nothing found": lambda: mg.autograd.detect_anomaly()(
        lambda: net()(mg.ones(4, 2)).sum().backward()
    )(),
    "recomputation": lambda: (
        checkpoint(net(), mg.ones(4, 2, requires_grad=True), use_reentrant=False).sum().backward()
    ),
    "gradcheck": lambda: mg.autograd.gradcheck(
        lambda x: x.tanh(), mg.ones(2, dtype=mg.float64, requires_grad=True)
    ),
    "functional": lambda: mg.autograd.functional.hessian(lambda x: (x**3).sum(), mg.ones(3)),
    **{
        f"trained by {rule}": lambda rule=rule: trained_by(rule)
        for rule in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW")
    },
}


@pytest.mark.parametrize("name", WAYS)
def test_nothing_leaves_garbage(name: str) -> None:
    assert not garbage(WAYS[name])


def test_garbage_is_found() -> None:
    """The test can fail."""

    def work() -> None:
        x = mg.ones(3)
        x.itself = x

    assert garbage(work)["Tensor"] == 1
