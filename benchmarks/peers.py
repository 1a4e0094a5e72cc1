# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator"
"""The two smallest workloads in other libraries, each as its users would write it.

They start from the same weights and data as `workloads.py` and have the same losses.
JAX compiles the whole step (`jit`, `lax.scan`); Keras trains on a batch with its JAX backend;
tinygrad compiles with `TinyJit`, and needs a C compiler named clang (or `CC`); MyGrad and autograd
run op by op, like PyTorch and minigrad.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.workloads import Array, draw, flights_data, min_char_data

Weights = dict[str, Any]

PEERS = ("jax", "keras", "mygrad", "autograd", "tinygrad")
RUNS = ("flights", "min-char-rnn")  # what they are asked to do


class Step:
    """`step(x, y)` trains on one batch and gives the loss; called without, on the next batch."""

    def __init__(
        self, step: Callable[[Any, Any], Any], batches: Iterable[tuple[Any, Any]], checks: int = 3
    ) -> None:
        self.step = step
        self.batches = itertools.cycle(list(batches))
        self.checks = checks

    def __call__(self) -> Any:
        return self.step(*next(self.batches))

    def check(self) -> list[float]:
        return [float(self()) for _ in range(self.checks)]


def build(library: str, workload: str, sizes: dict[str, Any]) -> Step:
    H, T = sizes["hidden"], sizes["T"]
    if workload == "flights":
        shapes = recurrent_shapes("lstm", 1, H, gates=4, out=1)
        batches = flights_data(T, sizes["B"])
    else:
        shapes = recurrent_shapes("rnn", sizes["classes"], H, gates=1, out=sizes["classes"])
        batches = min_char_data(T, sizes["classes"])
    weights = {name: draw(name, shape) for name, shape in shapes.items()}
    return BUILDERS[library](workload, weights, batches)


def recurrent_shapes(
    layer: str, inputs: int, H: int, gates: int, out: int
) -> dict[str, tuple[int, ...]]:
    return {
        f"{layer}.weight_ih_l0": (gates * H, inputs),
        f"{layer}.weight_hh_l0": (gates * H, H),
        f"{layer}.bias_ih_l0": (gates * H,),
        f"{layer}.bias_hh_l0": (gates * H,),
        "linear.weight": (out, H),
        "linear.bias": (out,),
    }


# --- the two models in NumPy's names: for JAX, autograd and MyGrad --------------------------------


def sigmoid(np: Any, x: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * x))


def flights_loss(np: Any, scan: Any, w: Weights, x: Any, y: Any, state: Any) -> tuple[Any, Any]:
    W, U = w["lstm.weight_ih_l0"].T, w["lstm.weight_hh_l0"].T
    b = w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
    H = U.shape[0]

    def cell(state: Any, xt: Any) -> Any:
        h, c = state
        a = xt @ W + h @ U + b  # (B, 4H)
        i, f = sigmoid(np, a[:, :H]), sigmoid(np, a[:, H : 2 * H])
        g, o = np.tanh(a[:, 2 * H : 3 * H]), sigmoid(np, a[:, 3 * H :])
        c = f * c + i * g
        h = o * np.tanh(c)
        return (h, c), h

    (h, _), _ = scan(cell, (state, state), x)
    error = h @ w["linear.weight"].T + w["linear.bias"] - y
    return np.mean(error * error), state


def min_char_loss(np: Any, scan: Any, w: Weights, x: Any, y: Any, h: Any) -> tuple[Any, Any]:
    W, U = w["rnn.weight_ih_l0"].T, w["rnn.weight_hh_l0"].T
    b = w["rnn.bias_ih_l0"] + w["rnn.bias_hh_l0"]

    def cell(h: Any, xt: Any) -> Any:
        h = np.tanh(xt @ W + h @ U + b)
        return h, h

    h, hs = scan(cell, h, x)  # hs: (T, 1, H)
    logits = hs[:, 0] @ w["linear.weight"].T + w["linear.bias"]  # (T, C)
    logits = logits - np.max(logits, axis=1, keepdims=True)
    log_sum = np.log(np.sum(np.exp(logits), axis=1))
    return np.sum(log_sum) - np.sum(logits[np.arange(len(y)), y]), h


LOSSES = {"flights": flights_loss, "min-char-rnn": min_char_loss}


def adam(w: Any, g: Any, m: Any, v: Any, t: Any) -> tuple[Any, Any, Any]:
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    w = w - 0.001 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
    return w, m, v


def adagrad(w: Any, g: Any, m: Any, v: Any, t: Any) -> tuple[Any, Any, Any]:
    g = g.clip(-5, 5)
    v = v + g * g
    return w - 0.1 * g / (v**0.5 + 1e-10), m, v


RULES = {"flights": adam, "min-char-rnn": adagrad}


def first_state(weights: Weights, batch: Array) -> Array:
    """Zeros, (B, H). Flights begins with them each time; min-char-rnn carries its state on."""
    return np.zeros((batch.shape[1], weights["linear.weight"].shape[1]), np.float32)


def jax_step(workload: str, weights: Weights, batches: list[tuple[Array, Array]]) -> Step:
    import jax
    import jax.numpy as jnp

    def loss(w: Weights, x: Any, y: Any, h: Any) -> tuple[Any, Any]:
        return LOSSES[workload](jnp, jax.lax.scan, w, x, y, h)

    @jax.jit
    def update(w: Weights, m: Weights, v: Weights, t: Any, x: Any, y: Any, h: Any) -> Any:
        (value, h), g = jax.value_and_grad(loss, has_aux=True)(w, x, y, h)
        new = {k: RULES[workload](w[k], g[k], m[k], v[k], t) for k in w}
        w, m, v = ({k: parts[i] for k, parts in new.items()} for i in range(3))
        return value, w, m, v, t + 1, h

    w = jax.tree.map(jnp.asarray, weights)
    zeros = jax.tree.map(jnp.zeros_like, w)
    now = [w, zeros, zeros, jnp.float32(1), jnp.asarray(first_state(weights, batches[0][0]))]

    def step(x: Any, y: Any) -> Any:
        value, *now[:4], now[4] = update(*now[:4], x, y, now[4])
        return value.block_until_ready()

    return Step(step, [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches])


def unrolled(np: Any) -> Callable[..., tuple[Any, Any]]:
    """`lax.scan` for libraries where a Python loop is all there is."""

    def scan(cell: Callable[[Any, Any], tuple[Any, Any]], state: Any, xs: Any) -> tuple[Any, Any]:
        outs = []
        for x in xs:
            state, out = cell(state, x)
            outs.append(out)
        return state, np.stack(outs)

    return scan


def autograd_step(workload: str, weights: Weights, batches: list[tuple[Array, Array]]) -> Step:
    import autograd
    import autograd.numpy as anp

    state = [first_state(weights, batches[0][0])]
    m = {k: np.zeros_like(w) for k, w in weights.items()}
    v = {k: np.zeros_like(w) for k, w in weights.items()}
    count = itertools.count(1)

    def loss(w: Weights, x: Any, y: Any) -> Any:
        value, h = LOSSES[workload](anp, unrolled(anp), w, x, y, state[0])
        state[0] = getattr(h, "_value", h)  # the state goes on without its graph
        return value

    value_and_grad = autograd.value_and_grad(loss)

    def step(x: Any, y: Any) -> Any:
        value, g = value_and_grad(weights, x, y)
        t = next(count)
        for k in weights:
            weights[k], m[k], v[k] = RULES[workload](weights[k], g[k], m[k], v[k], t)
        return value

    return Step(step, batches)


def mygrad_step(workload: str, weights: Weights, batches: list[tuple[Array, Array]]) -> Step:
    import mygrad

    mygrad.turn_memory_guarding_off()  # as its documentation advises for speed
    w = {k: mygrad.tensor(value) for k, value in weights.items()}
    state = [first_state(weights, batches[0][0])]
    m = {k: np.zeros_like(value) for k, value in weights.items()}
    v = {k: np.zeros_like(value) for k, value in weights.items()}
    count = itertools.count(1)

    def step(x: Any, y: Any) -> Any:
        value, h = LOSSES[workload](mygrad, unrolled(mygrad), w, x, y, state[0])
        state[0] = np.asarray(h)
        value.backward()
        t = next(count)
        for k, p in w.items():
            p.data, m[k], v[k] = RULES[workload](p.data, p.grad, m[k], v[k], t)
            p.null_grad()
        return value.item()

    return Step(step, batches)


# --- libraries with layers of their own -----------------------------------------------------------


def keras_step(workload: str, weights: Weights, batches: list[tuple[Array, Array]]) -> Step:
    """Keras has one bias where PyTorch has two, so only the first losses are the same."""
    import keras

    layer = "lstm" if workload == "flights" else "rnn"
    H = weights["linear.weight"].shape[1]
    T, B, inputs = batches[0][0].shape
    if workload == "flights":
        recurrent = keras.layers.LSTM(H)
        optimizer, loss = keras.optimizers.Adam(0.001, epsilon=1e-8), "mse"
    else:
        recurrent = keras.layers.SimpleRNN(H, return_sequences=True, stateful=True)
        optimizer = keras.optimizers.Adagrad(
            0.1, initial_accumulator_value=0.0, epsilon=1e-10, clipvalue=5.0
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(B, T, inputs)),
            recurrent,
            keras.layers.Dense(len(weights["linear.bias"])),
        ]
    )
    model.compile(optimizer, loss)
    model.set_weights(
        [
            weights[f"{layer}.weight_ih_l0"].T,
            weights[f"{layer}.weight_hh_l0"].T,
            weights[f"{layer}.bias_ih_l0"] + weights[f"{layer}.bias_hh_l0"],
            weights["linear.weight"].T,
            weights["linear.bias"],
        ]
    )
    if workload == "flights":
        shaped = [(x.swapaxes(0, 1), y) for x, y in batches]
    else:
        shaped = [(x.swapaxes(0, 1), y[None]) for x, y in batches]
    return Step(model.train_on_batch, shaped, checks=1)


def tinygrad_step(workload: str, weights: Weights, batches: list[tuple[Array, Array]]) -> Step:
    from tinygrad import Tensor, TinyJit

    w = {k: Tensor(value).realize() for k, value in weights.items()}
    m = {k: Tensor.zeros(*p.shape).contiguous().realize() for k, p in w.items()}
    v = {k: Tensor.zeros(*p.shape).contiguous().realize() for k, p in w.items()}
    t = Tensor.zeros(1).contiguous().realize()
    h0 = Tensor(first_state(weights, batches[0][0])).realize()

    def flights(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        W, U = w["lstm.weight_ih_l0"].T, w["lstm.weight_hh_l0"].T
        b = w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
        h = c = h0
        for k in range(x.shape[0]):
            i, f, g, o = (x[k] @ W + h @ U + b).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return (h @ w["linear.weight"].T + w["linear.bias"] - y).square().mean(), h0

    def min_char(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        W, U = w["rnn.weight_ih_l0"].T, w["rnn.weight_hh_l0"].T
        b = w["rnn.bias_ih_l0"] + w["rnn.bias_hh_l0"]
        h, hs = h0, []
        for k in range(x.shape[0]):
            h = (x[k] @ W + h @ U + b).tanh()
            hs.append(h)
        logits = Tensor.cat(*hs) @ w["linear.weight"].T + w["linear.bias"]
        return logits.sparse_categorical_crossentropy(y, reduction="sum"), h

    losses = {"flights": flights, "min-char-rnn": min_char}

    @TinyJit
    def update(x: Tensor, y: Tensor) -> Tensor:
        t.assign(t + 1)
        loss, h = losses[workload](x, y)
        gradients = loss.gradient(*w.values())
        changed = [t, h0.assign(h)]
        for (k, p), g in zip(w.items(), gradients, strict=True):
            new = RULES[workload](p, g, m[k], v[k], t)
            for old, value in zip((p, m[k], v[k]), new, strict=True):
                changed.append(old.assign(value))
        return loss.realize(*changed)

    def step(x: Any, y: Any) -> Any:
        return update(x, y).item()

    tensors = [(Tensor(x).realize(), Tensor(y).realize()) for x, y in batches]
    return Step(step, tensors)


BUILDERS: dict[str, Callable[[str, Weights, list[tuple[Array, Array]]], Step]] = {
    "jax": jax_step,
    "keras": keras_step,
    "mygrad": mygrad_step,
    "autograd": autograd_step,
    "tinygrad": tinygrad_step,
}
