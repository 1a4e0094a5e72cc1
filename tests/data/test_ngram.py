"""The Witten-Bell n-gram, against a slow definition and against what probabilities must do."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data.ngram import best_ngram, witten_bell

SYMBOLS = 4
numbers = st.lists(st.integers(0, SYMBOLS - 1), max_size=30)


def slow(train, history, c, order):
    """p(c | the last order - 1 numbers of history), straight from the definition."""
    if order == 0:
        return 1 / SYMBOLS
    n = order - 1
    padded = [SYMBOLS] * n + list(train)
    h = tuple(([SYMBOLS] * n + list(history))[len(history) :]) if n else ()
    seen = Counter(padded[i + n] for i in range(len(train)) if tuple(padded[i : i + n]) == h)
    p = slow(train, history, c, order - 1)
    total = sum(seen.values()) + len(seen)
    return (seen[c] + len(seen) * p) / total if total else p


@given(numbers, st.lists(st.integers(0, SYMBOLS - 1), min_size=1, max_size=8), st.integers(1, 5))
def test_it_is_what_it_says(train, held_out, order):
    p = witten_bell(np.array(train, int), np.array(held_out), SYMBOLS, order)
    assert p.shape == (order, len(held_out))
    for n in range(1, order + 1):
        expected = [slow(train, train + held_out[:i], c, n) for i, c in enumerate(held_out)]
        np.testing.assert_allclose(p[n - 1], expected, rtol=1e-12)


@given(numbers, numbers)
def test_probabilities_sum_to_one(train, context):
    total = sum(
        witten_bell(np.array(train, int), np.array([*context, c]), SYMBOLS, 5)[:, -1]
        for c in range(SYMBOLS)
    )
    np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_a_repeating_text_needs_its_context():
    text = np.array([0, 1, 2, 0, 2, 1] * 40)
    order, loss = best_ngram(text[:200], text[200:], 3)
    assert order >= 3
    assert loss < 0.1
