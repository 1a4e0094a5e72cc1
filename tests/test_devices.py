"""Devices: their names, CuPy found or not, and moving between two of them."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import strict_cupy

import minigrad as mg
from minigrad import nn, optim
from minigrad.autograd import engine
from minigrad.device import cupy, device_of, to_device


@pytest.mark.parametrize(
    ("given", "text", "shown"),
    [
        (("cpu",), "cpu", "device(type='cpu')"),
        (("cuda",), "cuda", "device(type='cuda')"),
        (("cuda:1",), "cuda:1", "device(type='cuda', index=1)"),
        (("cuda", 2), "cuda:2", "device(type='cuda', index=2)"),
        ((mg.device("cuda:1"),), "cuda:1", "device(type='cuda', index=1)"),
        ((mg.device("cuda:1"), 3), "cuda:3", "device(type='cuda', index=3)"),
        ((0,), "cuda:0", "device(type='cuda', index=0)"),
        ((np.int64(2),), "cuda:2", "device(type='cuda', index=2)"),
        (("cpu", 0), "cpu:0", "device(type='cpu', index=0)"),
    ],
)
def test_names(given: Any, text: str, shown: str) -> None:
    where = mg.device(*given)
    assert (str(where), repr(where)) == (text, shown)
    assert where == mg.device(text)
    assert hash(where) == hash(mg.device(text))


@pytest.mark.parametrize(
    "given",
    [
        *[("tpu",), ("",), ("cuda:",), ("cuda:-1",), ("cuda:x",), ("cuda:\N{SUPERSCRIPT TWO}",)],
        *[("cuda:1", 2), (-1,), ("cuda", -1)],
    ],
)
def test_what_is_no_device(given: Any) -> None:
    with pytest.raises(RuntimeError, match="no such device"):
        mg.device(*given)


@pytest.mark.parametrize(
    "given", [(None,), (1.5,), (True,), (b"cpu",), (0, 1), ("cuda", 1.5), ("cuda", "1"), ([],)]
)
def test_what_cannot_be_a_device(given: Any) -> None:
    with pytest.raises(TypeError, match="a device is 'cpu', 'cuda', 'cuda:0' or the number"):
        mg.device(*given)


def test_no_default_device_is_the_cpu() -> None:
    before = mg.get_default_device()
    try:
        mg.set_default_device(None)
        assert mg.get_default_device() == mg.device("cpu")
    finally:
        mg.set_default_device(before)


@pytest.mark.cpu_only("it puts other modules in CuPy's place")
class TestFindingCupy:
    def test_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cupy", None)
        with pytest.raises(RuntimeError, match="not installed: pip install 'cupy"):
            mg.zeros(2, device="cuda")
        with pytest.raises(RuntimeError, match="not installed"):
            mg.set_default_device("cuda")
        assert mg.get_default_device() == mg.device("cpu")
        assert not mg.cuda.is_available()

    def test_no_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(is_available=lambda: False))
        with pytest.raises(RuntimeError, match="needs an NVIDIA GPU and its driver"):
            mg.zeros(2, device="cuda")
        assert mg.cuda.device_count() == 0

    def test_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From the first use on, its arrays count as arrays."""
        monkeypatch.setitem(sys.modules, "cupy", strict_cupy.module)
        monkeypatch.setattr(engine, "_ARRAYS", (np.ndarray,))
        assert cupy() is strict_cupy.module
        assert cupy() is strict_cupy.module
        assert list(engine._ARRAYS) == [np.ndarray, strict_cupy.ndarray]


@pytest.mark.cpu_only("it needs two devices, one of them without a GPU")
class TestTwoDevices:
    @pytest.fixture(autouse=True)
    def gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        strict_cupy.install(monkeypatch)

    def test_moving(self) -> None:
        host = np.arange(3.0)
        assert to_device(host, mg.device("cpu")) is host
        there = to_device(host, mg.device("cuda"))
        assert device_of(there) == mg.device("cuda:0")
        for name in ("cuda", "cuda:0"):  # it is there already
            assert to_device(there, mg.device(name)) is there
        back = to_device(there, mg.device("cpu"))
        assert type(back) is np.ndarray
        np.testing.assert_array_equal(back, host)
        with pytest.raises(RuntimeError, match=r"no device cuda:1: this machine has 1 GPU"):
            to_device(host, mg.device("cuda:1"))

    def test_all_that_comes_from_the_host_is_in_c_order(self) -> None:
        """Kernels work on memory, where a weight, its gradient and its state must lie alike."""
        values = np.arange(6.0).reshape(2, 3)
        for host in (values, np.asfortranarray(values), np.repeat(values, 2, 1)[:, ::2]):
            there = to_device(host, mg.device("cuda"))
            assert there.flags.c_contiguous
            np.testing.assert_array_equal(to_device(there, mg.device("cpu")), values)

    @pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
    def test_training_goes_on_elsewhere(self, kind: str) -> None:
        """After single sequences, for which weights lie transposed: there, and back again."""

        def run(*places: str) -> list[Any]:
            mg.manual_seed(0)
            net = getattr(nn, kind)(2, 3)
            optimizer = optim.Adam(net.parameters(), lr=0.1)
            for place in places:
                net.to(place)
                for _ in range(3):
                    optimizer.zero_grad()
                    (net(mg.randn(4, 1, 2).to(place))[0] ** 2).sum().backward()
                    optimizer.step()
                if place == "cuda":
                    state = [
                        v for s in optimizer.state.values() for k, v in s.items() if k != "step"
                    ]
                    for x in [*net.parameters(), *state]:
                        assert x.value.flags.c_contiguous and x.device.type == "cuda"
                        assert x.joined is None  # that would keep the memory on the host
            return list(net.parameters())

        for here, moved in zip(run(*["cpu"] * 3), run("cpu", "cuda", "cpu"), strict=True):
            np.testing.assert_allclose(moved.detach(), here.detach(), rtol=1e-5)

    @pytest.mark.parametrize("first", [True, False])
    def test_a_number_follows_the_tensor(self, first: bool) -> None:
        """A 0-d tensor on the CPU joins what is on the GPU, and its gradient comes back."""
        number = mg.tensor(3.0, requires_grad=True)
        there = mg.tensor([1.0, 2.0], device="cuda", requires_grad=True)
        y = number * there if first else there * number
        assert y.device.type == "cuda"
        y.sum().backward()
        assert number.grad is not None
        assert number.grad.device.type == "cpu"
        assert number.grad.item() == 3.0
        assert there.grad.tolist() == [3.0, 3.0]

    def test_two_devices_do_not_mix(self) -> None:
        with pytest.raises(RuntimeError, match=r"found them on cpu and cuda:0: move one"):
            mg.ones(2) + mg.ones(2, device="cuda")
