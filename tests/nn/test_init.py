"""nn.init: the distributions, by their moments; the errors; the seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import init

N = 400
FILLS = [
    # what fills it; mean, standard deviation, bound of |x - mean|
    (lambda t, g: init.uniform_(t, 1, 3, g), 2, 1 / math.sqrt(3), 1),
    (lambda t, g: init.normal_(t, 1, 3, g), 1, 3, math.inf),
    (lambda t, g: init.trunc_normal_(t, 1, 3, -2, 4, g), 1, 3 * 0.5396, 3),
    (lambda t, g: init.xavier_uniform_(t, 2, g), 0, 2 * math.sqrt(2 / 500), 2 * math.sqrt(6 / 500)),
    (lambda t, g: init.xavier_normal_(t, 2, g), 0, 2 * math.sqrt(2 / 500), math.inf),
    (lambda t, g: init.kaiming_uniform_(t, generator=g), 0, math.sqrt(2 / 100), math.sqrt(6 / 100)),
    (
        lambda t, g: init.kaiming_normal_(t, 0, "fan_out", "tanh", generator=g),
        0,
        5 / 3 / math.sqrt(N),
        math.inf,
    ),
]


@pytest.mark.parametrize(("fill", "mean", "std", "bound"), FILLS)
def test_moments_and_seed(fill: Any, mean: float, std: float, bound: float) -> None:
    tensors = [mg.tensor(np.zeros((N, 100), np.float32)) for _ in range(4)]
    assert fill(tensors[0], mg.random.Generator().manual_seed(1)) is tensors[0]
    fill(tensors[1], mg.random.Generator().manual_seed(1))
    for tensor in tensors[2:]:
        mg.random.manual_seed(1)
        fill(tensor, None)
    first, *others = [tensor.value for tensor in tensors]
    assert all((first == other).all() for other in others)
    assert first.dtype == np.float32
    assert abs(first.mean() - mean) < 5 * std / math.sqrt(first.size)
    assert abs(first.std() / std - 1) < 0.02
    assert np.abs(first - mean).max() <= bound * (1 + 1e-6)


def test_trunc_normal_far_out() -> None:
    x = init.trunc_normal_(mg.tensor(np.zeros(100)), a=5.0, b=6.0).value
    assert (x >= 5).all() and (x <= 6).all() and x.std() > 0


def test_constants() -> None:
    t = mg.tensor(np.zeros((2, 3)))
    assert (init.ones_(t).value == 1).all() and (init.constant_(t, 7).value == 7).all()
    assert (init.zeros_(t).value == 0).all() and np.array_equal(init.eye_(t).value, np.eye(2, 3))


def test_dirac_keeps_channels() -> None:
    w = init.dirac_(mg.tensor(np.ones((4, 2, 3))), groups=2).value
    expected = np.zeros((4, 2, 3))
    expected[[0, 1, 2, 3], [0, 1, 0, 1], 1] = 1
    np.testing.assert_array_equal(w, expected)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 2, 3), (1, 1)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = init.orthogonal_(mg.tensor(np.zeros(shape)), gain=2).value.reshape(shape[0], -1)
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_sparse() -> None:
    w = init.sparse_(mg.tensor(np.zeros((10, 4))), 0.25, std=2).value
    assert ((w == 0).sum(0) == 3).all()


def test_gains() -> None:
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("leaky_relu", 1) == 1
    assert init.calculate_gain("linear") == 1
    with pytest.raises(ValueError, match="Unsupported"):
        init.calculate_gain("sine")
    with pytest.raises(ValueError, match="not a valid number"):
        init.calculate_gain("leaky_relu", True)


def test_errors() -> None:
    vector, cube = mg.tensor(np.zeros(3)), mg.tensor(np.zeros((2, 2, 2)))
    for fill, t in (
        (init.eye_, vector),
        (init.dirac_, vector),
        (lambda t: init.dirac_(t, 3), cube),
        (init.xavier_normal_, vector),
        (init.kaiming_normal_, vector),
        (lambda t: init.kaiming_normal_(t, mode="fan"), cube),
        (init.orthogonal_, vector),
        (lambda t: init.sparse_(t, 0.5), vector),
    ):
        with pytest.raises(ValueError, match=r"."):
            fill(t)
    for fill in (init.kaiming_normal_, init.kaiming_uniform_):
        with pytest.warns(UserWarning, match="zero-element"):
            fill(mg.tensor(np.zeros((0, 3))))
    assert init.orthogonal_(mg.tensor(np.zeros((0, 3)))).shape == (0, 3)


def test_a_parameter_can_be_filled_and_a_graph_notices() -> None:
    p = nn.Parameter(mg.tensor([2.0]))
    y = p * p
    init.ones_(p)
    assert p.requires_grad and p.is_leaf and p.item() == 1.0
    with pytest.raises(RuntimeError, match="was changed after"):
        y.backward()


def test_what_was_computed_is_not_initialized() -> None:
    with pytest.raises(RuntimeError, match="cannot fill what Mul"):
        nn.init.zeros_(mg.ones(2, requires_grad=True) * 2)
