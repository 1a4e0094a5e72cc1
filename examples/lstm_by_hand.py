"""One step of an LSTM on small numbers, with every intermediate result and its formula.

    python -m examples.lstm_by_hand

First by hand, in plain NumPy; then the same step by nn.LSTMCell; then its gradients, beside
finite differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import minigrad as mg
from examples import cli
from minigrad import nn
from minigrad.autograd.engine import Array
from minigrad.data.flights import flights
from minigrad.data.series import Scaler

PROG = "python -m examples.lstm_by_hand"
GATES = ("input", "forget", "candidate", "output")  # in the order in which LSTMCell keeps them


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def show(what: str, formula: str, value: Array | float) -> None:
    numbers = " ".join(f"{v: .6f}" for v in np.atleast_1d(value))
    print(f"{what:<18} {formula:<34} = {numbers}")


def by_hand(
    passengers: float,
    scaler: Scaler,
    h: Array,
    c: Array,
    W: dict[str, Array],
    b: dict[str, Array],
    V: Array,
    d: Array,
) -> tuple[Array, Array, Array]:
    """One step: the new h and c, and the forecast (in scaled units)."""
    x = np.atleast_1d(scaler.scale(np.array(passengers)))
    show("scaling", f"x = 2 ({passengers:g} - min) / (max - min) - 1", x)
    hx = np.concatenate([h, x])
    show("concatenation", "[h, x]: previous output and input", hx)
    print()
    f = sigmoid(W["forget"] @ hx + b["forget"])
    show("forget gate", "f = sigmoid(W_f [h, x] + b_f)", f)
    show("what is kept", "f * c", f * c)
    i = sigmoid(W["input"] @ hx + b["input"])
    show("input gate", "i = sigmoid(W_i [h, x] + b_i)", i)
    g = np.tanh(W["candidate"] @ hx + b["candidate"])
    show("candidate", "g = tanh(W_g [h, x] + b_g)", g)
    show("what is added", "i * g", i * g)
    c = f * c + i * g
    show("cell state", "c' = f * c + i * g", c)
    o = sigmoid(W["output"] @ hx + b["output"])
    show("output gate", "o = sigmoid(W_o [h, x] + b_o)", o)
    h = o * np.tanh(c)
    show("output", "h' = o * tanh(c')", h)
    print()
    y = np.tanh(V @ h + d)
    show("dense layer", "y = tanh(V h' + d)", y)
    show("inverse scaling", "(y + 1) / 2 (max - min) + min", scaler.unscale(y))
    return h, c, y


def by_module(
    cell: nn.LSTMCell, dense: nn.Linear, x: Array, h: Array, c: Array
) -> tuple[mg.Tensor, mg.Tensor, mg.Tensor]:
    """The same step with minigrad's modules."""
    new_h, new_c = cell(mg.tensor(x), (mg.tensor(h), mg.tensor(c)))
    return new_h, new_c, dense(new_h).tanh()


def finite_difference(f: object, parameter: nn.Parameter, at: tuple[int, ...]) -> float:
    """d f / d parameter[at], from the values of f a little to both sides."""
    values = []
    for step in (1e-6, -1e-6):
        with mg.no_grad():
            before = parameter[at].item()
            parameter[at] = before + step
            values.append(f().item())  # type: ignore[operator]
            parameter[at] = before
    return (values[0] - values[1]) / 2e-6


def run() -> None:
    units = 3
    random = np.random.default_rng(0)
    series = flights()
    scaler = Scaler(series, -1, 1)
    passengers, truth = series[11], series[12]
    h, c = np.array([0.1, -0.2, 0.3]), np.array([0.4, 0.0, -0.5])
    W = {gate: random.uniform(-0.6, 0.6, (units, units + 1)).round(1) + 0.0 for gate in GATES}
    b = {gate: random.uniform(-0.2, 0.2, units).round(1) + 0.0 for gate in GATES}
    V, d = random.uniform(-0.6, 0.6, (1, units)).round(1), np.array([-0.9])

    print(f"One LSTM step: {passengers:g} thousand passengers in December 1949; and in January?\n")
    show("previous output", "h", h)
    show("cell state", "c", c)
    for gate in GATES:
        for row, (weights, bias) in enumerate(zip(W[gate], b[gate], strict=True)):
            name = f"W_{'g' if gate == 'candidate' else gate[0]}[{row}], bias"
            print(f"{gate if row == 0 else '':<18} {name:<34} = {weights}, {bias:g}")
    print()
    new_h, new_c, y = by_hand(passengers, scaler, h, c, W, b, V, d)

    # LSTMCell has the same numbers in two matrices, gates stacked, and two biases that are added.
    cell, dense = nn.LSTMCell(1, units).double(), nn.Linear(units, 1).double()
    stacked = np.concatenate([W[gate] for gate in GATES])  # (4 H, H + 1)
    with mg.no_grad():
        cell.weight_hh.copy_(mg.tensor(stacked[:, :units]))
        cell.weight_ih.copy_(mg.tensor(stacked[:, units:]))
        cell.bias_ih.copy_(mg.tensor(np.concatenate([b[gate] for gate in GATES])))
        cell.bias_hh.zero_()
        dense.weight.copy_(mg.tensor(V))
        dense.bias.copy_(mg.tensor(d))
    x = np.atleast_1d(scaler.scale(np.array(passengers)))
    print("\nThe same step by nn.LSTMCell and nn.Linear, to the last digit:\n")
    print(f"{'':<4} {'by hand':>24} {'by minigrad':>24}   difference")
    outputs = by_module(cell, dense, x, h, c)
    for name, mine, theirs in zip(("h'", "c'", "y"), (new_h, new_c, y), outputs, strict=True):
        for a, z in zip(mine, theirs.detach().numpy(), strict=True):
            print(f"{name:<4} {a:>24.16f} {z:>24.16f}   {abs(a - z):.0e}")

    target = mg.tensor(scaler.scale(np.array([truth])))

    def loss() -> mg.Tensor:
        return ((by_module(cell, dense, x, h, c)[2] - target) ** 2).sum()

    value = loss()
    value.backward()
    print(f"\nIn truth there were {truth:g}: loss = (y - truth)^2 = {value.item():.6f}, scaled.")
    print(
        "Its gradient, by backpropagation and by finite differences ((f(w + e) - f(w - e)) / 2e):\n"
    )
    worst = 0.0
    for name, parameter in [*cell.named_parameters(), *dense.named_parameters()]:
        gradient = parameter.grad.numpy()
        differences = [finite_difference(loss, parameter, at) for at in np.ndindex(gradient.shape)]
        error = np.abs(gradient.ravel() - differences).max()
        worst = max(worst, float(error))
        first = f"{gradient.ravel()[0]: .9f} {differences[0]: .9f}"
        print(
            f"{name:<10} {gradient.shape!s:<8} first element {first}   greatest error {error:.0e}"
        )
    print(f"\nAll {sum(p.numel() for p in cell.parameters()) + units + 1} agree to {worst:.0e}.")


def main(arguments: Sequence[str] | None = None) -> int:
    description, _, rest = (__doc__ or "").partition("\n\n")
    cli.Parser(PROG, usage=PROG, description=description, epilog=rest).parse_args(arguments)
    with cli.clear_errors(PROG):
        run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
