"""Settings for the whole suite."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strict_cupy
from hypothesis import HealthCheck, settings

import minigrad as mg
from minigrad.autograd import engine
from minigrad.autograd.grad_mode import grad_mode
from minigrad.device import new_on, to_device

TESTS = str(Path(__file__).parent)
sys.path.insert(0, str(Path(TESTS).parent))  # models, examples and benchmarks

settings.register_profile(
    "minigrad", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("minigrad")


# --- the suite on another device ------------------------------------------------------------------
#
# `pytest --device cuda` runs it with every tensor made on the GPU, `--device strict` on the
# stand-in for one (strict_cupy.py).  Nothing in the package changes for that but the default device
# and numpy(), by which tests look at results: it takes them to the host first.  In the tests,
# `wrap` makes its tensors on the device, and NumPy's comparisons take what is there to the host.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "strict", "cuda"), default="cpu")


def pytest_configure(config: pytest.Config) -> None:
    where = config.getoption("--device")
    if where == "cpu":
        return
    patch = pytest.MonkeyPatch()  # for as long as the process lives
    if where == "strict":
        strict_cupy.install(patch)
    mg.set_default_device("cuda")
    numpy = mg.Tensor.numpy

    def from_anywhere(self: mg.Tensor, *, force: bool = False) -> Any:
        return numpy(self if self.requires_grad and not force else self.detach().cpu())

    patch.setattr(mg.Tensor, "numpy", from_anywhere)
    for name in ("assert_allclose", "assert_array_equal", "assert_equal"):
        patch.setattr(np.testing, name, _on_the_host(getattr(np.testing, name)))
    for name in ("allclose", "array_equal"):
        patch.setattr(np, name, _on_the_host(getattr(np, name)))


def _on_the_host(check: Any) -> Any:
    """`check` with its two arrays brought to the host."""

    def compare(actual: Any, expected: Any, *args: Any, **keywords: Any) -> Any:
        return check(_to_the_host(actual), _to_the_host(expected), *args, **keywords)

    return compare


def _to_the_host(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)([_to_the_host(part) for part in x])
    return to_device(x, mg.device("cpu")) if isinstance(x, engine._ARRAYS) else x


def _wrap_on_the_device(value: Any, op: Any = None, requires_grad: bool = False) -> Any:
    return engine.wrap(new_on(None, value), op, requires_grad)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What runs only when it is asked for, or only where it makes sense."""
    if config.getoption("--device") != "cpu":
        for module in list(sys.modules.values()):
            in_tests = (getattr(module, "__file__", None) or "").startswith(TESTS)
            if in_tests and getattr(module, "wrap", None) is engine.wrap:
                module.wrap = _wrap_on_the_device
        for item in items:
            for mark in item.iter_markers("cpu_only"):
                item.add_marker(pytest.mark.skip(reason=f"only on the CPU: {mark.args[0]}"))
    if "oracle" in config.getoption("markexpr"):
        return
    skip = pytest.mark.skip(reason="compares with another library: pytest -m oracle")
    for item in items:
        if "oracle" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def same_start_for_each_test() -> Iterator[None]:
    """Each test starts from the same seed, and has to leave the switches as it found them."""
    mg.random.manual_seed(0)
    device = mg.get_default_device()
    yield
    mg.set_default_device(device)
    recording, watching = grad_mode.enabled, list(engine.observers)
    grad_mode.enabled = True
    engine.observers.clear()
    assert recording, "the test left recording off"
    assert not watching, "the test left an observer behind"
