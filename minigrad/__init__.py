"""minigrad: PyTorch's names on NumPy arrays, for recurrent nets."""

from minigrad import random as random
from minigrad.autograd.engine import grad
from minigrad.autograd.grad_mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minigrad.ops.indexing import (
    diagonal,
    flip,
    gather,
    index_add,
    index_select,
    masked_select,
    one_hot,
    repeat_interleave,
    scatter,
    scatter_add,
    take_along_dim,
    tril,
    triu,
)
from minigrad.ops.linalg import addmm, bmm, dot, einsum, matmul, mm, mv, outer
from minigrad.ops.selection import masked_fill, nonzero, where
from minigrad.ops.shape import (
    broadcast_to,
    cat,
    chunk,
    concat,
    concatenate,
    flatten,
    hstack,
    moveaxis,
    movedim,
    permute,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    swapdims,
    t,
    tile,
    transpose,
    unbind,
    unflatten,
    unsqueeze,
    vstack,
)
from minigrad.ops.sorting import argsort, bincount, sort, topk, unique
from minigrad.tensor import Tensor, tensor
