"""The baseline a character model has to beat: an n-gram with Witten-Bell smoothing."""

from __future__ import annotations

import numpy as np

from minigrad.autograd.engine import Array


def witten_bell(train: Array, held_out: Array, symbols: int, max_order: int = 8) -> Array:
    """The probability of each held-out character, for orders 1 .. max_order: (orders, N).

        p_n(c | h) = (count(h c) + kinds(h) p_{n-1}(c | h')) / (count(h) + kinds(h))

    `h` is the n - 1 characters before c (reaching back into `train` at the start of `held_out`),
    `h'` is h without its oldest, kinds(h) the number of different characters seen after h, and
    p_0 = 1 / symbols.  Counts are of `train` only.  (Witten & Bell 1991; Chen & Goodman 1999,
    eq. 17.)  `train` and `held_out` hold numbers below `symbols`.
    """
    numbers = np.concatenate([train, held_out]).astype(np.int64)
    known = len(train)
    p = np.full(len(held_out), 1 / symbols)
    history = np.zeros(len(numbers), np.int64)  # a number for each different h
    result = []
    for order in range(1, max_order + 1):
        if order > 1:  # h grows by the character `order - 1` before; `symbols` before the text
            oldest = np.full(len(numbers), symbols)
            oldest[order - 1 :] = numbers[: 1 - order]
            _, history = np.unique(history * (symbols + 1) + oldest, return_inverse=True)
        pairs, pair = np.unique(history * symbols + numbers, return_inverse=True)
        pair_count = np.bincount(pair[:known], minlength=len(pairs))
        count = np.bincount(history[:known], minlength=len(numbers) + 1)
        kinds = np.bincount(pairs[pair_count > 0] // symbols, minlength=len(numbers) + 1)
        h = history[known:]
        total = count[h] + kinds[h]
        seen = pair_count[pair[known:]] + kinds[h] * p
        p = np.where(total > 0, seen / np.maximum(total, 1), p)  # h never seen: p stays
        result.append(p)
    return np.stack(result)


def best_ngram(
    train: Array, held_out: Array, symbols: int, max_order: int = 8
) -> tuple[int, float]:
    """The order that is best on `held_out`, and its loss there in nats per character.

    Choosing the order on the held-out text itself is generous to the baseline, as it should be.
    """
    losses = -np.log(witten_bell(train, held_out, symbols, max_order)).mean(1)
    best = int(losses.argmin())
    return best + 1, float(losses[best])
