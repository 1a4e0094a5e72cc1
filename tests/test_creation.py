"""Creation: what data becomes, and what is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, mg.float32),
        (1, mg.int64),
        (True, mg.bool_),
        ([1, 2.5], mg.float32),
        ([], mg.float32),
        ([[1], [2]], mg.int64),
        (np.float64(1), mg.float64),
        ([np.float64(1)], mg.float64),
        (np.ones(2), mg.float64),
        (np.ones(2, np.int8), mg.int8),
        (range(3), mg.int64),
    ],
)
def test_dtypes_of_data(data: Any, dtype: Any) -> None:
    assert mg.tensor(data).dtype == dtype
    assert mg.tensor(data, dtype=mg.float16).dtype == mg.float16


def test_data_is_copied() -> None:
    array = np.zeros(2)
    made = [mg.tensor(array), mg.from_numpy(array), mg.as_tensor(array)]
    array[0] = 1
    assert all(x.tolist() == [0, 0] for x in made)
    assert mg.tensor([mg.tensor(1.0), mg.tensor(2.0)]).tolist() == [1, 2]
    x = mg.ones(2, requires_grad=True)
    assert mg.as_tensor(x) is x and not mg.tensor(x).requires_grad


def test_bad_data() -> None:
    with pytest.raises(ValueError, match="length"):
        mg.tensor([[1], [2, 3]])
    for wrong in ("a", 1j):
        with pytest.raises(TypeError):
            mg.tensor(wrong)
    for wrong in (None, [None], {}):
        with pytest.raises(RuntimeError):
            mg.tensor(wrong)
    with pytest.raises(RuntimeError):
        mg.zeros(-1)
    with pytest.raises(TypeError):
        mg.from_numpy([1])


def test_filled() -> None:
    assert mg.zeros(2, 3).shape == mg.ones((2, 3)).shape == mg.empty([2, 3]).shape == (2, 3)
    assert mg.full((2,), 7).dtype == mg.int64 and mg.full((2,), 7.0).dtype == mg.float32
    assert mg.full_like(mg.ones(2), 3).tolist() == [3, 3]
    assert mg.zeros_like(mg.ones(2, dtype=mg.int8)).dtype == mg.int8
    assert mg.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert mg.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
    assert mg.Tensor(2, 3).shape == (2, 3) and mg.LongTensor([1, 2]).dtype == mg.int64


@pytest.mark.parametrize("bounds", [(5,), (1, 5), (0, 1, 0.25), (5, 0, -2), (0, 0), (0.5, 3)])
def test_arange(bounds: Any) -> None:
    np.testing.assert_allclose(mg.arange(*bounds).value, np.arange(*bounds))
    is_float = any(isinstance(b, float) for b in bounds)
    assert mg.arange(*bounds).dtype == (mg.float32 if is_float else mg.int64)


def test_arange_that_leads_nowhere() -> None:
    with pytest.raises(RuntimeError):
        mg.arange(0, 5, -1)


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (mg.FloatTensor, mg.float32),
        (mg.DoubleTensor, mg.float64),
        (mg.LongTensor, mg.int64),
        (mg.IntTensor, mg.int32),
        (mg.ByteTensor, mg.uint8),
        (mg.BoolTensor, mg.bool_),
    ],
)
def test_constructors_by_dtype(make: Any, dtype: Any) -> None:
    found = make([1, 0])
    assert found.dtype == dtype
    assert found.tolist() == [1, 0]
    assert (make(2, 3).shape, make().shape) == ((2, 3), (0,))
    assert make(2, 3).dtype == make().dtype == dtype
    with pytest.raises(TypeError, match="not 2 arguments"):
        make([1], [2])


def test_a_number_may_be_a_tensor() -> None:
    assert mg.full((2,), mg.tensor(3)).tolist() == [3, 3]
    assert mg.full((2,), mg.tensor(3)).dtype == mg.int64


def test_random_numbers_like_a_tensor() -> None:
    like = mg.zeros(2000, dtype=mg.float64)
    for make, mean, deviation in ((mg.rand_like, 0.5, 12**-0.5), (mg.randn_like, 0.0, 1.0)):
        drawn = make(like, requires_grad=True)
        assert (drawn.shape, drawn.dtype, drawn.device) == (like.shape, like.dtype, like.device)
        assert drawn.requires_grad
        assert abs(drawn.mean().item() - mean) < 0.1
        assert abs(drawn.std().item() - deviation) < 0.1
        assert make(like, dtype=mg.float32).dtype == mg.float32


@pytest.mark.parametrize("shape", [(), (2, 2, 2), (2, 0)])
def test_multinomial_wants_weights_in_rows(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match=r"weights \(n\) or \(rows, n\)"):
        mg.multinomial(mg.ones(*shape), 1)


def test_arange_needs_an_end() -> None:
    with pytest.raises(TypeError, match="where to end"):
        mg.arange()


def test_negative_seeds_wrap_around() -> None:
    drawn = [mg.rand(3, generator=mg.Generator().manual_seed(seed)) for seed in (-1, 2**64 - 1, 1)]
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()


def test_random_numbers_repeat() -> None:
    def draw(generator: Any) -> list[Any]:
        return [
            mg.rand(3, generator=generator).tolist(),
            mg.randn(2, 2, generator=generator).tolist(),
            mg.randint(10, (3,), generator=generator).tolist(),
            mg.randperm(5, generator=generator).tolist(),
            mg.bernoulli(mg.full((4,), 0.5), generator=generator).tolist(),
            mg.multinomial(mg.tensor([1.0, 2, 3]), 2, generator=generator).tolist(),
        ]

    assert draw(mg.Generator().manual_seed(3)) == draw(mg.Generator().manual_seed(3))
    assert mg.rand(3, dtype=mg.float64).dtype == mg.float64
    assert sorted(mg.randperm(9).tolist()) == list(range(9))
    drawn = mg.randint(3, 6, (500,))
    assert set(drawn.tolist()) == {3, 4, 5}


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_draws_in_proportion(replacement: bool) -> None:
    weights = mg.tensor([[1.0, 0.0, 3.0]]).expand(20_000, 3)
    drawn = mg.multinomial(weights, 2, replacement).value
    assert 0.73 < (drawn[:, 0] == 2).mean() < 0.77
    assert not (drawn == 1).any()
    if not replacement:
        assert (drawn[:, 0] != drawn[:, 1]).all()


@pytest.mark.parametrize("weights", [[0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0], [1.0, 0.0]])
def test_multinomial_refuses(weights: list[float]) -> None:
    with pytest.raises(RuntimeError):
        mg.multinomial(mg.tensor(weights), 2)


def test_bernoulli_refuses() -> None:
    with pytest.raises(RuntimeError):
        mg.bernoulli(mg.tensor([1.5]))
