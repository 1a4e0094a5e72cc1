"""mg.cuda, with a GPU (the stand-in) and without."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import strict_cupy

import minigrad as mg


@pytest.mark.cpu_only("it is about a machine without a GPU")
def test_without_a_gpu() -> None:
    if mg.cuda.is_available():
        pytest.skip("this machine has one")
    assert mg.cuda.device_count() == 0
    for call in (mg.cuda.synchronize, mg.cuda.memory_allocated, mg.cuda.current_device):
        with pytest.raises(RuntimeError, match="device 'cuda' needs"):
            call()
    with pytest.raises(RuntimeError, match="device 'cuda' needs"):
        mg.set_default_device("cuda")
    assert mg.get_default_device() == mg.device("cpu")


def test_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    strict_cupy.install(monkeypatch)
    assert mg.cuda.is_available() and mg.cuda.device_count() == 1
    assert mg.cuda.current_device() == 0 and mg.cuda.memory_allocated("cuda:0") == 0
    mg.cuda.synchronize()
    with pytest.raises(ValueError, match="not cpu"):
        mg.cuda.synchronize("cpu")


def test_the_default_device(monkeypatch: pytest.MonkeyPatch) -> None:
    strict_cupy.install(monkeypatch)
    mg.set_default_device("cuda")
    assert mg.zeros(2).is_cuda and mg.tensor([1.0]).is_cuda and mg.randn(2).is_cuda
    assert mg.nn.Linear(2, 3).weight.is_cuda and mg.nn.Embedding(3, 2, padding_idx=0).weight.is_cuda
    assert not mg.ones(2, device="cpu").is_cuda
    assert not mg.zeros_like(mg.ones(2, device="cpu")).is_cuda
    with pytest.raises(RuntimeError, match="cpu and cuda:0"):
        mg.ones(2, device="cpu") + mg.ones(2)
    mg.set_default_device("cpu")
    assert not mg.zeros(2).is_cuda


def test_the_precision_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 only when it is asked for; CuPy is told, where there is one."""
    assert mg.get_float32_matmul_precision() == "highest"
    if not mg.cuda.is_available():
        mg.set_float32_matmul_precision("high")
        assert mg.get_float32_matmul_precision() == "high"
    told = []
    products = SimpleNamespace(
        COMPUTE_TYPE_DEFAULT="float32",
        COMPUTE_TYPE_TF32="TF32",
        set_compute_type=lambda dtype, kind: told.append((dtype.name, kind)),
    )
    strict_cupy.install(monkeypatch)
    monkeypatch.setattr(
        strict_cupy.module, "_core", SimpleNamespace(_routines_linalg=products), raising=False
    )
    for name in ("high", "medium", "highest"):
        mg.set_float32_matmul_precision(name)
        assert mg.get_float32_matmul_precision() == name
    assert told == [("float32", "TF32"), ("float32", "TF32"), ("float32", "float32")]
    with pytest.raises(ValueError, match="'highest', 'high' or 'medium'"):
        mg.set_float32_matmul_precision("low")
    assert mg.get_float32_matmul_precision() == "highest"


def test_cupy_has_the_switch() -> None:
    """It is no public part of CuPy's: this would notice that it has gone."""
    cupy = pytest.importorskip("cupy")
    products = cupy._core._routines_linalg
    assert {"COMPUTE_TYPE_DEFAULT", "COMPUTE_TYPE_TF32", "set_compute_type"} <= set(dir(products))


def test_importing_does_not_import_cupy() -> None:
    code = "import sys, minigrad; assert 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
