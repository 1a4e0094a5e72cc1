"""An LSTM that reads a window of past values and forecasts the next; then the next, and so on."""

from __future__ import annotations

from dataclasses import dataclass

import minigrad as mg
from minigrad import nn


@dataclass
class Config:
    hidden: int = 100
    layers: int = 1


class Forecaster(nn.Module):
    """Windows of past values (B, T) to the next value of each (B,)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, config.hidden, config.layers, batch_first=True)
        self.output = nn.Linear(config.hidden, 1)

    def forward(self, windows: mg.Tensor) -> mg.Tensor:
        y, _ = self.lstm(windows.unsqueeze(-1))  # (B, T, H); each window from a zero state
        return self.output(y[:, -1]).squeeze(-1)  # (B,)
