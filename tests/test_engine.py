"""What the engine guarantees: a gradient is right, or an error says why not."""

from __future__ import annotations

import functools
import gc
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.autograd import Op, engine
from minigrad.autograd.engine import Identity, wrap


def leaf(value: Any, dtype: Any = np.float64) -> Any:
    return wrap(np.array(value, dtype), None, True)


def gradient(x: Any) -> Any:
    assert x.grad is not None
    return x.grad.value


class Twice(Op):
    """y = 2 x, in NumPy alone; counts how often its rule runs."""

    rules = 0

    def forward(self, x: Any) -> Any:
        return x * 2.0

    def vjp(self, g: Any) -> Any:
        Twice.rules += 1
        return (g * 2.0,)


class Product(Op):
    """y = a b; names what it saves."""

    broadcasts = True
    asked: list[tuple[bool, bool]]

    def forward(self, a: Any, b: Any) -> Any:
        return a * b

    def vjp(self, g: Any, a: Any, b: Any) -> Any:
        self.asked = (self.wants(0), self.wants(1))
        return g * b if self.wants(0) else None, g * a if self.wants(1) else None


class Parts(Op):
    """sum, doubled x, and an integer: several outputs of different shapes and kinds."""

    def forward(self, x: Any) -> Any:
        return x.sum(), x * 2.0, np.arange(3)

    def vjp(self, g: Any, x: Any) -> Any:
        total, doubled, counted = g
        assert counted is None
        gx = x * 0.0
        if total is not None:
            gx = gx + total
        if doubled is not None:
            gx = gx + doubled * 2.0
        return (gx,)


# --- depth and memory ---------------------------------------------------------------------------


def test_a_long_chain_needs_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = Identity()(y)
    y.backward()
    assert gradient(x) == 1.0
    del y


def test_a_long_chain_is_freed_without_backward() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = Identity()(y)
    op = weakref.ref(y.op)
    del y
    assert op() is None


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Reference counts alone have to do."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def graph_of(x: Any) -> tuple[Any, list[weakref.ref[Any]]]:
    """A loss with a product, a fan-out and several outputs, and weak references to its parts."""
    a = Product()(x, x)
    total, doubled, _ = Parts()(a)
    loss = (Product()(total, doubled) + a).sum()
    parts = [a, total, doubled, loss]
    return loss, [weakref.ref(p) for p in parts] + [weakref.ref(p.op) for p in parts]


def test_no_reference_cycle(no_collector: None) -> None:
    x = leaf([1.0, 2.0])
    loss, refs = graph_of(x)
    loss.backward()
    del loss
    assert [ref() for ref in refs] == [None] * len(refs)
    loss, refs = graph_of(x)
    del loss  # never differentiated
    assert [ref() for ref in refs] == [None] * len(refs)


def test_no_reference_cycle_with_create_graph(no_collector: None) -> None:
    x = leaf([1.0, 2.0])
    loss, refs = graph_of(x)
    (g,) = mg.grad(loss, x, create_graph=True)
    (h,) = mg.grad(g.sum(), x)
    del loss, g, h
    assert [ref() for ref in refs] == [None] * len(refs)


def test_no_reference_cycle_after_an_exception(no_collector: None) -> None:
    class Fails(Op):
        def forward(self, x: Any) -> Any:
            return x * 1.0

        def vjp(self, g: Any) -> Any:
            raise ZeroDivisionError("in the rule")

    x = leaf([1.0, 2.0])
    middle = Fails()(x)
    loss, refs = graph_of(middle)
    refs.append(weakref.ref(middle.op))
    with pytest.raises(ZeroDivisionError):
        loss.backward()
    with pytest.raises(RuntimeError, match="Product"):
        Product()(x, leaf([1.0, 2.0, 3.0]))
    del loss, middle
    assert [ref() for ref in refs] == [None] * len(refs)


def test_backward_frees_what_it_used(no_collector: None) -> None:
    x, w = leaf(np.ones(4)), leaf(np.ones(4))
    h = Product()(x, w)
    saved = weakref.ref(h.value)
    y = Product()(h, w)
    del h
    assert saved() is not None  # Product keeps its inputs
    y.backward(wrap(np.ones(4)))
    assert saved() is None


def test_only_what_the_rule_names_is_kept(no_collector: None) -> None:
    h = Twice()(leaf(np.ones(4)))
    value = weakref.ref(h.value)
    y = Twice()(h)
    del h
    assert value() is None
    del y


# --- the order of the walk ----------------------------------------------------------------------


def test_a_node_used_twice_then_twice_again() -> None:
    a = leaf(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert gradient(a) == 4.0


def test_branches_of_unequal_length() -> None:
    x = leaf(2.0)
    short = x * 3.0
    long = ((short * 2.0) + short).tanh() * short
    (long + short).backward()
    e = 1e-6

    def f(v: float) -> float:
        s = v * 3.0
        return float(np.tanh(3 * s) * s + s)

    assert abs(gradient(x) - (f(2 + e) - f(2 - e)) / (2 * e)) < 1e-6


def test_an_unused_branch_costs_and_changes_nothing() -> None:
    x = leaf([1.0, 2.0])
    h = x * 3.0
    Twice.rules = 0
    Twice()(h)  # goes nowhere
    total, _, _ = Parts()(h)
    total.backward()
    np.testing.assert_array_equal(gradient(x), [3.0, 3.0])
    assert Twice.rules == 0


def test_a_rule_may_say_that_no_gradient_passes() -> None:
    class Step(Op):
        def forward(self, x: Any) -> Any:
            return np.floor(x)

        def vjp(self, g: Any) -> Any:
            return (None,)

    x = leaf([1.5, 2.5])
    Twice.rules = 0
    Step()(Twice()(x)).sum().backward()
    assert x.grad is None and Twice.rules == 0


def test_gradients_add_up_over_two_backward_passes() -> None:
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    first = x.grad
    (x * 3.0).sum().backward()
    np.testing.assert_array_equal(gradient(x), [5.0, 7.0])
    assert x.grad is first  # as in PyTorch: the same tensor goes on growing


def test_a_gradient_given_in_another_precision() -> None:
    x = mg.ones(2, requires_grad=True)
    (x * x).backward(mg.ones(2, dtype=mg.float64))
    assert x.grad is not None and x.grad.dtype == mg.float32 and x.grad.tolist() == [2, 2]


def test_leaves_do_not_share_their_grad() -> None:
    """a + b sends the same gradient to both: adding to one must leave the other alone."""
    for create_graph in (False, True):
        a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
        (a + b).sum().backward(create_graph=create_graph)
        assert a.grad is not b.grad
        (a + b).sum().backward()
        np.testing.assert_array_equal(gradient(a), [2.0, 2.0])
        np.testing.assert_array_equal(gradient(b), [2.0, 2.0])


def test_a_second_backward_says_how_to_go_on() -> None:
    x = leaf([1.0, 2.0])
    h = x * x
    h.sum().backward()
    with pytest.raises(RuntimeError, match=r"second time.*retain_graph=True.*detach\(\)"):
        h.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        mg.grad(h.sum(), x)
    np.testing.assert_array_equal(gradient(x), [2.0, 4.0])


def test_retain_graph() -> None:
    x = leaf([1.0, 2.0])
    y = (x * x).tanh().sum()
    y.backward(retain_graph=True)
    first = gradient(x).copy()
    y.backward()
    np.testing.assert_allclose(gradient(x), 2 * first, rtol=1e-15)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_a_freed_graph_above_is_no_matter_to_gradients_below() -> None:
    x = leaf([1.0, 2.0])
    h = x * x
    h.sum().backward()
    y = (h * 3.0).sum()
    (g,) = mg.grad(y, h)  # h's own history is gone, but not needed
    np.testing.assert_array_equal(g.value, [3.0, 3.0])
    total, doubled, _ = Parts()(x)
    total.backward()
    (g,) = mg.grad((doubled * h).sum(), doubled)
    np.testing.assert_array_equal(g.value, [1.0, 4.0])


def test_but_it_is_to_one_that_may_lie_above_it() -> None:
    x = leaf([1.0, 2.0])
    h = x * x
    h.sum().backward()
    for y in (h * 3.0, h * x):
        with pytest.raises(RuntimeError, match="second time"):
            mg.grad(y.sum(), [h, x], allow_unused=True)


# --- grad() with inputs -------------------------------------------------------------------------


def test_grad_of_intermediates_one_depending_on_another() -> None:
    x = leaf(2.0)
    a = x * x
    b = a * 3.0
    c = b * a
    gc_, gb, ga, gx = mg.grad(c, [c, b, a, x])
    assert (gc_.item(), gb.item(), ga.item(), gx.item()) == (1.0, 4.0, 24.0, 96.0)
    assert x.grad is None


def test_grad_of_unused_inputs() -> None:
    x, z = leaf(2.0), leaf(1.0)
    with pytest.raises(RuntimeError, match=r"input 1 of grad.*not used.*allow_unused"):
        mg.grad(x * x, [x, z])
    gx, gz = mg.grad(x * x, [x, z], allow_unused=True)
    assert gx.item() == 4.0
    assert gz is None
    (x * x).backward(inputs=[x, z])
    assert gradient(x) == 4.0
    assert z.grad is None


def test_grad_of_what_requires_none() -> None:
    x = leaf(2.0)
    with pytest.raises(RuntimeError, match=r"input 0 of grad.*does not require grad"):
        mg.grad(x * x, wrap(np.array(1.0)))
    with pytest.raises(RuntimeError, match="nothing to differentiate"):
        mg.grad(wrap(np.array(1.0)), x)
    with pytest.raises(RuntimeError, match=r"scalar outputs.*shape \(2,\)"):
        (leaf([1.0, 2.0]) * 2.0).backward()
    with pytest.raises(RuntimeError, match=r"given has shape \(3,\), the output \(2,\)"):
        (leaf([1.0, 2.0]) * 2.0).backward(wrap(np.ones(3)))
    with pytest.raises(ValueError, match="1 outputs, but 2 grad_outputs"):
        mg.grad([x * x], [x], [None, None])


def test_only_what_leads_to_the_wanted_is_visited() -> None:
    x, w = leaf(2.0), leaf(3.0)
    a, b = Twice()(x), Twice()(Twice()(w))
    y = Product()(a, b)
    Twice.rules = 0
    (gx,) = mg.grad(y, x, retain_graph=True)
    assert gx.item() == 24.0
    assert Twice.rules == 1
    assert y.op.asked == (True, False)
    # ... and the next pass, which wants everything, gets everything.
    y.backward()
    assert (gradient(x), gradient(w)) == (24.0, 16.0)
    assert y.op.asked == (True, True)


def test_several_outputs_of_grad() -> None:
    x = leaf([1.0, 2.0])
    (g,) = mg.grad([x * x, x * 3.0], x, [wrap(np.ones(2)), wrap(np.full(2, 10.0))])
    np.testing.assert_array_equal(g.value, [32.0, 34.0])
    (g,) = mg.grad([x.sum(), x.sum()], x)
    np.testing.assert_array_equal(g.value, [2.0, 2.0])
    y = (x * 3.0).sum()
    (g,) = mg.grad([y, y], x)
    np.testing.assert_array_equal(g.value, [6.0, 6.0])
    (g,) = mg.grad(x, x, wrap(np.array([5.0, 6.0])))
    np.testing.assert_array_equal(g.value, [5.0, 6.0])


def test_an_output_that_another_output_depends_on() -> None:
    for newest_first in (True, False):
        x = leaf(3.0)
        a = x * x
        b = a * 2.0
        (g,) = mg.grad([b, a] if newest_first else [a, b], x)
        assert g.item() == 18.0


# --- hooks --------------------------------------------------------------------------------------


def test_a_hook_on_a_leaf_sees_the_total_once() -> None:
    x = leaf([1.0, 2.0])
    seen: list[Any] = []
    x.register_hook(lambda g: seen.append(g.value.copy()))
    (x * x + x * 3.0 + x).sum().backward()
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], gradient(x))


def test_hooks_replace_in_order_and_can_be_removed() -> None:
    x = leaf(1.0)
    h = x * 2.0
    order: list[str] = []

    def plus(g: Any) -> Any:
        order.append("plus")
        return g + 1.0

    def times(g: Any) -> Any:
        order.append("times")
        return g * 10.0

    handle = h.register_hook(plus)
    h.register_hook(times)
    h.backward(retain_graph=True)
    assert order == ["plus", "times"]
    assert gradient(x) == 40.0  # 2 * (1 + 1) * 10
    handle.remove()
    x.grad = None
    h.backward()
    assert gradient(x) == 20.0


def test_a_hook_on_one_of_several_outputs() -> None:
    x = leaf([1.0, 2.0])
    total, doubled, counted = Parts()(x)
    assert (total.requires_grad, counted.requires_grad) == (True, False)
    seen: list[Any] = []
    doubled.register_hook(lambda g: seen.append(g.value) or g * 0.0)
    (total * doubled).sum().backward()
    np.testing.assert_array_equal(seen, [[3.0, 3.0]])
    np.testing.assert_array_equal(gradient(x), [6.0, 6.0])


def test_a_hook_of_a_wrong_shape_is_refused() -> None:
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: g.sum())
    with pytest.raises(RuntimeError, match=r"hook returned.*\(\).*\(2,\)"):
        x.sum().backward()


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("hooked", [0, 1])
def test_what_a_hook_writes_stays_on_its_branch(hooked: int, create_graph: bool) -> None:
    """a + b sends one and the same gradient to both."""
    x = [leaf([1.0, 2.0]), leaf([1.0, 2.0])]
    branches = [x[0] * 1.0, x[1] * 1.0]
    branches[hooked].register_hook(lambda g: g.mul_(2.0))
    (branches[0] + branches[1]).backward(wrap(np.ones(2)), create_graph=create_graph)
    assert [leaf.grad.tolist() for leaf in x] == [[2.0 if i == hooked else 1.0] * 2 for i in (0, 1)]


def test_hooks_run_for_wanted_inputs_and_with_create_graph() -> None:
    x = leaf(3.0)
    x.register_hook(lambda g: g * 2.0)
    (g,) = mg.grad(x * x * x, x, create_graph=True)
    assert g.item() == 54.0
    (h,) = mg.grad(g, x)
    assert h.item() == 72.0  # 2 * 6 * 3, and the hook once more


def test_hooks_do_not_run_where_nothing_was_asked() -> None:
    x, z = leaf(3.0), leaf(2.0)
    other = z * z
    other.register_hook(lambda g: pytest.fail("nobody asked"))
    for outputs in ([x * x, other], x * x + other):
        (g,) = mg.grad(outputs, x, retain_graph=True)
        assert g.item() == 6.0
    assert mg.grad(other, x, allow_unused=True) == (None,)


def test_retain_grad() -> None:
    x = leaf([1.0, 2.0])
    h = x * x
    h.retain_grad()
    (h * 3.0).sum().backward()
    np.testing.assert_array_equal(gradient(h), [3.0, 3.0])


# --- grad modes ---------------------------------------------------------------------------------


def test_no_grad_inside_a_recorded_region() -> None:
    x = leaf(3.0)
    y = x * x
    with mg.no_grad():
        constant = x * 2.0
        assert not constant.requires_grad
        with mg.enable_grad():
            assert (x * x).requires_grad
        assert not mg.is_grad_enabled()
    (y * constant).backward()
    assert gradient(x) == 36.0


def test_no_grad_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), mg.no_grad():
        raise KeyError
    assert mg.is_grad_enabled()
    with pytest.raises(RuntimeError):
        Identity()(leaf([1.0, 2.0])).backward()
    assert mg.is_grad_enabled()


def test_no_grad_as_a_decorator() -> None:
    @mg.no_grad()
    def evaluate(depth: int) -> bool:
        return mg.is_grad_enabled() or (depth > 0 and evaluate(depth - 1))

    @mg.no_grad
    def bare() -> bool:
        return mg.is_grad_enabled()

    assert evaluate(3) is False
    assert bare() is False
    assert mg.is_grad_enabled()


def test_no_grad_on_a_generator_holds_only_while_it_runs() -> None:
    @mg.no_grad()
    def batches() -> Iterator[bool]:
        for _ in range(2):
            yield mg.is_grad_enabled()

    outside = []
    inside = []
    for enabled in batches():
        inside.append(enabled)
        outside.append(mg.is_grad_enabled())
    assert inside == [False, False]
    assert outside == [True, True]


def test_a_no_grad_generator_passes_everything_on() -> None:
    log: list[Any] = []

    @mg.no_grad()
    def echo() -> Any:
        try:
            while True:
                try:
                    log.append((yield len(log)))
                except KeyError as error:
                    log.append(error)
        finally:
            log.append("closed")

    @mg.no_grad()
    def returning() -> Any:
        yield 1
        return 2

    generator = echo()
    assert next(generator) == 0
    assert generator.send("sent") == 1
    assert generator.throw(KeyError("thrown")) == 2
    generator.close()
    assert log[0] == "sent"
    assert isinstance(log[1], KeyError)
    assert log[2] == "closed"
    assert mg.is_grad_enabled()
    generator = returning()
    next(generator)
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == 2


def test_one_no_grad_object_used_again() -> None:
    quiet = mg.no_grad()
    with quiet:
        with quiet:
            pass
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()


def test_set_grad_enabled() -> None:
    with mg.set_grad_enabled(False):
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()
    mg.set_grad_enabled(False)
    assert not mg.is_grad_enabled()
    mg.set_grad_enabled(True)
    assert mg.is_grad_enabled()

    @mg.set_grad_enabled(False)
    def off() -> bool:
        return mg.is_grad_enabled()

    assert mg.is_grad_enabled()
    assert off() is False


def test_each_thread_has_its_own_grad_mode() -> None:
    inside, done = threading.Event(), threading.Event()
    found = {}

    def quiet() -> None:
        with mg.no_grad():
            inside.set()
            done.wait(10)
            found["quiet"] = mg.is_grad_enabled()

    thread = threading.Thread(target=quiet)
    thread.start()
    inside.wait(10)
    x = leaf(3.0)
    (x * x).backward()
    done.set()
    thread.join()
    assert gradient(x) == 6.0
    assert found == {"quiet": False}
    assert mg.is_grad_enabled()


def test_threads_add_to_one_leaf() -> None:
    """As when each has a part of the batch: no gradient gets lost between reading and writing."""
    x = leaf(np.zeros(300_000))

    def work() -> None:
        for _ in range(10):
            (x * 1.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (x.grad == 40.0).all()


# --- higher orders ------------------------------------------------------------------------------


def test_third_order_against_closed_forms() -> None:
    points = np.array([-1.2, 0.3, 0.9])
    for function, derivatives in [
        (
            lambda x: x * x * x * x,
            [4 * points**3, 12 * points**2, 24 * points],
        ),
        (
            lambda x: x.tanh(),
            [
                1 - np.tanh(points) ** 2,
                -2 * np.tanh(points) * (1 - np.tanh(points) ** 2),
                (1 - np.tanh(points) ** 2) * (6 * np.tanh(points) ** 2 - 2),
            ],
        ),
        (
            lambda x: x.exp() * x.sin(),
            [
                np.exp(points) * (np.sin(points) + np.cos(points)),
                2 * np.exp(points) * np.cos(points),
                2 * np.exp(points) * (np.cos(points) - np.sin(points)),
            ],
        ),
    ]:
        x = leaf(points)
        y = function(x)
        for expected in derivatives:
            (y,) = mg.grad(y.sum(), x, create_graph=True)
            np.testing.assert_allclose(y.value, expected, rtol=1e-12)


def test_create_graph_with_some_outputs_unused() -> None:
    x = leaf([1.0, 2.0])
    _, doubled, _ = Parts()(x * x)
    (g,) = mg.grad((doubled * doubled).sum(), x, create_graph=True)
    np.testing.assert_allclose(g.value, 16 * np.array([1.0, 8.0]))  # (2 x^2)^2 = 4 x^4
    (h,) = mg.grad(g.sum(), x)
    np.testing.assert_allclose(h.value, 48 * np.array([1.0, 4.0]))


def test_backward_with_create_graph_leaves_a_grad_with_history() -> None:
    x = leaf(2.0)
    (x * x * x).backward(create_graph=True)
    assert x.grad.requires_grad
    (h,) = mg.grad(x.grad, x)
    assert h.item() == 12.0
    (x * x).backward()  # without a graph: the sum has no history either
    assert x.grad.item() == 16.0 and not x.grad.requires_grad


# --- rules that are wrong -----------------------------------------------------------------------


def rule_returning(answer: Callable[[Any], Any]) -> type[Op]:
    class Broken(Op):
        def forward(self, a: Any, b: Any) -> Any:
            return a + b

        def vjp(self, g: Any) -> Any:
            return answer(g)

    return Broken


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda g: (g,), r"Broken\.vjp must return .* 2 input\(s\): it has 1"),
        (lambda g: (g, g, g), "it has 3"),
        (lambda g: g, "it is a ndarray"),
        (lambda g: None, "it is a NoneType"),
        (lambda g: (g, g[:1]), r"Broken\.vjp returned a gradient of shape \(1,\).*\(2,\)"),
        (lambda g: (g, g.sum()), r"Broken\.vjp returned a gradient of shape \(\)"),
        (lambda g: (g, g.astype(np.float32)), "changed the precision"),
    ],
)
def test_a_wrong_rule_is_named(answer: Callable[[Any], Any], message: str) -> None:
    y = rule_returning(answer)()(leaf([1.0, 2.0]), leaf([1.0, 2.0]))
    with pytest.raises(RuntimeError, match=message):
        y.backward(wrap(np.ones(2)))


def test_a_rule_that_names_the_unknown() -> None:
    with pytest.raises(TypeError, match=r"Strange\.vjp names \['z'\]"):

        class Strange(Op):
            def forward(self, x: Any) -> Any:
                return x

            def vjp(self, g: Any, z: Any) -> Any:
                return (g,)


def test_an_op_object_is_one_application() -> None:
    op = Twice()
    x = op(leaf(1.0))
    with pytest.raises(RuntimeError, match=r"applied before.*Twice\(\)\(x\)"):
        op(x)


def test_an_op_without_a_rule() -> None:
    class Valued(Op):
        def forward(self, x: Any) -> Any:
            return x

    assert Valued()(np.ones(2)).shape == (2,)
    with pytest.raises(NotImplementedError, match="Valued defines no vjp"):
        Valued()(leaf(1.0)).backward()
    with pytest.raises(NotImplementedError, match="Op defines no forward"):
        Op()(leaf(1.0))


def test_forward_errors_name_the_op_and_its_inputs() -> None:
    with pytest.raises(RuntimeError, match=r"Product\(\(2,\) float64, \(3,\) float64\)"):
        Product()(leaf([1.0, 2.0]), leaf([1.0, 2.0, 3.0]))
    with pytest.raises(TypeError, match=r"Product\(\(2,\) float64, str\)"):
        Product()(leaf([1.0, 2.0]), "two")


# --- values changed behind the graph's back -----------------------------------------------------


def test_a_leaf_changed_after_use_is_refused() -> None:
    w = leaf([1.0, 2.0])
    y = (w * w).sum()
    with mg.no_grad():
        w.add_(1.0)
    with pytest.raises(RuntimeError, match=r"Mul: input 0, of shape \(2,\), was changed"):
        y.backward()


def test_a_leaf_changed_through_data_is_refused() -> None:
    w = leaf([1.0, 2.0])
    y = (w * w).sum()
    w.data.mul_(2.0)
    with pytest.raises(RuntimeError, match="was changed"):
        y.backward()
    np.testing.assert_array_equal(w.value, [2.0, 4.0])


def test_an_output_changed_after_use_is_refused() -> None:
    w = leaf([1.0, 2.0])
    y = w.tanh()
    with mg.no_grad():
        y.mul_(2.0)
    with pytest.raises(RuntimeError, match="Tanh: its output"):
        y.sum().backward()


def test_changes_that_do_no_harm_are_allowed() -> None:
    w = leaf([1.0, 2.0])
    with mg.no_grad():
        w.add_(1.0)  # before use
    y = (w * w).sum()
    y.backward()
    np.testing.assert_array_equal(gradient(w), [4.0, 6.0])
    z = (w + w).sum()  # needs no value
    with mg.no_grad():
        w.add_(1.0)
    z.backward()
    np.testing.assert_array_equal(gradient(w), [6.0, 8.0])
    other = leaf([5.0, 5.0])
    product = (w * 3.0).sum() + (w * wrap(np.ones(2))).sum() + (wrap(np.ones(2)) * w).sum()
    with mg.no_grad():
        other.add_(1.0)  # another tensor
        w.add_(1.0)  # the factor of a constant is not kept
    product.backward()
    np.testing.assert_array_equal(gradient(w), [11.0, 13.0])


@pytest.mark.cpu_only("it is about NumPy")
def test_an_array_given_to_an_op_may_be_changed() -> None:
    """It belongs to the caller: what the rule needs of it is a copy."""
    x, array = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    y = Product()(x, array) + ProductOfAll()(array, x, array)
    array[:] = 0.0
    y.sum().backward()
    np.testing.assert_array_equal(gradient(x), [12.0, 20.0])


def test_grad_of_no_inputs_touches_nothing() -> None:
    x = leaf(2.0)
    with pytest.raises(RuntimeError, match="non-empty"):
        mg.grad(x * x, [])
    assert engine.run_backward([x * x], [x.value], []) == []
    assert x.grad is None


# --- user-defined and fused ops -----------------------------------------------------------------


def test_an_op_of_the_users_own() -> None:
    class Cubed(mg.autograd.Op):
        """y = x**3."""

        def forward(self, x: Any) -> Any:
            return x**3

        def vjp(self, g: Any, x: Any) -> Any:
            return (g * 3.0 * x * x,)

    x = leaf([1.0, 2.0])
    (g,) = mg.grad(Cubed()(x).sum(), x, create_graph=True)
    (h,) = mg.grad(g.sum(), x, create_graph=True)
    (k,) = mg.grad(h.sum(), x)
    np.testing.assert_allclose(g.value, [3.0, 12.0])
    np.testing.assert_allclose(h.value, [6.0, 12.0])
    np.testing.assert_allclose(k.value, [6.0, 6.0])
    assert mg.autograd.gradgradcheck(lambda x: Cubed()(x), x)
    assert type(Cubed()(np.ones(2))) is np.ndarray


class Fused(Op):
    """y = tanh(a w) w, with a rule on arrays only and a twin for higher orders."""

    @staticmethod
    def twin(a: Any, w: Any) -> Any:
        return (a * w).tanh() * w

    def forward(self, a: Any, w: Any) -> Any:
        self.residuals = np.tanh(a * w)
        return self.residuals * w

    def vjp(self, g: Any, a: Any, w: Any) -> Any:
        t = self.residuals
        assert not isinstance(g, engine.Node)
        inner = g * w * (1 - t * t)
        return inner * w, inner * a + g * t


def test_a_fused_op_to_third_order() -> None:
    def third(function: Callable[..., Any]) -> list[Any]:
        a, w = leaf([0.3, -0.7]), leaf([1.1, 0.4])
        found = []
        y = function(a, w)
        for _ in range(3):
            ga, gw = mg.grad(y.sum(), [a, w], create_graph=True)
            found += [ga.value, gw.value]
            y = ga * gw
        return found

    for fused, plain in zip(third(lambda a, w: Fused()(a, w)), third(Fused.twin), strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-12)


def test_a_fused_op_owes_partial_derivatives() -> None:
    """The same weight in two layers, and an input that depends on another: the twin must not see
    through its inputs, or it would return total derivatives, counted again by the walk."""

    def network(layer: Callable[..., Any], x: Any, w: Any) -> Any:
        h = layer(x, w)
        h = layer(h, w)  # h depends on w as well
        return layer(h, h * w)  # and here one input is made from the other

    def hessian(layer: Callable[..., Any]) -> list[Any]:
        x, w = leaf([0.3, -0.7]), leaf([1.1, 0.4])
        g = mg.grad(network(layer, x, w).sum(), [x, w], create_graph=True)
        h = mg.grad(g[0].sum() + (g[1] * g[1]).sum(), [x, w])
        return [*g, *h]

    for fused, plain in zip(hessian(lambda a, w: Fused()(a, w)), hessian(Fused.twin), strict=True):
        np.testing.assert_allclose(fused.value, plain.value, rtol=1e-11)


def test_the_same_tensor_twice_in_a_fused_op() -> None:
    x = leaf([0.3, -0.7])
    (g,) = mg.grad(Fused()(x, x).sum(), x)
    (k,) = mg.grad(Fused()(x, x).sum(), x, create_graph=True)
    (p,) = mg.grad(Fused.twin(x, x).sum(), x)
    np.testing.assert_allclose(g.value, p.value, rtol=1e-12)
    np.testing.assert_allclose(k.value, p.value, rtol=1e-12)


# --- observers ----------------------------------------------------------------------------------


def test_observers_see_every_op_both_ways_and_failures() -> None:
    class Log:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def forward(self, op: Op, inputs: Any, output: Any) -> None:
            self.lines.append(f"forward {op.name}")

        def failed(self, op: Op, inputs: Any) -> None:
            self.lines.append(f"failed {op.name}")

        def backward(self, op: Op, g: Any, gradients: Any) -> None:
            self.lines.append(f"backward {op.name}")

    log = Log()
    engine.observers.append(log)
    try:
        Product()(Twice()(leaf(1.0)), leaf(2.0)).backward()
        with pytest.raises(RuntimeError):
            Product()(leaf([1.0, 2.0]), leaf([1.0, 2.0, 3.0]))
    finally:
        engine.observers.remove(log)
    assert log.lines == [
        "forward Twice",
        "forward Product",
        "backward Product",
        "backward Twice",
        "failed Product",
    ]


# --- random graphs ------------------------------------------------------------------------------

UNARY: list[Callable[[Any], Any]] = [
    lambda x: x.tanh(),
    lambda x: x * 0.5,
    lambda x: x * x,
    lambda x: x.sin(),
    lambda x: x.sum(0, keepdim=True),
    lambda x: x.T,
    lambda x: x.reshape(-1)[:2].reshape(1, 2),
]
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a @ b,
]


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Steps (arity, operation, first operand, second operand), operands counted from the end."""
    step = st.tuples(st.integers(1, 2), st.integers(0, 6), st.integers(0, 5), st.integers(0, 5))
    return draw(st.lists(step, min_size=1, max_size=12))


def run_program(program: list[tuple[int, int, int, int]], inputs: list[Any]) -> Any:
    """Any two values of shapes (2, 2), (1, 2), (2, 1), (1, 1) combine somehow."""
    values = list(inputs)
    for arity, operation, first, second in program:
        a, b = values[-1 - first % len(values)], values[-1 - second % len(values)]
        if arity == 1:
            y = UNARY[operation % len(UNARY)](a) if a.shape != (1, 1) else a.tanh()
        else:
            combine = BINARY[operation % len(BINARY)]
            if combine is BINARY[3] and a.shape[-1] != b.shape[0]:
                combine = BINARY[2]
            y = combine(a, b)
        values.append(y.tanh() * 2.0)  # keeps the sizes within reason
    used = values[len(inputs) :]
    total = used[-1].sum()
    for y in used[::2]:
        total = total + y.sum() * 0.3
    return total


@settings(max_examples=80)
@given(programs(), st.integers(0, 2**32 - 1))
def test_random_graphs_to_second_order(program: list[tuple[int, int, int, int]], seed: int) -> None:
    """The slope along a random direction, and the slope of that, by finite differences."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape) for shape in ((2, 2), (1, 2), (2, 1))]
    directions = [rng.standard_normal(a.shape) for a in arrays]

    def value(t: float) -> float:
        moved = [wrap(a + t * u) for a, u in zip(arrays, directions, strict=True)]
        return float(run_program(program, moved).item())

    def slope(t: float, create_graph: bool = False) -> Any:
        xs = [leaf(a + t * u) for a, u in zip(arrays, directions, strict=True)]
        y = run_program(program, xs)
        found = mg.grad(y, xs, create_graph=create_graph, allow_unused=True)
        along = [
            (g * wrap(u)).sum() for g, u in zip(found, directions, strict=True) if g is not None
        ]
        total = along[0]
        for term in along[1:]:
            total = total + term
        return (total, xs) if create_graph else total.item()

    e = 1e-5
    numeric = (value(e) - value(-e)) / (2 * e)
    assert abs(slope(0.0) - numeric) <= 1e-5 * (1 + abs(numeric))
    total, xs = slope(0.0, create_graph=True)
    assert abs(total.item() - slope(0.0)) <= 1e-10 * (1 + abs(numeric))
    if total.requires_grad:
        second = mg.grad(total, xs, allow_unused=True)
        bend = sum(
            float((g.numpy() * u).sum())
            for g, u in zip(second, directions, strict=True)
            if g is not None
        )
        numeric = (slope(e) - slope(-e)) / (2 * e)
        assert abs(bend - numeric) <= 1e-4 * (1 + abs(numeric))


# --- what an op may be ----------------------------------------------------------------------------


class ProductOfAll(Op):
    """y = x_1 x_2 ... x_n: any number of inputs, all kept."""

    def forward(self, *x: Any) -> Any:
        return functools.reduce(lambda a, b: a * b, x)

    def vjp(self, g: Any, *x: Any) -> Any:
        return tuple(
            functools.reduce(lambda a, b: a * b, (g, *x[:i], *x[i + 1 :])) for i in range(len(x))
        )


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_an_op_with_any_number_of_inputs(count: int) -> None:
    values = np.random.default_rng(count).uniform(1, 2, (count, 3))
    x = [leaf(v) for v in values]
    gradients = mg.grad(ProductOfAll()(*x).sum(), x, create_graph=True)
    for value, g in zip(values, gradients, strict=True):
        np.testing.assert_allclose(g.value, values.prod(0) / value, rtol=1e-12)
    if count > 1:
        (second,) = mg.grad(gradients[0].sum(), [x[1]])
        expected = values.prod(0) / values[0] / values[1]
        np.testing.assert_allclose(second.value, expected, rtol=1e-12)


class Moments(Op):
    """The sum of all elements, and that of their squares: NumPy gives both as scalars."""

    def total(self, *x: Any) -> Any:
        self.residuals = x
        return sum(a.sum() for a in x), sum((a * a).sum() for a in x)

    def vjp(self, g: Any) -> Any:
        return tuple([g[0] + 2.0 * a * g[1] for a in self.residuals])


class MomentsOfOne(Moments):
    def forward(self, a: Any) -> Any:
        return self.total(a)


class MomentsOfTwo(Moments):
    def forward(self, a: Any, b: Any) -> Any:
        return self.total(a, b)


class MomentsOfThree(Moments):
    def forward(self, a: Any, b: Any, c: Any) -> Any:
        return self.total(a, b, c)


@pytest.mark.parametrize("op", [MomentsOfOne, MomentsOfTwo, MomentsOfThree])
def test_several_outputs_whatever_the_number_of_inputs(op: type[Op]) -> None:
    """Ops of one and of two inputs have ways of their own through the engine."""
    xs = [leaf([1.0, 2.0]), leaf([3.0, 4.0]), leaf([5.0, 6.0])]
    xs = xs[: len(inspect.signature(op.forward).parameters) - 1]
    first, second = op()(*xs)
    (first + 10.0 * second).backward()
    for x in xs:
        np.testing.assert_array_equal(gradient(x), 1.0 + 20.0 * x.value)


def test_a_rule_may_name_its_several_outputs() -> None:
    class ExpAndSquare(Op):
        def forward(self, x: Any) -> Any:
            e = np.exp(x)
            return e, e * e

        def vjp(self, g: Any, y: Any) -> Any:
            return (g[0] * y[0] + 2.0 * g[1] * y[1],)

    x = leaf([0.1, -0.2])
    e, square = ExpAndSquare()(x)
    (first,) = mg.grad((e + square).sum(), x, create_graph=True)
    (second,) = mg.grad(first.sum(), x)
    np.testing.assert_allclose(first.value, np.exp(x.value) + 2 * np.exp(2 * x.value))
    np.testing.assert_allclose(second.value, np.exp(x.value) + 4 * np.exp(2 * x.value))


@pytest.mark.cpu_only("NumPy alone gives scalars")
def test_a_value_is_an_array_also_without_dimensions() -> None:
    x = leaf([1.0, 2.0])
    for y in (x.sum(), x @ x, MomentsOfOne()(x)[0], MomentsOfTwo()(x, x)[1]):
        assert type(y.value) is np.ndarray


def test_an_op_may_be_called_in_its_own_way() -> None:
    class Doubling(Twice):
        def __call__(self, x: Any) -> Any:
            return super().__call__(x), "and more"

    class Heir(Doubling):
        def forward(self, x: Any) -> Any:
            return x * 3.0

    for op, expected in ((Doubling(), 2.0), (Heir(), 3.0)):
        y, more = op(leaf([1.0]))
        assert y.value.tolist() == [expected]
        assert more == "and more"


def test_an_axis_out_of_range_is_an_index_error() -> None:
    class Along(Op):
        def forward(self, x: Any) -> Any:
            return x.sum(axis=5)

        def vjp(self, g: Any) -> Any:
            return (g,)

    for x in (leaf([1.0]), wrap(np.ones(1)), np.ones(1)):
        with pytest.raises(IndexError, match=r"Along\(\(1,\) float64\): axis 5 is out of bounds"):
            Along()(x)


def test_the_walk_frees_the_graph_unless_told_otherwise() -> None:
    x = leaf([1.0, 2.0])
    y, ones = x * x, np.ones_like(x.value)
    for keep in (True, False):
        (g,) = engine.run_backward([y], [ones], [x], retain_graph=keep)
        assert wrap(g).tolist() == [2.0, 4.0]
    with pytest.raises(RuntimeError, match="second time"):
        engine.run_backward([y], [ones], [x])
    y = x * x
    engine.run_backward([y], [ones], [x])
    with pytest.raises(RuntimeError, match="second time"):
        engine.run_backward([y], [ones], [x])


def test_the_starting_gradient_takes_the_dtype_of_the_output() -> None:
    x = leaf([1.0, 2.0], np.float32)
    (x * x).backward(wrap(np.array([0.5, 1.0])))  # float64
    assert gradient(x).dtype == np.float32
    assert gradient(x).tolist() == [1.0, 4.0]


def test_gradients_with_a_graph_add_up_to_one_with_a_graph() -> None:
    x = leaf([1.0, 2.0])
    for _ in range(2):
        (x * x * x).sum().backward(create_graph=True)
    np.testing.assert_array_equal(gradient(x), [6.0, 24.0])
    (g,) = mg.grad(x.grad.sum(), [x])
    np.testing.assert_array_equal(g.value, [12.0, 24.0])
    x.grad = None


def test_the_engine_needs_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.Node, "result_type", engine.Node)
    x = wrap(np.array([1.0, 2.0]), None, True)
    y = Product()(Twice()(x), x)
    assert type(y) is engine.Node
    assert y.requires_grad
    assert not wrap(np.ones(2)).requires_grad
    mg.autograd.backward(y, wrap(np.ones(2)))
    np.testing.assert_array_equal(x._grad.value, [4.0, 8.0])
