"""Train an LSTM to write like a text of yours, one character after another.

python -m examples.text_generation                         train on built-in English
python -m examples.text_generation --text book.txt         train on your own text
python -m examples.text_generation train --resume          go on where you stopped
python -m examples.text_generation sample --prompt "The "  let the trained model write
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import math
import shlex
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from examples import cli
from minigrad import nn, optim
from minigrad.autograd.engine import Array
from minigrad.data.ngram import best_ngram
from minigrad.data.text import Streams, Vocabulary, Windows, split
from minigrad.training import DivergenceError, Trainer
from models.char_lstm import CharLSTM, Config, State, generate

PROG = "python -m examples.text_generation"
CHECKPOINT = Path("runs/text_generation.ckpt")
STEPS = 1500  # of the stream recipe: about two and a half minutes on two slow cores
WARM_UP = 20


class Carried:
    """The LSTM's state between two chunks: a value, without its graph."""

    def __init__(self, device: mg.device) -> None:
        self.device = device
        self.state: State | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        state = saved["state"]
        self.state = None if state is None else (state[0].to(self.device), state[1].to(self.device))


class Run:
    """A text, a model, and how one is trained on the other. Built anew, or from a checkpoint."""

    def __init__(self, options: dict[str, Any], text: str, path: Path) -> None:
        mg.manual_seed(options["seed"])
        given_text = text
        if options["recipe"] == "windows":
            text = text.lower()
        self.options, self.device = options, mg.device(options["device"])
        self.vocabulary = Vocabulary(text)
        config = Config.of_recipe(options["recipe"], len(self.vocabulary))
        chosen = {f.name: options.get(f.name) for f in dataclasses.fields(Config)}
        self.config = config = dataclasses.replace(
            config, **{name: value for name, value in chosen.items() if value is not None}
        )
        self.train, self.held_out = split(self.vocabulary.encode(text), options["held_out"])
        if len(self.held_out) <= config.length:
            raise ValueError(
                f"{len(self.held_out):,} of the text's {len(text):,} characters are held out, too "
                f"few to evaluate with: more than {config.length:,} are needed. A longer text, a "
                "greater --held-out or a smaller --length helps"
            )
        self.prompt = self.vocabulary.decode(self.held_out[: config.length])
        self.model = CharLSTM(config).to(self.device)
        self.optimizer = optim.Adam(self.model.parameters(), lr=options["lr"])
        self.trainer: Trainer | None = None
        self.scheduler = optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.carried = Carried(self.device)
        self.batches: Streams | Windows
        if config.recipe == "windows":
            self.batches = Windows(self.train, config.batch, config.length, options["seed"])
        elif len(self.train) <= config.batch:
            raise ValueError(
                f"a text of {len(self.train):,} characters, without what is held out, is too short "
                f"for {config.batch:,} chunks side by side: a smaller --batch helps"
            )
        else:
            self.batches = Streams(self.train, config.batch, config.length)
        self.trainer = Trainer(
            self.step,
            {
                "model": self.model,
                "optimizer": self.optimizer,
                "scheduler": self.scheduler,
                "batches": self.batches,
                "carried": self.carried,
            },
            steps=options["steps"] or 1,
            evaluate=self.evaluate,
            evaluate_every=options["every"],
            path=path,
            config={
                **options,
                "model": dataclasses.asdict(config),
                "characters": self.vocabulary.characters,
                "prompt": self.prompt,
                "fingerprint": fingerprint(given_text),
            },
        )

    def _rate(self, step: int) -> float:
        """The learning rate, as a part of --lr: up in a few steps, then down along a cosine.

        The windows recipe keeps it as it is.
        """
        if self.options["recipe"] == "windows":
            return 1.0
        total = self.trainer.steps if self.trainer else 0
        rise = min(1.0, (step + 1) / WARM_UP)
        part = min(1.0, step / total) if total else 0.0
        return rise * (0.05 + 0.95 * (1 + math.cos(math.pi * part)) / 2)

    def step(self) -> mg.Tensor:
        """One update; its loss, in nats per character."""
        if isinstance(self.batches, Windows):
            inputs, targets = next(self.batches)
            before = None
        else:
            inputs, targets, fresh = next(self.batches)
            before = None if fresh else self.carried.state
        x = mg.tensor(inputs, device=self.device)
        y = mg.tensor(targets, device=self.device)
        logits, (h, c) = self.model(x, before)
        if not isinstance(self.batches, Windows):
            self.carried.state = (h.detach(), c.detach())
        loss = self.model.loss(logits, y)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.options["clip"])
        self.optimizer.step()
        self.scheduler.step()
        return loss

    @mg.no_grad()
    def held_out_loss(self) -> float:
        """Nats per character on the held-out text.

        For windows, of 2,000 windows spread over it; else of all of it, in up to 32 streams, each
        starting from a zero state.
        """
        self.model.eval()
        total, count = 0.0, 0
        state = None
        for x, y in self._held_out_batches():
            logits, state = self.model(mg.tensor(x, device=self.device), state)
            total += self.model.loss(logits, mg.tensor(y, device=self.device)).item() * y.size
            count += y.size
            if self.config.recipe == "windows":
                state = None
        self.model.train()
        return total / count

    def _held_out_batches(self) -> list[tuple[Array, Array]]:
        length, numbers = self.config.length, self.held_out
        if self.config.recipe == "windows":
            runs = np.lib.stride_tricks.sliding_window_view(numbers, length + 1)
            runs = runs[:: max(1, len(runs) // 2000)]
            return [
                (part[:, :-1].T, part[:, -1]) for part in np.array_split(runs, -(-len(runs) // 500))
            ]
        batch = max(1, min(32, len(numbers) // 500))
        streams = Streams(numbers, batch, min(256, (len(numbers) - 1) // batch))
        return [next(streams)[:2] for _ in range(len(streams))]

    def evaluate(self, trainer: Trainer) -> float:
        """The held-out loss, printed, with a few lines from the model."""
        loss = self.held_out_loss()
        trainer.say(f"step {trainer.done}: held-out {in_both_units(loss)}")
        trainer.say(indented(self.sample(160)))
        return loss

    def sample(self, length: int) -> str:
        """What the model writes now. Draws from a generator of its own: training goes on as is."""
        generator = mg.Generator().manual_seed(self.options["seed"])
        windows = self.config.recipe == "windows"
        prompt = self.vocabulary.encode(self.prompt if windows else self.prompt[:1])
        temperature = 0.0 if windows else 0.8
        numbers = generate(self.model, prompt.tolist(), length, temperature, None, generator)
        return self.vocabulary.decode(numbers)


def fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def in_both_units(loss: float) -> str:
    return f"{loss:z.3f} nats = {loss / math.log(2):z.3f} bits per character"


def indented(text: str) -> str:
    return "\n".join("    | " + line for line in text.splitlines())


# --- the commands -------------------------------------------------------------------------------


def train(given: argparse.Namespace) -> int:
    """Train, from the start or from a checkpoint; 130 if Ctrl-C stopped it, 1 if it diverged."""
    path: Path = given.checkpoint
    saved = None
    if given.resume:
        saved = load_run(path, given.device)
        free = {"--resume", "--checkpoint", "--device", "--steps", "--text"}
        why = "--resume goes on with the settings of the run (--steps may change)"
        cli.refuse(given, sorted(given.named - free), why)
        options = {**saved["config"], "device": str(given.device)}
        if given.text is None and options["text"]:
            given.text = Path(options["text"])
            if not given.text.exists():
                raise ValueError(f"{given.text} is gone: say with --text where the text is now")
    else:
        options = {**vars(given), "device": str(given.device)}
        if given.recipe == "windows":
            cli.refuse(given, ["--embedding"], "with --recipe windows a character is one number")
        for name in ("resume", "checkpoint", "command", "named"):
            options.pop(name, None)
        if options["lr"] is None:
            options["lr"] = 0.001 if given.recipe == "windows" else 0.003
        if given.steps and given.minutes:
            raise ValueError("--steps and --minutes both say how long: give one of them")
    options["text"] = None if given.text is None else str(given.text.absolute())
    text = cli.read_book(given.text)
    run = Run(options, text, path)
    cli.check_writable(path)
    if path.is_file() and path.stat().st_size and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is there, and is no checkpoint: give another with --checkpoint")
    trainer = run.trainer
    assert trainer is not None
    if saved is not None:
        if saved["config"]["fingerprint"] != fingerprint(text):
            raise ValueError(f"{given.text or 'the built-in text'} is not the text that {path} saw")
        trainer.load_state_dict(saved)
        if given.steps:
            trainer.steps = given.steps
    print(
        f"text: {given.text or 'English from the documentation of Python'}, {len(text):,} "
        f"characters, {len(run.vocabulary)} different; the last {len(run.held_out):,} are held out"
    )
    count = sum(p.numel() for p in run.model.parameters())
    layers = "1 LSTM layer" if run.config.layers == 1 else f"{run.config.layers} LSTM layers"
    print(
        f"model: recipe {run.config.recipe}, {layers} of {run.config.hidden}, {count:,} weights, "
        f"on {run.device}"
    )
    order, baseline = best_ngram(run.train, run.held_out, len(run.vocabulary))
    print(f"to beat: held-out {in_both_units(baseline)} (the best n-gram, n = {order})")
    if saved is None:
        set_length(trainer, run, given)
        keep_earlier_run(path)
    if trainer.done >= trainer.steps:
        print(f"{trainer.done} steps are done: nothing left to do (--steps N goes on to N)")
        return 0
    print(f"steps: {trainer.done} of {trainer.steps} done; Ctrl-C saves and stops", flush=True)
    again = command_again(given)
    try:
        finished = trainer.run()
    except DivergenceError as error:
        advice = f"Try a lower learning rate: --lr {options['lr'] / 4:g}."
        kept = f" The last good state is in {path}." if path.exists() and trainer.best else ""
        print(f"{PROG}: training diverged: {error}. {advice}{kept}", file=sys.stderr)
        return 1
    if not finished:
        print(f"stopped after step {trainer.done}, saved to {path}. To go on:\n    {again}")
        return 130
    assert trainer.best is not None  # the last step is always evaluated
    loss = trainer.best["loss"]
    verdict = "better" if loss < baseline else "not yet better"
    print(
        f"best held-out loss: {in_both_units(loss)}, at step {trainer.best['step']}: {verdict} "
        f"than the n-gram's {baseline:z.3f} nats"
    )
    print(f"saved to {path}. Let it write:\n    {PROG} sample{checkpoint_option(path)}")
    return 0


def keep_earlier_run(path: Path) -> None:
    """A new run does not overwrite any before it, which may have taken hours."""
    if path.is_file():
        names = (path.with_name(f"{path.name}.old{n}") for n in itertools.count(1))
        kept = next(name for name in names if not name.exists())
        path.replace(kept)
        print(f"the earlier run in {path} is kept as {kept} (--resume would have gone on with it)")


def set_length(trainer: Trainer, run: Run, given: argparse.Namespace) -> None:
    """How many steps: as given, or as many as fit into --minutes, or what the recipe needs."""
    if given.minutes:
        duration = trainer.seconds_per_step()
        trainer.steps = max(1, round(0.9 * 60 * given.minutes / duration))  # the rest: evaluation
        print(f"one step takes {duration * 1000:.0f} ms: {given.minutes:g} minutes are as many as")
    elif not given.steps:
        trainer.steps = len(run.batches) if run.config.recipe == "windows" else STEPS


def command_again(given: argparse.Namespace) -> str:
    where = "" if str(given.device) == "cpu" else f" --device {given.device}"
    return f"{PROG} train --resume{checkpoint_option(given.checkpoint)}{where}"


def checkpoint_option(path: Path) -> str:
    return "" if path == CHECKPOINT else f" --checkpoint {shlex.quote(str(path))}"


def load_run(path: Path, device: mg.device) -> dict[str, Any]:
    """The checkpoint of a run. Raises ValueError if there is none."""
    if not path.exists():
        raise ValueError(f"no checkpoint at {path}: train first, or say where with --checkpoint")
    saved = mg.load(path, map_location=str(device))
    config = saved.get("config") if isinstance(saved, dict) else None
    if not isinstance(config, dict) or not {"characters", "fingerprint", "model"} <= set(config):
        raise ValueError(f"{path} is a checkpoint, but not of this program")
    return saved


def sample(given: argparse.Namespace) -> int:
    """Print what a trained model writes."""
    saved = load_run(given.checkpoint, given.device)
    vocabulary = Vocabulary(saved["config"]["characters"])
    config = Config(**saved["config"]["model"])
    windows = config.recipe == "windows"
    model = CharLSTM(config).to(given.device)
    best = saved["best"]
    model.load_state_dict(best["model"] if best else saved["parts"]["model"])
    prompt = given.prompt
    if prompt is None:
        prompt = saved["config"]["prompt"] if windows else saved["config"]["prompt"][:1]
    elif windows:
        prompt = prompt.lower()
    if not prompt:
        raise ValueError("the prompt must hold at least one character")
    unknown = vocabulary.unknown(prompt)
    if unknown:
        raise ValueError(
            f"the text that it learnt from has no {unknown!r}: leave it out of --prompt"
        )
    temperature = given.temperature
    if temperature is None:
        temperature = 0.0 if windows else 0.8
    likeliest = "what is taken is always the likeliest character"
    if temperature == 0:
        default = "" if given.temperature == 0 else " (this recipe's default)"
        cli.refuse(given, ["--seed", "--top-k"], f"at --temperature 0{default} {likeliest}")
    if given.top_k == 1:
        cli.refuse(given, ["--seed", "--temperature"], f"with --top-k 1 {likeliest}")
    generator = mg.Generator()
    if given.seed is not None:
        generator.manual_seed(given.seed)
    numbers = generate(
        model,
        vocabulary.encode(prompt).tolist(),
        given.length,
        temperature,
        given.top_k,
        generator,
    )
    shown = prompt if given.prompt is not None or windows else ""
    print(shown + vocabulary.decode(numbers))
    return 0


def parser() -> cli.Parser:
    description = (__doc__ or "").strip().split("\n\n")
    result = cli.Parser(
        PROG,
        usage=f"{PROG} [train | sample] [options]",
        description=description[0] + " With no command: train.",
        epilog=description[1],
    )
    commands = result.add_subparsers(dest="command", metavar="train | sample")
    for name, what, add in (
        ("train", "train a model", _add_train),
        ("sample", "let a trained model write", _add_sample),
    ):
        command = commands.add_parser(
            name, prog=f"{PROG} {name}", help=what, description=f"{what.capitalize()}."
        )
        add(command)
        command.option(
            "--device", cli.device, "'cpu', or 'cuda' for a GPU", default="cpu", metavar="NAME"
        )
        command.option(
            "--checkpoint", Path, "where the run is kept", default=CHECKPOINT, metavar="FILE"
        )
        result.epilog = f"{result.epilog}\n\n{command.format_help()}"  # all options with --help
    return result


def _add_train(command: cli.Parser) -> None:
    add = command.option
    add("--text", Path, "the text to learn (default: built-in English)", metavar="FILE")
    command.add_argument(
        "--recipe",
        choices=["stream", "windows"],
        default="stream",
        help="stream (default): learn at every character, and remember across chunks; windows: "
        "each window of 50 lower-case characters predicts the next",
    )
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    add("--steps", cli.positive(int), f"updates (default: {STEPS}; windows: one pass)")
    add("--minutes", cli.positive(float), "train for about so long, instead of --steps")
    add("--seed", cli.not_negative(int), "same seed, same run", default=0)
    add("--hidden", cli.positive(int), "LSTM units per layer (default: 256; windows: 300)")
    add("--layers", cli.positive(int), "LSTM layers (default: 2)")
    add("--embedding", cli.positive(int), "features per character (default: 64; not for windows)")
    add("--dropout", cli.fraction, "part of the units silenced after each layer (default: 0.2)")
    add("--length", cli.positive(int), "characters per chunk (default: 64; windows: 50)")
    add("--batch", cli.positive(int), "chunks side by side (default: 16; windows: 30)")
    add("--lr", cli.positive(float), "learning rate (default: 0.003; windows: 0.001)")
    add("--clip", cli.positive(float), "greatest norm of the gradient", default=1.0)
    add("--held-out", cli.fraction, "part of the text kept for evaluation", default=0.1)
    add("--every", cli.positive(int), "steps between evaluations", default=100)


def _add_sample(command: cli.Parser) -> None:
    add = command.option
    add("--length", cli.positive(int), "characters to write", default=500)
    add("--prompt", str, "how the text begins", metavar="TEXT")
    add(
        "--temperature",
        cli.not_negative(float),
        "0: always the likeliest character; 1: as the model has it (default: 0.8; windows: 0)",
    )
    add("--top-k", cli.positive(int), "choose among the N likeliest characters only")
    add("--seed", cli.not_negative(int), "same seed, same text (default: another each time)")


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, "train")
    result = parser()
    if words[0] not in ("train", "sample", "-h", "--help"):
        result.error(f"{words[0]!r}: expected train or sample; a text is given with --text FILE")
    given = result.parse_args(words)
    with cli.clear_errors(PROG):
        return train(given) if given.command == "train" else sample(given)


if __name__ == "__main__":
    raise SystemExit(main())
