# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call"
# (the models below are written as users write them, on a base class that is known at run time)
"""What is timed: every workload is written once, and runs on PyTorch and on minigrad as it stands.

Each function below takes the library as its first argument, called `torch`, and the sizes after it.
It returns something to call again and again (one call is one step), with a method `check()` that
gives numbers which must agree between the libraries before anything is timed.

Data and initial weights come from NumPy and depend on nothing but names and shapes, so all
libraries, each in a process of its own, start from the same numbers.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any
Library = Any  # the module `torch`, or the module `minigrad`

CHARACTERS = 65  # classes of the text workloads, where the recipe does not say otherwise


# --- the same numbers for everybody ---------------------------------------------------------------


def draw(name: str, shape: tuple[int, ...]) -> Array:
    """Initial weights, U(-0.1, 0.1), that depend on `name` and `shape` alone. float32."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return random.uniform(-0.1, 0.1, shape).astype(np.float32)


def set_weights(torch: Library, model: Any) -> None:
    """Give every parameter of `model` the values that `draw` has for its name."""
    drawn = {name: draw(name, tuple(w.shape)) for name, w in model.state_dict().items()}
    model.load_state_dict({name: torch.from_numpy(w) for name, w in drawn.items()})


def flights_data(T: int, B: int) -> list[tuple[Array, Array]]:
    """Windows of a growing, seasonal series within (-1, 1): (T, B, 1), and what comes next."""
    t = np.arange(200 + T)
    series = (t / len(t) - 0.5 + 0.3 * np.sin(2 * np.pi * t / 12)).astype(np.float32)
    starts = np.random.default_rng(0).integers(200, size=(64, B))
    windows = series[starts[:, None, :] + np.arange(T)[None, :, None]]  # (64, T, B)
    return [(x[:, :, None], y[:, None]) for x, y in zip(windows, series[starts + T], strict=True)]


def symbols(count: int, batches: int, *shape: int) -> Array:
    """Random symbols 0..count-1, (batches, *shape). int64."""
    return np.random.default_rng(1).integers(count, size=(batches, *shape))


def min_char_data(T: int, classes: int) -> list[tuple[Array, Array]]:
    """Chunks of text: one-hot characters (T, 1, classes), and each one's successor (T,)."""
    text = symbols(classes, 64, T + 1)
    one_hot = np.eye(classes, dtype=np.float32)
    return [(one_hot[chunk[:-1], None], chunk[1:]) for chunk in text]


# --- what is called -------------------------------------------------------------------------------


@contextmanager
def dropout_off(model: Any) -> Iterator[None]:
    """Dropout with probability 0 in all modules, which stay in training mode."""
    names = "p", "dropout"  # of a Dropout, of a recurrent layer
    found = [(m, n, getattr(m, n, None)) for m in model.modules() for n in names]
    numbers = [(m, n, p) for m, n, p in found if isinstance(p, float)]
    for module, name, _ in numbers:
        setattr(module, name, 0.0)
    yield
    for module, name, p in numbers:
        setattr(module, name, p)


class Training:
    """Steps of training on one batch after another: forward, backward, update."""

    def __init__(
        self,
        torch: Library,
        model: Any,
        batches: Sequence[tuple[Array, Array]],
        loss: Callable[[Any, Any], Any],
        optimizer: Any = None,
        clip: float | None = None,
    ) -> None:
        set_weights(torch, model)
        self.torch = torch
        self.model = model
        self.loss = loss
        self.clip = clip
        self.optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=0.001)
        # torch.tensor copies: the batches belong to the library, also where memory is measured
        self.batches = itertools.cycle([(torch.tensor(x), torch.tensor(y)) for x, y in batches])

    def forward(self) -> Any:
        x, target = next(self.batches)
        return self.loss(self.model(x), target)

    def learn(self, loss: Any) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip:
            self.torch.nn.utils.clip_grad_value_(self.model.parameters(), self.clip)
        self.optimizer.step()

    def __call__(self) -> None:
        self.learn(self.forward())

    def check(self) -> list[float]:
        """Three losses: forward, backward and update all count. Dropout is off: it would differ."""
        losses = []
        # Not by eval(): cuDNN goes back through a recurrent layer only while it is training.
        with dropout_off(self.model):
            for _ in range(3):
                loss = self.forward()
                self.learn(loss)
                losses.append(loss.item())
        return losses


class Evaluation(Training):
    """The forward pass and the loss, with dropout off and nothing recorded."""

    def __call__(self) -> None:
        with self.torch.no_grad():
            self.forward()

    def check(self) -> list[float]:
        self.model.eval()
        with self.torch.no_grad():
            return [self.forward().item()]


class Generation:
    """Writing text: each call draws `length` characters, one by one, and feeds each back."""

    def __init__(self, torch: Library, model: Any, length: int) -> None:
        set_weights(torch, model)
        self.torch = torch
        self.model = model.eval()
        self.length = length
        self.x = torch.zeros(1, 1, dtype=torch.int64)  # (T, B): one character
        self.state = None

    def __call__(self) -> list[int]:
        torch = self.torch
        written = []
        with torch.no_grad():
            for _ in range(self.length):
                logits, self.state = self.model(self.x, self.state)  # (1, 1, C)
                probabilities = torch.softmax(logits[0], dim=-1)  # (1, C)
                self.x = torch.multinomial(probabilities, 1)  # (1, 1)
                written.append(self.x.item())
        return written

    def check(self) -> list[float]:
        """The first logits after a fixed text, fed one character at a time."""
        state = None
        with self.torch.no_grad():
            for c in range(10):
                x = self.torch.tensor([[c]], device=self.x.device)
                logits, state = self.model(x, state)
        return logits[0, 0, :3].tolist()


class Chain:
    """`length` times y = tanh((y + a) * b) on small tensors and back: nothing but overhead."""

    def __init__(self, torch: Library, length: int, size: int, learnt: bool) -> None:
        self.x = torch.tensor(draw("x", (size,)), requires_grad=True)
        self.a = torch.tensor(0.1 * draw("a", (size,)), requires_grad=learnt)
        self.b = torch.tensor(0.1 * draw("b", (size,)) + 1, requires_grad=learnt)
        self.g = torch.ones(size)
        self.length = length

    def __call__(self) -> Any:
        a, b, y = self.a, self.b, self.x
        self.x.grad = a.grad = b.grad = None
        for _ in range(self.length):
            y = ((y + a) * b).tanh()
        y.backward(self.g)
        return y

    def check(self) -> list[float]:
        y = self()
        return [y.sum().item(), self.x.grad.sum().item()]


# --- the workloads --------------------------------------------------------------------------------


def chain(torch: Library, length: int, size: int, learnt: bool) -> Chain:
    return Chain(torch, length, size, learnt)


def flights(torch: Library, hidden: int, T: int, B: int) -> Training:
    """The next value of a series: the usual airline tutorial."""

    class Forecaster(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(1, hidden)
            self.linear = torch.nn.Linear(hidden, 1)

        def forward(self, x):
            out, _ = self.lstm(x)  # (T, B, H)
            return self.linear(out[-1])  # (B, 1)

    return Training(torch, Forecaster(), flights_data(T, B), torch.nn.MSELoss())


def min_char_rnn(torch: Library, hidden: int, T: int, classes: int) -> Training:
    """The state goes from chunk to chunk without its graph; loss summed over the chunk."""

    class CharRNN(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.RNN(classes, hidden)
            self.linear = torch.nn.Linear(hidden, classes)
            self.h = torch.zeros(1, 1, hidden)

        def forward(self, x):
            out, h = self.rnn(x, self.h)  # (T, 1, H)
            self.h = h.detach()
            return self.linear(out[:, 0])  # (T, C)

    model = CharRNN()
    return Training(
        torch,
        model,
        min_char_data(T, classes),
        torch.nn.CrossEntropyLoss(reduction="sum"),
        torch.optim.Adagrad(model.parameters(), lr=0.1),
        clip=5.0,
    )


def windows(
    torch: Library, hidden: int, layers: int, T: int, B: int, classes: int, learn: bool = True
) -> Training:
    """A window of characters, each one number, predicts the next character. Macbeth has 67."""

    class WindowLSTM(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(1, hidden, layers, dropout=0.2)
            self.dropout = torch.nn.Dropout(0.2)
            self.linear = torch.nn.Linear(hidden, classes)

        def forward(self, x):
            out, _ = self.lstm(x)  # (T, B, H)
            return self.linear(self.dropout(out[-1]))  # (B, C)

    text = symbols(classes, 16, T + 1, B)
    x = (text[:, :-1, :, None] / classes).astype(np.float32)  # (16, T, B, 1)
    batches = list(zip(x, text[:, -1], strict=True))
    kind = Training if learn else Evaluation
    return kind(torch, WindowLSTM(), batches, torch.nn.CrossEntropyLoss())


def stream(
    torch: Library,
    cell: str,
    embedding: int,
    hidden: int,
    layers: int,
    T: int,
    B: int,
    classes: int = CHARACTERS,
) -> Training:
    """Embedded characters, and a loss at every step."""

    class CharModel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(classes, embedding)
            self.rnn = getattr(torch.nn, cell)(embedding, hidden, layers)
            self.linear = torch.nn.Linear(hidden, classes)

        def forward(self, x):
            out, _ = self.rnn(self.embedding(x))  # (T, B, H)
            return self.linear(out).view(-1, classes)  # (T * B, C)

    text = symbols(classes, 8, T + 1, B)
    batches = [(chunk[:-1], chunk[1:].reshape(-1)) for chunk in text]
    return Training(torch, CharModel(), batches, torch.nn.CrossEntropyLoss())


def generation(
    torch: Library, hidden: int, layers: int, embedding: int, length: int, classes: int = CHARACTERS
) -> Generation:
    class CharLSTM(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(classes, embedding)
            self.lstm = torch.nn.LSTM(embedding, hidden, layers)
            self.linear = torch.nn.Linear(hidden, classes)

        def forward(self, x, state):
            out, state = self.lstm(self.embedding(x), state)
            return self.linear(out), state

    return Generation(torch, CharLSTM(), length)


@dataclass(frozen=True)
class Workload:
    """A function above with its sizes. `per` is what a time is told for, `count` of them a call."""

    title: str
    make: Callable[..., Any]
    sizes: dict[str, Any]
    tiny: dict[str, Any]  # sizes that take no time: for tests, and to warm a process up
    per: str = "step"
    count: int = 1
    trains: bool = True

    def __call__(self, torch: Library, **sizes: Any) -> Any:
        return self.make(torch, **{**self.sizes, **sizes})


SMALL: dict[str, Any] = {"hidden": 4, "T": 3}
SMALL_STREAM: dict[str, Any] = {**SMALL, "B": 2, "embedding": 3}

WORKLOADS: dict[str, Workload] = {
    "chain": Workload(
        "one op on 100 elements, forward + backward",
        chain,
        {"length": 100, "size": 100, "learnt": False},
        {"length": 2},
        per="op",
        count=300,
        trains=False,
    ),
    "chain-learnt": Workload(
        "the same, all operands learnt",
        chain,
        {"length": 100, "size": 100, "learnt": True},
        {"length": 2},
        per="op",
        count=300,
        trains=False,
    ),
    "flights": Workload(
        "LSTM(1, 100), T 12, B 1, Adam", flights, {"hidden": 100, "T": 12, "B": 1}, SMALL
    ),
    "min-char-rnn": Workload(
        "RNN(81, 100), T 25, B 1, Adagrad",
        min_char_rnn,
        {"hidden": 100, "T": 25, "classes": 81},
        SMALL,
    ),
    "macbeth": Workload(
        "2 x LSTM(300), T 50, B 30, Adam",
        windows,
        {"hidden": 300, "layers": 2, "T": 50, "B": 30, "classes": 67},
        {**SMALL, "B": 2},
    ),
    "lstm-512": Workload(
        "2 x LSTM(512), T 64, B 64, Adam",
        stream,
        {"cell": "LSTM", "embedding": 128, "hidden": 512, "layers": 2, "T": 64, "B": 64},
        SMALL_STREAM,
    ),
    "gru-256": Workload(
        "2 x GRU(256), T 100, B 32, Adam",
        stream,
        {"cell": "GRU", "embedding": 64, "hidden": 256, "layers": 2, "T": 100, "B": 32},
        SMALL_STREAM,
    ),
    "macbeth-eval": Workload(
        "2 x LSTM(300), T 50, B 30, no gradients",
        windows,
        {"hidden": 300, "layers": 2, "T": 50, "B": 30, "classes": 67, "learn": False},
        {**SMALL, "B": 2},
        trains=False,
    ),
    "generate-256": Workload(
        "1 x LSTM(256) writes text",
        generation,
        {"hidden": 256, "layers": 1, "embedding": 64, "length": 50},
        {"hidden": 4, "length": 3},
        per="character",
        count=50,
        trains=False,
    ),
    "generate-512": Workload(
        "2 x LSTM(512) writes text",
        generation,
        {"hidden": 512, "layers": 2, "embedding": 128, "length": 20},
        {"hidden": 4, "length": 3},
        per="character",
        count=20,
        trains=False,
    ),
}
