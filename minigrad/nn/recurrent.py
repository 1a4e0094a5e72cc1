"""RNN, LSTM and GRU: layers over whole sequences, and the cells of one step.

State is a value: it is passed in, comes out, and is kept nowhere.
"""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any, ClassVar

from minigrad.autograd.engine import Array, Op
from minigrad.autograd.grad_mode import no_grad
from minigrad.fused import gru, lstm, recurrence, rnn
from minigrad.fused.packed import Pack, Pad, Places
from minigrad.memory import Joined
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.nn.module import Module
from minigrad.nn.parameter import empty_parameter
from minigrad.nn.utils.rnn import PackedSequence
from minigrad.ops.indexing import flip
from minigrad.ops.shape import cat


class RNNBase(Module):
    """What RNN, LSTM and GRU have in common: layers, directions, and the shapes of things.

    For L layers, R = 1 or 2 directions, D = input_size, H = hidden_size, P = proj_size or H:
    input (T, B, D), (B, T, D) with `batch_first`, (T, D) without a batch, or a PackedSequence;
    output likewise with R P features, both directions side by side; each state (L R, B, P), or
    (L R, P) without a batch, by layer and then by direction (an LSTM's c has H, not P).

    Weights start from U(-1/sqrt(H), 1/sqrt(H)).  Dropout acts between layers.
    """

    blocks: ClassVar[int] = 1  # gates, and so blocks of H rows in the weights
    has_cell: ClassVar[bool] = False  # whether the state is (h, c)

    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        for name, size in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            if not isinstance(size, numbers.Integral):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero, got {size}")
        if (
            isinstance(dropout, bool)
            or not isinstance(dropout, numbers.Real)
            or not 0 <= dropout <= 1
        ):
            raise ValueError(
                "dropout should be a number in range [0, 1], the probability of an element being "
                f"zeroed, got {dropout!r}"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero "
                f"dropout expects num_layers greater than 1, but got dropout={dropout} and "
                "num_layers=1: it has no effect",
                UserWarning,
                stacklevel=3,
            )
        if proj_size and not self.has_cell:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if proj_size < 0:
            raise ValueError(
                f"proj_size should be a positive integer or zero (no projection), got {proj_size}"
            )
        if proj_size >= hidden_size:
            raise ValueError(
                f"proj_size has to be smaller than hidden_size, got {proj_size} and {hidden_size}"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size

        directions = 2 if bidirectional else 1
        rows, out = self.blocks * hidden_size, proj_size or hidden_size
        self._all_weights: list[list[str]] = []  # names, by layer and then by direction
        for layer in range(num_layers):
            features = input_size if layer == 0 else directions * out
            shapes = {"weight_ih": (rows, features), "weight_hh": (rows, out)}
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            if proj_size:
                shapes["weight_hr"] = (proj_size, hidden_size)
            for suffix in ("", "_reverse")[:directions]:
                names = {f"{name}_l{layer}{suffix}": shape for name, shape in shapes.items()}
                for name, shape in names.items():
                    setattr(self, name, empty_parameter(shape, device, dtype))
                self._all_weights.append(list(names))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters, by layer and then by direction."""
        return [[self._parameters[name] for name in names] for names in self._all_weights]

    def flatten_parameters(self) -> None:
        """Does nothing: what is gained by it in PyTorch, `forward` does."""

    def _op(self, batch_sizes: list[int] | None, joined: Joined | None) -> Op:
        """The fused op for one layer and one direction."""
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """The output, and the state after the last step.  No `hx` means a state of zeros.

        Raises ValueError or RuntimeError if a dtype or shape does not fit, TypeError if an LSTM's
        state is no pair.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        self._check_input(input)
        batched = input.ndim == 3
        x = input if batched else input.unsqueeze(1)
        if self.batch_first and batched:
            x = x.transpose(0, 1)
        if not x.shape[0]:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        states = self._states(hx, x, x.shape[1], batched)
        y, last = self._layers(x, states, None)
        if not batched:
            return y.squeeze(1), self._as_given([s.squeeze(1) for s in last])
        return y.transpose(0, 1) if self.batch_first else y, self._as_given(last)

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        data, batch_sizes, order, back = input
        self._check_input(data, packed=True)
        states = self._states(hx, data, int(batch_sizes.value[0]), True)
        if order is not None and hx is not None:
            states = [s.index_select(1, order) for s in states]
        y, last = self._layers(data, states, batch_sizes.value)
        if back is not None:
            last = [s.index_select(1, back) for s in last]
        return PackedSequence(y, batch_sizes, order, back), self._as_given(last)

    def _layers(
        self, x: Any, states: list[Any], batch_sizes: Array | None
    ) -> tuple[Any, list[Any]]:
        """All layers and directions on x (T, B, D), or on packed data (rows, D)."""
        directions = 2 if self.bidirectional else 1
        last: list[list[Any]] = []
        for i, weights in enumerate(self._weights()):
            reverse = i % directions == 1
            if not reverse:
                ys: list[Any] = []
                if i and self.dropout:
                    x = F.dropout(x, self.dropout, self.training)
            initial = [s if s is None or len(s) == 1 else s[i : i + 1] for s in states]
            y, *final = self._run(x, initial, weights, batch_sizes, reverse)
            ys.append(y)
            last.append(final)
            if len(ys) == directions:
                x = ys[0] if directions == 1 else cat(ys, -1)
        return x, last[0] if len(last) == 1 else [cat(found) for found in zip(*last)]

    def _run(
        self,
        x: Any,
        initial: list[Any],
        weights: list[Any],
        batch_sizes: Array | None,
        reverse: bool,
    ) -> tuple[Any, ...]:
        """One layer in one direction."""
        B = x.shape[1] if batch_sizes is None else batch_sizes[0]
        joined = recurrence.joined(B == 1 and not self.proj_size, *weights[:4])
        if batch_sizes is None:
            y, *final = self._op(None, joined)(flip(x, 0) if reverse else x, *initial, *weights)
            return (flip(y, 0) if reverse else y, *final)
        places = Places.of(batch_sizes, reverse)
        y, *final = self._op(batch_sizes.tolist(), joined)(Pad(places)(x), *initial, *weights)
        return (Pack(places)(y), *final)

    def _weights(self) -> list[list[Any]]:
        """For each layer and direction what the op takes after the states; None for no bias."""
        found = []
        for names in self._all_weights:
            W, U, *others = [self._parameters[name] for name in names]
            b_ih, b_hh = others[:2] if self.bias else (None, None)
            W_hr = others[-1] if self.proj_size else None
            found.append([W, U, b_ih, b_hh, W_hr] if self.has_cell else [W, U, b_ih, b_hh])
        return found

    # --- checks ---------------------------------------------------------------------------------

    def _check_input(self, x: Any, packed: bool = False) -> None:
        if not packed and x.ndim not in (2, 3):
            raise ValueError(
                f"{self._get_name()}: Expected input to be 2D or 3D, got {x.ndim}D instead: "
                f"{tuple(x.shape)}"
            )
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{self._get_name()}: input.size(-1) must be equal to input_size. Expected "
                f"{self.input_size}, got {x.shape[-1]} (input {tuple(x.shape)})"
            )
        weight = self._parameters["weight_ih_l0"]
        if weight is not None and x.dtype != weight.dtype:
            raise ValueError(
                f"{self._get_name()}: input dtype ({x.dtype}) does not match weight dtype "
                f"({weight.dtype}). Convert the input, input.to(mg.{weight.dtype}), or the model, "
                f"model.to(mg.{x.dtype})"
            )

    def _states(self, hx: Any, x: Any, B: int, batched: bool) -> list[Any]:
        """The initial states, each (layers * directions, B, features) or None for zeros.

        They are h, and an LSTM's c.
        """
        if hx is None:
            return [None] * (1 + self.has_cell)
        count = len(self._all_weights)
        sizes = [self.proj_size or self.hidden_size]
        if self.has_cell:
            sizes.append(self.hidden_size)
        if not self.has_cell:
            given = [hx]
        elif isinstance(hx, tuple | list) and len(hx) == 2:
            given = list(hx)
        else:
            raise TypeError(f"LSTM: hx must be a tuple (h_0, c_0), got {type(hx).__name__}")
        expected_ndim = 3 if batched else 2
        if any(s.ndim != expected_ndim for s in given):
            kind = "batched 3-D" if batched else "unbatched 2-D"
            names = "hx and cx" if self.has_cell else "hx"
            got = ", ".join(f"{s.ndim}-D" for s in given)
            raise RuntimeError(
                f"For {kind} input, {names} should also be {expected_ndim}-D but got ({got}) "
                "tensors"
            )
        for i, (s, size) in enumerate(zip(given, sizes, strict=True)):
            expected = (count, B, size) if batched else (count, size)
            if tuple(s.shape) != expected:
                name = f"hidden[{i}]" if self.has_cell else "hidden"
                raise RuntimeError(f"Expected {name} size {expected}, got {list(s.shape)}")
            if s.dtype != x.dtype:
                raise RuntimeError(
                    f"{self._get_name()}: the input is {x.dtype}, but its initial state {s.dtype}"
                )
        return given if batched else [s.unsqueeze(1) for s in given]

    def _as_given(self, states: list[Any]) -> Any:
        return tuple(states) if self.has_cell else states[0]

    def extra_repr(self) -> str:
        shown = f"{self.input_size}, {self.hidden_size}"
        for name, default in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0),
            ("bidirectional", False),
        ):
            value = getattr(self, name)
            if value != default:
                shown += f", {name}={value}"
        return shown


class RNN(RNNBase):
    """h = tanh(W_ih x + b_ih + W_hh h' + b_hh), or relu in place of tanh (Elman 1990).

    See RNNBase for shapes.  Raises ValueError for another nonlinearity.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity {nonlinearity!r}. Select from 'tanh' or 'relu'."
            )
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )
        self.nonlinearity = nonlinearity

    def _op(self, batch_sizes: list[int] | None, joined: Joined | None) -> Op:
        return rnn.RNN(self.nonlinearity, batch_sizes, joined, stacked=True)


class LSTM(RNNBase):
    """The long short-term memory (Hochreiter and Schmidhuber 1997); gates in the order i, f, g, o.

        i, f, o = sigmoid(W_ih x + b_ih + W_hh h' + b_hh),  g = tanh(likewise)
        c = f c' + i g,  h = o tanh(c),  with `proj_size` W_hr o tanh(c)

    See RNNBase for shapes.  With `forget_bias`, the forget gate's two biases start with that sum
    (Jozefowicz et al. 2015 advise 1: remember, until you learn to forget).  Raises ValueError for
    a `forget_bias` without `bias`.
    """

    blocks = 4
    has_cell = True
    forget_bias: float | None = None

    def __init__(self, *args: Any, forget_bias: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if forget_bias is not None and not self.bias:
            raise ValueError("forget_bias needs bias=True")
        self.forget_bias = forget_bias
        self._set_forget_bias()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self._set_forget_bias()

    def _set_forget_bias(self) -> None:
        if self.forget_bias is None:
            return
        forget = slice(self.hidden_size, 2 * self.hidden_size)
        with no_grad():
            for _, _, b_ih, b_hh, *_ in self.all_weights:
                b_ih[forget] = self.forget_bias
                b_hh[forget] = 0

    def _op(self, batch_sizes: list[int] | None, joined: Joined | None) -> Op:
        return lstm.LSTM(batch_sizes, joined, stacked=True)

    def extra_repr(self) -> str:
        forget_bias = "" if self.forget_bias is None else f", forget_bias={self.forget_bias}"
        return super().extra_repr() + forget_bias


class GRU(RNNBase):
    """The gated recurrent unit (Cho et al. 2014); gates in the order r, z, n.

        r, z = sigmoid(W_ih x + b_ih + W_hh h' + b_hh)
        n = tanh(W_in x + b_in + r (W_hn h' + b_hn))
        h = (1 - z) n + z h'

    See RNNBase for shapes.
    """

    blocks = 3

    def _op(self, batch_sizes: list[int] | None, joined: Joined | None) -> Op:
        return gru.GRU(batch_sizes, joined, stacked=True)


class RNNCellBase(Module):
    """What RNNCell, LSTMCell and GRUCell have in common.

    Takes x (B, D) and the state, (B, H) or for an LSTM a pair of these, and returns the next
    state; or all without B.  No state means zeros.  Weights start from U(-1/sqrt(H), 1/sqrt(H)).
    """

    blocks: ClassVar[int] = 1
    has_cell: ClassVar[bool] = False

    input_size: int
    hidden_size: int
    bias: bool

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = self.blocks * hidden_size
        self.weight_ih = empty_parameter((rows, input_size), device, dtype)
        self.weight_hh = empty_parameter((rows, hidden_size), device, dtype)
        self.register_parameter(
            "bias_ih", empty_parameter((rows,), device, dtype) if bias else None
        )
        self.register_parameter(
            "bias_hh", empty_parameter((rows,), device, dtype) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _joined(self, x: Any) -> Joined | None:
        weights = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        return recurrence.joined(x.ndim == 1 or len(x) == 1, *weights)

    def _step(self, op: Op, input: Any, hx: Any) -> list[Any]:
        """The next state, (h,) or (h, c): the op on a sequence of one step."""
        name = self._get_name()
        if input.ndim not in (1, 2):
            raise ValueError(
                f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead: "
                f"{tuple(input.shape)}"
            )
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{name}: input has inconsistent input_size: got {input.shape[-1]} expected "
                f"{self.input_size}"
            )
        batched = input.ndim == 2
        x = input if batched else input.unsqueeze(0)
        shape = (len(x), self.hidden_size)
        if hx is None:
            states: list[Any] = [None] * (1 + self.has_cell)
        else:
            if self.has_cell and not (isinstance(hx, tuple | list) and len(hx) == 2):
                raise TypeError(f"{name}: hx must be a tuple (h_0, c_0), got {type(hx).__name__}")
            states = list(hx) if self.has_cell else [hx]
            for i, s in enumerate(states):
                expected = shape if batched else shape[1:]
                if tuple(s.shape) != expected:
                    raise RuntimeError(
                        f"{name}: hidden{i} has inconsistent shape: got {tuple(s.shape)}, expected "
                        f"{expected} for an input {tuple(input.shape)}"
                    )
            if not batched:
                states = [s.unsqueeze(0) for s in states]
        biases = [self.bias_ih, self.bias_hh]
        projection = [None] if self.has_cell else []
        _, *new = op(x.unsqueeze(0), *states, self.weight_ih, self.weight_hh, *biases, *projection)
        return new if batched else [s.squeeze(0) for s in new]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(RNNCellBase):
    """One step of RNN: h = tanh(W_ih x + b_ih + W_hh h' + b_hh), or relu in place of tanh."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._step(rnn.RNN(self.nonlinearity, joined=self._joined(input)), input, hx)[0]

    def extra_repr(self) -> str:
        other = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + other


class LSTMCell(RNNCellBase):
    """One step of LSTM: x and (h', c') to (h, c)."""

    blocks = 4
    has_cell = True

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        h, c = self._step(lstm.LSTM(joined=self._joined(input)), input, hx)
        return h, c


class GRUCell(RNNCellBase):
    """One step of GRU."""

    blocks = 3

    def forward(self, input: Any, hx: Any = None) -> Any:
        return self._step(gru.GRU(joined=self._joined(input)), input, hx)[0]
