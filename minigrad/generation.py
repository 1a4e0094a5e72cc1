"""Recurrent nets write: each symbol is drawn from the net's scores, and is what it reads next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad import random
from minigrad.autograd.engine import Array, wrap
from minigrad.autograd.grad_mode import no_grad
from minigrad.cuda import generation as kernel
from minigrad.cuda.kernels import usable
from minigrad.nn import functional as F
from minigrad.nn.linear import Linear
from minigrad.nn.recurrent import GRU, LSTM, RNN
from minigrad.ops.creation import arange, tensor
from minigrad.ops.shape import stack


@no_grad()
def generate(
    features: Callable[[Any], Any],
    rnn: Any,
    output: Any,
    prompt: Sequence[int],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    state: Any = None,
    generator: random.Generator | None = None,
) -> list[int]:
    """The numbers of `length` symbols that follow those of `prompt`, drawn one by one by `choose`.

    features: symbols (T, 1) to the input (T, 1, D) of `rnn`, each by itself; output: from its
    states (1, H) to scores (1, V); state: that of `rnn` before the prompt.  Modules are run as
    they are: call `eval()` first.

    The draws come from `generator` on the host, one number each: a seed gives one text on every
    device, up to the point where rounding first makes a difference.  On a GPU the text is read
    once, at its end, and RNN, LSTM and GRU with a Linear output write all of it in one launch.
    Raises ValueError for an empty prompt or a negative temperature, and RuntimeError for scores
    that are NaN or infinite.
    """
    if not len(prompt):
        raise ValueError("the prompt must hold at least one symbol")
    if temperature < 0:
        raise ValueError(f"the temperature must not be negative: {temperature}")
    draws = (generator or random.default_generator).numpy.random(length) if temperature else None
    how = _How(length, draws, temperature, top_k)
    found = _in_one_launch(features, rnn, output, prompt, state, how)
    if found is None:
        found = _one_by_one(features, rnn, output, prompt, state, how)
    return found


class _How(NamedTuple):
    """What is drawn: so many symbols, each by one of the numbers (None at temperature 0)."""

    length: int
    uniforms: Array | None
    temperature: float
    top_k: int | None


def choose(scores: Any, uniform: Any, temperature: float, top_k: int | None) -> Any:
    """One symbol for each row of scores (B, V): the best at temperature 0, else drawn.

    p = softmax(scores / temperature), among the `top_k` best only if given; the first symbol up to
    which the sum of p exceeds `uniform`, a number from [0, 1).  V where p is NaN.
    """
    if temperature == 0:
        return scores.argmax(-1)
    V = scores.shape[-1]
    if top_k is not None and top_k < V:
        worst_kept = scores.topk(top_k)[0][:, -1:]
        scores = scores.masked_fill(scores < worst_kept, -float("inf"))
    p = F.softmax((scores - scores.amax(-1, keepdim=True)) / temperature, dim=-1)
    bounds = p.double().cumsum(-1)
    return V - (bounds > uniform * bounds[:, -1:]).sum(-1)


def _one_by_one(
    features: Callable[[Any], Any],
    rnn: Any,
    output: Any,
    prompt: Sequence[int],
    state: Any,
    how: _How,
) -> list[int]:
    """The definition.  Nothing makes the host wait for a GPU before the end."""
    device = next(rnn.parameters()).device
    length, draws, temperature, top_k = how
    uniforms = [None] * length if draws is None else tensor(draws, device=device)
    unread = tensor(list(prompt), device=device).unsqueeze(1)  # (T, 1)
    written: list[Any] = []
    V = 0
    for t in range(length):
        y, state = rnn(features(unread), state)  # (T, 1, H)
        scores = output(y[-1])  # (1, V)
        V = scores.shape[-1]
        written.append(choose(scores, uniforms[t], temperature, top_k))  # (1,)
        unread = written[-1].clamp(max=V - 1).unsqueeze(0)
    return _checked(stack(written)[:, 0].tolist(), V) if written else []


def _in_one_launch(
    features: Callable[[Any], Any],
    rnn: Any,
    output: Any,
    prompt: Sequence[int],
    state: Any,
    how: _How,
) -> list[int] | None:
    """The same on a GPU, after the prompt; None if the kernel is not made for this."""
    if type(rnn) not in (RNN, LSTM, GRU) or type(output) is not Linear:
        return None
    V, H = output.weight.shape
    plain = not (rnn.bidirectional or rnn.proj_size or (rnn.training and rnn.dropout))
    plain = plain and not any(m._forward_hooks or m._forward_pre_hooks for m in (rnn, output))
    parameters = [p.value for module in (rnn, output) for p in module.parameters()]
    if not (how.length and plain and prompt[-1] < V and all(map(usable, parameters))):
        return None
    device = output.weight.device
    inputs = features(arange(V, device=device).unsqueeze(1))  # (V, 1, D)
    if not usable(inputs.value):
        return None
    if len(prompt) > 1:
        _, state = rnn(features(tensor(list(prompt[:-1]), device=device).unsqueeze(1)), state)
    if state is None:
        states = [np.zeros_like(parameters[0], shape=(rnn.num_layers, H))] * (1 + rnn.has_cell)
    else:
        states = [s.value[:, 0] for s in (state if rnn.has_cell else [state])]
    written = kernel.write(
        rnn.nonlinearity if type(rnn) is RNN else type(rnn).__name__.lower(),
        inputs.value[:, 0],
        [tuple(None if p is None else p.value for p in w[:4]) for w in rnn._weights()],
        (output.weight.value, None if output.bias is None else output.bias.value),
        states,
        int(prompt[-1]),
        *how,
    )
    return None if written is None else _checked(wrap(written).tolist(), V)


def _checked(numbers: list[int], V: int) -> list[int]:
    if not all(0 <= number < V for number in numbers):
        raise RuntimeError("the scores of the symbols are NaN or infinite: nothing can be drawn")
    return numbers
