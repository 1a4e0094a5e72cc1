"""The stand-in for CuPy is as strict as CuPy, and agrees with it on what there is."""

import numpy as np
import pytest
import strict_cupy as strict


def test_it_refuses_numpy_operands_and_hidden_conversion():
    x = strict.asarray(np.ones(3))
    host = np.ones(3)
    for mix in (
        lambda: x + host,
        lambda: host * x,
        lambda: np.add(x, host),
        lambda: np.where(x > 0, host, x),
        lambda: np.concatenate([x, host]),
        lambda: x[np.array([0, 1])],
        lambda: np.asarray(x),
        lambda: np.add(x, x, out=host),
    ):
        with pytest.raises(TypeError):
            mix()


def test_it_refuses_what_cupy_does_not_have():
    x = strict.asarray(np.ones(3))
    with pytest.raises(TypeError, match="no keyword"):
        np.add(x, x, where=x > 0)
    with pytest.raises(TypeError, match="no keyword"):
        np.sort(x, stable=True)
    with pytest.raises(TypeError, match="has no"):
        np.piecewise(x, [x > 0], [1.0])


def test_it_computes_what_numpy_does():
    x = strict.asarray(np.arange(6.0).reshape(2, 3))
    y = (np.tanh(x) @ x.T + 2.0).sum(axis=1, keepdims=True)
    host = np.arange(6.0).reshape(2, 3)
    assert isinstance(y, strict.ndarray)
    assert np.array_equal(strict.asnumpy(y), (np.tanh(host) @ host.T + 2).sum(1, keepdims=True))
    assert isinstance(x.sum(), strict.ndarray), "CuPy has no scalars"


def test_it_counts_waits():
    x = strict.asarray(np.arange(3.0))
    before = strict.syncs
    np.tanh(x + x)
    assert strict.syncs == before
    float(x[0]), bool(x[1] > 0), x[x > 1], strict.asnumpy(x), x.tolist()
    assert strict.syncs == before + 5


@pytest.mark.oracle
def test_its_lists_agree_with_the_real_cupy():
    cupy = pytest.importorskip("cupy")
    assert strict.check_against(cupy) == []
