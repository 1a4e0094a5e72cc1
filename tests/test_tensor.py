"""Tensor: attributes, in-place writes, .data, hooks, conversions, printing."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import strict_cupy

import minigrad as mg


def leaf(*values: float) -> Any:
    return mg.tensor(values, dtype=mg.float64, requires_grad=True)


def test_in_place_on_an_intermediate_differentiates() -> None:
    x = leaf(1.0, 2.0)
    y = x.exp()  # its rule uses its output
    z = y * y
    y += x
    y *= 3
    (y.sum() + z.sum()).backward()
    e = np.exp([1.0, 2.0])
    np.testing.assert_allclose(x.grad.value, 3 * (e + 1) + 2 * e * e)


def test_in_place_on_a_constant_starts_its_history() -> None:
    w, total = leaf(3.0), mg.zeros(1, dtype=mg.float64)
    for _ in range(2):
        total += w * w
    total.sum().backward()
    assert w.grad.tolist() == [12.0]


def test_in_place_on_a_leaf() -> None:
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="leaf"):
        x += 1
    with pytest.raises(RuntimeError, match="leaf"):
        x.zero_()
    assert x.tolist() == [1.0]
    with mg.no_grad():
        x += 1
    assert x.tolist() == [2.0]
    assert x.is_leaf and x.requires_grad


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.data.mul_(2),
        lambda x: setattr(x, "data", mg.ones(2, dtype=mg.float64)),
        lambda x: mg.no_grad()(lambda: x.add_(1))(),
        lambda x: x.data.__setitem__(0, 5.0),
    ],
)
def test_a_write_behind_the_graph_is_noticed(write: Any) -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    write(x)
    with pytest.raises(RuntimeError, match="changed"):
        y.backward()
    (x * x).sum().backward()  # from the new value, all is well
    np.testing.assert_allclose(x.grad.value, 2 * x.value)


@pytest.mark.cpu_only("it is about NumPy")
@pytest.mark.parametrize(
    ("use", "given"),
    [
        (lambda x, a: x * a, [0.5, 2.0, 1.5]),
        (lambda x, a: a / x, [0.5, 2.0, 1.5]),
        (lambda x, a: x**a, [0.5, 2.0, 1.5]),
        (lambda x, a: a**x, [0.5, 2.0, 1.5]),
        (lambda x, a: x @ a, [0.5, 2.0, 1.5]),
        (lambda x, a: (x * 1).mul_(a), [0.5, 2.0, 1.5]),
        (lambda x, a: mg.maximum(x, a), [0.5, 3.0, 1.5]),
        (lambda x, a: mg.einsum("i,i->", x, a), [0.5, 2.0, 1.5]),
        (lambda x, a: mg.where(a, x, 2 * x), [True, True, False]),
        (lambda x, a: x.masked_fill(a, 9.0), [True, True, False]),
        (lambda x, a: x[a], [True, True, False]),
        (lambda x, a: x[a], [0, 0, 1]),
        (lambda x, a: x.gather(0, a), [0, 0, 1]),
        (lambda x, a: mg.nn.functional.embedding(a, x.reshape(3, 1)), [0, 0, 1]),
    ],
)
def test_an_array_may_be_written_to_after_use(use: Any, given: list[Any]) -> None:
    """By whoever owns it, for the next batch, say: what was computed keeps the old values."""
    found = []
    for late in (False, True):
        x, array = leaf(1.0, 2.0, 3.0), np.array(given)
        y = use(x, array)
        if late:
            array[:] = array[::-1].copy()
        (y * y).sum().backward()
        found.append(x.grad.tolist())
    assert found[0] == found[1]


def test_aliases_are_values() -> None:
    x = mg.arange(4.0)
    for alias in (x.detach(), x.clone(), x.reshape(2, 2), x.view(4)):
        alias.add_(1)
        assert x.tolist() == [0, 1, 2, 3]
    x.data.zero_()
    assert x.tolist() == [0, 0, 0, 0]


def test_in_place_keeps_shape_and_dtype() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        mg.ones(3).add_(mg.ones(2, 3))
    with pytest.raises(RuntimeError, match="float32"):
        mg.tensor([1, 2]).mul_(0.5)
    x = mg.ones(2)
    x += mg.ones(2, dtype=mg.float64)
    assert x.dtype == mg.float32


def test_overwriting_cuts_the_gradient() -> None:
    x, source = leaf(1.0, 2.0), leaf(5.0)
    y = x * 2
    y.copy_(source)
    y.sum().backward()
    assert x.grad.tolist() == [0, 0]
    assert source.grad.tolist() == [2.0]
    z = x * 2
    z.fill_(7)
    assert z.tolist() == [7, 7] and z.requires_grad


def test_random_writes_have_their_moments() -> None:
    x = mg.empty(20_000)
    assert abs(x.uniform_(2, 4).mean().item() - 3) < 0.05
    assert abs(x.normal_(1, 2).std().item() - 2) < 0.1
    assert abs(x.bernoulli_(0.25).mean().item() - 0.25) < 0.02
    assert x.dtype == mg.float32


def test_requires_grad_is_checked() -> None:
    with pytest.raises(RuntimeError, match="floating"):
        mg.tensor([1]).requires_grad_()
    y = leaf(1.0) * 2
    with pytest.raises(RuntimeError, match="detach"):
        y.requires_grad = False
    assert not y.detach().requires_grad
    y.detach_()
    assert y.is_leaf and not y.requires_grad


def test_grad_is_checked() -> None:
    x = leaf(1.0, 2.0)
    for wrong in (mg.ones(3, dtype=mg.float64), mg.ones(2), x):
        with pytest.raises(RuntimeError):
            x.grad = wrong
    with pytest.raises(TypeError):
        x.grad = 1.0
    x.grad = mg.ones(2, dtype=mg.float64)
    (x * 1).sum().backward()
    assert x.grad.tolist() == [2, 2]
    x.grad = None
    assert x.grad is None


def test_hooks_change_the_gradient_and_go() -> None:
    x = leaf(1.0)
    y = x * 3
    y.retain_grad()
    handle = y.register_hook(lambda g: g * 10)
    assert y.retains_grad
    y.sum().backward(retain_graph=True)
    assert (x.grad.item(), y.grad.item()) == (30, 10)  # retain_grad sees what the hook made
    handle.remove()
    handle.remove()
    y.sum().backward()
    assert (x.grad.item(), y.grad.item()) == (33, 11)
    seen = []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * 2).sum().backward()
    assert seen == [2.0]
    with pytest.raises(RuntimeError):
        mg.ones(1).register_hook(print)


def test_retained_gradients_follow_an_in_place_write() -> None:
    x = leaf(1.0)
    y = x * 2
    y.retain_grad()
    y *= 5
    (y * 3).sum().backward()
    assert (y.grad.item(), x.grad.item()) == (3, 30)


def test_no_reference_cycles() -> None:
    gc.disable()
    try:
        x = leaf(1.0)
        y = (x * 2).exp()
        y.retain_grad()
        y += 1
        alias = x.data
        seen = [weakref.ref(x), weakref.ref(y)]
        del x, y, alias
        assert [ref() for ref in seen] == [None, None]
    finally:
        gc.enable()


@pytest.mark.cpu_only("it is about NumPy")
@pytest.mark.parametrize("shape", [(), (0, 3), (4,), (3, 4), (2, 3, 4)])
def test_numpy_is_in_c_order(shape: tuple[int, ...]) -> None:
    """Files and other libraries take the memory as it is."""
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    array = mg.tensor(values.T.copy()).T.numpy()
    assert array.flags.c_contiguous and not array.flags.writeable and array.shape == shape
    np.testing.assert_array_equal(array, values)


@pytest.mark.cpu_only("it is about NumPy")
def test_numpy_is_a_read_only_view() -> None:
    x = mg.tensor([1.0, 2.0])
    with pytest.raises(ValueError):
        x.numpy()[0] = 5
    with pytest.raises(RuntimeError, match="detach"):
        leaf(1.0).numpy()
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(leaf(1.0))
    assert np.asarray(x).tolist() == [1.0, 2.0]
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert np.array(x, dtype=np.float32, copy=False).base is not None  # the tensor's own memory
    with pytest.raises(ValueError, match="float32 to float64 needs a copy"):
        np.array(x, dtype=np.float64, copy=False)
    mine = np.array(x, copy=True)
    mine[0] = 5
    assert x.tolist() == [1.0, 2.0]
    assert x.__dlpack_device__() == np.ones(1).__dlpack_device__()
    exported = np.from_dlpack(x)
    assert exported.tolist() == [1.0, 2.0]
    with pytest.raises(BufferError, match="detach"):
        np.from_dlpack(leaf(1.0))


@pytest.mark.cpu_only("it mixes tensors with NumPy arrays")
def test_numpy_on_the_left() -> None:
    x = leaf(1.0, 2.0)
    for y in (np.array([3.0, 4.0]) * x, np.float64(3) * x, np.array([1.0, 1.0]) @ x):
        assert isinstance(y, mg.Tensor) and y.requires_grad
    assert (np.array([1.0, 5.0]) == x).tolist() == [True, False]
    with pytest.raises(TypeError):
        np.exp(x)


def test_conversions() -> None:
    assert (float(mg.tensor([2.5])), int(mg.tensor(2.9)), bool(mg.tensor(0))) == (2.5, 2, False)
    assert [10, 20][mg.tensor(1)] == 20
    assert 2 in mg.tensor([1, 2]) and 3 not in mg.tensor([1, 2])
    assert [row.tolist() for row in mg.eye(2)] == [[1, 0], [0, 1]]
    assert f"{mg.tensor(1.23456):.2f}" == "1.23"
    for wrong in (bool, lambda x: x.item()):
        with pytest.raises(RuntimeError):
            wrong(mg.ones(2))
    for wrong in (float, int):
        with pytest.raises(ValueError):
            wrong(mg.ones(2))
    for wrong in (len, iter, lambda x: [1][x]):
        with pytest.raises(TypeError):
            wrong(mg.tensor(1.0))


def test_operators_decline_strangers() -> None:
    x = mg.ones(2)
    with pytest.raises(TypeError):
        x + [1, 2]  # noqa: RUF005
    assert (x == None) is False  # noqa: E711
    assert len({x, mg.ones(2)}) == 2


def test_copies_and_pickles() -> None:
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    twin = copy.deepcopy({"a": x, "b": x})
    assert twin["a"] is twin["b"] and twin["a"].requires_grad
    assert twin["a"].grad.tolist() == [2, 4] and twin["a"].grad is not x.grad
    for alias in (copy.deepcopy(x.data), pickle.loads(pickle.dumps(x.data))):
        alias.fill_(7)  # a copy of an alias writes through to nothing
        assert x.tolist() == [1, 2] and not alias.requires_grad and alias.tolist() == [7, 7]
    back = pickle.loads(pickle.dumps(x))
    assert back.tolist() == [1, 2] and back.requires_grad
    for attempt in (copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError, match="detach"):
            attempt(x * 2)


def test_to() -> None:
    x = leaf(1.5)
    assert x.to(mg.float64) is x and x.to(x.device) is x
    x.to("cpu", mg.float32).sum().backward()
    assert x.grad.dtype == mg.float64
    assert x.long().dtype == mg.int64 and x.to(mg.tensor([1])).dtype == mg.int64
    assert x.half().dtype == mg.float16 and x.bool().tolist() == [True]
    assert x.byte().dtype == mg.uint8
    assert (x.itemsize, mg.zeros(2, 3).itemsize, mg.zeros(2, 3).nbytes) == (8, 4, 24)
    assert x.new_zeros(2, 3).dtype == mg.float64
    with pytest.raises(TypeError):
        x.to(colour="red")


@pytest.mark.cpu_only("it names the device")
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: mg.tensor([1.0, 2.5]), "tensor([1.0000, 2.5000])"),
        (lambda: mg.tensor([1.0, -2.0]), "tensor([ 1., -2.])"),
        (lambda: mg.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
        (lambda: mg.tensor([1.5, math.nan, -math.inf]), "tensor([1.5000,    nan,   -inf])"),
        (lambda: mg.tensor(2), "tensor(2)"),
        (lambda: mg.zeros(0, 3), "tensor([], size=(0, 3))"),
        (lambda: mg.tensor([True, False]), "tensor([ True, False])"),
        (lambda: mg.ones(1, dtype=mg.float64), "tensor([1.], dtype=float64)"),
        (lambda: mg.ones(1, requires_grad=True), "tensor([1.], requires_grad=True)"),
        (lambda: mg.ones(1, requires_grad=True) * 2, "tensor([2.], grad_fn=<Mul>)"),
    ],
)
def test_repr(make: Any, expected: str) -> None:
    assert repr(make()) == expected


def test_repr_of_a_long_tensor_is_short() -> None:
    assert len(repr(mg.rand(1000, 1000))) < 1000


def test_data_is_checked() -> None:
    x = leaf(1.0, 2.0)
    for wrong, kind in ((np.ones(2), TypeError), (mg.tensor([1, 2]), RuntimeError)):
        with pytest.raises(kind, match="data"):
            x.data = wrong
    x.data = mg.tensor([3.0], dtype=mg.float64)  # any shape
    assert x.tolist() == [3.0]


@pytest.mark.cpu_only("it needs two devices")
def test_between_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    strict_cupy.install(monkeypatch)
    x = leaf(1.0, 2.0)
    there = x.cuda()
    assert there.is_cuda and not x.is_cuda
    assert x.cuda(0).device == x.cuda("cuda:0").device == there.device
    assert repr(there.detach()) == "tensor([1., 2.], device='cuda:0', dtype=float64)"
    with pytest.raises(TypeError, match=r"tensor on cuda:0: use \.cpu\(\)\.numpy\(\)"):
        there.detach().numpy()
    assert type(there.numpy(force=True)) is np.ndarray
    y = mg.zeros(2, dtype=mg.float64)
    y.copy_(there * 3.0)  # from there to here; the gradient goes the other way, and then to x
    assert not y.is_cuda
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_writing_to_parts_of_data() -> None:
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * x
    part = x.data[0]
    part.mul_(10)
    part[1] = 5
    assert x.tolist() == [[10, 5], [3, 4]] and part.tolist() == [10, 5]
    x.data[1].zero_()
    assert part.tolist() == [10, 5], "a part keeps the values it had"
    with pytest.raises(RuntimeError, match="was changed"):
        y.sum().backward()


# --- parts without a name -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x[0].add_(1),
        lambda x: x[:, 0].zero_(),
        lambda x: x.view(-1).mul_(2),
        lambda x: x[1, :2].copy_(mg.ones(2)),
        lambda x: x[0][:2].fill_(3),
        lambda x: x[0].masked_fill_(x[0] > 0, 1),
        lambda x: x.unsqueeze(0).normal_(),
    ],
)
def test_a_write_to_a_part_that_has_no_name_warns(write: Any) -> None:
    x = mg.randn(2, 3)
    before = x.tolist()
    with pytest.warns(UserWarning, match="this writes to a copy"):
        write(x)
    assert x.tolist() == before
    with pytest.warns(UserWarning, match="this writes to a copy"):
        x.requires_grad_()[0].add_(1)


def test_an_assignment_to_a_part_that_has_no_name_is_an_error() -> None:
    x = mg.zeros(2, 3)
    for lost in ("x[0][1] = 2", "x.view(-1)[0] = 1", "x[:, 0][x[:, 0] == 0] = 3"):
        with pytest.raises(RuntimeError, match="this writes to a copy"):
            exec(lost)
    x[0, 1] = 2
    assert x.tolist() == [[0, 2, 0], [0, 0, 0]]


@pytest.mark.filterwarnings("error")
def test_what_will_be_seen_is_written_to_in_silence() -> None:
    x = mg.ones(2, 3)
    x[0] += 1
    x[0, 1] = 3
    row = x[0]
    row.add_(1)
    row[0] = 5
    held = [x[0], {"a": x[1]}]
    held[0].add_(1)
    held[0][0] = 5
    held[1]["a"].mul_(2)

    def change(part: Any) -> Any:
        part[0] = 1
        return part.add_(1)

    assert change(x[1]).tolist() == [2, 2, 2]
    for part in x:
        part.zero_()
    x.data[0].add_(1)
    x.data[0][1] = 7
    assert x.tolist() == [[3, 7, 3], [1, 1, 1]]
    x.grad = mg.ones(2, 3)
    x.grad[0] = 2
    x.grad.mul_(2)
    results = [
        x[0].clone().add_(1),
        (x[0] * 2).relu_(),
        x.flip(0).add_(1),
        x[[0, 1]].add_(1),
        x[x > 1].add_(1),
        x.sum(0, keepdim=True).add_(1),
        mg.zeros(2, 3).view(6).add_(1),
        mg.nn.Linear(3, 2)(x).relu_(),
        mg.nn.LSTM(3, 2)(x)[0].mul_(2),
        mg.nn.GRU(3, 2, batch_first=True)(x[None])[0].mul_(2),
    ]
    assert results[0].tolist() == [4, 8, 4]
