"""The table's rows for shape, indexing, selection, linear algebra and sorting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from op_case import OpCase

import minigrad as mg
from minigrad.ops.indexing import AddAt, GetItem, SetItem
from minigrad.ops.linalg import MatMul
from minigrad.ops.selection import Where
from minigrad.ops.shape import BroadcastTo, Cat, Permute, Reshape, Split, Stack, Unbind

Inputs = Callable[[np.random.Generator], list[np.ndarray]]


def normal(*shapes: tuple[int, ...]) -> Inputs:
    return lambda rng: [rng.standard_normal(shape) for shape in shapes]


def random_shape(rng: np.random.Generator, ndim: int = 3) -> list[np.ndarray]:
    return [rng.standard_normal(rng.integers(1, 4, ndim))]


def distinct(rng: np.random.Generator) -> list[np.ndarray]:
    """No two elements are close: finite differences must not change their order."""
    shape = rng.integers(1, 4, 3)
    return [rng.permutation(shape.prod()).reshape(shape) + rng.uniform(-0.2, 0.2, shape)]


def setitem(x: Any, index: Any, v: Any) -> Any:
    return mg.ops.indexing.setitem(x, index, v)


def set_numpy(x: np.ndarray, index: Any, v: Any) -> np.ndarray:
    x = x.copy()
    x[index] = v
    return x


def add_numpy(x: np.ndarray, index: Any, v: Any) -> np.ndarray:
    x = x.copy()
    np.add.at(x, index, v)
    return x


REPEATED = np.array([2, 0, 2, -1, 2])
MASK = np.array([[True, False, True], [False, False, True]])
ROWS = np.array([[1, 0], [1, 1], [0, 1]])
NONE = np.zeros(0, dtype=np.int64)

INDICES: dict[str, Any] = {
    "integer": 1,
    "negative": -1,
    "slice": slice(1, None),
    "step": (slice(None), slice(None, None, 2)),
    "backwards": (slice(None, None, -1), ..., slice(None, None, -2)),
    "none": (None, 0, ..., None),
    "mask": MASK,
    "rows": ROWS,
    "repeated": (slice(None), REPEATED),
    "repeated last": (..., np.array([[0, 1], [1, 1]])),
    "two arrays": (ROWS, np.array([0, 2])),
    "apart": (np.array([0, 1, 0]), slice(None), np.array([1, 1, 1])),
    "mask and array": (np.array([True, False]), slice(None), np.array([1, 0, 1])),
    "list": ([0, 0, 1],),
    "nothing": NONE,
}

CASES: list[OpCase] = [
    OpCase(Reshape, "reshape", lambda x: x.reshape(-1), random_shape, lambda x: x.reshape(-1)),
    OpCase(
        Permute,
        "permute",
        lambda x: x.permute(2, 0, 1),
        random_shape,
        lambda x: x.transpose(2, 0, 1),
    ),
    OpCase(
        BroadcastTo,
        "expand",
        lambda x: x.expand(2, -1, 3, 4),
        normal((2, 3, 1)),
        lambda x: np.broadcast_to(x, (2, 2, 3, 4)),
    ),
    OpCase(
        [BroadcastTo, Reshape],
        "repeat",
        lambda x: x.repeat(2, 1, 3),
        normal((2, 3)),
        lambda x: np.tile(x, (2, 1, 3)),
    ),
    OpCase(
        [Cat, Split],
        "cat",
        lambda a, b, c: mg.cat([a, b, c], -2),
        normal((2, 1, 3), (2, 0, 3), (2, 2, 3)),
        lambda a, b, c: np.concatenate([a, b, c], 1),
    ),
    OpCase(
        [Split, Cat],
        "split",
        lambda x: x.split([1, 0, 2, 2], 1),
        normal((2, 5)),
        lambda x: np.split(x, [1, 1, 3], 1),
    ),
    OpCase(
        [Split, Cat],
        "split, some pieces unused",
        lambda x: x.split(2, 1)[1],
        normal((2, 5)),
        lambda x: x[:, 2:4],
    ),
    OpCase(
        [Stack, Unbind],
        "stack",
        lambda a, b: mg.stack([a, b, a], 1),
        normal((2, 3), (2, 3)),
        lambda a, b: np.stack([a, b, a], 1),
    ),
    OpCase(
        [Unbind, Stack],
        "unbind",
        lambda x: x.unbind(1),
        normal((2, 3, 2)),
        lambda x: tuple(np.moveaxis(x, 1, 0)),
    ),
    OpCase(
        [Unbind, Stack],
        "unbind, used unevenly",
        lambda x: x.unbind(-1)[1] * x.unbind(-1)[1] * x.unbind(-1)[0],
        normal((2, 3)),
        lambda x: x[:, 1] ** 2 * x[:, 0],
    ),
    OpCase(
        [Split, Cat],
        "roll",
        lambda x: x.roll((1, -2), (0, 1)),
        normal((3, 4)),
        lambda x: np.roll(x, (1, -2), (0, 1)),
    ),
    OpCase(
        Where,
        "where",
        lambda condition, a, b: mg.where(condition, a, b),
        lambda rng: [
            rng.random((2, 1, 3)) < 0.5,
            rng.standard_normal((4, 1)),
            rng.standard_normal((2, 4, 3)),
        ],
        np.where,
    ),
    OpCase(
        Where,
        "where, a number",
        lambda condition, a: mg.where(condition, 2.0, a),
        lambda rng: [rng.random((2, 3)) < 0.5, rng.standard_normal((3,))],
        lambda condition, a: np.where(condition, 2.0, a),
    ),
    OpCase(
        Where,
        "masked_fill",
        lambda mask, x, value: x.masked_fill(mask, value),
        lambda rng: [rng.random((2, 3)) < 0.5, rng.standard_normal((2, 3)), rng.normal(size=())],
        lambda mask, x, value: np.where(mask, value, x),
    ),
    OpCase(Where, "tril", lambda x: x.tril(1), normal((2, 3, 4)), lambda x: np.tril(x, 1)),
    OpCase(Where, "triu", lambda x: x.triu(-1), normal((4, 3)), lambda x: np.triu(x, -1)),
    *[
        OpCase(
            [GetItem, AddAt],
            f"getitem {name}",
            lambda x, index=index: x[index],
            normal((2, 3, 4)),
            lambda x, index=index: x[index],
        )
        for name, index in INDICES.items()
    ],
    *[
        OpCase(
            [SetItem, GetItem],
            f"setitem {name}",
            lambda x, v, index=index: setitem(x, index, v),
            lambda rng, index=index: [
                rng.standard_normal((2, 3, 4)),
                rng.standard_normal(np.zeros((2, 3, 4))[index].shape),
            ],
            lambda x, v, index=index: set_numpy(x, index, v),
        )
        for name, index in INDICES.items()
    ],
    OpCase(
        [SetItem, GetItem],
        "setitem, broadcast to repeated places",
        lambda x, v: setitem(x, (slice(None), REPEATED), v),
        normal((2, 3, 4), (1, 1, 5, 1)),
        lambda x, v: set_numpy(x, (slice(None), REPEATED), v[0]),
    ),
    OpCase(
        SetItem,
        "setitem, a number",
        lambda x: setitem(x, MASK, 3.0),
        normal((2, 3, 4)),
        lambda x: set_numpy(x, MASK, 3.0),
    ),
    OpCase(
        [GetItem, AddAt],
        "gather",
        lambda x: x.gather(1, mg.tensor(ROWS)),
        normal((3, 2)),
        lambda x: np.take_along_axis(x, ROWS, 1),
    ),
    OpCase(
        AddAt,
        "scatter_add",
        lambda x, v: x.scatter_add(1, mg.tensor(ROWS), v),
        normal((3, 2), (3, 3)),
        lambda x, v: add_numpy(x, (np.arange(3)[:, None], ROWS), v[:, :2]),
    ),
    OpCase(
        SetItem,
        "scatter",
        lambda x, v: x.scatter(0, mg.tensor(ROWS.T), v),
        normal((3, 3), (2, 3)),
        lambda x, v: set_numpy(x, (ROWS.T, np.arange(3)), v),
    ),
    OpCase(
        AddAt,
        "index_add",
        lambda x, v: x.index_add(1, mg.tensor(REPEATED % 3), v, alpha=2.0),
        normal((2, 3, 2), (2, 5, 2)),
        lambda x, v: add_numpy(x, (slice(None), REPEATED), 2 * v),
    ),
    OpCase(
        GetItem,
        "diagonal",
        lambda x: x.diagonal(1, 2, 0),
        normal((3, 2, 3)),
        lambda x: np.diagonal(x, 1, 2, 0),
    ),
    OpCase(
        [GetItem, AddAt],
        "repeat_interleave",
        lambda x: x.repeat_interleave(mg.tensor([2, 0, 1], device="cpu"), 1),
        normal((2, 3)),
        lambda x: np.repeat(x, [2, 0, 1], 1),
    ),
    OpCase(
        [GetItem, AddAt],
        "sort",
        lambda x: x.sort(1).values,
        distinct,
        lambda x: np.sort(x, 1),
    ),
    OpCase(
        [GetItem, AddAt],
        "topk",
        lambda x: x.topk(1, -1).values,
        distinct,
        lambda x: x.max(-1, keepdims=True),
    ),
    *[
        OpCase(
            MatMul,
            f"matmul {a} {b}",
            lambda a, b: a @ b,
            normal(a, b),
            np.matmul,
        )
        for a, b in [
            ((3,), (3,)),
            ((2, 3), (3,)),
            ((3,), (3, 2)),
            ((2, 3), (3, 4)),
            ((2, 3), (3, 0)),
            ((0, 3), (3, 2)),
            ((2, 0), (0, 2)),
            ((4, 2, 3), (3, 5)),
            ((2, 1, 2, 3), (3, 2)),
            ((4, 2, 3), (3,)),
            ((3,), (4, 3, 2)),
            ((2, 3), (4, 3, 2)),
            ((4, 2, 3), (4, 3, 1)),
            ((2, 1, 2, 3), (4, 3, 2)),
            ((1, 2, 3), (4, 3, 2)),
        ]
    ],
    OpCase(
        MatMul,
        "addmm",
        lambda x, a, b: mg.addmm(x, a, b, beta=2, alpha=3),
        normal((4,), (2, 3), (3, 4)),
        lambda x, a, b: 2 * x + 3 * (a @ b),
    ),
    *[
        OpCase(
            Reshape,
            f"einsum {equation}",
            lambda *xs, equation=equation: mg.einsum(equation, *xs),
            normal(*shapes),
            lambda *xs, equation=equation: np.einsum(equation, *xs),
        )
        for equation, shapes in [
            ("ij,jk->ik", ((2, 3), (3, 4))),
            ("ij,jk", ((2, 3), (3, 4))),
            ("bij,bjk->bki", ((2, 3, 2), (2, 2, 4))),
            ("i,j->ji", ((2,), (3,))),
            ("ij,ij->ij", ((2, 3), (2, 3))),
            ("ij,ij->", ((2, 3), (2, 3))),
            ("ii->i", ((3, 3),)),
            ("iji->j", ((3, 2, 3),)),
            ("iii", ((3, 3, 3),)),
            ("ba", ((2, 3),)),
            ("...ij,...jk->...ik", ((2, 1, 2, 3), (4, 3, 2))),
            ("i...,i...", ((2, 3, 4), (2, 3, 4))),
            ("bn,anm,bm->ba", ((2, 3), (4, 3, 2), (2, 2))),
            ("ij,kj,lk->il", ((2, 3), (4, 3), (2, 4))),
            ("ij,k->i", ((2, 3), (4,))),
            ("ia,ak->ik", ((2, 0), (0, 3))),
            ("ij,jk->ikj", ((1, 3), (3, 1))),
        ]
    ],
]
