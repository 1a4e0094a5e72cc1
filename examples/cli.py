"""What the programs share on the command line."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import minigrad as mg
from minigrad.data import text


class Parser(argparse.ArgumentParser):
    """Answers a wrong value with one line and exit code 2, and shows descriptions as written."""

    def __init__(self, prog: str, **keywords: Any) -> None:
        super().__init__(
            prog=prog,
            usage=keywords.pop("usage", f"{prog} [options]"),
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **keywords,
        )

    def option(self, name: str, kind: Any, what: str, **keywords: Any) -> None:
        """Add `--name VALUE`; its help ends with the default, if there is one."""
        keywords.setdefault("metavar", "N")
        if keywords.get("default") is not None:
            what += " (default: %(default)s)"
        self.add_argument(name, type=kind, help=what, **keywords)

    def parse_args(self, arguments: Any = None, namespace: Any = None) -> Any:
        """The options by name; and in `named` those that stand on the command line."""
        words = sys.argv[1:] if arguments is None else list(arguments)
        given = super().parse_args(words, namespace)
        given.named = {word.partition("=")[0] for word in words if word.startswith("--")}
        return given

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help explains the options)\n")


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """For `type=`: a number greater than 0."""
    return _number(kind, lambda value: value > 0, "greater than 0")


def not_negative(kind: type[int] | type[float]) -> Callable[[str], float]:
    """For `type=`: a number that is 0 or greater."""
    return _number(kind, lambda value: value >= 0, "0 or greater")


def fraction(argument: str) -> float:
    """For `type=`: a part of the whole, from 0 up to, but not, 1."""
    return _number(float, lambda value: 0 <= value < 1, "at least 0 and below 1")(argument)


def _number(
    kind: type[int] | type[float], fits: Callable[[float], bool], what: str
) -> Callable[[str], float]:
    def convert(argument: str) -> float:
        with contextlib.suppress(ValueError):
            value = kind(argument)
            if fits(value) and value != float("inf"):
                return value
        name = "whole number" if kind is int else "number"
        raise argparse.ArgumentTypeError(f"{argument!r} is not a {name} {what}")

    return convert


def device(argument: str) -> mg.device:
    """For `type=`: a device that is there."""
    try:
        where = mg.device(argument)
        mg.zeros(1, device=where)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return where


def refuse(given: argparse.Namespace, options: Iterable[str], why: str) -> None:
    """Raises ValueError if one of the `options` was given: none of them would have an effect."""
    named = [name for name in options if name in given.named]
    if named:
        raise ValueError(f"{', '.join(named)} would have no effect: {why}")


def read_book(path: Path | None) -> str:
    """The text of a file without Project Gutenberg's notices, saying so; or the built-in text."""
    if path is None:
        return text.built_in_text()
    whole = text.read_text(path)
    if not whole:
        raise ValueError(f"{path} is empty")
    book, front, back = text.cut_gutenberg(whole)
    if front or back:
        print(
            f"{path}: a Project Gutenberg book. Its header ({front:,} characters) and its licence "
            f"({back:,}) are left out."
        )
    return book


def check_writable(path: Path) -> None:
    """Make the folder of `path`. Raises ValueError if no file can be put there."""
    if path.is_dir():
        raise ValueError(f"{path} is a directory: give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except FileExistsError as error:
        raise ValueError(f"{path} cannot be written: {error.filename} is not a folder") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def clear_errors(prog: str) -> Iterator[None]:
    """Lines appear as they are printed; what a user can cause ends in one line and exit code 2.

    Ctrl-C ends with exit code 130, and a reader that went away (`| head`) ends quietly.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to flush to
        raise SystemExit(1) from None
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _stop(prog, f"{name}{error.strerror or error}")
    except ValueError as error:
        _stop(prog, str(error))
    except MemoryError as error:
        _stop(prog, f"too little memory for these sizes ({error})")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _stop(prog: str, message: str) -> NoReturn:
    print(f"{prog}: {message}", file=sys.stderr)
    raise SystemExit(2)
