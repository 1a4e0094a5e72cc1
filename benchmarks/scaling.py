"""How time and memory of a step grow with its length and its batch: `python -m benchmarks.scaling`.

A character model (embedding 32, LSTM of 128, a loss at every step, Adam) with T from 25 to 6,400
at batch 1, and with batches from 1 to 512 at T = 25. Linear growth is a line of slope 1 in the
plot, and an exponent of 1 in the table.
"""

from __future__ import annotations

import argparse
import math
import os
from statistics import linear_regression
from typing import Any

from benchmarks.harness import (
    DEFAULT,
    announce,
    libraries_argument,
    race,
    readable,
    save_json,
    table,
)
from benchmarks.memory import in_a_process, megabytes

MODEL = {"cell": "LSTM", "embedding": 32, "hidden": 128, "layers": 1}
LENGTHS = [25 * 2**k for k in range(9)]  # 25 .. 6,400
BATCHES = [2**k for k in range(10)]  # 1 .. 512
SHORT = 25  # the length at which batches are compared

Points = dict[str, dict[int, dict[str, float]]]  # library -> size -> figures


def measure(axis: str, values: list[int], libraries: list[str], options: Any) -> Points:
    """Seconds for a step, and the bytes at its peak, for each of the `values` of T or of B."""
    points: Points = {}
    for value in values:
        sizes = {**MODEL, "T": SHORT, "B": 1, axis: value}
        timed = race("lstm-512", libraries, options.threads, options.rounds, 4.0, sizes)
        for library, reason in timed.skipped.items():
            print(f"{axis} = {value}: {library} skipped: {reason}")
        for library in timed.times:
            asked = in_a_process(
                library=library,
                workload="lstm-512",
                threads=options.threads,
                sizes=sizes,
                instrument="library",
            )
            figures = {"seconds": timed.per_unit(library), "bytes": asked["peak"]}
            points.setdefault(library, {})[value] = figures
            told = f"{readable(figures['seconds'])}, {megabytes(figures['bytes'])} MB"
            print(f"{axis} = {value}: {library} {told}", flush=True)
    return points


def exponent(points: dict[int, dict[str, float]], figure: str) -> float:
    """p in cost(n) - cost(smallest n) ~ (n - smallest n) ** p, over the upper half of the sizes.

    With the cost of the smallest size taken off, what is fixed (parameters, overhead) is gone:
    a + b n gives exactly 1.
    """
    smallest, *sizes = sorted(points)
    upper = sizes[len(sizes) // 2 :]
    x = [math.log(size - smallest) for size in upper]
    y = [math.log(points[size][figure] - points[smallest][figure]) for size in upper]
    return linear_regression(x, y).slope


def plot(by_axis: dict[str, Points], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(2, 2, figsize=(10, 7), sharex="col", layout="constrained")
    names = {"T": f"length T, batch 1 ({LENGTHS[0]} to {LENGTHS[-1]:,})", "B": "batch B, T = 25"}
    for column, (axis, points) in enumerate(by_axis.items()):
        for row, (key, unit, scale) in enumerate([("seconds", "ms", 1e3), ("bytes", "MB", 1e-6)]):
            ax = grid[row][column]
            for library, sizes in points.items():
                x = sorted(sizes)
                ax.loglog(x, [sizes[n][key] * scale for n in x], "o-", label=library)
            first = next(iter(points.values()))
            x = sorted(first)
            end = first[x[-1]][key] * scale
            ax.loglog(x, [end * n / x[-1] for n in x], "k:", lw=1, label="linear")
            ax.set_ylabel(f"{'time of a step' if row == 0 else 'peak memory'}, {unit}")
            ax.grid(True, which="major", alpha=0.3)
            if row == 1:
                ax.set_xlabel(names[axis])
    grid[0][0].legend()
    figure.suptitle("A training step of an LSTM(128) over characters")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--plot", default="runs/scaling.png", metavar="FILE")
    parser.add_argument("--json", metavar="FILE", help="write all figures there, too")
    libraries_argument(parser, DEFAULT)
    options = parser.parse_args()

    here = announce()
    libraries = [name for name in DEFAULT if name in options.peers or name == DEFAULT[0]]
    by_axis = {
        "T": measure("T", LENGTHS, libraries, options),
        "B": measure("B", BATCHES, libraries, options),
    }
    rows = [
        (
            library,
            axis,
            f"{readable(sizes[min(sizes)]['seconds'])} to {readable(sizes[max(sizes)]['seconds'])}",
            f"{exponent(sizes, 'seconds'):.2f}",
            f"{megabytes(sizes[min(sizes)]['bytes'])} to {megabytes(sizes[max(sizes)]['bytes'])}",
            f"{exponent(sizes, 'bytes'):.2f}",
        )
        for axis, points in by_axis.items()
        for library, sizes in points.items()
    ]
    print("\n" + table(("library", "along", "time", "exponent", "MB", "exponent"), rows))
    save_json(options.json, here, [{"axis": axis, "points": p} for axis, p in by_axis.items()])
    plot(by_axis, options.plot)


if __name__ == "__main__":
    main()
