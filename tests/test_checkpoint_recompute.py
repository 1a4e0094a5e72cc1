"""Recomputation: the same gradients, less memory, and an error where they would not be the same."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.autograd import Op, engine, gradcheck, gradgradcheck
from minigrad.autograd.engine import wrap
from minigrad.utils.checkpoint import checkpoint


def leaf(value: Any) -> Any:
    return wrap(np.array(value, np.float64), None, True)


class Counted(Op):
    """y = x**2, keeping x; counts how often its value is computed."""

    runs = 0

    def forward(self, x: Any) -> Any:
        Counted.runs += 1
        return x * x

    def vjp(self, g: Any, x: Any) -> Any:
        return (g * 2.0 * x,)


def layer(x: Any, w: Any) -> Any:
    return (Counted()(x @ w) * 0.1).tanh()


def gradients(call: Callable[..., Any]) -> list[np.ndarray]:
    """Of a parameter, and of an input that is no leaf, with `call` around each of two layers."""
    rng = np.random.default_rng(0)
    x, w = leaf(rng.standard_normal((3, 4))), leaf(rng.standard_normal((4, 4)))
    h = x * 2.0
    h = call(lambda h: layer(h, w), h)
    h = call(lambda h: layer(h, w) + h, h)
    (h * h).sum().backward()
    return [x.grad.value, w.grad.value]


def plainly(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def test_the_same_gradients() -> None:
    for found, expected in zip(gradients(checkpoint), gradients(plainly), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_runs_twice_and_keeps_nothing_in_between() -> None:
    gc.collect()
    gc.disable()
    try:
        w = leaf(np.eye(3))
        kept: list[weakref.ref[Any]] = []

        def function(x: Any) -> Any:
            h = x @ w
            kept.append(weakref.ref(h.value))
            return Counted()(h)

        Counted.runs = 0
        y = checkpoint(function, leaf(np.ones((2, 3))))
        assert Counted.runs == 1
        assert kept[0]() is None
        y.sum().backward()
        assert Counted.runs == 2
        assert kept[1]() is None  # and the backward pass has freed the second
        op = weakref.ref(y.op)
        del y
        assert op() is None
    finally:
        gc.enable()


def test_no_second_run_where_nothing_was_saved() -> None:
    Counted.runs = 0
    x = leaf([1.0, 2.0])
    checkpoint(lambda x: (Counted()(x.detach()), (x + 1.0) * 3.0)[1], x).sum().backward()
    assert Counted.runs == 1


def test_dropout_has_the_same_mask() -> None:
    def run(call: Callable[..., Any]) -> tuple[Any, Any]:
        mg.manual_seed(7)
        x = leaf(np.ones((20, 20)))
        y = call(lambda x: nn.functional.dropout(x * x, 0.5), x)
        after = mg.randn(3)
        (y * y).sum().backward()
        return x.grad.value, (after.value, mg.randn(3).value)

    (found, random), (expected, same) = run(checkpoint), run(plainly)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(random, same)  # the second run leaves no trace


def test_without_the_random_state_the_masks_differ() -> None:
    def run(preserve: bool) -> Any:
        mg.manual_seed(7)
        x = leaf(np.ones(200))

        def function(x: Any) -> Any:
            noise = mg.randn(200, dtype=mg.float64)
            return x * noise

        return x, checkpoint(function, x, preserve_rng_state=preserve)

    x, y = run(True)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.value, y.value)
    x, y = run(False)
    y.sum().backward()
    assert not np.array_equal(x.grad.value, y.value)


def test_a_module_with_a_fused_op() -> None:
    def run(call: Callable[..., Any]) -> list[np.ndarray]:
        mg.manual_seed(0)
        lstm = nn.LSTM(3, 4).double()
        x = leaf(np.random.default_rng(0).standard_normal((5, 2, 3)))
        y, (h, c) = call(lstm, x)
        ((y * y).sum() + h.sum() + (c * c).sum()).backward()
        return [x.grad.value] + [p.grad.value for p in lstm.parameters()]

    for found, expected in zip(run(checkpoint), run(plainly), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_nested() -> None:
    def nested(function: Callable[..., Any], x: Any) -> Any:
        return checkpoint(lambda x: checkpoint(function, checkpoint(lambda x: x * 1.0, x)), x)

    for found, expected in zip(gradients(nested), gradients(plainly), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_higher_orders() -> None:
    w = leaf([[0.3, -0.2], [0.5, 0.7]])
    x = leaf([[1.0, -0.4]])
    assert gradcheck(lambda x, w: checkpoint(lambda x: layer(x, w), x), (x, w))
    assert gradgradcheck(lambda x, w: checkpoint(lambda x: layer(x, w), x), (x, w))


def test_retain_graph_runs_again_only_once() -> None:
    x = leaf([1.0, 2.0])
    Counted.runs = 0
    y = checkpoint(lambda x: Counted()(x * 1.0), x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert Counted.runs == 2
    np.testing.assert_array_equal(x.grad.value, [4.0, 8.0])


def test_ops_with_several_outputs() -> None:
    def run(call: Callable[..., Any]) -> np.ndarray:
        x = leaf([[1.0, 2.0], [3.0, 4.0]])

        def function(x: Any) -> Any:
            a, b = (x * x).unbind(0)
            return (a * b).tanh() * b, a

        y, a = call(function, x * 0.3)
        (y * y + a).sum().backward()
        return x.grad.value

    np.testing.assert_array_equal(run(checkpoint), run(plainly))


def test_under_no_grad() -> None:
    with mg.no_grad():
        y = checkpoint(lambda x: Counted()(x), leaf([1.0, 2.0]))
    assert not y.requires_grad
    np.testing.assert_array_equal(y.value, [1.0, 4.0])


def test_arguments_of_all_kinds() -> None:
    x = leaf([1.0, 2.0])
    y = checkpoint(lambda x, n, k=None: {"y": Counted()(x * float(n)), "k": k}, x, 3, k="kept")
    assert y["k"] == "kept"
    y["y"].sum().backward()
    np.testing.assert_array_equal(x.grad.value, [18.0, 36.0])


def test_an_argument_written_to_after_the_first_run() -> None:
    x = leaf([1.0, 2.0])
    data, keyword, array = wrap(np.array([3.0, 4.0])), wrap(np.ones(2)), np.ones(2)
    h = x * 1.0
    y = checkpoint(lambda h, d, a, k: Counted()(h * d * k) * wrap(a), h, data, array, k=keyword)
    for given in (h, data, keyword):
        given.mul_(100.0)  # the caller's tensors go on, the values used do not
    array *= 100.0
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.value, [18.0, 64.0])


def test_a_parameter_changed_in_between_is_refused() -> None:
    x, b = leaf([1.0, 2.0]), leaf([1.0, 1.0])
    y = checkpoint(lambda x: (x + b).tanh(), x)  # no op saves b, yet tanh(x + b) needs it
    with mg.no_grad():
        b.add_(1.0)
    with pytest.raises(RuntimeError, match="checkpointed function used was changed"):
        y.sum().backward()


def test_a_variable_set_anew_by_a_loop_is_noticed() -> None:
    """`h` is looked up when the function runs, and by the second run the loop has moved on."""
    h = leaf([1.0, 2.0]) * 1.0
    for _ in range(2):
        h = checkpoint(lambda: Counted()(h))  # noqa: B023
    with pytest.raises(RuntimeError, match=r"Counted got another tensor.*pass tensors as arg"):
        h.sum().backward()


def test_another_course_the_second_time_is_noticed() -> None:
    calls = []

    def fickle(x: Any) -> Any:
        calls.append(x)
        return Counted()(x) if len(calls) == 1 else x.tanh()

    y = checkpoint(fickle, leaf([1.0, 2.0]))
    with pytest.raises(RuntimeError, match=r"did not do the same.*other operations"):
        y.sum().backward()


def test_an_exception_leaves_nothing_behind() -> None:
    def fails(x: Any) -> Any:
        raise KeyError("in the function")

    with pytest.raises(KeyError):
        checkpoint(fails, leaf(1.0))
    assert not engine.observers


def test_other_threads_do_not_get_in_between() -> None:
    """The list of ops is one thread's own."""
    stop = threading.Event()

    def noise() -> None:
        while not stop.is_set():
            (leaf(1.0) * 2.0).backward()

    thread = threading.Thread(target=noise)
    thread.start()
    try:
        for _ in range(20):
            for found, expected in zip(gradients(checkpoint), gradients(plainly), strict=True):
                np.testing.assert_array_equal(found, expected)
    finally:
        stop.set()
        thread.join()
