"""Datasets and batches of them, under PyTorch's names."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minigrad.autograd.engine import Node
from minigrad.ops.creation import from_numpy, randperm, tensor
from minigrad.ops.shape import stack
from minigrad.random import Generator

__all__ = [
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "Subset",
    "TensorDataset",
    "default_collate",
    "random_split",
]


class Dataset:
    """Samples found by their number: a subclass defines `__getitem__`, and mostly `__len__`."""

    def __class_getitem__(cls, item: Any) -> Any:
        """`Dataset[Tensor]`, for type checkers."""
        return cls

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no __getitem__()")

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """Samples that come in their own order: a subclass defines `__iter__`."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} defines no __iter__()")


class TensorDataset(Dataset):
    """Sample i is the i-th element of each tensor. Raises AssertionError if lengths differ."""

    def __init__(self, *tensors: Any) -> None:
        if any(len(t) != len(tensors[0]) for t in tensors):
            raise AssertionError(f"tensors of lengths {[len(t) for t in tensors]}: equal expected")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> Any:
        return tuple([t[index] for t in self.tensors])

    def __len__(self) -> int:
        return len(self.tensors[0])


class ConcatDataset(Dataset):
    """Datasets one after another."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))

    def __getitem__(self, index: Any) -> Any:
        n = len(self)
        if not -n <= index < n:
            raise ValueError(f"index {index} is out of range: the dataset has {n} samples")
        index = index % n
        which = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1] if self.datasets else 0


class Subset(Dataset):
    """The samples of `dataset` that `indices` names."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Any, lengths: Sequence[float], generator: Generator | None = None
) -> list[Subset]:
    """Random parts of `dataset` that do not overlap, of these lengths, or fractions that sum to 1.

    Raises ValueError if they do not sum to the whole.
    """
    n = len(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        if any(not 0 <= fraction <= 1 for fraction in lengths):
            raise ValueError(f"fractions must be between 0 and 1, got {list(lengths)}")
        sizes = [math.floor(n * fraction) for fraction in lengths]
        for i in range(n - sum(sizes)):  # what rounding left over goes round
            sizes[i % len(sizes)] += 1
    else:
        sizes = list(lengths)  # type: ignore[arg-type]
    if sum(sizes) != n:
        raise ValueError(f"lengths {list(lengths)} do not sum to the dataset's {n} samples")
    order = randperm(n, generator=generator, device="cpu").tolist()
    ends = itertools.accumulate(sizes)
    return [Subset(dataset, order[e - k : e]) for e, k in zip(ends, sizes, strict=True)]


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch from a list of samples: tensors, arrays and numbers are stacked.

    Samples that are tuples, lists or dicts give one of batches; strings stay a list.
    """
    first = batch[0]
    if isinstance(first, Node):
        return stack(list(batch))
    if isinstance(first, np.ndarray | np.generic):
        return from_numpy(np.stack([np.asarray(sample) for sample in batch]))
    if isinstance(first, float):
        return tensor(list(batch), dtype=np.dtype(np.float64))
    if isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, str | bytes):
        return list(batch)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, tuple | list):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    raise TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
        f"found {type(first).__name__}"
    )


class DataLoader:
    """Batches of a dataset: in order, shuffled (anew each time), or as a sampler says.

    `collate_fn` makes a batch from a list of samples.  With `batch_size=None` the samples come as
    they are.  A shuffle draws from `generator`, or the default one, on the host.  Batches are made
    where they are used: `num_workers` and the rest of PyTorch's settings for workers and pinned
    memory change nothing.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        *,
        generator: Generator | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ) -> None:
        if batch_size is not None and batch_size <= 0:
            raise ValueError(f"batch_size should be a positive integer, but got {batch_size}")
        if shuffle and (sampler is not None or isinstance(dataset, IterableDataset)):
            raise ValueError("shuffle: the order comes from the sampler, or the IterableDataset")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler or drop_last):
            raise ValueError(
                "batch_sampler excludes batch_size, shuffle, sampler and drop_last: it decides"
            )
        if batch_size is None and drop_last:
            raise ValueError("drop_last needs batches: batch_size is None")
        self.dataset = dataset
        self.batch_size = None if batch_sampler is not None else batch_size
        self.shuffle = bool(shuffle)
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.generator = generator
        plain = batch_size is None and batch_sampler is None
        self.collate_fn = collate_fn or (_as_it_is if plain else default_collate)

    def _samples(self) -> Iterator[Any]:
        """The samples, one by one, in the order of this pass."""
        if isinstance(self.dataset, IterableDataset):
            return iter(self.dataset)
        order: Iterable[int] = range(len(self.dataset)) if self.sampler is None else self.sampler
        if self.shuffle:
            n = len(self.dataset)
            order = randperm(n, generator=self.generator, device="cpu").tolist()
        return (self.dataset[i] for i in order)

    def __iter__(self) -> Iterator[Any]:
        collate: Callable[[Any], Any] = self.collate_fn
        if self.batch_sampler is not None:
            for indices in self.batch_sampler:
                yield collate([self.dataset[i] for i in indices])
            return
        samples = self._samples()
        if self.batch_size is None:
            yield from map(collate, samples)
            return
        while batch := list(itertools.islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield collate(batch)

    def __len__(self) -> int:
        """How many batches there are."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        n = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


def _as_it_is(sample: Any) -> Any:
    """A sample that is no batch: NumPy's arrays as tensors."""
    if isinstance(sample, np.ndarray | np.generic):
        return from_numpy(np.asarray(sample))
    if isinstance(sample, tuple | list):
        return [_as_it_is(part) for part in sample]
    return sample
