"""Datasets, and the batches that a DataLoader makes of them."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)


def numbers(loader: DataLoader) -> list[list[int]]:
    return [batch.tolist() for batch in loader]


@given(st.integers(0, 12), st.integers(1, 5), st.booleans(), st.booleans())
def test_batches_hold_each_sample_once(n: int, size: int, shuffle: bool, drop_last: bool) -> None:
    loader = DataLoader(range(n), size, shuffle, drop_last=drop_last)
    batches = numbers(loader)
    assert len(batches) == len(loader)
    seen = [i for batch in batches for i in batch]
    kept = n - n % size if drop_last else n
    assert len(seen) == kept and len(set(seen)) == kept and set(seen) <= set(range(n))
    if not shuffle:
        assert seen == list(range(kept))
    assert all(len(batch) == size for batch in (batches if drop_last else batches[:-1]))


def test_a_shuffle_is_repeatable_and_new_each_time() -> None:
    def passes(seed: int) -> list[list[list[int]]]:
        loader = DataLoader(range(20), 3, True, generator=mg.Generator().manual_seed(seed))
        return [numbers(loader), numbers(loader)]

    first, second = passes(1)
    assert first != second
    assert passes(1) == [first, second] != passes(2)
    mg.manual_seed(3)
    by_default = numbers(DataLoader(range(20), 3, True))
    mg.manual_seed(3)
    assert numbers(DataLoader(range(20), 3, True)) == by_default


def test_samples_of_tensors_and_windows() -> None:
    class Windows(Dataset):
        def __init__(self, series: Any, width: int) -> None:
            self.series, self.width = series, width

        def __len__(self) -> int:
            return len(self.series) - self.width

        def __getitem__(self, i: int) -> Any:
            return self.series[i : i + self.width], self.series[i + self.width]

    windows = Windows(mg.arange(6.0), 2)
    x, y = next(iter(DataLoader(windows, batch_size=3)))
    assert x.tolist() == [[0, 1], [1, 2], [2, 3]] and y.tolist() == [2, 3, 4]
    pairs = TensorDataset(mg.arange(5), mg.arange(5.0) * 2)
    assert [part.tolist() for part in pairs[1:3]] == [[1, 2], [2, 4]]
    (a, b), *_ = DataLoader(pairs, batch_size=2)
    assert a.tolist() == [0, 1] and b.tolist() == [0, 2] and b.dtype == mg.float32
    with pytest.raises(AssertionError, match=r"\[2, 3\]"):
        TensorDataset(mg.ones(2), mg.ones(3))


def test_collate() -> None:
    Pair = namedtuple("Pair", "x y")
    assert default_collate([1, 2]).dtype == mg.int64
    assert default_collate([1.0, 2.0]).dtype == mg.float64
    assert default_collate([True, False]).dtype == mg.bool
    assert default_collate(["a", "b"]) == ["a", "b"]
    assert default_collate([np.float32(1), np.float32(2)]).dtype == mg.float32
    assert default_collate([np.arange(2), np.arange(2)]).tolist() == [[0, 1], [0, 1]]
    batch = default_collate([{"a": 1, "b": (2, 3)}, {"a": 4, "b": (5, 6)}])
    assert batch["a"].tolist() == [1, 4]
    assert [part.tolist() for part in batch["b"]] == [[2, 5], [3, 6]]
    assert default_collate([Pair(1, 2), Pair(3, 4)]).y.tolist() == [2, 4]
    with pytest.raises(TypeError, match="found object"):
        default_collate([object()])
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1, 2], [1]])
    assert list(DataLoader([3, 1, 2], 2, collate_fn=max)) == [3, 2]


def test_other_orders() -> None:
    assert numbers(DataLoader(range(9), 2, sampler=[5, 3, 8])) == [[5, 3], [8]]
    by_batch = DataLoader(range(9), batch_sampler=[[1], [4, 2]])
    assert numbers(by_batch) == [[1], [4, 2]] and len(by_batch) == 2
    plain = DataLoader([np.ones(2), (np.zeros(1), "a")], batch_size=None)
    array, pair = plain
    assert array.tolist() == [1, 1] and pair[0].tolist() == [0] and pair[1] == "a"
    assert len(plain) == 2

    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(range(5))

    assert numbers(DataLoader(Stream(), 2)) == [[0, 1], [2, 3], [4]]
    for wrong in (
        {"batch_size": 0},
        {"shuffle": True, "sampler": [1]},
        {"batch_sampler": [[1]], "batch_size": 2},
        {"batch_size": None, "drop_last": True},
    ):
        with pytest.raises(ValueError):
            DataLoader(range(3), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        DataLoader(Stream(), shuffle=True)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_parts_of_datasets(lengths: list[int]) -> None:
    whole = ConcatDataset([range(k) for k in lengths])
    n = sum(lengths)
    assert [whole[i] for i in range(n)] == [i for k in lengths for i in range(k)]
    assert [whole[i - n] for i in range(n)] == [whole[i] for i in range(n)]
    with pytest.raises(ValueError):
        whole[n]
    if n == 1:
        return  # lengths that sum to 1 count as fractions, as in PyTorch
    parts = random_split(range(n), lengths)
    assert [len(part) for part in parts] == lengths
    assert sorted(i for part in parts for i in part) == list(range(n))


def test_splitting_by_fractions() -> None:
    parts = random_split(range(10), [0.25, 0.25, 0.5], mg.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [3, 2, 5]
    again = random_split(range(10), [0.25, 0.25, 0.5], mg.Generator().manual_seed(0))
    assert [list(part) for part in again] == [list(part) for part in parts]
    with pytest.raises(ValueError, match="10 samples"):
        random_split(range(10), [3, 3])
    halves = Subset(TensorDataset(mg.arange(6)), [5, 1, 3])
    assert halves[1][0].item() == 1 and halves[[0, 2]][0].tolist() == [5, 3]
