"""Settings for the whole suite."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import minigrad as mg
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
def same_numbers_each_time() -> None:
    """Each test starts from the same seed, and with recording on."""
    mg.random.manual_seed(0)
    assert grad_mode.enabled, "an earlier test left recording off"
