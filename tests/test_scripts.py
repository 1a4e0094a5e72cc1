"""Whole scripts as PyTorch's users write them, run on minigrad, and on both with `-m oracle`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scripts import SCRIPTS

IMPORTS = """
import {library} as torch
import {library}.nn as nn
import {library}.nn.functional as F
"""

each_script = pytest.mark.parametrize("name", SCRIPTS)


def run(library: str, name: str) -> tuple[list[float], list[Any]]:
    """The losses and results of a script, from weights that do not depend on the library."""

    def prepare(model: Any) -> Any:
        generator = np.random.default_rng(0)
        tensor = __import__(library).tensor
        state = {
            key: tensor(generator.uniform(-0.4, 0.4, tuple(value.shape)).astype(np.float32))
            if "float" in str(value.dtype)
            else value
            for key, value in model.state_dict().items()
        }
        model.load_state_dict(state)
        return model

    names: dict[str, Any] = {"prepare": prepare, "losses": [], "results": []}
    names["__name__"] = "__main__"
    __import__(library).manual_seed(0)
    source = (IMPORTS + SCRIPTS[name]).replace("{library}", library)
    exec(compile(source, name, "exec"), names)
    return names["losses"], names["results"]


@each_script
@pytest.mark.cpu_only("scripts as they are make their tensors where they please")
def test_it_runs(name: str) -> None:
    losses, _ = run("minigrad", name)
    assert losses and all(math.isfinite(loss) for loss in losses)
    if len(losses) > 3:
        assert min(losses[-3:]) < losses[0]


@pytest.mark.oracle
@each_script
def test_pytorch_gives_the_same(name: str) -> None:
    pytest.importorskip("torch")
    (losses, results), (their_losses, their_results) = run("minigrad", name), run("torch", name)
    np.testing.assert_allclose(losses, their_losses, rtol=2e-4)
    assert len(results) == len(their_results)
    for ours, theirs in zip(flat(results), flat(their_results), strict=True):
        if isinstance(ours, float):
            np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-6)
        else:
            assert ours == theirs


def flat(values: Any) -> list[Any]:
    if isinstance(values, list | tuple):
        return [leaf for value in values for leaf in flat(value)]
    return [values]
