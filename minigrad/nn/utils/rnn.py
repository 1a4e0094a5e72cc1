"""Batches of sequences that differ in length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad.autograd.engine import Array, Node, wrap
from minigrad.device import device, to_device
from minigrad.fused.packed import Pack, Pad, Places
from minigrad.ops.shape import cat


class PackedSequence(NamedTuple):
    """Sequences without padding: the first steps of all, the longest first, then the second, ...

    `data` (rows, ...) has batch_sizes[t] rows for step t.  `sorted_indices` brought the batch into
    this order, `unsorted_indices` brings it back; both None if it was sorted already.
    Made by `pack_padded_sequence` and `pack_sequence`; recurrent layers take it and return it.
    """

    data: Any
    batch_sizes: Any
    sorted_indices: Any = None
    unsorted_indices: Any = None

    @property
    def is_cuda(self) -> bool:
        return self.data.is_cuda

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same on another device, or in another dtype. Sizes and indices remain on the host."""
        return self._replace(data=self.data.to(*args, **kwargs))

    def cpu(self) -> PackedSequence:
        return self.to("cpu")

    def cuda(self, device: Any = None) -> PackedSequence:
        return self._replace(data=self.data.cuda(device))

    def half(self) -> PackedSequence:
        return self._replace(data=self.data.half())

    def float(self) -> PackedSequence:
        return self._replace(data=self.data.float())

    def double(self) -> PackedSequence:
        return self._replace(data=self.data.double())


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Leave the padding out of `input` (T, B, ...), or (B, T, ...) with `batch_first`.

    `lengths` of the B sequences: a list or a tensor, in decreasing order if `enforce_sorted`.
    Raises RuntimeError if they are not, are not B, or are not between 1 and T.
    """
    sizes = _lengths(lengths)
    x = input.transpose(0, 1) if batch_first else input
    T, B = x.shape[:2]
    if len(sizes) != B:
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(sizes)} "
            f"(batch_size={B})"
        )
    if not B or sizes.min() <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            f"that is <= 0: {sizes.tolist()}"
        )
    if sizes.max() > T:
        raise RuntimeError(
            f"lengths go up to {sizes.max()}, but the input has only {T} steps, shape "
            f"{tuple(input.shape)} with batch_first={batch_first}"
        )
    order = back = None
    if not enforce_sorted:
        order = np.argsort(-sizes, kind="stable")
        back = np.argsort(order)
        x, sizes = x[:, order], sizes[order]
    elif (sizes[:-1] < sizes[1:]).any():
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True: "
            f"{sizes.tolist()}. Pass enforce_sorted=False to have the batch sorted for you"
        )
    batch_sizes = (sizes > np.arange(sizes[0])[:, None]).sum(1)
    return PackedSequence(
        Pack(Places.of(batch_sizes))(x[: sizes[0]]),
        wrap(batch_sizes),
        None if order is None else wrap(order),
        None if back is None else wrap(back),
    )


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Any, Any]:
    """The padded tensor (T, B, ...) and the lengths (B,): undoes `pack_padded_sequence`.

    T is the longest length, or `total_length`. Raises ValueError if that is less.
    """
    batch_sizes = sequence.batch_sizes.value
    places = Places.of(batch_sizes)
    if total_length is not None:
        if total_length < places.T:
            raise ValueError(
                "Expected total_length to be at least the length of the longest sequence in "
                f"input, but got total_length={total_length} and max sequence length being "
                f"{places.T}"
            )
        places = Places(places.t, places.b, total_length, places.B)
    padded = Pad(places, padding_value)(sequence.data)
    lengths = (batch_sizes[:, None] > np.arange(places.B)).sum(0)
    if sequence.unsorted_indices is not None:
        back = sequence.unsorted_indices.value
        padded, lengths = padded[:, back], lengths[back]
    return padded.transpose(0, 1) if batch_first else padded, wrap(lengths)


def pad_sequence(
    sequences: Sequence[Any],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Any:
    """Sequences (T_b, ...) side by side: (T, B, ...), or (B, T, ...) with `batch_first`.

    The shorter ones are filled up with `padding_value`, on the "right" or the "left".
    """
    if padding_side not in ("right", "left"):
        raise ValueError(f"padding_side must be 'right' or 'left', got {padding_side!r}")
    sequences = list(sequences)
    if not sequences:
        raise RuntimeError("pad_sequence: received an empty list of sequences")
    sizes = np.array([len(s) for s in sequences])
    T = int(sizes.max())
    start = T - sizes if padding_side == "left" else np.zeros_like(sizes)
    t = np.concatenate([first + np.arange(n) for first, n in zip(start, sizes, strict=True)])
    b = np.repeat(np.arange(len(sizes)), sizes)
    padded = Pad(Places(t, b, T, len(sizes)), padding_value)(cat(sequences))
    return padded.transpose(0, 1) if batch_first else padded


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Any]:
    """The sequences that `pad_sequence` put side by side, given their lengths."""
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [x[b, :n] for b, n in enumerate(_lengths(lengths).tolist())]


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack a list of sequences (T_b, ...), the longest first if `enforce_sorted`."""
    sequences = list(sequences)
    lengths = [len(s) for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """The list of sequences that `pack_sequence` packed."""
    padded, lengths = pad_packed_sequence(packed_sequences)
    return unpad_sequence(padded, lengths)


def _lengths(lengths: Any) -> Array:
    """On the host, where the sizes of things are decided."""
    if isinstance(lengths, Node):
        lengths = to_device(lengths.value, device("cpu"))
    return np.asarray(lengths, np.int64)
