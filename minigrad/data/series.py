"""Time series: reading, scaling, windows, the forecasts to beat, and how far off one was."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.data.text import read_text


def read_csv(path: str | Path, column: str | None = None) -> tuple[Array, str, Array, str]:
    """The numbers of one column of a file that has a line of names first, and the column's name.

    Without `column`, the only column of numbers.  Then the dates in the first column that holds
    them, and its name; if there is none, the numbers of the rows from 1, and "row".

    Raises OSError if the file cannot be read, and ValueError, naming columns or line, if there is
    no such column, a value is not a number, or the newest row comes first.
    """
    lines = read_text(path).split("\n")
    reader = csv.reader(lines, delimiter=max(",;\t", key=lines[0].count))
    try:
        rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    if len(rows) < 2:
        raise ValueError(f"{path} holds no line of names followed by rows of values")
    header, first = rows[0][1], rows[1][1]
    names = [name.strip() for name in header]
    listed = ", ".join(repr(name) for name in names)
    if all(map(_is_number, header)):
        raise ValueError(f"the first line of {path} must name the columns, not hold numbers")
    if column is None:
        numeric = [name for name, value in zip(names, first) if _is_number(value)]
        if not numeric:
            raise ValueError(f"{path} has no column of numbers: below its names stands {first}")
        if len(numeric) > 1:
            raise ValueError(f"which column of {path}? It has {listed}: name one with --column")
        column = numeric[0]
    if names.count(column) != 1:
        many = "several columns" if column in names else "no column"
        raise ValueError(f"{path} has {many} {column!r}; it has {listed}")
    at = names.index(column)
    values = []
    for line, row in rows[1:]:
        value = row[at].strip() if at < len(row) else ""
        if not _is_number(value):
            what = repr(value) if value else "nothing"
            raise ValueError(
                f"{path}, line {line}: column {column!r} holds {what}, and a number is needed in "
                "every row"
            )
        if any(cell.strip() for cell in row[len(names) :]):
            raise ValueError(
                f"{path}, line {line} has {len(row)} values for {len(names)} columns (with a "
                f"{reader.dialect.delimiter!r} inside one of them, it needs quotes)"
            )
        values.append(float(value))
    for i, name in enumerate(names):
        if i == at:
            continue
        when = _dates([row[i].strip() if i < len(row) else "" for _, row in rows[1:]], name)
        if when is not None:
            if when[-1] < when[0]:
                raise ValueError(
                    f"{path} has its newest row first (see column {name!r}), and what comes last "
                    "is forecast: turn it round"
                )
            return np.array(values), column, when, name
    return np.array(values), column, np.arange(1, len(values) + 1), "row"


_DATES = ("%Y-%m", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%b %Y")  # and ISO 8601


def _dates(cells: list[str], name: str) -> Array | None:
    """The dates that `cells` are, if they go in one direction, and can be read in one way only."""
    if all(map(_is_number, cells)) and name.casefold() != "year":
        return None
    found = []
    for form in ("", "%Y", *_DATES):
        try:
            dates = [
                datetime.strptime(cell, form) if form else datetime.fromisoformat(cell)
                for cell in cells
            ]
        except ValueError:
            continue
        when = np.array([date.replace(tzinfo=None) for date in dates], "datetime64[s]")
        steps = np.diff(when).astype(int)
        if bool((steps >= 0).all()) or bool((steps <= 0).all()):
            found.append(when)
    return found[0] if len(found) == 1 else None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


class Scaler:
    """Maps the range of the values it was made from to `low` .. `high`, and back."""

    def __init__(self, values: Array, low: float = -1.0, high: float = 1.0) -> None:
        self.smallest = float(np.min(values))
        self.factor = (high - low) / ((float(np.max(values)) - self.smallest) or 1.0)
        self.low = low

    def scale(self, values: Array) -> Array:
        return (np.asarray(values) - self.smallest) * self.factor + self.low

    def unscale(self, values: Array) -> Array:
        return (np.asarray(values) - self.low) / self.factor + self.smallest


def windows(values: Array, length: int) -> tuple[Array, Array]:
    """Every run of `length` values, (N, length), and the value after each, (N,).

    Raises ValueError if the series is too short for one.
    """
    if length < 1 or len(values) <= length:
        raise ValueError(
            f"a series of {len(values)} values has no window of {length} with a value after it"
        )
    runs = np.lib.stride_tricks.sliding_window_view(np.asarray(values), length + 1)
    return runs[:, :-1], runs[:, -1]


# --- the forecasts to beat ----------------------------------------------------------------------


def naive(history: Array, steps: int) -> Array:
    """The last value again and again."""
    return np.full(steps, history[-1])


def seasonal_naive(history: Array, steps: int, season: int) -> Array:
    """The last season again and again."""
    if len(history) < season:
        raise ValueError(f"a history of {len(history)} values holds no season of {season}")
    return np.asarray(history)[len(history) - season + np.arange(steps) % season]


def find_season(values: Array, candidates: Sequence[int] = (4, 7, 12, 24, 52, 365)) -> int | None:
    """The candidate period after which the series looks most like itself; None if none does.

    A season of m correlates with itself m steps later and not m / 2 steps later: the candidate with
    the greatest difference of the two (of the series less its linear trend) is taken, if at least
    0.3.  Only periods that fit three times are considered, and short ones only if their
    neighbours correlate less.
    """
    t = np.arange(len(values))
    x = values - np.polyval(np.polyfit(t, values, 1), t)
    variance = float(np.mean(x * x)) or 1.0

    def correlation(lag: int) -> float:
        return float(np.mean(x[lag:] * x[: len(x) - lag])) / variance

    scores = {
        m: correlation(m) - correlation(m // 2)
        for m in candidates
        if 3 * m <= len(x)
        and (m > 24 or correlation(m) > max(correlation(m - 1), correlation(m + 1)))
    }
    best = max(scores, key=lambda m: scores[m], default=None)
    return best if best is not None and scores[best] >= 0.3 else None


# --- how far off --------------------------------------------------------------------------------


def rmse(truth: Array, forecast: Array) -> float:
    """Root mean squared error: sqrt(mean((y - f)**2))."""
    return float(np.sqrt(np.mean(np.square(np.asarray(truth) - forecast))))


def mae(truth: Array, forecast: Array) -> float:
    """Mean absolute error: mean(|y - f|)."""
    return float(np.mean(np.abs(np.asarray(truth) - forecast)))


def mape(truth: Array, forecast: Array) -> float:
    """Mean absolute percentage error: 100 mean(|y - f| / |y|); infinite where a y is 0."""
    truth = np.asarray(truth)
    if not np.all(truth):
        return math.inf
    return float(100 * np.mean(np.abs((truth - forecast) / truth)))


def mase(truth: Array, forecast: Array, history: Array, season: int = 1) -> float:
    """Mean absolute scaled error (Hyndman & Koehler 2006).

    The mean absolute error over that of the seasonal naive forecast, one season ahead, within the
    training data `history`: below 1 is better than that.
    """
    history = np.asarray(history)
    if len(history) <= season:
        raise ValueError(f"a history of {len(history)} values cannot scale by a season of {season}")
    scale = float(np.mean(np.abs(history[season:] - history[:-season])))
    return mae(truth, forecast) / scale if scale else math.inf
