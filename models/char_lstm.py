"""A stacked LSTM that reads characters and says what comes next.

Two recipes.  `stream`: embedded characters, a loss at every step, the state carried from chunk to
chunk.  `windows`: each window of 50 characters, given as one feature (the character's number
divided by the number of characters), predicts the one after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import minigrad as mg
from minigrad import generation, nn
from minigrad.nn import functional as F

State = tuple[mg.Tensor, mg.Tensor]  # h and c, each (layers, B, H)


@dataclass
class Config:
    symbols: int  # size of the vocabulary
    recipe: str = "stream"  # or "windows"
    hidden: int = 256
    layers: int = 2
    dropout: float = 0.2  # after each layer
    embedding: int = 64  # features per character; the windows recipe has 1
    length: int = 64  # characters per chunk, or per window
    batch: int = 16

    @classmethod
    def of_recipe(cls, recipe: str, symbols: int) -> Config:
        """The sizes that a recipe starts from."""
        if recipe == "windows":
            return cls(symbols, "windows", hidden=300, embedding=1, length=50, batch=30)
        return cls(symbols)


class OneFeature(nn.Module):
    """The number of a character divided by how many there are: (T, B) to (T, B, 1)."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.symbols = symbols

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return (x.to(mg.get_default_dtype()) / self.symbols).unsqueeze(-1)


class CharLSTM(nn.Module):
    """Characters to features, LSTM layers with dropout after each, one logit per character."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.features: nn.Module
        if config.recipe == "windows":
            self.features = OneFeature(config.symbols)
        else:
            self.features = nn.Embedding(config.symbols, config.embedding)
        self.lstm = nn.LSTM(
            1 if config.recipe == "windows" else config.embedding,
            config.hidden,
            config.layers,
            dropout=config.dropout if config.layers > 1 else 0.0,  # between the layers
        )
        self.dropout = nn.Dropout(config.dropout)  # after the last
        self.output = nn.Linear(config.hidden, config.symbols)

    def forward(self, x: mg.Tensor, state: State | None = None) -> tuple[mg.Tensor, State]:
        """Numbers (T, B) and the state before: logits (T, B, V), or (B, V) with windows; state."""
        y, state = self.lstm(self.features(x), state)  # (T, B, H)
        if self.config.recipe == "windows":
            y = y[-1]  # (B, H): only the whole window has something to say
        return self.output(self.dropout(y)), state

    def loss(self, logits: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        """Mean negative log-likelihood of the characters `y`, in nats."""
        return F.cross_entropy(logits.reshape(-1, self.config.symbols), y.reshape(-1))


@mg.no_grad()
def generate(
    model: CharLSTM,
    prompt: list[int],
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: mg.Generator | None = None,
) -> list[int]:
    """The numbers of `length` characters that follow `prompt` (which must not be empty).

    A stream model reads on from its state.  A windows model takes the last characters anew each
    time: the prediction is appended, and the window slides.  See `generation.generate`.
    """
    if not prompt:
        raise ValueError("the prompt must hold at least one character")
    generator = generator or mg.Generator()
    training = model.training
    model.eval()
    how = {"temperature": temperature, "top_k": top_k}
    if model.config.recipe == "windows":
        written = _slide(model, prompt, length, generator, **how)
    else:
        parts = model.features, model.lstm, model.output
        written = generation.generate(*parts, prompt, length, generator=generator, **how)
    model.train(training)
    return written


def _slide(
    model: CharLSTM,
    prompt: list[int],
    length: int,
    generator: mg.Generator,
    temperature: float,
    top_k: int | None,
) -> list[int]:
    """Each character from the window before it.  The host waits for a GPU only at the end."""
    device, T = model.output.weight.device, model.config.length
    uniforms = mg.tensor(generator.numpy.random(length), device=device)
    numbers = [mg.tensor(n, device=device) for n in prompt]
    for t in range(length):
        logits, _ = model(mg.stack(numbers[-T:]).unsqueeze(1))  # (1, V)
        numbers.append(generation.choose(logits, uniforms[t], temperature, top_k)[0])
    return mg.stack(numbers[len(prompt) :]).tolist() if length else []
