"""min-char-rnn: one tanh RNN on one-hot characters, and the recipe that trains it.

A. Karpathy, "Minimal character-level language model with a vanilla recurrent neural network"
(2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import minigrad as mg
from minigrad import generation, nn, optim
from minigrad.autograd.engine import Array
from minigrad.nn import functional as F


@dataclass
class Config:
    symbols: int  # size of the vocabulary
    hidden: int = 100
    length: int = 25  # characters per update
    lr: float = 0.1
    clip: float = 5.0  # every element of a gradient is kept within +-clip


class CharRNN(nn.Module):
    """h_t = tanh(W x_t + U h_{t-1} + b),  logits_t = V h_t + d, for one stream of characters."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.symbols = config.symbols
        self.rnn = nn.RNN(config.symbols, config.hidden)
        self.output = nn.Linear(config.hidden, config.symbols)
        for name, parameter in self.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.01)
        self.rnn.bias_hh_l0.requires_grad_(False)  # the recipe has one bias, PyTorch's RNN two

    def forward(self, x: mg.Tensor, h: mg.Tensor | None = None) -> tuple[mg.Tensor, mg.Tensor]:
        """Numbers of characters (T,) and the state before (1, H): logits (T, V), state after."""
        y, h = self.rnn(self.one_hot(x), h)  # (T, H)
        return self.output(y), h

    def one_hot(self, x: mg.Tensor) -> mg.Tensor:
        """(*) to (*, V)."""
        return F.one_hot(x, self.symbols).to(self.output.weight.dtype)


class Training:
    """Goes through the text, `length` characters per `step()`, again and again."""

    def __init__(self, model: CharRNN, numbers: Array, config: Config) -> None:
        self.model, self.config = model, config
        self.numbers = mg.tensor(numbers)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        # The recipe divides by sqrt(1e-8 + the sum of squares).
        self.optimizer = optim.Adagrad(
            self.trained, lr=config.lr, initial_accumulator_value=1e-8, eps=0
        )
        self.position = 0
        self.h: mg.Tensor | None = None  # carried from chunk to chunk, without its graph
        self.smooth_loss = config.length * math.log(config.symbols)

    def next_chunk(self) -> tuple[mg.Tensor, mg.Tensor]:
        """The next characters and those that follow; at the end of the text, back to the start."""
        length = self.config.length
        if self.position + length + 1 >= len(self.numbers):
            self.position, self.h = 0, None
        at = self.position
        self.position += length
        return self.numbers[at : at + length], self.numbers[at + 1 : at + length + 1]

    def step(self, x: mg.Tensor, y: mg.Tensor) -> float:
        """One update. Returns the loss: summed over the characters, in nats."""
        logits, h = self.model(x, self.h)
        loss = F.cross_entropy(logits, y, reduction="sum")
        self.h = h.detach()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.trained, self.config.clip)
        self.optimizer.step()
        value = loss.item()
        self.smooth_loss = 0.999 * self.smooth_loss + 0.001 * value
        return value


def sample(
    model: CharRNN, first: int, length: int, h: mg.Tensor | None, generator: mg.Generator
) -> list[int]:
    """Numbers of `length` characters that follow `first`, drawn from the model one by one."""
    state = None if h is None else h.unsqueeze(1)  # (1, 1, H): of one text
    parts = model.one_hot, model.rnn, model.output
    return generation.generate(*parts, [first], length, state=state, generator=generator)
