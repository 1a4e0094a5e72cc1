"""The NaN doctor: op, line, parameter, range and cause; and no false alarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.autograd import detect_anomaly, engine, is_anomaly_enabled, set_detect_anomaly
from minigrad.autograd.engine import wrap

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, for the same reason

inf, nan = float("inf"), float("nan")


def leaf(value: Any, dtype: Any = np.float32) -> Any:
    return wrap(np.array(value, dtype), None, True)


def message_of(call: Callable[[], Any]) -> str:
    with pytest.raises(RuntimeError) as caught, detect_anomaly():
        call()
    return str(caught.value)


def likely_cause(message: str) -> str:
    """Without the lines of code that the message quotes: they stand in the tables below."""
    return message.partition("  likely cause: ")[2]


FORWARD: list[tuple[str, Callable[[], Any], str, str]] = [
    ("log of 0", lambda: leaf([1.0, 0.0]).log(), "Log returned infinite", "the logarithm of 0"),
    ("log of -1", lambda: leaf([1.0, -1.0]).log(), "Log returned nan", "negative number"),
    ("log1p", lambda: leaf([0.0, -1.0]).log1p(), "Log1p returned infinite", "log1p of -1"),
    ("sqrt", lambda: leaf([1.0, -1e-8]).sqrt(), "Sqrt returned nan", "square root of a negative"),
    ("rsqrt", lambda: leaf([1.0, 0.0]).rsqrt(), "Rsqrt returned infinite", "division by 0"),
    ("1 / 0", lambda: leaf([1.0]) / leaf([0.0]), "Div returned infinite", "division by 0"),
    ("number", lambda: leaf([1.0]) / 0.0, "returned infinite", "division by 0"),
    ("0 / 0", lambda: leaf([0.0]) / leaf([0.0]), "Div returned nan", "division by 0"),
    ("reciprocal", lambda: leaf([0.0]).reciprocal(), "returned infinite", "division by 0"),
    ("exp", lambda: leaf([1.0, 89.0]).exp(), "Exp returned infinite", "infinite beyond 88.7"),
    ("pow", lambda: leaf([-2.0]) ** 0.5, "returned nan", "not an integer"),
    ("0 ** -1", lambda: leaf([0.0]) ** -1.5, "returned infinite", "0 to a negative power"),
    (
        "product",
        lambda: leaf([1e30]) * leaf([1e30]),
        "Mul returned inf",
        "beyond the largest float32",
    ),
    ("mean of none", lambda: leaf(np.zeros((0, 3))).mean(), "returned nan", "no elements"),
]


@pytest.mark.parametrize(
    ("call", "headline", "cause"), [case[1:] for case in FORWARD], ids=[case[0] for case in FORWARD]
)
def test_forward_causes(call: Callable[[], Any], headline: str, cause: str) -> None:
    message = message_of(call)
    assert headline in message.splitlines()[0]
    assert cause in likely_cause(message)


def test_the_message_names_line_index_value_and_range() -> None:
    def user_code() -> Any:
        x = leaf([[1.0, 2.0], [3.0, 100.0]])
        return (x * 1.0).exp()  # the line to be named

    message = message_of(user_code)
    assert "in its output at [1, 1], computed from 100" in message
    assert f"{__file__}:" in message
    assert "in user_code: return (x * 1.0).exp()  # the line to be named" in message
    assert "input 0: shape (2, 2) float32, from 1 to 100" in message


BACKWARD: list[tuple[str, Callable[[Any], Any], list[float], str, str]] = [
    ("sqrt", lambda x: x.sqrt().sum(), [1.0, 0.0], "Sqrt", "square root is infinite at 0"),
    ("norm", lambda x: (x * x).sum().sqrt(), [0.0, 0.0], "Sqrt", "add a small epsilon under it"),
    ("pow", lambda x: (x**0.5).sum(), [1.0, 0.0], "PowNumber", "infinite at 0 for p < 1"),
    ("where", lambda x: mg.where(x > 0, x.sqrt(), x).sum(), [1.0, 0.0], "Sqrt", "where() hides"),
    # What a mask has made infinite on purpose does not stop the forward pass:
    ("log", lambda x: x.masked_fill(x > 0, inf).log()[1], [1.0, 0.0], "Log", "the logarithm is"),
    ("1 / 0", lambda x: (1.0 / x.masked_fill(x > 0, inf)).sum(), [1.0, 0.0], "Div", "before"),
    ("inf", lambda x: (x.masked_fill(x > 1, inf) * 0.5).exp().sum(), [2.0, 1.0], "Exp", "0 * inf"),
    ("log_softmax", lambda x: (x.log_softmax(0) * 2.4e38).sum(), [0.0, 0.0], "LogSoftmax", "expl"),
    ("div", lambda x: (1e-10 / x).sum(), [1e-30, 1.0], "Div", "beyond the largest"),
    ("overflow", lambda x: ((x * 1e25) * 1e25 * 1e-25).sum(), [1e-20, 1e-30], "Mul", "overflow"),
]


@pytest.mark.parametrize(
    ("function", "point", "op", "cause"),
    [case[1:] for case in BACKWARD],
    ids=[case[0] for case in BACKWARD],
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_backward_causes(
    function: Callable[[Any], Any], point: list[float], op: str, cause: str, create_graph: bool
) -> None:
    x = leaf(point)

    def step() -> None:
        loss = function(x * 1.0)
        scale = 1e20 if op == "Mul" else 1.0
        loss.backward(wrap(np.float32(scale)), create_graph=create_graph)

    message = message_of(step)
    assert message.startswith(f"{op} returned ")
    assert "in the backward pass, in the gradient of its input " in message
    assert cause in likely_cause(message)
    assert "the gradient that arrived: shape" in message
    assert "loss = function(x * 1.0)" in message or "lambda x:" in message  # the forward line


def test_forward_outside_of_the_detection() -> None:
    y = leaf([0.0]).sqrt()
    message = message_of(lambda: y.backward())
    assert "Sqrt returned infinite values in the backward pass" in message
    assert "run the forward pass inside detect_anomaly() as well" in message


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 3)
        self.head = nn.Linear(3, 1)

    def forward(self, x: Any) -> Any:
        y, _ = self.lstm(x)
        return self.head(y)


def test_a_parameter_that_blew_up_is_named_by_its_path() -> None:
    model = Model()
    with mg.no_grad():
        model.lstm.weight_hh_l0.copy_(mg.full((12, 3), nan))
    message = message_of(lambda: model(mg.randn(4, 1, 2)))
    assert "lstm.weight_hh_l0" in message
    assert "LSTM" in message.splitlines()[0]
    assert "learning rate" in message

    model = Model()
    with mg.no_grad():
        model.head.weight.mul_(inf)
    message = message_of(lambda: model(mg.randn(4, 1, 2)))
    assert "head.weight" in message
    assert "a parameter that is not finite" in message


def test_a_parameter_whose_gradient_is_bad_is_named() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(mg.zeros(2))

        def forward(self, x: Any) -> Any:
            return x * self.scale.sqrt()

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Scale()

        def forward(self, x: Any) -> Any:
            return self.inner(x).sum()

    message = message_of(lambda: Outer()(mg.ones(2)).backward())
    assert "in the gradient of its input 0" in message
    model = Outer()
    message = message_of(lambda: model(mg.ones(2)).backward())
    assert "in the gradient of its input 0 (inner.scale)" in message


def test_data_are_blamed_as_data() -> None:
    w = leaf([1.0, 2.0])
    for bad in (nan, inf):
        data = mg.tensor([1.0, bad])
        message = message_of(lambda data=data: (w * data).sum())
        assert "the data: a tensor that no operation computed" in message
        assert "values at [1]. Missing" in message
        assert "Mul returned" in message


def test_missing_values_that_are_filled_are_no_anomaly() -> None:
    data = mg.tensor([1.0, nan, 3.0])
    with detect_anomaly():
        clean = data.masked_fill(data.isnan(), 0.0)
        (leaf([1.0, 1.0, 1.0]) * clean).sum().backward()


def test_masks_with_minus_infinity_are_no_anomaly() -> None:
    scores = leaf([[1.0, 2.0], [3.0, 4.0]])
    mask = mg.tensor([[False, True], [False, False]])
    additive = mg.tensor([[0.0, -inf], [0.0, 0.0]])
    with detect_anomaly():
        for masked in (
            scores.masked_fill(mask, -inf),
            mg.where(mask, mg.tensor(-inf), scores),
            scores + additive,
        ):
            (masked.softmax(-1) * masked.softmax(-1)).sum().backward()
        assert (scores.detach() == scores).all()
        mg.tensor([0.0, 1.0]).log()  # a mask in the making: no gradient is at stake


def test_a_row_that_is_masked_whole_is_one() -> None:
    scores = leaf([[1.0, 2.0]])
    message = message_of(lambda: scores.masked_fill(mg.tensor([True, True]), -inf).softmax(-1))
    assert "returned nan" in message
    assert "masked with -inf" in message


def test_values_that_were_bad_before_the_detection() -> None:
    y = leaf([-1.0]).log()
    assert "nan already, made before the detection" in message_of(lambda: y * 2.0)
    big = leaf([1.0]) / leaf([0.0])
    message = message_of(lambda: (big * leaf([1.0])).backward(mg.tensor([0.0])))
    assert "0 * inf: an input of the op was infinite" in message


def test_a_bad_gradient_from_outside() -> None:
    x = leaf([1.0, 2.0])
    message = message_of(lambda: (x * 2.0).backward(mg.tensor([1.0, nan])))
    assert "already: the one given to backward(), or a hook's" in message


def test_sound_training_passes() -> None:
    model = Model()
    optimizer = mg.optim.Adam(model.parameters())
    with detect_anomaly():
        for _ in range(3):
            optimizer.zero_grad()
            (model(mg.randn(4, 1, 2)) ** 2).mean().backward()
            optimizer.step()


def test_on_and_off() -> None:
    assert not is_anomaly_enabled()
    with detect_anomaly():
        assert is_anomaly_enabled()
        with detect_anomaly():
            pass
        assert is_anomaly_enabled()
    assert not is_anomaly_enabled()
    assert not engine.observers  # so that it costs nothing
    with detect_anomaly(check_nan=False):
        leaf([0.0]).log()
    set_detect_anomaly(True)
    assert is_anomaly_enabled()
    set_detect_anomaly(False)
    assert not is_anomaly_enabled()
    with set_detect_anomaly(True):
        with pytest.raises(RuntimeError, match="Log"):
            leaf([0.0]).log()
        with set_detect_anomaly(False):
            leaf([0.0]).log()
    assert not is_anomaly_enabled()

    @detect_anomaly()
    def step() -> None:
        leaf([0.0]).log()

    with pytest.raises(RuntimeError, match="Log"):
        step()
    assert not is_anomaly_enabled()


def test_nothing_is_kept_alive() -> None:
    """Ops and modules are remembered weakly."""
    with detect_anomaly():
        doctor: Any = engine.observers[-1]
        y = leaf([1.0]).log()
        assert len(doctor.visits) == 1
        del y
        assert len(doctor.visits) == 0
