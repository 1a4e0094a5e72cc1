"""Embedding: a vector for each symbol."""

from __future__ import annotations

from typing import Any, Self

from minigrad.autograd.engine import wrap
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter, empty_parameter


class Embedding(Module):
    """y = W[x]: x (*) integers in [0, num_embeddings), y (*, embedding_dim).

    W starts from N(0, 1).  Its row `padding_idx` starts from zero and gets no gradient.  Raises
    IndexError for a symbol out of range.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise AssertionError("padding_idx must be within num_embeddings")
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.weight = empty_parameter((num_embeddings, embedding_dim), device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.value[self.padding_idx] = 0  # just made: nobody else has seen it

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None
    ) -> Self:
        """With the given rows, which are not learnt unless `freeze` is False."""
        if embeddings.ndim != 2:
            raise AssertionError("Embeddings parameter is expected to be 2-dimensional")
        rows, columns = embeddings.shape
        made = cls(rows, columns, padding_idx)
        made.weight = Parameter(wrap(embeddings.value), requires_grad=not freeze)
        return made

    def forward(self, input: Any) -> Any:
        return F.embedding(input, self._parameters["weight"], self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
