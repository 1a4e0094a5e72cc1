"""The min-char-rnn recipe: a small tanh RNN learns to write, one character at a time.

    python -m examples.min_char_rnn                            built-in English
    python -m examples.min_char_rnn --text book.txt            your own text

The loss is that of the original: nats summed over 25 characters, smoothed.  A model that knows
nothing starts at 25 ln V, for V different characters.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import minigrad as mg
from examples import cli
from minigrad.data.text import Vocabulary, built_in_text, cut_gutenberg
from models.char_rnn import CharRNN, Config, Training, sample

PROG = "python -m examples.min_char_rnn"


def read_bytes(path: Path | None) -> str:
    """The bytes of a file, one character each: as the original reads it."""
    if path is None:
        return built_in_text()
    text = path.read_bytes().decode("latin-1")
    if not text:
        raise ValueError(f"{path} is empty")
    _, front, back = cut_gutenberg(text)
    if front or back:
        print(
            f"{path}: the {front + back:,} characters of Project Gutenberg's notices are learnt "
            "too, as in the original (examples.text_generation leaves them out)",
            file=sys.stderr,
        )
    return text


def run(given: argparse.Namespace) -> None:
    text = read_bytes(given.text)
    mg.manual_seed(given.seed)
    vocabulary = Vocabulary(text)
    config = Config(len(vocabulary), given.hidden, given.length, given.lr)
    if len(text) < config.length + 2:
        raise ValueError(
            f"{len(text):,} characters are too few for chunks of {config.length:,}: give a longer "
            "text or a smaller --length"
        )
    print(f"data has {len(text)} characters, {len(vocabulary)} unique.")
    model = CharRNN(config)
    training = Training(model, vocabulary.encode(text), config)
    generator = mg.Generator().manual_seed(given.seed)
    for n in range(given.iterations + 1):
        x, y = training.next_chunk()
        if n % given.every == 0:
            numbers = sample(model, int(x[0]), 200, training.h, generator)
            written = vocabulary.decode(numbers).encode("latin-1").decode("utf-8", "replace")
            print(f"----\n {written} \n----")
        loss = training.step(x, y)
        if not math.isfinite(loss):
            raise ValueError(
                f"training diverged: the loss is {loss} at iteration {n}. Try a lower learning "
                f"rate: --lr {given.lr / 4:g}"
            )
        if n % given.every == 0:
            print(f"iter {n}, loss: {training.smooth_loss:f}")


def parser() -> cli.Parser:
    description = (__doc__ or "").strip().split("\n\n")
    result = cli.Parser(
        PROG,
        description=description[0] + "\n\n" + description[2],
        epilog=description[1],
    )

    add = result.option
    add("--text", Path, "the text to learn (default: built-in English)", metavar="FILE")
    add("--iterations", cli.positive(int), "updates", default=10000)
    add("--every", cli.positive(int), "updates from one sample to the next", default=1000)
    add("--seed", cli.not_negative(int), "same seed, same run", default=0)
    add("--hidden", cli.positive(int), "units of the RNN", default=100)
    add("--length", cli.positive(int), "characters per update", default=25)
    add("--lr", cli.positive(float), "learning rate", default=0.1)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    with cli.clear_errors(PROG):
        run(given)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
