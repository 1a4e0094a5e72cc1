"""The checker must fail: a gallery of wrong ops, each found and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.autograd import GradcheckError, Op, gradcheck, gradgradcheck
from minigrad.autograd.engine import Node, wrap
from minigrad.dtypes import cast


def leaf(*shape: int, seed: int = 0) -> Any:
    return wrap(np.random.default_rng(seed).standard_normal(shape), None, True)


class Cube(Op):
    """y = x**3, right: the others inherit from it and go wrong in one way each."""

    def forward(self, x: Any) -> Any:
        return x * x * x

    def vjp(self, g: Any, x: Any) -> Any:
        return (3.0 * g * x * x,)


class Zero(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return (g * 0.0,)


class Nothing(Cube):
    def vjp(self, g: Any) -> Any:
        return (None,)


class Doubled(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return (6.0 * g * x * x,)


class Third(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return (g * x * x,)


class Negative(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return (-3.0 * g * x * x,)


class SomeSigns(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return (3.0 * g * x * abs(x),)


class TransposedOut(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return (g.T * 3.0 * x * x,)


class TransposedIn(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return ((3.0 * g * x * x).T.reshape(x.shape),)


class OneWrong(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        gx = 3.0 * g * x * x
        gx[-1, -1] = 0.5
        return (gx,)


class NotFinite(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return (3.0 * g * x * x * np.where(x == x.max(), np.nan, 1.0),)


class Ignores(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return (np.ones_like(g) * 3.0 * x * x,)


class Squares(Cube):
    """Right at unit cotangents only."""

    def vjp(self, g: Any, x: Any) -> Any:
        return (3.0 * g * g * x * x,)


class Writes(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        g *= 3.0
        return (g * x * x,)


class Random(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return (3.0 * g * x * x * (1 + 1e-9 * np.random.default_rng().random()),)


class Counter(Cube):
    calls = 0

    def forward(self, x: Any) -> Any:
        Counter.calls += 1
        return x * x * x + Counter.calls


class Drifts(Cube):
    """float32 on the way: right to 7 digits, which finite differences cannot tell."""

    def vjp(self, g: Any, x: Any) -> Any:
        return ((3.0 * g * x * x).astype(np.float32).astype(np.float64),)


class DriftsEarly(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return (3.0 * g.astype(np.float32) * x * x,)


class Diagonal(Op):
    """Softmax, whose every output depends on a whole row."""

    def forward(self, x: Any) -> Any:
        e = np.exp(x)
        return e / e.sum(-1, keepdims=True)

    def vjp(self, g: Any, y: Any) -> Any:
        return (g * y * (1 - y),)


class TransposedShape(Op):
    def forward(self, x: Any) -> Any:
        return x.T

    def vjp(self, g: Any) -> Any:
        return (g,)


class WrongDtype(Cube):
    def vjp(self, g: Any, x: Any) -> Any:
        return ((3.0 * g * x * x).astype(np.float32),)


@pytest.mark.cpu_only("a GPU array cannot be made read-only")
@pytest.mark.parametrize(
    ("op", "diagnosis"),
    [
        (Zero, "zero: no gradient flows"),
        (Nothing, "zero: no gradient flows"),
        (Doubled, "a constant factor: the gradient is 2 times"),
        (Third, "a constant factor: the gradient is 1/3 times"),
        (Negative, "wrong sign: the gradient is the negative"),
        (SomeSigns, "wrong sign of"),
        (TransposedOut, "transposed: the rule exchanges"),
        (TransposedIn, "transposed: the last two axes of the input's gradient"),
        (OneWrong, "a special case"),
        (NotFinite, "non-finite: the rule gives"),
        (Ignores, "ignored"),
        (Squares, "not linear"),
        (Writes, "writes into the gradient"),
        (Random, "not deterministic: the gradient"),
        (Counter, "not deterministic: output 0"),
        (Drifts, "precision"),
        (DriftsEarly, "precision"),
        (WrongDtype, "precision: the gradient of input 0 is float32"),
    ],
)
@pytest.mark.parametrize("fast_mode", [False, True])
def test_wrong_ops_are_found_and_named(op: type[Op], diagnosis: str, fast_mode: bool) -> None:
    x = leaf(4, 4)
    with pytest.raises(GradcheckError, match=diagnosis):
        gradcheck(lambda x: op()(x), x, fast_mode=fast_mode)
    assert gradcheck(lambda x: op()(x), x, fast_mode=fast_mode, raise_exception=False) is False


def test_right_op_passes() -> None:
    for fast_mode in (False, True):
        assert gradcheck(lambda x: Cube()(x), leaf(4, 4), fast_mode=fast_mode)
        assert gradgradcheck(lambda x: Cube()(x), leaf(4, 4), fast_mode=fast_mode)


def test_transposed_without_being_square() -> None:
    with pytest.raises(GradcheckError, match="transposed: the last two axes of the input"):
        gradcheck(lambda x: TransposedIn()(x), leaf(3, 2))


class Plus(Op):
    def forward(self, a: Any, b: Any) -> Any:
        return a + b

    def vjp(self, g: Any) -> Any:
        return g, g


class PlusFirstRow(Plus):
    """Of the rows along which b was repeated, only one is counted."""

    def vjp(self, g: Any) -> Any:
        return g, g[0]


class PlusMean(Plus):
    def vjp(self, g: Any) -> Any:
        return g, g.mean(0)


class Minus(Op):
    """a - 2 b, with the gradients of the two inputs exchanged."""

    def forward(self, a: Any, b: Any) -> Any:
        return a - 2.0 * b

    def vjp(self, g: Any) -> Any:
        return -2.0 * g, g


@pytest.mark.parametrize(
    ("op", "diagnosis"),
    [
        (Plus, "not un-broadcast"),
        (PlusFirstRow, "incomplete sum"),
        (PlusMean, "1/3 times"),
    ],
)
def test_not_unbroadcast(op: type[Op], diagnosis: str) -> None:
    with pytest.raises(GradcheckError, match=diagnosis):
        gradcheck(lambda a, b: op()(a, b), (leaf(3, 2), leaf(2)))


@pytest.mark.parametrize(
    ("op", "diagnosis"),
    [(Diagonal, "elementwise: the rule"), (TransposedShape, r"^transposed: .*\(3, 2\)")],
)
def test_rules_for_another_kind_of_function(op: type[Op], diagnosis: str) -> None:
    with pytest.raises(GradcheckError, match=diagnosis):
        gradcheck(lambda x: op()(x), leaf(3, 2) if op is Diagonal else leaf(2, 3))


def test_exchanged_inputs() -> None:
    with pytest.raises(GradcheckError, match="the gradient of input 1"):
        gradcheck(lambda a, b: Minus()(a, b), (leaf(3), leaf(3, seed=1)))


class WrongSoftmax(Op):
    """Its outputs sum to 1: a check that seeds with ones sees 0 = 0, whatever the rule says."""

    def forward(self, x: Any) -> Any:
        e = np.exp(x)
        return e / e.sum()

    def vjp(self, g: Any, y: Any) -> Any:
        return (g - g.mean(),)


def test_right_on_average_is_not_right() -> None:
    x = leaf(5)
    (g,) = mg.autograd.grad(WrongSoftmax()(x), x, wrap(np.ones(5)))
    np.testing.assert_allclose(g.value, 0, atol=1e-12)  # the trap: nothing to see
    with pytest.raises(GradcheckError, match="right only on average"):
        gradcheck(lambda x: WrongSoftmax()(x), x)
    with pytest.raises(GradcheckError, match="right only on average"):
        gradcheck(lambda x: WrongSoftmax()(x), x, fast_mode=True)


def test_a_kink_is_not_blamed_on_the_rule() -> None:
    x = wrap(np.array([1.0, 0.0, -2.0]), None, True)

    class Absolute(Op):
        def forward(self, x: Any) -> Any:
            return np.abs(x)

        def vjp(self, g: Any, x: Any) -> Any:
            return (g * np.where(x >= 0, 1.0, -1.0),)

    with pytest.raises(GradcheckError, match="a kink or jump"):
        gradcheck(lambda x: Absolute()(x), x)


@pytest.mark.cpu_only("the wrong rule is written for NumPy")
def test_message_names_the_elements_and_the_numbers() -> None:
    class Off(Cube):
        def vjp(self, g: Any, x: Any) -> Any:
            gx = 3.0 * g * x * x
            return (gx + np.where(np.arange(6).reshape(2, 3) == 4, 7.0, 0.0) * g,)

    x = wrap(np.ones((2, 3)), None, True)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda x: Off()(x), x)
    assert "output 0[1, 1] with respect to input 0[1, 1]: got 10, finite" in str(caught.value)
    assert "give 3 (1 of 36 elements disagree)" in str(caught.value)


def test_second_derivative_that_is_cut_off() -> None:
    class Cut(Cube):
        """Its first derivative is right, but a constant: x is taken out of the graph."""

        def vjp(self, g: Any, x: Any) -> Any:
            if isinstance(x, Node):
                x = wrap(x.value)
            return (3.0 * g * x * x,)

    assert gradcheck(lambda x: Cut()(x), leaf(3))
    with pytest.raises(GradcheckError, match=r"second derivative.*zero"):
        gradgradcheck(lambda x: Cut()(x), leaf(3))
    assert gradgradcheck(lambda x: Cut()(x), leaf(3), raise_exception=False) is False


@pytest.mark.cpu_only("the wrong rule is written for NumPy")
def test_what_has_no_usual_cause() -> None:
    class Odd(Cube):
        def vjp(self, g: Any, x: Any) -> Any:
            return (g * (3.0 * x * x + np.arange(16.0).reshape(4, 4) + x),)

    class Broken(Cube):
        def vjp(self, g: Any) -> Any:
            raise ValueError("something else")

    with pytest.raises(GradcheckError, match="none of the usual ones"):
        gradcheck(lambda x: Odd()(x), leaf(4, 4))
    with pytest.raises(GradcheckError, match="the backward pass failed: something else"):
        gradcheck(lambda x: Broken()(x), leaf(4, 4))
    with (
        np.errstate(all="ignore"),
        pytest.raises(GradcheckError, match="the function itself is NaN or infinite"),
    ):
        gradcheck(lambda x: x.log(), wrap(np.array([1.0, 0.0]), None, True))


def test_given_cotangents_and_several_outputs() -> None:
    def two(a: Any, b: Any) -> Any:
        return a * b, Cube()(a)

    inputs = (leaf(3), leaf(2, 3, seed=1))
    assert gradcheck(two, inputs)
    assert gradgradcheck(two, inputs)
    assert gradgradcheck(two, inputs, (leaf(2, 3), leaf(3)))


def test_closure_over_a_parameter_that_is_an_input() -> None:
    """Values are replaced in the tensors themselves, so a module's parameters can be checked."""
    x, w = leaf(3), leaf(3, seed=1)
    before = w.value
    assert gradcheck(lambda x, _: x * w * w, (x, w))
    assert w.value is before


def test_constants_and_integers_may_be_among_inputs_and_outputs() -> None:
    a, k = leaf(3), wrap(np.array([2, 0, 1]))
    assert gradcheck(lambda a, k, c: (Cube()(a), k, a * c), (a, k, 2.0))
    assert gradcheck(lambda a: Cube()(a), leaf(0, 3))
    assert gradcheck(lambda a: Cube()(a), leaf())


def test_wrong_use() -> None:
    x = leaf(3)
    with pytest.raises(ValueError, match="float64"):
        gradcheck(lambda x: Cube()(x), wrap(np.ones(3, np.float32), None, True))
    with pytest.raises(ValueError, match="requires_grad"):
        gradcheck(lambda x: Cube()(x), wrap(np.ones(3)))
    with pytest.raises(ValueError, match="returns a floating tensor"):
        gradcheck(lambda x: 3, x)


def test_function_through_float32_is_found() -> None:
    with pytest.raises(GradcheckError, match=r"precision|wrong gradient"):
        gradcheck(
            lambda x: cast(cast(x, np.dtype("float32")), np.dtype("float64")) * 2.0,
            wrap(np.random.default_rng(0).random(4), None, True),
            eps=1e-3,
        )


def test_detached_value_is_called_zero() -> None:
    with pytest.raises(GradcheckError, match="zero: no gradient flows"):
        gradcheck(lambda x: x.detach() * 2.0, leaf(3))
