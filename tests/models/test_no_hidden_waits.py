"""A training step of each model makes the host wait for the GPU nowhere but where it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import strict_cupy

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from models import char_lstm, char_rnn, forecaster

pytestmark = pytest.mark.skipif(
    "config.getoption('--device') == 'cuda'", reason="the stand-in counts, not the real CuPy"
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    strict_cupy.install(monkeypatch)
    mg.set_default_device("cuda")  # conftest.py sets it back


def waits(step: Callable[[], Any]) -> int:
    """In a step after the first, which may set things up."""
    step()
    before = strict_cupy.syncs
    step()
    return strict_cupy.syncs - before


@pytest.mark.usefixtures("gpu")
def test_char_rnn() -> None:
    config = char_rnn.Config(symbols=7, hidden=5, length=4)
    training = char_rnn.Training(char_rnn.CharRNN(config), np.arange(40) % 7, config)
    assert waits(lambda: training.step(*training.next_chunk())) == 1, "for the loss it returns"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("recipe", ["stream", "windows"])
def test_char_lstm(recipe: str) -> None:
    config = char_lstm.Config(6, recipe, hidden=5, layers=2, embedding=3)
    model = char_lstm.CharLSTM(config)
    optimizer = optim.Adam(model.parameters())
    x = mg.randint(0, 6, (4, 3))
    y = mg.randint(0, 6, (3,) if recipe == "windows" else (4, 3))

    def step() -> None:
        logits, _ = model(x)
        optimizer.zero_grad()
        model.loss(logits, y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    assert waits(step) == 0


@pytest.mark.usefixtures("gpu")
def test_forecaster() -> None:
    model = forecaster.Forecaster(forecaster.Config(hidden=5))
    optimizer = optim.Adam(model.parameters())
    x, y = mg.randn(2, 6), mg.randn(2)

    def step() -> None:
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()

    assert waits(step) == 0


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("recipe", ["stream", "windows"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_writing(recipe: str, temperature: float) -> None:
    model = char_lstm.CharLSTM(char_lstm.Config(6, recipe, hidden=5, embedding=3, length=4))
    write = lambda: char_lstm.generate(model, [1, 2], 9, temperature, 3)  # noqa: E731
    assert waits(write) == 1, "for the text, at its end"
