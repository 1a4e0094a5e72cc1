"""Dropout of views: the mask follows the memory of its input, the values do not depend on it."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import functional as F


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0)])
def test_a_transposed_input_is_masked_in_its_own_layout(order: tuple[int, ...]) -> None:
    mg.manual_seed(0)
    x = mg.rand(20, 30, 40).permute(*order) + 1
    y = F.dropout(x, 0.25)
    kept = y.numpy() != 0
    assert 0.72 < kept.mean() < 0.78
    np.testing.assert_allclose(y.numpy()[kept], (x.numpy() / np.float32(0.75))[kept], rtol=1e-6)
    assert y.value.strides == x.value.strides


def test_no_dimensions_and_no_elements() -> None:
    assert F.dropout(mg.tensor(1.0), 0.5).shape == ()
    assert F.dropout(mg.zeros(0, 3).T, 0.5).shape == (3, 0)
