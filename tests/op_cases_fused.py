"""The table's rows for the fused ops and for the ops of nn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from op_case import OpCase

from minigrad.fused.layer_norm import LayerNormalization
from minigrad.fused.softmax_cross_entropy import SoftmaxCrossEntropy
from minigrad.nn.functional import Affine, BinaryCrossEntropy

Inputs = Callable[[np.random.Generator], list[np.ndarray]]


def scores(rng: np.random.Generator) -> list[np.ndarray]:
    N, C = rng.integers(1, 5, 2)
    return [3 * rng.standard_normal((N, C)), rng.integers(0, C, N)]


def row_weights(x: Any) -> np.ndarray:
    return np.linspace(0.5, 2, x.shape[0]).astype(x.dtype)


def cross_entropy(reduction: str, weighted: bool) -> Callable[..., Any]:
    return lambda x, t: SoftmaxCrossEntropy(reduction)(x, t, row_weights(x) if weighted else None)


def cross_entropy_numpy(reduction: str, weighted: bool) -> Callable[..., Any]:
    def apply(x: np.ndarray, t: np.ndarray) -> Any:
        a = row_weights(x) if weighted else np.ones(len(x))
        p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        losses = -a * np.log(p[np.arange(len(x)), t])
        if reduction == "none":
            return losses
        return losses.sum() if reduction == "sum" else losses.sum() / a.sum()

    return apply


def normalized(ndim: int, weights: int) -> Inputs:
    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        shape = tuple(rng.integers(2, 5, 3))
        return [rng.standard_normal(s) for s in (shape, *[shape[-ndim:]] * weights)]

    return draw


def layer_norm(ndim: int) -> Callable[..., Any]:
    return lambda x, w=None, b=None: LayerNormalization(ndim, 1e-2)(x, w, b)


def layer_norm_numpy(ndim: int) -> Callable[..., Any]:
    axes = tuple(range(-ndim, 0))

    def apply(x: np.ndarray, w: Any = 1, b: Any = 0) -> Any:
        centred = x - x.mean(axes, keepdims=True)
        return w * centred / np.sqrt(x.var(axes, keepdims=True) + 1e-2) + b

    return apply


def affine(ndim: int, bias: bool) -> Inputs:
    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        *batch, D, H = rng.integers(1, 5, ndim + 1)
        arrays = [rng.standard_normal(s) for s in ((*batch, D), (H, D), (H,))]
        return arrays if bias else arrays[:2]

    return draw


def probabilities(rng: np.random.Generator) -> list[np.ndarray]:
    shape = rng.integers(1, 5, 2)
    return [rng.uniform(0.1, 0.9, shape), rng.uniform(0.1, 0.9, shape)]


CASES = [
    *[
        OpCase(
            SoftmaxCrossEntropy,
            f"softmax_cross_entropy-{reduction}{'-weighted' if weighted else ''}",
            cross_entropy(reduction, weighted),
            scores,
            cross_entropy_numpy(reduction, weighted),
        )
        for reduction in ("none", "mean", "sum")
        for weighted in (False, True)
    ],
    *[
        OpCase(
            LayerNormalization,
            f"layer_norm-{ndim}-{weights}",
            layer_norm(ndim),
            normalized(ndim, weights),
            layer_norm_numpy(ndim),
        )
        for ndim, weights in ((1, 2), (2, 1), (3, 0), (3, 2))
    ],
    *[
        OpCase(
            Affine,
            f"affine-{ndim}{'-bias' if bias else ''}",
            lambda x, W, b=None: Affine()(x, W, b),
            affine(ndim, bias),
            lambda x, W, b=0: x @ W.T + b,
        )
        for ndim, bias in ((1, True), (2, False), (2, True), (4, True))
    ],
    OpCase(
        BinaryCrossEntropy,
        "binary_cross_entropy",
        lambda x, t: BinaryCrossEntropy()(x, t),
        probabilities,
        lambda x, t: -(t * np.log(x) + (1 - t) * np.log(1 - x)),
    ),
]
