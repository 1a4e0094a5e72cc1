"""Parameters that lie side by side against the same ones updated one by one.

Random programs of what people do between steps run twice, with and without joining: all values
must agree, and nothing that was looked at may ever change.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.fused import recurrence
from minigrad.optim.optimizer import Optimizer

pytestmark = pytest.mark.cpu_only("values are joined only there")

RULES: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda params: optim.SGD(params, lr=0.1),
    "momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, dampening=0.5),
    "Adagrad": lambda params: optim.Adagrad(params, lr=0.1, initial_accumulator_value=0.1),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.02, eps=1e-3, momentum=0.5),
    "Adam": lambda params: optim.Adam(params, lr=0.02, eps=1e-3),
    "AdamW": lambda params: optim.AdamW(params, lr=0.02, eps=1e-3),
}


@contextmanager
def one_by_one() -> Iterator[None]:
    """Nothing is joined."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recurrence, "joined", lambda *given: None)
        patch.setattr(Optimizer, "_update_together", lambda self, i, params, names: params)
        yield


class Net(nn.Module):
    """A recurrent layer, or two that share weights, and a small layer; D = H, so shapes repeat."""

    def __init__(self, kind: str, shared: str = "", **options: Any) -> None:
        super().__init__()
        self.first = getattr(nn, kind)(3, 3, **options)
        self.out = nn.Linear(2 * 3 if options.get("bidirectional") else 3, 2)
        if options.get("proj_size"):
            self.out = nn.Linear(2, 2)
        self.second: Any = None
        if shared == "layer":
            self.second = self.first
        elif shared:
            self.second = getattr(nn, kind)(3, 3)
            if shared == "a weight":
                self.second.weight_hh_l0 = self.first.weight_hh_l0
            elif shared == "the bias":
                self.second.bias_hh_l0 = self.second.bias_ih_l0
            elif shared == "one weight":
                self.second.weight_hh_l0 = self.second.weight_ih_l0

    def forward(self, x: Any) -> Any:
        y, _ = self.first(x)
        if self.second is not None:
            y, _ = self.second(y)
        return self.out(y)


NETS: dict[str, Callable[[], Net]] = {
    "RNN": lambda: Net("RNN"),
    "GRU": lambda: Net("GRU"),
    "LSTM": lambda: Net("LSTM"),
    "no bias": lambda: Net("LSTM", bias=False),
    "both ways": lambda: Net("GRU", bidirectional=True),
    "two layers": lambda: Net("RNN", num_layers=2),
    "projected": lambda: Net("LSTM", proj_size=2),
    **{
        f"shares {what}": lambda what=what: Net("RNN", what)
        for what in ("layer", "a weight", "the bias", "one weight", "nothing")
    },
}


class World:
    """A net, what trains it, and everything that somebody has looked at."""

    def __init__(self, net: str, rule: str, groups: str) -> None:
        mg.manual_seed(0)
        self.net = NETS[net]().double()
        self.seen: list[tuple[Any, Any]] = []
        self.graphs: list[Any] = []
        self.saved: Any = None
        self.optimize(rule, groups)

    # --- what can be done ------------------------------------------------------------------------

    def optimize(self, rule: str, groups: str = "one") -> None:
        """A new optimizer in place of those before."""
        params = list(self.net.parameters())
        self.optimizers: list[Any] = []
        if groups == "split":
            weights = [p for p in params if p.ndim == 2]
            others = [p for p in params if p.ndim != 2]
            given: Any = [{"params": weights}, {"params": others, "lr": 0.05}] if others else params
        else:
            given = params[:3] if groups == "later" else params
        self.optimizers.append(RULES[rule](given))

    def optimize_more(self, rule: str) -> None:
        """Another one, over some of the same."""
        self.optimizers.append(RULES[rule](list(self.net.parameters())[1:]))

    def add_group(self) -> None:
        optimizer = self.optimizers[0]
        known = {p for group in optimizer.param_groups for p in group["params"]}
        new = [p for p in self.net.parameters() if p not in known]
        if new:
            optimizer.add_param_group({"params": new})

    def loss(self, seed: int, B: int) -> Any:
        x = mg.tensor(np.random.default_rng(seed).standard_normal((4, B, 3)))
        y = self.net(x)
        return (y * y.cos()).sum()

    def train(self, seed: int, B: int, zero: Any, clip: str) -> None:
        if zero is not None:
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=zero)
        self.loss(seed, B).backward()
        if clip == "norm":
            nn.utils.clip_grad_norm_(self.net.parameters(), 0.5)
        elif clip == "value":
            nn.utils.clip_grad_value_(self.net.parameters(), 0.1)
        self.step()

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def start_graph(self, seed: int, B: int) -> None:
        self.graphs.append((self.loss(seed, B), list(self.net.parameters())))

    def finish_graph(self, create: bool) -> Any:
        """Backward of what was computed before; it may be refused."""
        if not self.graphs:
            return None
        loss, params = self.graphs.pop(0)
        params = [p for p in params if p.requires_grad]
        try:
            found = mg.grad(loss, params, create_graph=create, allow_unused=True)
            again = [(g * g).sum() for g in found if create and g is not None]
            if again:
                found += mg.grad(sum(again), params, allow_unused=True)
        except RuntimeError as error:
            return str(error)[:40]
        for g in found:
            if g is not None:
                self.look(g.detach(), "numpy")
        return [None if g is None else g.numpy().copy() for g in found]

    def look(self, tensor: Any, how: str) -> None:
        held: Any = tensor.detach()
        if how == "numpy":
            held = held.numpy()
        elif how == "part":
            held = held.numpy().T[:1]
        elif how == "copy":
            held = copy.copy(held)
        self.seen.append((held, np.array(held)))

    def look_at(self, what: str, i: int, how: str) -> None:
        """Keep a value. `what`: of a parameter, its gradient, or its state."""
        params = list(self.net.parameters())
        p = params[i % len(params)]
        if what == "value":
            self.look(p, how)
        elif what == "grad" and p.grad is not None:
            self.look(p.grad, how)
        elif what == "state":
            for tensor in self.optimizers[0].state.get(p, {}).values():
                self.look(tensor, how if tensor.ndim else "detach")

    def look_at_all(self, how: str) -> None:
        for p in self.net.parameters():
            self.look(p, how)

    def look_away(self) -> None:
        self.seen.clear()

    def save(self) -> None:
        self.saved = self.net.state_dict(), self.optimizers[0].state_dict()
        for tensor in self.saved[0].values():
            self.look(tensor, "detach")

    def load(self, net: bool, optimizer: bool) -> None:
        if self.saved is None:
            return
        if net:
            self.net.load_state_dict(self.saved[0])
            self.graphs.clear()  # refused, unless it is the very array that is there already
        if optimizer:
            with suppress(ValueError):  # it is of other groups
                self.optimizers[0].load_state_dict(self.saved[1])

    def copy(self, way: str) -> None:
        """Go on with a copy; the original must stay as it is."""
        for p in self.net.parameters():
            self.look(p, "detach")
        self.original = self.net, self.optimizers
        if way == "deepcopy":
            self.net, self.optimizers = copy.deepcopy(self.original)
        else:
            self.net, self.optimizers = pickle.loads(pickle.dumps(self.original))

    def write(self, i: int, how: str) -> None:
        params = list(self.net.parameters())
        p, q = params[i % len(params)], params[(i + 1) % len(params)]
        if how == "data":
            p.data = mg.full(p.shape, 0.3, dtype=mg.float64)
        elif how == "mul":
            p.data.mul_(0.9)
        elif how == "part":
            p.data[:1].fill_(0.2)
        elif how == "no_grad":
            with mg.no_grad():
                p.add_(0.1)
        elif how == "swap" and p.shape == q.shape:
            p.data, q.data = q.detach(), p.detach()
        elif how == "same" and p.shape == q.shape:
            p.data = q.detach()

    def write_gradient(self, i: int, how: str) -> None:
        params = list(self.net.parameters())
        p, q = params[i % len(params)], params[(i + 1) % len(params)]
        if how == "none":
            p.grad = None
        elif how == "T":
            p.grad = mg.tensor(np.arange(float(p.value.size)).reshape(p.shape[::-1])).T
        elif how == "swap" and p.shape == q.shape:
            p.grad, q.grad = q.grad, p.grad
        elif how == "same" and p.shape == q.shape:
            p.grad = q.grad
        elif how == "state":
            for tensor in self.optimizers[0].state.get(q, {}).values():
                if tensor.shape == p.shape and tensor.dtype == p.dtype:
                    p.grad = tensor.detach()
        elif how == "mul" and p.grad is not None:
            p.grad.mul_(2)

    def freeze(self, i: int) -> None:
        params = list(self.net.parameters())
        p = params[i % len(params)]
        p.requires_grad = not p.requires_grad
        p.grad = None

    def set_option(self, name: str) -> None:
        for group in self.optimizers[0].param_groups:
            if name == "amsgrad" and name in group:
                group[name] = not group[name]
            elif name == "momentum" and name in group:
                group[name] = 0.0 if group[name] else 0.9
            elif name == "centered" and name in group:
                group[name] = not group[name]
            elif name == "lr":
                group[name] *= 0.5

    def forget(self, i: int, name: bool) -> None:
        """Delete the state of a parameter, or a count."""
        params = list(self.net.parameters())
        state = self.optimizers[0].state.get(params[i % len(params)], {})
        if name:
            if "step" in state:
                state["step"] = mg.tensor(3.0)
        else:
            state.clear()

    def write_state(self, i: int, how: str) -> None:
        params = list(self.net.parameters())
        p, states = params[i % len(params)], self.optimizers[0].state
        state = states[p]
        if how == "gone":
            del states[p]
        elif how == "elsewhere":
            states[p] = {name: tensor + 1.0 for name, tensor in state.items()}
        elif how == "first" and state:
            del state[next(iter(state))]
        for name, tensor in list(state.items()):
            if how == "new":
                state[name] = tensor + 1.0
            elif how == "in place" or (how == "count" and name == "step"):
                tensor.add_(1.0)
            elif how == "same":
                state[name] = tensor.clone()
            elif how == "none" and name != "step":
                state[name] = None

    def backward(self, seed: int, B: int) -> None:
        self.loss(seed, B).backward()

    def clip(self, how: str) -> None:
        params = list(self.net.parameters())
        if how == "norm":
            nn.utils.clip_grad_norm_(params, 0.01)
        else:
            nn.utils.clip_grad_value_(params, 0.001)

    # --- what can be seen ------------------------------------------------------------------------

    def values(self) -> tuple[Any, Any]:
        """What there is, and all its numbers in a row."""
        params = list(self.net.parameters())
        found: list[Any] = [*params, *[p.grad for p in params]]
        for optimizer in self.optimizers:
            for p in params:
                for _, tensor in sorted(optimizer.state.get(p, {}).items()):
                    found.append(tensor)
        there = [None if tensor is None else tensor.shape for tensor in found]
        numbers = [tensor.value.ravel() for tensor in found if tensor is not None]
        return there, np.concatenate(numbers)

    def check_seen(self) -> None:
        for held, was in self.seen:
            assert np.array_equal(np.asarray(held), was)


WAYS_TO_REPLACE = ["gone", "elsewhere", "first", "same"]  # a state, or what is in it

index, seed = st.integers(0, 11), st.integers(0, 99)
how_to_look = st.sampled_from(["detach", "numpy", "part", "copy"])
train = st.tuples(
    st.just("train"),
    seed,
    st.sampled_from([1, 1, 2, 3]),
    st.sampled_from([True, True, True, False, None]),
    st.sampled_from(["", "", "norm", "value"]),
)
actions = st.one_of(
    train,
    train,
    train,
    st.tuples(st.just("step")),
    st.tuples(st.just("start_graph"), seed, st.sampled_from([1, 2])),
    st.tuples(st.just("finish_graph"), st.booleans()),
    st.tuples(st.just("look_at"), st.sampled_from(["value", "grad", "state"]), index, how_to_look),
    st.tuples(st.just("look_at_all"), how_to_look),
    st.tuples(st.just("look_away")),
    st.tuples(st.just("save")),
    st.tuples(st.just("load"), st.booleans(), st.booleans()),
    st.tuples(st.just("copy"), st.sampled_from(["deepcopy", "pickle"])),
    st.tuples(
        st.just("write"),
        index,
        st.sampled_from(["data", "mul", "part", "no_grad", "swap", "same"]),
    ),
    st.tuples(
        st.just("write_gradient"),
        index,
        st.sampled_from(["none", "T", "swap", "same", "state", "mul"]),
    ),
    st.tuples(st.just("freeze"), index),
    st.tuples(st.just("set_option"), st.sampled_from(["amsgrad", "momentum", "centered", "lr"])),
    st.tuples(st.just("forget"), index, st.booleans()),
    st.tuples(st.just("write_state"), index, st.sampled_from(WAYS_TO_REPLACE)),
    st.tuples(st.just("add_group")),
    st.tuples(st.just("optimize"), st.sampled_from(sorted(RULES)), st.sampled_from(["one"])),
    st.tuples(st.just("optimize_more"), st.sampled_from(sorted(RULES))),
)


def same(a: Any, b: Any) -> None:
    """Equal but for rounding."""
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, np.ndarray):
        assert np.allclose(a, b, rtol=1e-7, atol=1e-9, equal_nan=True), (a, b)
    else:
        assert a == b


def check(net: str, rule: str, groups: str, program: list[Any]) -> None:
    """The program gives the same, joined and one by one, and nothing that was seen changes."""
    joined = World(net, rule, groups)
    with one_by_one():
        apart = World(net, rule, groups)
    for name, *arguments in program:
        outcomes = []
        for world, context in ((joined, nullcontext()), (apart, one_by_one())):
            with context:
                try:
                    outcomes.append(getattr(world, name)(*arguments))
                except RuntimeError as error:
                    outcomes.append(str(error)[:60])
        same(*outcomes)
        joined.check_seen()
        same(joined.values(), apart.values())


def trained(B: int, *seeds: int) -> list[Any]:
    return [("train", seed, B, True, "") for seed in seeds]


BETWEEN: list[list[Any]] = [
    *[
        [("look_at", what, 1, how)]
        for what in ("value", "grad", "state")
        for how in ("detach", "numpy", "part", "copy")
    ],
    *[[("write", 1, how)] for how in ("data", "mul", "part", "no_grad", "swap", "same")],
    *[
        [("backward", 5, 2), ("write_gradient", 0, how), ("clip", "norm"), ("step",)]
        for how in ("none", "T", "swap", "same", "state", "mul")
    ],
    *[
        [("look_at", "grad", 2, how), ("clip", clip), ("step",)]
        for how in ("detach", "numpy")
        for clip in ("norm", "value")
    ],
    *[[("write_state", 2, how)] for how in ("new", "in place", "count", "none", *WAYS_TO_REPLACE)],
    *[[("backward", 5, 2), ("write", i, "swap"), ("step",)] for i in (0, 2)],
    *[[("set_option", name)] for name in ("amsgrad", "momentum", "centered", "lr")],
    [("save",), ("train", 9, 2, True, ""), ("load", False, True)],
    [("save",), ("train", 9, 2, True, ""), ("load", True, False)],
    [("freeze", 0), *trained(2, 7, 8), ("freeze", 0)],
    [("freeze", 0), *trained(2, 7, 8), ("freeze", 0), ("freeze", 1), *trained(2, 7)],
    [("freeze", -1), *trained(2, 7, 8), ("freeze", -1)],
    [("forget", 1, True)],
    [("forget", 1, False)],
    [("copy", "deepcopy")],
    [("copy", "pickle")],
    [("optimize_more", "Adam"), *trained(2, 7, 8)],
    [("optimize", "momentum", "split"), *trained(2, 7, 8)],
    [("optimize", "Adagrad", "later"), *trained(2, 7, 8), ("add_group",)],
    [("train", 5, 2, None, "norm"), ("train", 6, 2, False, "value")],
    [("start_graph", 3, 1), ("step",), ("finish_graph", False)],
    [("start_graph", 3, 1), ("finish_graph", True), ("step",)],
]


@pytest.mark.parametrize("rule", ["momentum", "RMSprop", "Adam"])
@pytest.mark.parametrize("i", range(len(BETWEEN)))
def test_what_happens_between_steps_is_noticed(i: int, rule: str) -> None:
    """Parameters that have been together for some steps, then something, then steps again."""
    for B in (1, 2):
        check("LSTM", rule, "one", [*trained(B, 0, 1, 2), *BETWEEN[i], *trained(B, 3, 4, 5)])


@given(
    net=st.sampled_from(sorted(NETS)),
    rule=st.sampled_from(sorted(RULES)),
    groups=st.sampled_from(["one", "one", "split", "later"]),
    program=st.lists(actions, min_size=4, max_size=30),
)
@settings(max_examples=120, deadline=None)
def test_any_program_gives_what_it_gives_one_by_one(
    net: str, rule: str, groups: str, program: list[Any]
) -> None:
    check(net, rule, groups, program)


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("B", [1, 2])
def test_nothing_is_joined_again_when_nothing_happens_between_steps(rule: str, B: int) -> None:
    world = World("LSTM", rule, "one")
    for name, *arguments in trained(B, 0, 1, 2):
        getattr(world, name)(*arguments)
    together = world.optimizers[0]._together[0]
    assert not together.others
    for name, *arguments in trained(B, 3, 4):
        getattr(world, name)(*arguments)
    assert world.optimizers[0]._together[0] is together


@pytest.mark.parametrize("what", ["its state", "another's value"])
def test_a_gradient_that_is_something_else_too_is_left_where_it_is(what: str) -> None:
    """No update of the state, or of the other parameter, is lost."""
    world = World("LSTM", "momentum", "one")
    for name, *arguments in trained(2, 0, 1, 2):
        getattr(world, name)(*arguments)
    W, U = world.net.first.weight_ih_l0, world.net.first.weight_hh_l0
    buffer = world.optimizers[0].state[U]["momentum_buffer"]
    world.backward(3, 2)
    was = [p.tolist() for p in (W, W.grad, U, buffer)]
    U.grad = buffer if what == "its state" else W.data
    given = U.grad.tolist()
    expected = 0.9 * np.array(was[3]) + 0.5 * np.array(given)
    of_W = world.optimizers[0].state[W]["momentum_buffer"].tolist()
    world.step()
    np.testing.assert_allclose(buffer.tolist(), expected, rtol=1e-12)
    np.testing.assert_allclose(U.tolist(), np.array(was[2]) - 0.1 * expected, rtol=1e-12)
    step = 0.9 * np.array(of_W) + 0.5 * np.array(was[1])
    np.testing.assert_allclose(W.tolist(), np.array(was[0]) - 0.1 * step, rtol=1e-12)


@pytest.mark.parametrize("name", ["first.weight_hh_l0", "out.bias"])
@pytest.mark.parametrize("wrong", ["dtype", "shape"])
def test_a_gradient_that_no_longer_fits_is_refused_as_one_by_one(wrong: str, name: str) -> None:
    """With what comes before it updated, and nothing else."""
    found = []
    for context in (nullcontext(), one_by_one()):
        with context:
            world = World("LSTM", "Adam", "one")
            for action, *arguments in trained(2, 0, 1, 2):
                getattr(world, action)(*arguments)
            p = world.net.get_parameter(name)
            p._grad = mg.ones(*p.shape) if wrong == "dtype" else mg.ones(1, dtype=mg.float64)
            with pytest.raises(RuntimeError, match="was it changed after backward"):
                world.step()
            found.append(world.values())
    same(*found)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_parameters_of_two_dtypes_keep_them(rule: str) -> None:
    found = []
    for context in (nullcontext(), one_by_one()):
        with context:
            kinds = [(2, mg.float32), (3, mg.float64), (4, mg.float32), (1, mg.float64)]
            params = [nn.Parameter(mg.ones(n, dtype=dtype)) for n, dtype in kinds]
            optimizer = RULES[rule](params)
            for i in range(3):
                for p in params:
                    p.grad = mg.full(p.shape, i + 0.1, dtype=p.dtype)
                optimizer.step()
            found.append([p.value for p in params])
    assert [value.dtype for value in found[0]] == [dtype for _, dtype in kinds]
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
