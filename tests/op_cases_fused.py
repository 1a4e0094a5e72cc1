"""The table's rows for the fused ops and for the ops of nn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from op_case import OpCase

import minigrad as mg
from minigrad.cuda.elementwise import Masked, philox
from minigrad.fused.gru import GRU
from minigrad.fused.layer_norm import LayerNormalization
from minigrad.fused.lstm import LSTM
from minigrad.fused.packed import Pack, Pad, Places
from minigrad.fused.rnn import RNN
from minigrad.fused.softmax_cross_entropy import SoftmaxCrossEntropy
from minigrad.nn.functional import Affine, BinaryCrossEntropy, SquaredError

Inputs = Callable[[np.random.Generator], list[np.ndarray]]


def scores(rng: np.random.Generator) -> list[np.ndarray]:
    N, C = rng.integers(1, 5, 2)
    return [3 * rng.standard_normal((N, C)), rng.integers(0, C, N)]


def row_weights(x: Any) -> Any:
    device = x.device if isinstance(x, mg.Tensor) else "cpu"
    return mg.linspace(0.5, 2, x.shape[0], dtype=x.dtype, device=device).value


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


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def recurrent(blocks: int, states: int, bias: bool, projection: bool = False) -> Inputs:
    """Arrays for a recurrent op; T and B are such that `batch_sizes` can be (2, 2, 1)."""

    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        D, H = rng.integers(1, 4, 2)
        P = H + 1 if projection else H  # no layer would project up, but the op does not mind
        shapes = [(3, 2, D), *[(2, P), (2, H)][:states], (blocks * H, D), (blocks * H, P)]
        shapes += [(blocks * H,)] * (2 if bias else 0) + ([(P, H)] if projection else [])
        return [rng.uniform(-1, 1, shape) for shape in shapes]

    return draw


def recurrent_numpy(cell: Callable[..., Any], states: int, sizes: Any = (2, 2, 2)) -> Any:
    """A loop over `cell(x, U, b_hh, *states)`, x being W x + b_ih."""

    def apply(x: Any, *rest: Any) -> Any:
        state, (W, U, *b) = list(rest[:states]), rest[states:]
        W_hr = b.pop() if len(b) % 2 else None
        b_ih, b_hh = b or (0, np.zeros(len(U)))
        y = []
        for x_t, n in zip(x, sizes, strict=True):
            new = cell(x_t @ W.T + b_ih, U, b_hh, *state)
            if W_hr is not None:
                new[0] = new[0] @ W_hr.T
            state = [np.concatenate([a[:n], b[n:]]) for a, b in zip(new, state, strict=True)]
            y.append(state[0])
        return np.stack(y), *state

    return apply


def rnn_cell(x: Any, U: Any, b: Any, h: Any) -> Any:
    return [np.tanh(x + h @ U.T + b)]


def relu_cell(x: Any, U: Any, b: Any, h: Any) -> Any:
    return [np.maximum(x + h @ U.T + b, 0)]


def gru_cell(x: Any, U: Any, b: Any, h: Any) -> Any:
    (r_x, z_x, n_x), (r_h, z_h, n_h) = (np.split(a, 3, 1) for a in (x, h @ U.T + b))
    z = sigmoid(z_x + z_h)
    return [(1 - z) * np.tanh(n_x + sigmoid(r_x + r_h) * n_h) + z * h]


def lstm_cell(x: Any, U: Any, b: Any, h: Any, c: Any) -> Any:
    i, f, g, o = np.split(x + h @ U.T + b, 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


def lstm(sizes: Any, bias: bool, projection: bool) -> Callable[..., Any]:
    def apply(*inputs: Any) -> Any:
        states_and_weights, others = inputs[:5], inputs[5:]
        biases = others[:2] if bias else (None, None)
        return LSTM(sizes)(*states_and_weights, *biases, others[-1] if projection else None)

    return apply


def without_bias(op: Callable[[], Any], bias: bool) -> Callable[..., Any]:
    return lambda *inputs: op()(*inputs, *(() if bias else (None, None)))


PLACES = Places.of(np.array([3, 2, 2, 1]))
REVERSED = Places.of(np.array([3, 2, 2, 1]), reverse=True)


def padded_numpy(x: np.ndarray) -> np.ndarray:
    rest = np.full_like(x[:1], 2)
    steps = [x[0:3], [*x[3:5], *rest], [*x[5:7], *rest], [*x[7:8], *rest, *rest]]
    return np.stack(steps).astype(x.dtype)


CASES = [
    OpCase(
        Masked,
        "masked",
        lambda x: Masked(0.3, 5)(x),
        lambda rng: [rng.standard_normal(rng.integers(1, 9, 2))],
        lambda x: np.where(philox(64, 5, 0)[: x.size].reshape(x.shape) >= 0.3 * 2**32, x / 0.7, 0),
    ),
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
    *[
        OpCase(
            SquaredError,
            f"squared_error-{'mean' if mean else 'sum'}-{shape}",
            lambda x, t, mean=mean: SquaredError(mean)(x, t),
            lambda rng, shape=shape: [rng.normal(size=(3, 2)), rng.normal(size=shape)],
            lambda x, t, mean=mean: ((x - t) ** 2).mean() if mean else ((x - t) ** 2).sum(),
        )
        for mean in (True, False)
        for shape in ((3, 2), (2,))  # the second broadcasts
    ],
    *[
        OpCase(
            RNN,
            f"rnn-{name}{'-bias' if bias else ''}{'-packed' if sizes else ''}",
            without_bias(lambda name=name, sizes=sizes: RNN(name, sizes), bias),
            recurrent(1, 1, bias),
            recurrent_numpy(cell, 1, sizes or (2, 2, 2)),
        )
        for name, cell in (("tanh", rnn_cell), ("relu", relu_cell))
        for bias, sizes in ((True, None), (False, None), (True, [2, 2, 1]))
    ],
    *[
        OpCase(
            GRU,
            f"gru{'-bias' if bias else ''}{'-packed' if sizes else ''}",
            without_bias(lambda sizes=sizes: GRU(sizes), bias),
            recurrent(3, 1, bias),
            recurrent_numpy(gru_cell, 1, sizes or (2, 2, 2)),
        )
        for bias, sizes in ((True, None), (False, None), (True, [2, 2, 1]))
    ],
    *[
        OpCase(
            LSTM,
            f"lstm{'-bias' if bias else ''}{'-proj' if proj else ''}{'-packed' if sizes else ''}",
            lstm(sizes, bias, proj),
            recurrent(4, 2, bias, proj),
            recurrent_numpy(lstm_cell, 2, sizes or (2, 2, 2)),
        )
        for bias, proj, sizes in (
            (True, False, None),
            (False, False, None),
            (True, True, None),
            (False, True, None),
            (True, True, [2, 2, 1]),
        )
    ],
    OpCase(
        [Pad, Pack],
        "pad",
        lambda x: Pad(PLACES, 2.0)(x),
        lambda rng: [rng.standard_normal((8, 2))],
        lambda x: np.stack(
            [x[[0, 1, 2]], *[[*x[[k, k + 1]], [2, 2]] for k in (3, 5)], [x[7], [2, 2], [2, 2]]]
        ),
    ),
    OpCase(
        [Pad, Pack],
        "pack-reversed",
        lambda x: Pack(REVERSED)(x),
        lambda rng: [rng.standard_normal((4, 3))],
        lambda x: x[[3, 2, 0, 2, 1, 1, 0, 0], [0, 1, 2, 0, 1, 0, 1, 0]],
    ),
]
