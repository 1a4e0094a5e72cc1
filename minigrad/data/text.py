"""Text for character models: vocabularies, what to cut from a file, streams and windows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array


class Vocabulary:
    """The characters of a text in sorted order: the number of a character is its place there."""

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = "".join(sorted(set("".join(characters))))
        self._points = _code_points(self.characters)

    def __len__(self) -> int:
        return len(self.characters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def unknown(self, text: str) -> str:
        """The characters of `text` that have no number, sorted."""
        return "".join(sorted(set(text) - set(self.characters)))

    def encode(self, text: str) -> Array:
        """The numbers of the characters, int64. Raises ValueError if one has no number."""
        unknown = self.unknown(text)
        if unknown:
            raise ValueError(f"characters that are not in the vocabulary: {unknown!r}")
        return np.searchsorted(self._points, _code_points(text))

    def decode(self, numbers: Iterable[int]) -> str:
        """The text that `numbers` stand for. Raises IndexError for one that stands for nothing."""
        numbers = np.asarray(numbers, dtype=np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"numbers must lie in 0..{len(self) - 1}")
        return "".join([self.characters[i] for i in numbers])


def _code_points(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


# --- where text comes from ----------------------------------------------------------------------


def built_in_text() -> str:
    """The English that ships with every Python: the prose of its language reference.

    Grammar, code and headings are left out, and a paragraph that appears under several topics is
    taken once: otherwise held-out text would be known from training.  Differs from one Python
    version to the next.
    """
    from pydoc_data.topics import topics

    paragraphs: dict[str, None] = {}  # in order, each once
    for topic in topics.values():
        for paragraph in re.split(r"\n\s*\n", topic):
            if _is_prose(paragraph):
                paragraphs[re.sub(r"\s+", " ", _plain(paragraph)).strip()] = None
    return "\n\n".join(paragraphs) + "\n"


def _is_prose(paragraph: str) -> bool:
    """Whether it begins at the margin with a capital and ends as a sentence does."""
    return bool(re.match(r"[A-Z]", paragraph)) and paragraph.rstrip().endswith((".", ":"))


def _plain(text: str) -> str:
    """Typographic quotes and dashes as ASCII; what else is not ASCII goes."""
    return text.translate(_PLAIN).encode("ascii", "ignore").decode()


_PLAIN = str.maketrans(
    {
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "--",
        "\N{HORIZONTAL ELLIPSIS}": "...",
    }
)


def read_text(path: str | Path) -> str:
    """The text of a file: UTF-8 (with or without a mark), else Windows' Latin-1 (code page 1252).

    Line ends become newlines.  Warns if it is not UTF-8.  Raises OSError if it cannot be read,
    ValueError if it is no text.
    """
    raw = Path(path).read_bytes()
    if b"\0" in raw:
        raise ValueError(
            f"{path} is not a text file: it contains zero bytes (if it is UTF-16, save it as UTF-8)"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        try:
            text = raw.decode("cp1252")
            warnings.warn(
                f"{path} is not UTF-8 (see byte {wrong.start:,}): it is read as code page 1252",
                UserWarning,
                stacklevel=2,
            )
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is not a text file: byte {raw[error.start]:#x} at {error.start:,} fits "
                "neither UTF-8 nor Latin-1"
            ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


# Lines with which Project Gutenberg's files have begun and ended the book, oldest last.
_BOOK_STARTS = (
    r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]{0,400}\*\*\*[^\n]*$",
    r"^\*END\*? ?THE SMALL PRINT![^\n]*$",
)
_BOOK_ENDS = (
    r"^\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG",
    r"^End of (?:the |this )?Project Gutenberg",
)


def cut_gutenberg(text: str) -> tuple[str, int, int]:
    """`text` without Project Gutenberg's header and licence; the lengths cut off front and back.

    Learnt along with the book, they would make up a seventh of a novella.
    """
    flags = re.MULTILINE | re.IGNORECASE
    start, end = 0, len(text)
    for pattern in _BOOK_STARTS:
        for found in re.finditer(pattern, text, flags):
            start = max(start, found.end())
    for pattern in _BOOK_ENDS:
        found_end = re.compile(pattern, flags).search(text, start)
        if found_end:
            end = min(end, found_end.start())
    if (start, end) == (0, len(text)):
        return text, 0, 0
    book = text[start:end]
    front = start + len(book) - len(book.lstrip())
    book = book.strip() + "\n"
    return book, front, max(0, len(text) - front - len(book))


def split(numbers: Array, held_out: float = 0.1) -> tuple[Array, Array]:
    """The first part for training, and the last `held_out` of it, never trained on."""
    at = len(numbers) - round(len(numbers) * held_out)
    return numbers[:at], numbers[at:]


# --- batches ------------------------------------------------------------------------------------


class Streams:
    """`batch` readers side by side, each going through its own stretch of the text.

    Each `next()` gives `x, y, fresh`: `length` characters for each reader and, for each of these,
    the one that follows: both (T, B).  Reader b goes on in the next chunk where it stopped in this
    one, so a recurrent state can be carried over; `fresh` says that all start again from the
    beginning, and that the state must be dropped.  It never ends.
    """

    def __init__(self, numbers: Array, batch: int, length: int) -> None:
        stretch = (len(numbers) - 1) // batch if batch > 0 else 0
        if stretch < 1 or length < 1:
            raise ValueError(
                f"a text of {len(numbers)} characters is too short for {batch} readers of chunks "
                f"of {length}: give each at least one character and the one that follows"
            )
        starts = stretch * np.arange(batch)
        at = np.arange(stretch)[:, None] + starts  # (stretch, B)
        self.inputs, self.targets = numbers[at], numbers[at + 1]
        self.length = min(length, stretch)
        self.position = 0

    def __len__(self) -> int:
        """Chunks in one pass. What is left at the end, shorter than a chunk, is skipped."""
        return len(self.inputs) // self.length

    def __iter__(self) -> Streams:
        return self

    def __next__(self) -> tuple[Array, Array, bool]:
        if self.position + self.length > len(self.inputs):
            self.position = 0
        chunk = slice(self.position, self.position + self.length)
        self.position = chunk.stop
        return self.inputs[chunk], self.targets[chunk], chunk.start == 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])


class Windows:
    """Every window of `length` characters, one step apart, with the character after it.

    Each `next()` gives x (T, B) and y (B,).  Each pass has a new order, drawn from `seed` and the
    number of the pass.  It never ends; the last batch of a pass may be smaller.
    """

    def __init__(self, numbers: Array, batch: int, length: int, seed: int = 0) -> None:
        if length < 1 or batch < 1 or len(numbers) <= length:
            raise ValueError(
                f"a text of {len(numbers)} characters has no window of {length} with a character "
                "after it"
            )
        self.windows = np.lib.stride_tricks.sliding_window_view(numbers, length + 1)
        self.batch, self.seed = batch, seed
        self.load_state_dict({"epoch": 0, "position": 0})

    def __len__(self) -> int:
        """Batches in one pass."""
        return -(-len(self.windows) // self.batch)

    def __iter__(self) -> Windows:
        return self

    def __next__(self) -> tuple[Array, Array]:
        if self.position >= len(self.windows):
            self.load_state_dict({"epoch": self.epoch + 1, "position": 0})
        picked = self.windows[self.order[self.position : self.position + self.batch]]
        self.position += self.batch
        return picked[:, :-1].T, picked[:, -1]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        order = np.random.default_rng((self.seed, self.epoch))
        self.order = order.permutation(len(self.windows))
