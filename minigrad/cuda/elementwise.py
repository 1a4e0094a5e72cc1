"""The host's side of elementwise.cu: cross-entropy, dropout, and the optimizers."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op
from minigrad.cuda import kernels
from minigrad.cuda.kernels import usable
from minigrad.device import array_module, device_of, to_device

__all__ = ["Masked", "Update", "cross_entropy", "cross_entropy_backward", "usable"]

THREADS = 256  # of a block
CHUNK = 4096  # elements of a parameter that a block updates: elementwise.cu says so too


def _launch(function: str, like: Array, blocks: int, *arguments: Any) -> None:
    if blocks:
        kernels.launch(like, "elementwise", function, blocks, arguments, THREADS=THREADS)


# --- softmax and cross-entropy: SoftmaxCrossEntropy is the definition ----------------------------


def cross_entropy(x: Array, t: Array, a: Array | None) -> tuple[Array, Array]:
    """Of each row, the loss and the logarithm of sum exp x: x (N, C), t (N,), a (N,) or None."""
    xp = array_module(x)
    N, C = x.shape
    loss, shift = xp.empty(N, x.dtype), xp.empty(N, x.dtype)
    arrays = xp.ascontiguousarray(x), _classes(t), None if a is None else xp.ascontiguousarray(a)
    _launch("cross_entropy", x, _rows(N), *arrays, loss, shift, np.int32(N), np.int32(C))
    return loss, shift


def cross_entropy_backward(x: Array, t: Array, a: Array | None, shift: Array, g: Array) -> Array:
    """The gradient of x; `g` is that of each row's loss, or of their sum."""
    xp = array_module(x)
    N, C = x.shape
    gx = xp.empty((N, C), x.dtype)
    arrays = xp.ascontiguousarray(x), _classes(t), None if a is None else xp.ascontiguousarray(a)
    numbers = np.int32(N), np.int32(C), np.int32(g.ndim)
    _launch(
        "cross_entropy_backward", x, _rows(N), *arrays, shift, xp.ascontiguousarray(g), gx, *numbers
    )
    return gx


def _classes(t: Array) -> Array:
    return array_module(t).ascontiguousarray(t.astype(np.int64, copy=False))


def _rows(N: int) -> int:
    """Blocks, if each row has a warp."""
    return -(-N * 32 // THREADS)


# --- dropout -------------------------------------------------------------------------------------


class Masked(Op):
    """y = x / (1 - p) where the generator's number is at least p, else 0.

    The numbers are those of Philox4x32-10 (Salmon et al. 2011) with `seed` for a key and the
    element's place for a counter: nothing is stored, the backward pass computes them again.
    """

    def __init__(self, p: float, seed: int) -> None:
        self.p, self.seed = p, seed

    def forward(self, x: Array) -> Array:
        threshold = np.uint32(min(round(self.p * 2**32), 2**32 - 1))
        scale = x.dtype.type(1 / (1 - self.p) if self.p < 1 else 0)
        key = np.uint32(self.seed & 0xFFFFFFFF), np.uint32(self.seed >> 32)
        if isinstance(x, np.ndarray) or not usable(x):
            keep = philox(-(-x.size // 4), *map(int, key))[: x.size] >= threshold
            return np.where(to_device(keep.reshape(x.shape), device_of(x)), x * scale, 0)
        xp = array_module(x)
        y = xp.empty(x.shape, x.dtype)
        blocks = min(-(-x.size // (4 * THREADS)), 2**16)
        numbers = np.int64(x.size), threshold, scale, *key
        _launch("dropout", x, blocks, xp.ascontiguousarray(x), y, *numbers)
        return y

    def vjp(self, g: Any) -> tuple[Any]:
        return (Masked(self.p, self.seed)(g),)


def philox(n: int, k0: int, k1: int) -> Array:
    """The 4n words of Philox4x32-10 for the counters 0 to n-1, as the kernel computes them."""
    low = np.uint64(0xFFFFFFFF)
    q = np.arange(n, dtype=np.uint64)
    c0, c1, c2, c3 = q & low, q >> np.uint64(32), np.zeros_like(q), np.zeros_like(q)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c2 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
        )
        c1, c3 = p1 & low, p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], 1).astype(np.uint32).reshape(-1)


# --- optimizers ----------------------------------------------------------------------------------


class Update:
    """One launch of an optimizer's rule over many parameters.

    The tables of pointers and sizes stay on the GPU; one that has changed is sent again.
    """

    def __init__(self) -> None:
        self.tables: list[tuple[Array, Array]] = []  # on the host, and on the GPU
        self.sizes: list[int] = []
        self.chunks: Array = np.zeros((0, 2), np.int32)

    def run(self, function: str, rows: list[list[Array]], *settings: float) -> None:
        """`rows`: for each parameter itself, its gradient and its state, contiguous and float32."""
        sizes = [row[0].size for row in rows]
        if sizes != self.sizes:
            chunks = [(i, c) for i, n in enumerate(sizes) for c in range(-(-n // CHUNK))]
            self.sizes, self.chunks = sizes, np.array(chunks, np.int32).reshape(-1, 2)
        pointers = np.array([[_address(a) for a in row] for row in rows], np.uint64)
        like, held = rows[0][0], self.tables
        xp, place = array_module(like), device_of(like)
        self.tables = []
        for i, table in enumerate((pointers, np.array(sizes, np.int64), self.chunks)):
            there = i < len(held) and device_of(held[i][1]) == place
            same = there and np.array_equal(held[i][0], table)
            self.tables.append(held[i] if same else (table, xp.asarray(table)))
        numbers = [np.float32(s) for s in settings]
        tables = [table for _, table in self.tables]
        _launch(function, like, len(self.chunks), *tables, *numbers)


def _address(array: Array) -> int:
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)
