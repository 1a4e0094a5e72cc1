"""Settings for the whole suite."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import minigrad as mg
from minigrad.autograd import engine
from minigrad.autograd.grad_mode import grad_mode

sys.path.insert(0, str(Path(__file__).parent.parent))  # models, examples and benchmarks

settings.register_profile(
    "minigrad", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("minigrad")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests against other libraries run only when asked for: `pytest -m oracle`."""
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
    yield
    recording, watching = grad_mode.enabled, list(engine.observers)
    grad_mode.enabled = True
    engine.observers.clear()
    assert recording, "the test left recording off"
    assert not watching, "the test left an observer behind"
