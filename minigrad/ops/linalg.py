"""Matrix products, and everything that is one."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array, Op, unbroadcast
from minigrad.ops.indexing import diagonal
from minigrad.ops.shape import permute, reshape, squeeze


class MatMul(Op):
    """y = a b,  ga = gy b^T,  gb = a^T gy: numbers of dimensions as in NumPy and PyTorch.

    A vector counts as a row on the left and as a column on the right; leading dimensions are a
    batch and broadcast.  A batch times one matrix, (B, T, D) (D, H), is a single product over B T
    rows, and so is the gradient of the matrix.
    """

    bilinear = True

    def forward(self, a: Array, b: Array) -> Array:
        self.shapes = a.shape, b.shape
        if a.ndim > 2 and b.ndim == 2 and a.shape[-1] == b.shape[0]:
            rows = a.reshape(prod(a.shape[:-1]), a.shape[-1])
            return np.matmul(rows, b).reshape(*a.shape[:-1], b.shape[1])
        return np.matmul(a, b)

    def vjp(self, g: Any, a: Any, b: Any) -> tuple[Any, Any]:
        shape_a, shape_b = self.shapes
        if len(shape_a) == len(shape_b) == 2:
            ga = None if b is None else g @ b.swapaxes(0, 1)
            return ga, None if a is None else a.swapaxes(0, 1) @ g
        matrix_a = shape_a if len(shape_a) > 1 else (1, *shape_a)  # (..., M, K)
        matrix_b = shape_b if len(shape_b) > 1 else (*shape_b, 1)  # (..., K, N)
        (m, k), n = matrix_a[-2:], matrix_b[-1]
        if len(matrix_b) == 2:  # the whole batch at once
            m = prod(matrix_a[:-1])
            matrix_a = (m, k)
            g = g.reshape((m, n))
        else:
            batch = g.shape[: len(g.shape) - (len(shape_a) > 1) - 1]
            g = g.reshape((*batch, m, n))
        ga = gb = None
        if b is not None:
            ga = g @ b.reshape(matrix_b).swapaxes(-1, -2)  # (..., M, K)
            ga = unbroadcast(ga, matrix_a).reshape(shape_a)
        if a is not None:
            gb = a.reshape(matrix_a).swapaxes(-1, -2) @ g  # (..., K, N)
            gb = unbroadcast(gb, matrix_b).reshape(shape_b)
        return ga, gb


def matmul(input: Any, other: Any) -> Any:
    """The matrix product: of vectors, matrices, and batches of matrices, which broadcast.

    Raises RuntimeError where shapes do not fit or dtypes differ.
    """
    try:
        alike = input.dtype == other.dtype
    except AttributeError as error:
        raise TypeError(
            f"matmul: expected tensors, got {type(input).__name__} and {type(other).__name__}"
        ) from error
    if not alike:
        raise RuntimeError(
            f"matmul: expected both to have the same dtype, got {input.dtype} and {other.dtype}; "
            "convert one with .to(dtype)"
        )
    return MatMul()(input, other)


def _need(name: str, *wanted: tuple[Any, int]) -> None:
    for x, ndim in wanted:
        if len(x.shape) != ndim:
            raise RuntimeError(f"{name}: expected {ndim}-D, got shape {tuple(x.shape)}")


def mm(input: Any, mat2: Any) -> Any:
    """The product of two matrices: (M, K) (K, N) -> (M, N)."""
    _need("mm", (input, 2), (mat2, 2))
    return matmul(input, mat2)


def bmm(input: Any, mat2: Any) -> Any:
    """The products of two batches of matrices of equal length: (B, M, K) (B, K, N)."""
    _need("bmm", (input, 3), (mat2, 3))
    if input.shape[0] != mat2.shape[0]:
        raise RuntimeError(f"bmm: batches of {input.shape[0]} and {mat2.shape[0]} matrices")
    return matmul(input, mat2)


def mv(input: Any, vec: Any) -> Any:
    """A matrix times a vector: (M, K) (K,) -> (M,)."""
    _need("mv", (input, 2), (vec, 1))
    return matmul(input, vec)


def dot(input: Any, tensor: Any) -> Any:
    """The inner product of two vectors."""
    _need("dot", (input, 1), (tensor, 1))
    return matmul(input, tensor)


def outer(input: Any, vec2: Any) -> Any:
    """All products of elements of two vectors: y[i, j] = input[i] vec2[j]."""
    _need("outer", (input, 1), (vec2, 1))
    return reshape(input, (input.shape[0], 1)) * vec2


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """beta input + alpha mat1 mat2."""
    product = mm(mat1, mat2)
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        return product  # as in PyTorch, NaNs in an input times 0 are ignored
    return (input if beta == 1 else input * beta) + product


# --- einsum -------------------------------------------------------------------------------------


def einsum(equation: str, *operands: Any) -> Any:
    """Sums of products by names of dimensions: "bij,bjk->bik".

    A name that is missing after the arrow is summed over; one that comes twice in an operand walks
    its diagonal; "..." stands for dimensions that broadcast.  Without an arrow the result has the
    names that come once, in alphabetic order.  Made of products of two at a time, from the left,
    each a matrix product where anything is summed.

    Raises RuntimeError for an equation that does not fit the operands.
    """
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    terms, result = _parse(equation, tuple([len(x.shape) for x in operands]))
    sizes: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        for name, n in zip(term, x.shape, strict=True):
            if sizes.setdefault(name, n) == 1:
                sizes[name] = n
            if n not in (1, sizes[name]):
                raise RuntimeError(
                    f"einsum {equation!r}: subscript {name} has sizes {sizes[name]} and {n}"
                )
    pairs = [_tidy(term, x) for term, x in zip(terms, operands, strict=True)]
    term, x = pairs[0]
    for i, (other, z) in enumerate(pairs[1:], start=2):
        later = set(result).union(*[later_term for later_term, _ in pairs[i:]])
        term, x = _contract(term, x, other, z, later)
    term, x = _sum_out(term, x, set(result))
    x = _arranged(x, [term.index(name) for name in result if name in term])
    return reshape(x, tuple([sizes[name] for name in result]))  # dimensions of size 1 come back


def _arranged(x: Any, order: list[int]) -> Any:
    """`permute`, unless the dimensions are in this order already."""
    return x if order == sorted(order) else permute(x, order)


def _shaped(x: Any, shape: tuple[int, ...]) -> Any:
    """`reshape`, unless that is the shape already."""
    return x if x.shape == shape else reshape(x, shape)


@lru_cache  # nobody changes the lists
def _parse(equation: str, ndims: tuple[int, ...]) -> tuple[list[list[str]], list[str]]:
    """The names of each operand's dimensions, and of the result's.

    The dimensions of "..." are named 1, 2, ... from the right, as they broadcast.
    """

    def names_of(text: str, free: int) -> list[str]:
        before, dots, after = text.partition("...")
        if (before + after).strip(_LETTERS) or free < 0 or (free and not dots):
            raise RuntimeError(f"einsum {equation!r}: {text!r} does not fit ({ndims} dimensions)")
        return [*before, *[str(i) for i in range(free, 0, -1)], *after]

    left, arrow, right = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(ndims):
        raise RuntimeError(f"einsum {equation!r}: {len(ndims)} operands were given")
    free = [n - len(text.replace("...", "")) for text, n in zip(inputs, ndims, strict=True)]
    terms = [names_of(text, n) for text, n in zip(inputs, free, strict=True)]
    names = [name for term in terms for name in term]
    if arrow:
        result = names_of(right, max(free) if "..." in right else 0)
    else:
        once = sorted([name for name in names if name.isalpha() and names.count(name) == 1])
        result = names_of("...", max(free)) + once
    for name in result:
        if result.count(name) > 1 or name not in names:
            raise RuntimeError(
                f"einsum {equation!r}: output subscript {name} must come once there, and in an "
                "operand"
            )
    return terms, result


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _tidy(term: list[str], x: Any) -> tuple[list[str], Any]:
    """Without dimensions of size 1, which broadcast, and with diagonals for repeated names."""
    term = [name for name, n in zip(term, x.shape, strict=True) if n != 1]
    x = x if len(term) == len(x.shape) else squeeze(x)
    for name in dict.fromkeys(term):
        while term.count(name) > 1:
            first = term.index(name)
            second = term.index(name, first + 1)
            x = diagonal(x, 0, first, second)
            term = [n for i, n in enumerate(term) if i not in (first, second)] + [name]
    return term, x


def _sum_out(term: list[str], x: Any, needed: set[str]) -> tuple[list[str], Any]:
    """Sum over the dimensions that nobody needs any more."""
    dims = tuple([i for i, name in enumerate(term) if name not in needed])
    return ([name for name in term if name in needed], x.sum(dims)) if dims else (term, x)


def _contract(
    term: list[str], x: Any, other: list[str], z: Any, later: set[str]
) -> tuple[list[str], Any]:
    """The product of two operands, summed over the names that are not needed later."""
    term, x = _sum_out(term, x, later | set(other))
    other, z = _sum_out(other, z, later | set(term))
    batch = [name for name in term if name in other and name in later]
    summed = [name for name in term if name in other and name not in later]
    rows = [name for name in term if name not in other]
    columns = [name for name in other if name not in term]
    x = _arranged(x, [term.index(name) for name in batch + rows + summed])
    z = _arranged(z, [other.index(name) for name in batch + summed + columns])
    b, m = len(batch), len(batch) + len(rows)
    b_shape, m_shape, k_shape = tuple(x.shape[:b]), tuple(x.shape[b:m]), tuple(x.shape[m:])
    n_shape = tuple(z.shape[b + len(summed) :])
    if not summed:  # nothing to sum: an elementwise or outer product
        x = _shaped(x, (*b_shape, *m_shape, *(1,) * len(columns)))
        return batch + rows + columns, x * _shaped(z, (*b_shape, *(1,) * len(rows), *n_shape))
    k = prod(k_shape)
    y = matmul(_shaped(x, (*b_shape, prod(m_shape), k)), _shaped(z, (*b_shape, k, prod(n_shape))))
    return batch + rows + columns, _shaped(y, (*b_shape, *m_shape, *n_shape))
