"""nn.utils.rnn: sequences of different lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import strict_cupy
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.nn.utils import rnn

lengths_lists = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def sequences(lengths: list[int], features: tuple[int, ...] = (2,)) -> list[Any]:
    rng = np.random.default_rng(len(lengths))
    return [mg.tensor(rng.standard_normal((n, *features))) for n in lengths]


def equal(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a.numpy(), b.numpy())


@given(lengths_lists, st.booleans(), st.sampled_from([(), (2,), (2, 3)]), st.booleans())
def test_round_trips(
    lengths: list[int], batch_first: bool, features: tuple[int, ...], left: bool
) -> None:
    xs = sequences(lengths, features)
    padded = rnn.pad_sequence(xs, batch_first, 9.0)
    T, B = max(lengths), len(lengths)
    assert padded.shape == ((B, T, *features) if batch_first else (T, B, *features))
    for x, back in zip(xs, rnn.unpad_sequence(padded, lengths, batch_first), strict=True):
        equal(x, back)

    packed = rnn.pack_padded_sequence(padded, mg.tensor(lengths), batch_first, False)
    assert len(packed.data) == sum(lengths)
    again, sizes = rnn.pad_packed_sequence(packed, batch_first, 9.0, total_length=T + 1)
    assert sizes.tolist() == lengths
    equal(again[:, :T] if batch_first else again[:T], padded)
    assert ((again[:, T:] if batch_first else again[T:]) == 9).all()
    for x, back in zip(xs, rnn.unpack_sequence(packed), strict=True):
        equal(x, back)

    if left:
        on_the_left = rnn.pad_sequence(xs, padding_value=9.0, padding_side="left")
        for b, n in enumerate(lengths):
            equal(on_the_left[T - n :, b], xs[b])
            assert (on_the_left[: T - n, b] == 9).all()


def test_the_order_of_packed_data() -> None:
    """As in PyTorch's documentation."""
    a, b, c = (mg.tensor(x) for x in ([1, 2, 3], [4, 5], [6]))
    packed = rnn.pack_sequence([a, b, c])
    assert packed.data.tolist() == [1, 4, 6, 2, 5, 3]
    assert packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.sorted_indices is None and packed.unsorted_indices is None
    packed = rnn.pack_sequence([c, a, b], enforce_sorted=False)
    assert packed.data.tolist() == [1, 4, 6, 2, 5, 3]
    assert packed.sorted_indices.tolist() == [1, 2, 0]
    assert packed.unsorted_indices.tolist() == [2, 0, 1]


@given(lengths_lists)
def test_gradients(lengths: list[int]) -> None:
    inputs = [x.requires_grad_() for x in sequences(lengths)]

    def there_and_back(*xs: Any) -> Any:
        packed = rnn.pack_sequence([x * x for x in xs], enforce_sorted=False)
        return rnn.pad_packed_sequence(packed, padding_value=3.0)[0]

    assert mg.autograd.gradcheck(there_and_back, inputs, fast_mode=True)
    assert mg.autograd.gradgradcheck(there_and_back, inputs, fast_mode=True)


def test_dtypes() -> None:
    packed = rnn.pack_sequence(sequences([3, 1]))
    assert packed.float().data.dtype == mg.float32
    assert packed.half().data.dtype == mg.float16
    assert packed.to(mg.float32).double().data.dtype == mg.float64
    assert packed.cpu().batch_sizes.tolist() == [2, 1, 1] and not packed.cpu().is_cuda


Z = mg.zeros

ERRORS = {
    "order": (RuntimeError, "sorted", lambda: rnn.pack_padded_sequence(Z(5, 2, 3), [3, 5])),
    "zero": (RuntimeError, "greater than 0", lambda: rnn.pack_padded_sequence(Z(5, 2), [5, 0])),
    "count": (RuntimeError, "batch_size", lambda: rnn.pack_padded_sequence(Z(5, 2, 3), [5])),
    "order of a list": (RuntimeError, "sorted", lambda: rnn.pack_sequence([Z(2), Z(4)])),
    "features": (RuntimeError, "cat|size", lambda: rnn.pad_sequence([Z(2, 3), Z(4, 2)])),
    "none": (RuntimeError, "empty", lambda: rnn.pad_sequence([])),
    "side": (ValueError, "'up'", lambda: rnn.pad_sequence([Z(2)], padding_side="up")),
    "total": (
        ValueError,
        "total_length=2",
        lambda: rnn.pad_packed_sequence(rnn.pack_sequence([Z(4)]), total_length=2),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    kind, message, action = ERRORS[name]
    with pytest.raises(kind, match=message):
        action()


@pytest.mark.cpu_only("it needs two devices")
def test_packed_data_move(monkeypatch: pytest.MonkeyPatch) -> None:
    strict_cupy.install(monkeypatch)
    packed = rnn.pack_sequence(sequences([3, 1]))
    there = packed.cuda()
    assert there.is_cuda and not packed.is_cuda
    assert not there.batch_sizes.is_cuda  # sizes remain on the host
    padded, lengths = rnn.pad_packed_sequence(there)
    assert padded.is_cuda and lengths.tolist() == [3, 1]
    np.testing.assert_array_equal(there.cpu().data.value, packed.data.value)


def test_lengths_beyond_the_input() -> None:
    with pytest.raises(RuntimeError, match="only 5 steps"):
        rnn.pack_padded_sequence(Z(5, 2, 3), [6, 5])


@pytest.mark.oracle
@pytest.mark.parametrize("name", [n for n in ERRORS if n != "side"])
def test_errors_are_of_pytorchs_kind(name: str) -> None:
    torch = pytest.importorskip("torch")
    kind, _, action = ERRORS[name]
    translated = type(action)(action.__code__, {"rnn": torch.nn.utils.rnn, "Z": torch.zeros})
    with pytest.raises(kind):
        translated()


@pytest.mark.oracle
@given(lengths_lists, st.booleans(), st.booleans())
def test_against_pytorch(lengths: list[int], batch_first: bool, left: bool) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.utils.rnn
    xs = sequences(lengths)
    their_xs = [torch.from_numpy(x.numpy().copy()) for x in xs]
    side = "left" if left else "right"
    equal(
        rnn.pad_sequence(xs, batch_first, 2.0, side),
        theirs.pad_sequence(their_xs, batch_first, 2.0, side),
    )
    packed = rnn.pack_sequence(xs, enforce_sorted=False)
    their_packed = theirs.pack_sequence(their_xs, enforce_sorted=False)
    equal(packed.batch_sizes, their_packed.batch_sizes)
    ours, their_own = (
        module.pad_packed_sequence(p, batch_first, 2.0, 7)
        for module, p in ((rnn, packed), (theirs, their_packed))
    )
    for a, b in zip(ours, their_own, strict=True):
        equal(a, b)
