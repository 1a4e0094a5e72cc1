"""The layers and losses as functions: what nn's modules call."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import random
from minigrad.autograd.engine import Array, Node, Op, wrap
from minigrad.cuda import elementwise as kernels
from minigrad.device import array_module, device_of, to_device
from minigrad.dtypes import cast, operands
from minigrad.fused.layer_norm import LayerNormalization
from minigrad.fused.softmax_cross_entropy import SoftmaxCrossEntropy
from minigrad.ops import elementwise, reductions
from minigrad.ops.arithmetic import Clamp, Log, clamp
from minigrad.ops.elementwise import Log1p, sigmoid, softplus, tanh
from minigrad.ops.indexing import GetItem, SetItem, one_hot, setitem
from minigrad.ops.selection import where

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "hardtanh",
    "huber_loss",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "pad",
    "relu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
]


# --- layers ---------------------------------------------------------------------------------------


class Affine(Op):
    """y = x W^T + b.  x (*, D), W (H, D), b (H,), y (*, H).

    One product for all rows.  But the output of a recurrent layer, (T, B, D), lies in memory as
    (T, D, B): to copy it into rows can take longer than a product for each step, which does not.
    """

    def forward(self, x: Array, W: Array, b: Array | None) -> Array:
        if W.ndim != 2 or x.ndim == 0 or x.shape[-1] != W.shape[1]:
            raise RuntimeError(
                f"linear: an input of shape {x.shape} does not fit a weight of shape {W.shape}: "
                "the input's last dimension must be the weight's last (in_features)"
            )
        if b is not None and b.shape != W.shape[:1]:
            raise RuntimeError(f"linear: the bias has shape {b.shape}, not ({W.shape[0]},)")
        if x.dtype != W.dtype or (b is not None and b.dtype != W.dtype):
            bias = "" if b is None else f", the bias {b.dtype}"
            raise RuntimeError(
                f"linear: the input is {x.dtype}, the weight {W.dtype}{bias}: they must have the "
                "same dtype (input.float(), or module.double())"
            )
        self.by_step = x.ndim == 3 and _is_by_step(x, W)
        y = x @ W.T if self.by_step else _rows(x).dot(W.T)  # quicker than @
        if b is not None:
            y += b
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], W.shape[0])

    def vjp(self, g: Any, x: Any, W: Any) -> tuple[Any, ...]:
        rows = _rows(g)  # (N, H)
        by_step = self.by_step and not isinstance(g, Node)
        gx = gW = None
        product: Any = np.ndarray.dot if type(g) is np.ndarray else operator.matmul
        if self.wants(0):  # it lies in memory as x does
            gx = (W.T @ g.swapaxes(1, 2)).swapaxes(1, 2) if by_step else product(rows, W)
            gx = gx if x.ndim == 2 else gx.reshape(x.shape)
        if self.wants(1):
            gW = _sum_of_products(g, x) if by_step else product(rows.T, _rows(x))
        gb = None
        if self.wants(2):
            gb = rows[0] if len(rows) == 1 else reductions.total(rows, 0)
        return gx, gW, gb


def _is_by_step(x: Array, W: Array) -> bool:
    """Whether x (T, B, D) lies in memory as (T, D, B), and its steps are worth a product each.

    They are if x has many numbers in a step, and W not many more rows: it is read for each step.
    """
    return (
        isinstance(x, np.ndarray)
        and x.itemsize == x.strides[1] < x.strides[2]
        and x.shape[1] * x.shape[2] >= 2**13
        and len(W) <= 3 * x.shape[1]
    )


def _sum_of_products(g: Array, x: Array) -> Array:
    """The sum of g[t]^T x[t] over all steps: g (T, B, H), x (T, B, D), gW (H, D)."""
    gW_T = np.zeros((x.shape[2], g.shape[2]), x.dtype)
    for x_t, g_t in zip(x, g, strict=True):
        gW_T += x_t.T @ g_t  # x_t.T is contiguous
    return gW_T.T.copy()


def _rows(x: Any) -> Any:
    """`x` as a matrix: all dimensions but the last as one."""
    return x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """y = x W^T + b, over the last dimension of x: x (*, D), W (H, D), b (H,), y (*, H).

    Raises RuntimeError if the shapes or the dtypes do not fit.
    """
    if not (isinstance(input, Node) and isinstance(weight, Node)):
        _check_tensors("linear", input, weight)
    if not (bias is None or isinstance(bias, Node)):
        _check_tensors("linear", bias)
    return Affine()(input, weight, bias)


def _check_tensors(name: str, *given: Any) -> None:
    """Raise TypeError for what is neither a tensor nor an array."""
    for x in given:
        if not isinstance(x, Node) and not hasattr(x, "dtype"):
            raise TypeError(f"{name}: expected a Tensor, got {type(x).__name__}: mg.tensor(...)?")


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """The rows of `weight` that `input` names: input (*) integers, weight (V, D), y (*, D).

    The row `padding_idx` gets no gradient.  Raises IndexError for a number outside [0, V) (on the
    CPU: looking would make a GPU wait), RuntimeError if the input is not of integers.
    """
    _check_tensors("embedding", input)
    index, rows = input.value if isinstance(input, Node) else input, weight.shape[0]
    if index.dtype.kind not in "iu":
        raise RuntimeError(
            f"embedding: expected the input to be of integers, got {index.dtype}: input.long()?"
        )
    index = index.astype(np.int64, copy=index is input)  # an array's owner may write to it later
    # seen as unsigned, a negative number is larger than any other
    if isinstance(index, np.ndarray) and index.size and index.view(np.uint64).max() >= rows:
        i = index.min() if index.min() < 0 else index.max()
        raise IndexError(
            f"embedding: index {i} is out of range: the weight has {rows} rows, 0 to {rows - 1}"
        )
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise ValueError(f"padding_idx {padding_idx} must be within the {rows} embeddings")
        weight = setitem(weight, padding_idx, weight.detach()[padding_idx])
    return GetItem(index)(weight)


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """In training: each element zero with probability `p`, otherwise scaled by 1 / (1 - p).

    Srivastava et al. 2014.  The choice is made by the default generator, on the host; on a GPU, by
    the GPU, from a seed that the default generator draws.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return input
    x = input.value
    if type(x) is not np.ndarray and kernels.usable(x):
        seed = int(random.default_generator.numpy.bit_generator.random_raw())
        return _maybe_in_place(input, kernels.Masked(p, seed)(input), inplace)
    bits = random.default_generator.numpy.bit_generator.random_raw(-(-x.size // 4))
    chances = bits.view(np.uint16)[: x.size]  # 16 bits for each element
    scale = x.dtype.type(1 / (1 - p) if p < 1 else 0)
    # The mask lies in memory as x does: recurrent layers give transposed views.
    order = sorted(range(x.ndim), key=lambda axis: -x.strides[axis])
    mask = ((chances >= round(p * 2**16)) * scale).reshape([x.shape[axis] for axis in order])
    mask = to_device(mask, device_of(x)).transpose(sorted(range(x.ndim), key=order.__getitem__))
    return _maybe_in_place(input, input * wrap(mask), inplace)


def _maybe_in_place(input: Any, output: Any, inplace: bool) -> Any:
    return input._become(output) if inplace else output


def layer_norm(
    input: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    """weight (x - mean) / sqrt(variance + eps) + bias, over the last dimensions of x.

    Raises RuntimeError unless the last dimensions are `normalized_shape`.
    """
    shape = tuple(normalized_shape)
    if not shape or tuple(input.shape[-len(shape) :]) != shape:
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape "
            f"[*, {', '.join(map(str, shape))}], but got input of size {list(input.shape)}"
        )
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and tuple(value.shape) != shape:
            raise RuntimeError(f"layer_norm: {name} has shape {tuple(value.shape)}, not {shape}")
    return LayerNormalization(len(shape), eps)(input, weight, bias)


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """`input` with `value` around it: pad = (before, after) of the last dimension, then of the one
    before it, and so on. A negative number cuts off.
    """
    if mode != "constant":
        raise NotImplementedError(f"pad: mode {mode!r}; only 'constant' is there")
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise RuntimeError(f"pad: {len(pad)} numbers for a tensor of {input.ndim} dimensions")
    amounts = [(0, 0)] * (input.ndim - len(pad) // 2)
    amounts += [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    keep, place, shape = [], [], []
    for n, (before, after) in zip(input.shape, amounts, strict=True):
        if n + before + after < 0:
            raise RuntimeError(f"pad: {tuple(pad)} cuts off more than shape {tuple(input.shape)}")
        keep.append(slice(max(0, -before), n - max(0, -after)))
        place.append(slice(max(0, before), n + before + min(0, after)))
        shape.append(n + before + after)
    x = input.value
    room = array_module(x).full(tuple(shape), 0 if value is None else value, x.dtype)
    return SetItem(tuple(place))(wrap(room), GetItem(tuple(keep))(input))


# --- activations ----------------------------------------------------------------------------------


def relu(input: Any, inplace: bool = False) -> Any:
    """max(x, 0)."""
    return _maybe_in_place(input, elementwise.relu(input), inplace)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """x where it is positive, else negative_slope x."""
    y = where(input > 0, input, input * negative_slope)
    return _maybe_in_place(input, y, inplace)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x where it is positive, else alpha (exp(x) - 1)."""
    negative = elementwise.expm1(clamp(input, max=0))  # where it is not taken, it may not overflow
    return _maybe_in_place(input, where(input > 0, input, negative * alpha), inplace)


def silu(input: Any, inplace: bool = False) -> Any:
    """x sigmoid(x)."""
    return _maybe_in_place(input, input * sigmoid(input), inplace)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """x between min_val and max_val, beyond them the nearer of the two, with gradient 0."""
    inside = (input > min_val) & (input < max_val)
    y = where(inside, input, clamp(input.detach(), min_val, max_val))
    return _maybe_in_place(input, y, inplace)


def logsigmoid(input: Any) -> Any:
    """log sigmoid(x)."""
    return -softplus(-input, 1.0, math.inf)


def _implicit_dim(name: str, dim: int | None, ndim: int) -> int:
    """PyTorch's choice where none was made, with its warning."""
    if dim is not None:
        return dim
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Give it dim=X.", stacklevel=3
    )
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Any:
    """exp(x) / sum exp(x), along `dim`."""
    return reductions.softmax(input, _implicit_dim("softmax", dim, input.ndim), dtype=dtype)


def log_softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Any:
    """x - log sum exp(x), along `dim`."""
    dim = _implicit_dim("log_softmax", dim, input.ndim)
    return reductions.log_softmax(input, dim, dtype=dtype)


# --- losses between tensors of one shape ----------------------------------------------------------


def _check_reduction(reduction: str) -> None:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(
            f"{reduction!r} is not a valid value for reduction: 'none', 'mean' or 'sum'"
        )


def _reduce(loss: Any, reduction: str) -> Any:
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


def _check_difference(input: Any, target: Any, reduction: str) -> None:
    """Warn, as PyTorch does, if the shapes differ: a common mistake."""
    _check_reduction(reduction)
    if input.shape != target.shape:
        warnings.warn(
            f"Using a target size {tuple(target.shape)} that is different to the input size "
            f"{tuple(input.shape)}. This will likely lead to incorrect results due to "
            "broadcasting. Please ensure they have the same size.",
            UserWarning,
            stacklevel=3,
        )


class SquaredError(Op):
    """y = the sum of (x - t)**2 over all elements, or their mean;  dy/dx = 2 (x - t) = -dy/dt."""

    broadcasts = True

    def __init__(self, mean: bool) -> None:
        self.mean = mean

    def forward(self, x: Array, t: Array) -> Array:
        d = x - t
        self.n = (d.size or math.nan) if self.mean else 1  # the mean of nothing
        return reductions.total(d * d) / self.n

    def vjp(self, g: Any, x: Any, t: Any) -> tuple[Any, Any]:
        gx = (x - t) * (g * (2 / self.n))
        return gx, -gx if self.wants(1) else None


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """(x - t)**2."""
    _check_difference(input, target, reduction)
    x, t = operands(input, target)
    if reduction == "none" or x.dtype.kind != "f":
        return _reduce((x - t).square(), reduction)
    return SquaredError(reduction == "mean")(x, t)


def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """|x - t|."""
    _check_difference(input, target, reduction)
    return _reduce((input - target).abs(), reduction)


def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Any:
    """d**2 / (2 beta) where d = |x - t| < beta, else d - beta / 2 (Girshick 2015, eq. 3)."""
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    _check_difference(input, target, reduction)
    d = (input - target).abs()
    return _reduce(_huber(d, beta) / beta, reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """d**2 / 2 where d = |x - t| < delta, else delta (d - delta / 2) (Huber 1964)."""
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    _check_difference(input, target, reduction)
    d = (input - target).abs()
    return _reduce(_huber(d, delta), reduction)


def _huber(d: Any, delta: float) -> Any:
    """d**2 / 2 up to delta, delta (d - delta / 2) beyond: c (d - c / 2) with c = min(d, delta)."""
    c = d.clamp(max=delta)
    return c * (d - c * 0.5)


class BinaryCrossEntropy(Op):
    """y = -(t log x + (1 - t) log(1 - x)), dy/dx = (x - t) / (x (1 - x)).

    The logs are taken to be at least -100, and the denominator at least 1e-12: finite for x = 0
    and x = 1, as in PyTorch.
    """

    def forward(self, x: Array, t: Array) -> Array:
        with np.errstate(divide="ignore"):
            log_x, log_not_x = np.log(x), np.log1p(-x)
        return -(t * np.maximum(log_x, -100) + (1 - t) * np.maximum(log_not_x, -100))

    def vjp(self, g: Any, x: Any, t: Any) -> tuple[Any, Any]:
        gx = gt = None
        if self.wants(0):
            gx = g * (x - t) / Clamp()(x * (1 - x), 1e-12, None)
        if self.wants(1):
            with np.errstate(divide="ignore"):
                log_x, log_not_x = Log()(x), Log1p()(-x)
            gt = g * (Clamp()(log_not_x, -100, None) - Clamp()(log_x, -100, None))
        return gx, gt


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean"
) -> Any:
    """-(t log x + (1 - t) log(1 - x)), each log at least -100; x and t in [0, 1], of one shape.

    Raises ValueError for different shapes, RuntimeError for x outside [0, 1] (on the CPU).
    """
    _check_reduction(reduction)
    _check_same_shape("binary_cross_entropy", input, target)
    x = input.value
    if isinstance(x, np.ndarray) and not ((x >= 0) & (x <= 1)).all():
        raise RuntimeError(
            "all elements of input should be between 0 and 1 (are these logits? Then use "
            "binary_cross_entropy_with_logits, BCEWithLogitsLoss)"
        )
    loss = BinaryCrossEntropy()(input, cast(target, x.dtype))
    return _reduce(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """-(w t log s + (1 - t) log(1 - s)), s = sigmoid(x), w = pos_weight, for any x.

    Raises ValueError for different shapes of x and t.
    """
    _check_reduction(reduction)
    _check_same_shape("binary_cross_entropy_with_logits", input, target)
    # log s = -softplus(-x), log(1 - s) = -x - softplus(-x)
    loss = softplus(-input, threshold=math.inf)
    if pos_weight is not None:
        loss = loss * (1 + (pos_weight - 1) * target)
    loss = (1 - target) * input + loss
    return _reduce(loss if weight is None else loss * weight, reduction)


def _check_same_shape(name: str, input: Any, target: Any) -> None:
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(
            f"{name}: target size {tuple(target.shape)} must be the same as input size "
            f"{tuple(input.shape)}"
        )


# --- losses of classes ----------------------------------------------------------------------------


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """-log softmax(x)[t], the cross-entropy of scores x and classes t.

    x (C,), (N, C) or (N, C, d1, ...), t (), (N,) or (N, d1, ...): numbers in [0, C); or
    probabilities in the shape of x.  `weight` (C,) scales each class, and "mean" divides by the
    sum of those weights.  Targets equal to `ignore_index` do not count.

    Raises IndexError for a class out of range (a GPU gives nan instead: looking would make it
    wait), ValueError or RuntimeError for shapes and dtypes that do not fit.
    """
    _check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    class_dim = _class_dim(input, target)
    if input.dtype.kind != "f":
        raise RuntimeError(f"cross_entropy: the scores must be floating, not {input.dtype}")
    C = input.shape[class_dim]
    w = _class_weights(weight, input, C)
    if target.dtype.kind == "f" and tuple(target.shape) == tuple(input.shape):
        q = cast(target, input.dtype)
        if label_smoothing:
            q = q * (1 - label_smoothing) + label_smoothing / C
        if w is not None:
            q = q * wrap(w.reshape((C,) + (1,) * (input.ndim - class_dim - 1)))
        loss = -(reductions.log_softmax(input, class_dim) * q).sum(class_dim)
        return _reduce(loss, reduction)
    x, t, a, shape = _rows_of_scores(input, target, w, ignore_index)
    if label_smoothing:
        return _reduce_rows(_smoothed(x, t, a, w, label_smoothing), a, shape, reduction)
    loss = SoftmaxCrossEntropy(reduction)(x, wrap(t), None if a is None else wrap(a))
    return loss.reshape(shape) if reduction == "none" and loss.ndim != len(shape) else loss


def _smoothed(x: Any, t: Array, a: Array | None, w: Array | None, smoothing: float) -> Any:
    """-sum_c q_c log softmax(x)_c, where q is t's class, mixed with all classes alike."""
    C = x.shape[1]
    classes = array_module(t).arange(C)
    q = (t[:, None] == classes).astype(x.dtype) * (1 - smoothing) + smoothing / C
    if w is not None:
        q = q * w
    if a is not None:
        q = q * (a != 0)[:, None]
    return -(reductions.log_softmax(x, 1) * wrap(q)).sum(1)


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """-x[t] for log probabilities x and classes t: `cross_entropy` after `log_softmax`."""
    _check_reduction(reduction)
    w = _class_weights(weight, input, input.shape[_class_dim(input, target)])
    x, t, a, shape = _rows_of_scores(input, target, w, ignore_index)
    loss = -GetItem((array_module(t).arange(len(t)), t))(x)  # (N,)
    if a is not None:
        loss = loss * wrap(a)
    return _reduce_rows(loss, a, shape, reduction)


def _reduce_rows(loss: Any, a: Array | None, shape: tuple[int, ...], reduction: str) -> Any:
    """The losses of all rows in their `shape`, their sum, or their mean weighted by `a`.

    Where no row counts, the mean is nan, as in PyTorch, but its gradient is 0: a batch of nothing
    but padding must not ruin the weights.
    """
    if reduction != "mean":
        return loss.sum() if reduction == "sum" else loss.reshape(shape)
    if a is None:
        return loss.mean()
    count = a.sum()
    none = count == 0
    return loss.sum() / wrap(count + none) + wrap(np.where(none, np.nan, 0).astype(a.dtype))


def _class_dim(input: Any, target: Any) -> int:
    for x in (input, target):
        if not isinstance(x, Node):
            raise TypeError(f"expected scores and targets as Tensors, got {type(x).__name__}")
    if not input.ndim:
        raise RuntimeError("the scores need a dimension of classes, and these have none")
    return 0 if input.ndim == 1 else 1


def _class_weights(weight: Any, input: Any, C: int) -> Array | None:
    """The array of the class weights, in the dtype of the input."""
    if weight is None:
        return None
    if tuple(weight.shape) != (C,):
        raise RuntimeError(
            f"weight tensor should be defined either for all {C} classes or no classes but got "
            f"weight tensor of shape: {tuple(weight.shape)}"
        )
    return weight.value.astype(input.dtype, copy=False)


def _rows_of_scores(
    input: Any, target: Any, w: Array | None, ignore_index: int
) -> tuple[Any, Array, Array | None, tuple[int, ...]]:
    """Scores (N, C), classes (N,), weights of the rows (N,) or None for ones; and t's own shape.

    Ignored targets become class 0 with weight 0.
    """
    x, t, shape = input, target.value, tuple(target.shape)
    _check_classes(input, target)
    if x.ndim == 1:
        x, t = x.reshape(1, -1), t.reshape(1)
    elif x.ndim > 2:  # (N, C, d1, ...) -> (N d1 ..., C)
        x = x.movedim(1, -1)
        x, t = x.reshape(t.size, x.shape[-1]), t.reshape(-1)
    C = x.shape[1]
    t = t.astype(np.int64, copy=False)
    like = input.value
    if isinstance(t, np.ndarray):
        # seen as unsigned, a negative number is larger than any other
        in_range = not t.size or t.view(np.uint64).max() < C
        if in_range and w is None and not 0 <= ignore_index < C:
            return x, t, None, shape  # nearly always
        ignored = t == ignore_index
        ignores = bool(ignored.any())
        bad = t[~ignored & ((t < 0) | (t >= C))]
        if bad.size:
            raise IndexError(
                f"Target {bad[0]} is out of bounds: there are {C} classes, 0 to {C - 1}"
            )
        if ignores:
            t = np.where(ignored, 0, t)
        a = np.ones(t.shape, like.dtype) if w is None else w[t]
        if ignores:
            a = np.where(ignored, like.dtype.type(0), a)
        return x, t, a, shape
    # On a GPU no look at the values, for which the host would have to wait.
    ignored, outside = t == ignore_index, (t < 0) | (t >= C)
    t = np.where(outside, 0, t)
    a = array_module(t).ones(t.shape, like.dtype) if w is None else w[t]
    a = np.where(ignored, 0, np.where(outside, np.nan, a)).astype(like.dtype)
    return x, np.where(ignored, 0, t), a, shape


def _check_classes(input: Any, target: Any) -> None:
    """Raise what PyTorch raises if the targets cannot be classes of these scores."""
    scores, shape = tuple(input.shape), tuple(target.shape)
    if target.dtype.kind not in "iu":
        raise RuntimeError(
            f"expected the target to be of integers (classes), got {target.dtype} of shape "
            f"{shape}: target.long()? (Probabilities must have the shape of the input, {scores})"
        )
    expected = scores[:1] + scores[2:] if len(scores) > 1 else ()
    if shape == expected:
        return
    if shape == scores:
        raise RuntimeError(
            "Expected floating point type for target with class probabilities, got "
            f"{target.dtype}: target.float()? (Classes have the shape {expected} here)"
        )
    if len(scores) > 1 and shape[:1] != scores[:1]:
        raise ValueError(
            f"Expected input batch_size ({scores[0]}) to match target batch_size "
            f"({shape[0] if shape else 'none'}): the target has shape {shape}, the input {scores}"
        )
    raise RuntimeError(
        f"expected a target of shape {expected} for scores of shape {scores} (the classes come "
        f"second), got {shape}"
    )
