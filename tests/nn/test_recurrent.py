"""nn.RNN, LSTM, GRU and their cells."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.nn.utils.rnn import pack_padded_sequence, pack_sequence, unpack_sequence

LAYERS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
CELLS = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}


@st.composite
def options(draw: st.DrawFn, **fixed: Any) -> tuple[str, dict[str, Any]]:
    """The kind of a layer, and the arguments to make one."""
    kind = draw(st.sampled_from(list(LAYERS)))
    H = draw(st.integers(1, 5))
    chosen: dict[str, Any] = {
        "input_size": draw(st.integers(1, 4)),
        "hidden_size": H,
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    if kind == "LSTM" and H > 1:
        chosen["proj_size"] = draw(st.integers(0, H - 1))
    if kind == "RNN":
        chosen["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    return kind, chosen | fixed


def make(chosen: tuple[str, dict[str, Any]]) -> Any:
    kind, arguments = chosen
    return LAYERS[kind](**arguments, dtype=mg.float64)


def states_for(layer: Any, B: int, seed: int = 0) -> Any:
    """Random initial states."""
    rng = np.random.default_rng(seed)
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    h = mg.tensor(rng.standard_normal((count, B, layer.proj_size or layer.hidden_size)))
    if not isinstance(layer, nn.LSTM):
        return h
    return h, mg.tensor(rng.standard_normal((count, B, layer.hidden_size)))


def as_list(state: Any) -> list[Any]:
    return list(state) if isinstance(state, tuple) else [state]


def like_given(state: Any, change: Any) -> Any:
    return tuple(map(change, state)) if isinstance(state, tuple) else change(state)


def sequence(layer: Any, T: int, B: int, seed: int = 1) -> Any:
    shape = (B, T) if layer.batch_first else (T, B)
    return mg.tensor(np.random.default_rng(seed).standard_normal((*shape, layer.input_size)))


def same(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-11)


sizes = st.integers(1, 4)


@given(options(), sizes, sizes)
def test_shapes(chosen: Any, T: int, B: int) -> None:
    layer = make(chosen)
    R, P = 1 + layer.bidirectional, layer.proj_size or layer.hidden_size
    y, state = layer(sequence(layer, T, B))
    assert y.shape == ((B, T, R * P) if layer.batch_first else (T, B, R * P))
    count = R * layer.num_layers
    expected = [(count, B, P), (count, B, layer.hidden_size)]
    assert [s.shape for s in as_list(state)] == expected[: len(as_list(state))]
    assert isinstance(state, tuple) == isinstance(layer, nn.LSTM)
    sum(s.sum() for s in [y, *as_list(state)]).backward()
    assert all(p.grad.shape == p.shape for p in layer.parameters())


@given(options(), sizes, sizes)
def test_no_state_means_zeros(chosen: Any, T: int, B: int) -> None:
    layer = make(chosen)
    x = sequence(layer, T, B)
    zeros = like_given(states_for(layer, B), mg.zeros_like)
    same(layer(x)[0], layer(x, zeros)[0])


@given(options(), sizes)
def test_unbatched_is_a_batch_of_one(chosen: Any, T: int) -> None:
    layer = make(chosen)
    state = states_for(layer, 1)
    x = sequence(layer, T, 1)
    y, last = layer(x, state)
    batch = 0 if layer.batch_first else 1
    y_alone, last_alone = layer(x.squeeze(batch), like_given(state, lambda s: s.squeeze(1)))
    same(y_alone, y.squeeze(batch))
    for alone, together in zip(as_list(last_alone), as_list(last), strict=True):
        same(alone, together.squeeze(1))


@given(options(batch_first=True), sizes, sizes)
def test_batch_first_is_transposed(chosen: Any, T: int, B: int) -> None:
    layer = make(chosen)
    x, state = sequence(layer, T, B), states_for(layer, B)
    y, last = layer(x, state)
    layer.batch_first = False
    y_time_first, last_time_first = layer(x.transpose(0, 1), state)
    same(y, y_time_first.transpose(0, 1))
    for a, b in zip(as_list(last), as_list(last_time_first), strict=True):
        same(a, b)


@given(options(bidirectional=True, num_layers=1, batch_first=False), sizes, sizes)
def test_two_directions_are_two_runs(chosen: Any, T: int, B: int) -> None:
    both = make(chosen)
    one = make((chosen[0], chosen[1] | {"bidirectional": False}))
    x, state = sequence(both, T, B), states_for(both, B)
    y, last = both(x, state)
    found = []
    for direction, suffix in enumerate(("", "_reverse")):
        weights = both.state_dict()
        one.load_state_dict({name: weights[name + suffix] for name in one.state_dict()})
        initial = like_given(state, lambda s: s[direction : direction + 1])  # noqa: B023
        z, final = one(x.flip(0) if direction else x, initial)
        found.append(z.flip(0) if direction else z)
        for a, b in zip(as_list(last), as_list(final), strict=True):
            same(a[direction], b[0])
    same(y, mg.cat(found, -1))


@given(options(bidirectional=False, batch_first=False), sizes, sizes, sizes)
def test_chunks_with_carried_state_are_the_whole(
    chosen: Any, first: int, rest: int, B: int
) -> None:
    layer = make(chosen)
    x, state = sequence(layer, first + rest, B), states_for(layer, B)
    y, last = layer(x, state)
    y1, state = layer(x[:first], state)
    y2, state = layer(x[first:], state)
    same(y, mg.cat([y1, y2]))
    for a, b in zip(as_list(last), as_list(state), strict=True):
        same(a, b)


@given(options(bidirectional=False, batch_first=False, num_layers=1), sizes, sizes)
def test_cell_by_cell_is_the_layer(chosen: Any, T: int, B: int) -> None:
    kind, arguments = chosen
    arguments.pop("proj_size", None)
    layer = make(chosen)
    own = {
        name: arguments[name]
        for name in ("input_size", "hidden_size", "bias", "nonlinearity")
        if name in arguments
    }
    cell = CELLS[kind](**own, dtype=mg.float64)
    cell.load_state_dict({name[:-3]: value for name, value in layer.state_dict().items()})
    x, state = sequence(layer, T, B), states_for(layer, B)
    y, _ = layer(x, state)
    state = like_given(state, lambda s: s[0])
    for t in range(T):
        state = cell(x[t], state)
        same(as_list(state)[0], y[t])
    alone = cell(x[0, 0])
    same(as_list(alone)[0], as_list(cell(x[0]))[0][0])


@settings(max_examples=40)
@given(
    options(batch_first=False), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans()
)
def test_packed_is_each_sequence_alone(chosen: Any, lengths: list[int], given_state: bool) -> None:
    layer = make(chosen)
    state = states_for(layer, len(lengths)) if given_state else None
    xs = [sequence(layer, n, 1, seed)[:, 0] for seed, n in enumerate(lengths)]

    def run_packed() -> list[Any]:
        y, last = layer(pack_sequence(xs, enforce_sorted=False), state)
        return [*unpack_sequence(y), *as_list(last)]

    def run_alone() -> list[Any]:
        found, lasts = [], []
        for b, x in enumerate(xs):
            own = None if state is None else like_given(state, lambda s: s[:, b])  # noqa: B023
            y, last = layer(x, own)
            found.append(y)
            lasts.append(as_list(last))
        return [*found, *[mg.stack(parts, 1) for parts in zip(*lasts, strict=True)]]

    gradients = []
    for run in (run_packed, run_alone):
        layer.zero_grad()
        outputs = run()
        sum((y * y).sum() for y in outputs).backward()
        gradients.append([p.grad for p in layer.parameters()] + outputs)
    for a, b in zip(*gradients, strict=True):
        same(a, b)


def test_empty_batch() -> None:
    for layer in (nn.LSTM(3, 4, 2), nn.GRU(3, 4), nn.RNN(3, 4)):
        y, _ = layer(mg.zeros(5, 0, 3))
        assert y.shape == (5, 0, 4)
        y.sum().backward()
        assert not layer.weight_ih_l0.grad.numpy().any()


def test_parameters_and_their_order() -> None:
    layer = nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2)
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"]
    suffixes = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    expected = [name + suffix for suffix in suffixes for name in names]
    assert [name for name, _ in layer.named_parameters()] == expected
    assert layer.weight_ih_l1.shape == (20, 4) and layer.weight_hr_l0.shape == (2, 5)
    flat = [weight for weights in layer.all_weights for weight in weights]
    assert all(a is b for a, b in zip(flat, layer.parameters(), strict=True))
    bound = 1 / np.sqrt(5)
    everything = np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()])
    assert 0.9 * bound < everything.max() <= bound and -bound <= everything.min() < -0.9 * bound
    layer.flatten_parameters()


def test_forget_bias() -> None:
    layer = nn.LSTM(3, 4, 2, bidirectional=True, forget_bias=1.0)
    layer.reset_parameters()
    for _, _, b_ih, b_hh in layer.all_weights:
        np.testing.assert_array_equal((b_ih + b_hh)[4:8].detach().numpy(), np.ones(4))
        assert (b_ih + b_hh).detach().numpy()[:4].any()
    assert "forget_bias=1.0" in repr(layer)
    with pytest.raises(ValueError, match="bias=True"):
        nn.LSTM(3, 4, bias=False, forget_bias=1.0)
    with pytest.raises(TypeError):
        nn.GRU(3, 4, forget_bias=1.0)


def test_dropout_acts_between_layers_in_training_only() -> None:
    layer = nn.GRU(3, 4, 2, dropout=0.5)
    x = mg.ones(5, 2, 3)
    assert (layer(x)[0] != layer(x)[0]).any()
    layer.eval()
    same(layer(x)[0], layer(x)[0])
    with pytest.warns(UserWarning, match="no effect"):
        nn.LSTM(3, 4, dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        all_dropped = nn.RNN(3, 4, 2, dropout=1.0)
    with mg.no_grad():
        all_dropped.weight_hh_l1.zero_()
    y = all_dropped(x)[0].detach().numpy()
    expected = np.tanh((all_dropped.bias_ih_l1 + all_dropped.bias_hh_l1).detach().numpy())
    np.testing.assert_allclose(y, np.broadcast_to(expected, y.shape), rtol=1e-6)


def test_repr() -> None:
    shown = repr(nn.LSTM(3, 4, 3, False, True, 0.5, True, 2))
    assert shown == (
        "LSTM(3, 4, proj_size=2, num_layers=3, bias=False, batch_first=True, dropout=0.5, "
        "bidirectional=True)"
    )
    assert repr(nn.RNN(3, 4, 2, "relu")) == "RNN(3, 4, num_layers=2)"
    cell = nn.RNNCell(3, 4, bias=False, nonlinearity="relu")
    assert repr(cell) == "RNNCell(3, 4, bias=False, nonlinearity=relu)"


def test_a_copy_has_weights_of_its_own() -> None:
    layer = nn.LSTM(2, 3)
    other = copy.deepcopy(layer)
    x = mg.ones(4, 1, 2)
    before = layer(x)[0].detach().numpy().copy()
    with mg.no_grad():
        other.weight_hh_l0.zero_()
    np.testing.assert_array_equal(layer(x)[0].detach().numpy(), before)
    assert (other(x)[0].detach().numpy() != before).any()


Z = mg.zeros

ERRORS = {
    "features": (RuntimeError, "Expected 3, got 7", lambda: nn.LSTM(3, 4)(Z(5, 2, 7))),
    "1-D": (ValueError, "2D or 3D, got 1D", lambda: nn.RNN(3, 4)(Z(3))),
    "4-D": (ValueError, "2D or 3D, got 4D", lambda: nn.GRU(3, 4)(Z(1, 2, 2, 3))),
    "no steps": (RuntimeError, "sequence length", lambda: nn.GRU(3, 4)(Z(0, 2, 3))),
    "dtype": (ValueError, "does not match", lambda: nn.RNN(3, 4)(Z(5, 2, 3).double())),
    "h size": (
        RuntimeError,
        r"\(1, 2, 4\), got \[1, 2, 5\]",
        lambda: nn.GRU(3, 4)(Z(5, 2, 3), Z(1, 2, 5)),
    ),
    "c batch": (
        RuntimeError,
        r"hidden\[1\] size \(1, 2, 4\), got \[1, 3, 4\]",
        lambda: nn.LSTM(3, 4)(Z(5, 2, 3), (Z(1, 2, 4), Z(1, 3, 4))),
    ),
    "h not projected": (
        RuntimeError,
        r"hidden\[0\] size \(1, 2, 2\)",
        lambda: nn.LSTM(3, 4, proj_size=2)(Z(5, 2, 3), (Z(1, 2, 4), Z(1, 2, 4))),
    ),
    "no pair": (TypeError, "tuple", lambda: nn.LSTM(3, 4)(Z(5, 2, 3), Z(1, 2, 4))),
    "batched h": (RuntimeError, "unbatched 2-D", lambda: nn.RNN(3, 4)(Z(5, 3), Z(1, 1, 4))),
    "unbatched h": (RuntimeError, "batched 3-D", lambda: nn.RNN(3, 4)(Z(5, 2, 3), Z(1, 4))),
    "h dtype": (RuntimeError, "float64", lambda: nn.RNN(3, 4)(Z(5, 2, 3), Z(1, 2, 4).double())),
    "packed": (RuntimeError, "input_size", lambda: nn.RNN(3, 4)(pack_sequence([Z(2, 5)]))),
    "float size": (TypeError, "hidden_size", lambda: nn.RNN(3, 4.0)),  # type: ignore[arg-type]
    "no size": (ValueError, "hidden_size", lambda: nn.RNN(3, 0)),
    "no layers": (ValueError, "num_layers", lambda: nn.RNN(3, 4, num_layers=0)),
    "dropout": (ValueError, "range", lambda: nn.RNN(3, 4, 2, dropout=1.5)),
    "bool dropout": (ValueError, "range", lambda: nn.RNN(3, 4, 2, dropout=True)),
    "projection": (ValueError, "smaller", lambda: nn.LSTM(3, 4, proj_size=4)),
    "negative projection": (ValueError, "positive", lambda: nn.LSTM(3, 4, proj_size=-1)),
    "projected GRU": (ValueError, "LSTM", lambda: nn.GRU(3, 4, proj_size=2)),
    "nonlinearity": (ValueError, "'x'", lambda: nn.RNN(3, 4, nonlinearity="x")),
    "cell features": (RuntimeError, "got 5 expected 3", lambda: nn.LSTMCell(3, 4)(Z(2, 5))),
    "cell 3-D": (ValueError, "1D or 2D", lambda: nn.LSTMCell(3, 4)(Z(2, 2, 3))),
    "cell h": (RuntimeError, "hidden0", lambda: nn.GRUCell(3, 4)(Z(2, 3), Z(3, 4))),
    "cell c": (RuntimeError, "hidden1", lambda: nn.LSTMCell(3, 4)(Z(2, 3), (Z(2, 4), Z(2, 5)))),
    "cell no pair": (TypeError, "tuple", lambda: nn.LSTMCell(3, 4)(Z(2, 3), Z(2, 4))),
    "cell nonlinearity": (RuntimeError, "z", lambda: nn.RNNCell(3, 4, nonlinearity="z")(Z(2, 3))),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    kind, message, action = ERRORS[name]
    with pytest.raises(kind, match=message):
        action()


def test_carried_state_must_be_detached() -> None:
    layer = nn.LSTM(2, 3)
    x = mg.ones(4, 1, 2)
    y, state = layer(x)
    y.sum().backward()
    y, state = layer(x, state)
    with pytest.raises(RuntimeError, match="detach"):
        y.sum().backward()
    y, _ = layer(x, tuple(s.detach() for s in state))
    y.sum().backward()


# --- against PyTorch ----------------------------------------------------------------------------


@pytest.mark.oracle
@settings(max_examples=100)
@given(options(), sizes, sizes, st.sampled_from(["none", "state", "packed", "unbatched"]))
def test_against_pytorch(chosen: Any, T: int, B: int, mode: str) -> None:
    """Values, gradients of everything, state dicts loaded both ways."""
    torch = pytest.importorskip("torch")
    kind, arguments = chosen
    ours = make(chosen)
    theirs = getattr(torch.nn, kind)(**arguments, dtype=torch.float64)
    assert repr(ours) == repr(theirs)
    expected_names = list(theirs.state_dict())
    assert list(ours.state_dict()) == expected_names
    theirs.load_state_dict(
        {k: torch.from_numpy(v.numpy().copy()) for k, v in ours.state_dict().items()}
    )
    fresh = make(chosen)
    fresh.load_state_dict(theirs.state_dict())
    for a, b in zip(fresh.parameters(), ours.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())

    x = sequence(ours, T, B)
    state = None if mode == "none" else states_for(ours, B)
    if mode == "unbatched":
        x = x[0] if ours.batch_first else x[:, 0]
        state = like_given(state, lambda s: s[:, 0])
    x.requires_grad_()
    their_x = torch.from_numpy(x.detach().numpy().copy()).requires_grad_()
    their_state = None
    if state is not None:
        for s in as_list(state):
            s.requires_grad_()
        their_state = like_given(
            state, lambda s: torch.from_numpy(s.detach().numpy().copy()).requires_grad_()
        )
    given, their_given = x, their_x
    if mode == "packed":
        lengths = [1 + (7 * b) % T for b in range(B)]
        given = pack_padded_sequence(x, lengths, ours.batch_first, False)
        their_given = torch.nn.utils.rnn.pack_padded_sequence(
            their_x, torch.tensor(lengths), ours.batch_first, False
        )
    y, last = ours(given, state)
    their_y, their_last = theirs(their_given, their_state)
    if mode == "packed":
        np.testing.assert_array_equal(y.batch_sizes.numpy(), their_y.batch_sizes.numpy())
        np.testing.assert_array_equal(y.sorted_indices.numpy(), their_y.sorted_indices.numpy())
        y, their_y = y.data, their_y.data
    outputs, their_outputs = [y, *as_list(last)], [their_y, *as_list(their_last)]
    for a, b in zip(outputs, their_outputs, strict=True):
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)
    rng = np.random.default_rng(5)
    cotangents = [rng.standard_normal(a.shape) for a in outputs]
    sum((a * mg.tensor(g)).sum() for a, g in zip(outputs, cotangents, strict=True)).backward()
    torch.autograd.backward(their_outputs, [torch.from_numpy(g) for g in cotangents])
    leaves = [x, *ours.parameters(), *(as_list(state) if state is not None else [])]
    their_leaves = [
        their_x,
        *theirs.parameters(),
        *(as_list(their_state) if state is not None else []),
    ]
    for a, b in zip(leaves, their_leaves, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-8, atol=1e-11)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_of_pytorchs_kind(name: str) -> None:
    torch = pytest.importorskip("torch")
    if name in ("no pair", "cell no pair", "h dtype"):
        pytest.skip("PyTorch's complaint is an accident of its unpacking")
    kind, _, action = ERRORS[name]
    theirs = {"nn": torch.nn, "Z": torch.zeros, "pack_sequence": torch.nn.utils.rnn.pack_sequence}
    translated = type(action)(action.__code__, theirs)
    with pytest.raises(kind):
        translated()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("batches", [[1], [3], [3, 1], [1, 3]])
def test_where_weights_lie_is_not_seen(kind: str, batches: list[int]) -> None:
    """A layer that ran (then they are in one array), beside the same that never did."""

    def initial(layer: Any, seed: int) -> None:
        mg.manual_seed(seed)
        layer.reset_parameters()
        nn.init.orthogonal_(layer.weight_hh_l0)
        nn.init.xavier_normal_(layer.weight_ih_l0.data[:3])
        with mg.no_grad():
            layer.bias_ih_l0[2:4].fill_(1)
            layer.weight_ih_l0[1] = 5
            layer.weight_hh_l0[:, 1] *= 2
        layer.weight_hh_l0.data[...] += 1

    layers = [LAYERS[kind](2, 4, bidirectional=True) for _ in range(2)]
    ran, idle = layers
    for seed in range(2):
        for B in batches:
            ran(mg.randn(5, B, 2))[0].sum().backward()
        for layer in layers:
            initial(layer, seed)
        ran(mg.randn(5, batches[-1], 2))
        for p, q in zip(ran.parameters(), idle.parameters(), strict=True):
            array = p.detach().numpy()
            assert array.tobytes("A") == q.detach().numpy().tobytes("A")
            assert p.view(-1).tolist() == q.view(-1).tolist()
            assert p.grad is not None and p.grad.numpy().flags.c_contiguous
            for other in (copy.deepcopy(p), pickle.loads(pickle.dumps(p)), p.clone()):
                assert other.tolist() == q.tolist()
            kept, before = (p.detach(), p.data[...], array), q.tolist()
            with mg.no_grad():
                p.add_(1)
                q.add_(1)
            assert all(old.tolist() == before for old in kept)
