"""`Function`, PyTorch's way to define an operation."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.autograd import Function, gradcheck, gradgradcheck
from minigrad.autograd.engine import wrap
from minigrad.autograd.function import once_differentiable


def leaf(value: Any, dtype: Any = np.float64) -> Any:
    return wrap(np.array(value, dtype), None, True)


class Exp(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        assert not mg.is_grad_enabled()
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (y,) = ctx.saved_tensors
        return g * y


class Scale(Function):
    """factor x a, with arguments that are no tensors."""

    @staticmethod
    def forward(ctx: Any, factor: float, x: Any, a: Any, label: str = "") -> Any:
        ctx.save_for_backward(x, a)
        ctx.factor = factor
        ctx.asked = ctx.needs_input_grad
        return x * a * factor

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, a = ctx.saved_tensors
        assert ctx.needs_input_grad[0] is False
        gx = g * a * ctx.factor if ctx.needs_input_grad[1] else None
        ga = g * x * ctx.factor if ctx.needs_input_grad[2] else None
        Scale.computed = (gx is not None, ga is not None)
        return None, gx, ga, None

    computed: tuple[bool, bool]


def test_values_and_derivatives() -> None:
    x = leaf([0.5, -1.0])
    y = Exp.apply(x)
    np.testing.assert_array_equal(y.value, np.exp(x.value))
    assert repr(y.grad_fn) == "<Exp>"
    assert gradcheck(Exp.apply, x)
    assert gradgradcheck(Exp.apply, x)
    for _ in range(3):
        (y,) = mg.grad(y.sum(), x, create_graph=True)
        np.testing.assert_allclose(y.value, np.exp(x.value))


def test_arguments_that_are_no_tensors() -> None:
    x, a = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    assert gradcheck(lambda x, a: Scale.apply(2.0, x, a, "label"), (x, a))
    assert gradgradcheck(lambda x, a: Scale.apply(2.0, x, a, "label"), (x, a))


def test_only_what_is_needed() -> None:
    x, a = leaf([1.0, 2.0]), wrap(np.array([3.0, 4.0]))
    Scale.apply(2.0, x, a, "").sum().backward()
    assert Scale.computed == (True, False)
    np.testing.assert_array_equal(x.grad.value, [6.0, 8.0])
    a = leaf([3.0, 4.0])
    mg.grad(Scale.apply(2.0, x, a, "").sum(), a)
    assert Scale.computed == (False, True)


def test_nothing_recorded_where_nothing_is_asked() -> None:
    x = leaf([1.0, 2.0])
    with mg.no_grad():
        assert not Exp.apply(x).requires_grad
    assert not Exp.apply(x.detach()).requires_grad

    class Ones(Function):
        @staticmethod
        def forward(ctx: Any, n: int) -> Any:
            return mg.tensor([1.0] * n)

    assert Ones.apply(3).tolist() == [1.0, 1.0, 1.0]


def test_setup_context() -> None:
    class Square(Function):
        @staticmethod
        def forward(x: Any) -> Any:
            return x * x

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            (x,) = inputs
            ctx.save_for_backward(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * x * 2.0

    assert gradgradcheck(Square.apply, leaf([1.0, 2.0]))


class SortLike(Function):
    """Values, their order (integers), and a constant that is marked."""

    seen: list[Any]

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        order = mg.tensor(np.argsort(x.numpy()))
        values = mg.tensor(x.numpy()[order.numpy()])
        largest = values[-1:] * 1.0
        ctx.mark_non_differentiable(largest)
        ctx.order = order.numpy()
        return values, order, largest, "text"

    @staticmethod
    def backward(ctx: Any, g: Any, *others: Any) -> Any:
        SortLike.seen = [g, *others]
        gx = np.zeros(len(ctx.order))
        gx[ctx.order] = g.numpy()
        return mg.tensor(gx)


def test_several_outputs_of_several_kinds() -> None:
    x = leaf([3.0, 1.0, 2.0])
    values, order, largest, text = SortLike.apply(x)
    assert text == "text"
    assert (values.requires_grad, order.requires_grad, largest.requires_grad) == (
        True,
        False,
        False,
    )
    (values * wrap(np.array([1.0, 10.0, 100.0]))).sum().backward()
    np.testing.assert_array_equal(x.grad.value, [100.0, 1.0, 10.0])
    assert SortLike.seen[2].tolist() == [0.0]  # zeros stand for what nobody used
    assert SortLike.seen[3] is None


def test_unused_outputs_can_be_none() -> None:
    seen = []

    class Two(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.set_materialize_grads(False)
            return x * 2.0, x * 3.0

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            seen.append(g)
            return h * 3.0

    x = leaf([1.0])
    Two.apply(x)[1].backward()
    assert seen == [None]
    assert x.grad.item() == 3.0


def test_a_tuple_of_one_stays_a_tuple() -> None:
    class One(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return (x * 2.0,)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return (g * 2.0,)

    (y,) = One.apply(leaf([1.0]))
    assert y.item() == 2.0


def wrong(answer: Any) -> Any:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, n: int) -> Any:
            return x * 1.0

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return answer(g)

    return Wrong.apply(leaf([1.0, 2.0]), 3).sum()


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (lambda g: g, RuntimeError, r"Wrong\.backward returned 1 gradient.* for 2 argument"),
        (lambda g: (g, None, g), RuntimeError, "returned 3 gradient"),
        (lambda g: (g, g), RuntimeError, "argument 1, which is no tensor"),
        (lambda g: (g[:1], None), RuntimeError, r"shape \(1,\) for argument 0, of shape \(2,\)"),
        (lambda g: (3.0, None), TypeError, "a float as the gradient of argument 0"),
    ],
)
def test_wrong_gradients(answer: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        wrong(answer).backward()


def test_more_nones_than_needed_are_fine() -> None:
    wrong(lambda g: (g, None, None, None)).backward()


def test_missing_halves() -> None:
    class Empty(Function):
        pass

    class Forward(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1.0

    with pytest.raises(NotImplementedError, match="forward"):
        Empty.apply(leaf(1.0))
    with pytest.raises(NotImplementedError, match="backward"):
        Forward.apply(leaf(1.0)).backward()
    with pytest.raises(TypeError, match="save_for_backward takes Tensors"):
        Saves.apply(leaf(1.0))
    with pytest.raises(TypeError, match=r"NoTensor\.forward must return a Tensor"):
        NoTensor.apply(leaf(1.0))


class Saves(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(3.0)
        return x


class NoTensor(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return 3.0


class OnceExp(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        (y,) = ctx.saved_tensors
        return wrap(g.numpy() * y.numpy())


def test_once_differentiable() -> None:
    x = leaf([0.5, -1.0])
    assert gradcheck(OnceExp.apply, x)
    (g,) = mg.grad(OnceExp.apply(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(g.value, np.exp(x.value))
    with pytest.raises(RuntimeError, match=r"differentiate twice.*once_differentiable"):
        mg.grad(g.sum(), x)


def test_saved_tensors_are_checked_for_changes() -> None:
    x = leaf([0.5, -1.0])
    a = leaf([1.0, 1.0])
    y = Scale.apply(2.0, x, a, "")
    with mg.no_grad():
        a.mul_(3.0)
    with pytest.raises(RuntimeError, match=r"Scale: input 1.*was changed"):
        y.sum().backward()


def test_other_tensors_can_be_saved() -> None:
    class Masked(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            mask = x > 0
            ctx.save_for_backward(mask, None, x)
            return x * mask

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            mask, nothing, x = ctx.saved_tensors
            assert nothing is None
            assert x.requires_grad == mg.is_grad_enabled()
            return g * mask

    assert gradcheck(Masked.apply, leaf([0.5, -1.0]))
    (g,) = mg.grad(Masked.apply(x := leaf([0.5, -1.0])).sum(), x, create_graph=True)
    np.testing.assert_array_equal(g.value, [1.0, 0.0])


def test_memory_is_given_back() -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(np.ones(4))
        y = Exp.apply(x)
        saved, op = weakref.ref(y.value), weakref.ref(y.grad_fn)
        total = y.sum()
        del y
        assert saved() is not None
        total.backward()
        assert saved() is None
        del total
        assert op() is None
    finally:
        gc.enable()


def test_second_order_with_respect_to_a_saved_output() -> None:
    class ExpAndDouble(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = x.exp()
            ctx.save_for_backward(y)
            return y, 2 * x

        @staticmethod
        def backward(ctx: Any, gy: Any, gz: Any) -> Any:
            return gy * ctx.saved_tensors[0] + 2 * gz

    x = leaf([0.5, -1.0])
    y, z = ExpAndDouble.apply(x)
    (g,) = mg.autograd.grad((y * y + z).sum(), x, create_graph=True)  # 2 y, times y, + 2
    (to_y,) = mg.autograd.grad(g.sum(), y)
    np.testing.assert_allclose(to_y.numpy(), 4 * np.exp([0.5, -1.0]))
