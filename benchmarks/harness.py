"""Libraries take turns at the same work: how every time in these benchmarks is measured.

Each library has a process of its own. The parent lets them work in turns, A B A B ..., so that
whatever else happens on the machine meets all of them alike, and compares neighbours: a ratio is
taken within each round, and the median of these ratios is what is reported.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from benchmarks.workloads import WORKLOADS

OURS = "minigrad"
LIBRARIES = (OURS, "torch", "jax", "keras", "mygrad", "autograd", "tinygrad")
DEFAULT = (OURS, "torch")

TURN = 0.075  # seconds of work in a turn
PAUSE = 0.04  # seconds between turns
PAUSE_OF_POOLS = 0.25  # with several threads: pools spin for a while after their last work


# --- processes ------------------------------------------------------------------------------------


def environment(threads: int) -> dict[str, str]:
    """Threads are settled before any library is imported; everything else is as users have it."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")
    settings = {f"{name}_NUM_THREADS": str(threads) for name in names}
    return {**os.environ, **settings, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}


def cores(library: str, threads: int) -> list[int]:
    """JAX and tinygrad have no setting for threads: they see only so many cores. Empty: all."""
    if library not in ("jax", "keras", "tinygrad") or not hasattr(os, "sched_setaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[:threads]


class UnableError(Exception):
    """A library is not installed, or cannot do this work. Its message says which."""


class Worker:
    """The parent's end of a `worker.py`."""

    def __init__(self, library: str, workload: str, threads: int, sizes: dict[str, Any]) -> None:
        job = {
            "library": library,
            "workload": workload,
            "threads": threads,
            "sizes": sizes,
            "cores": cores(library, threads),
        }
        self.name = library
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(threads),
            text=True,
            bufsize=1,
        )

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise UnableError(f"the process ended with code {self.process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise UnableError(reply["error"])
        return reply

    def turn(self, seconds: float) -> float:
        """Let it work for about so long; seconds per call."""
        print(seconds, file=self.process.stdin)
        return float(self.answer()["seconds"])

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


# --- statistics -----------------------------------------------------------------------------------


@dataclass
class Interval:
    """A median and between which values it lies."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """The median with its 95 % interval from order statistics: nothing is assumed normal.

        The number of values below the true median is binomial(n, 1/2), so the k-th smallest and
        k-th largest enclose it unless fewer than k of the n fell on one side: chance 2 P(X < k).
        """
        values = sorted(values)
        n = len(values)
        k, outside = 0, 0.0
        while k < n // 2 and outside + math.comb(n, k) / 2 ** (n - 1) <= 0.05:
            outside += math.comb(n, k) / 2 ** (n - 1)
            k += 1
        k = max(k, 1)  # fewer than six values: their whole range, which encloses it less surely
        return cls(median(values), values[k - 1], values[n - k])


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a part of the median."""
    if len(values) < 2:
        return 0.0
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / middle


# --- a race ---------------------------------------------------------------------------------------


@dataclass
class Race:
    """What came out when several libraries took turns at one workload."""

    workload: str
    threads: int
    sizes: dict[str, Any]
    times: dict[str, list[float]] = field(default_factory=dict)  # seconds per call, by library
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # why, by library

    def ratio(self, library: str) -> Interval | None:
        """The time of `library` divided by minigrad's, round by round."""
        if library == OURS or not {library, OURS} <= self.times.keys():
            return None
        pairs = zip(self.times[library], self.times[OURS], strict=True)
        return Interval.of([theirs / ours for theirs, ours in pairs])

    def per_unit(self, library: str) -> float:
        """Median seconds for one step, op or character."""
        return median(self.times[library]) / WORKLOADS[self.workload].count

    def as_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload,
            "title": WORKLOADS[self.workload].title,
            "threads": self.threads,
            "sizes": {**WORKLOADS[self.workload].sizes, **self.sizes},
            "skipped": self.skipped,
            "libraries": {
                library: {
                    "version": self.versions[library],
                    "seconds": self.per_unit(library),
                    "per": WORKLOADS[self.workload].per,
                    "spread": spread(times),
                    "ratio": vars(ratio) if (ratio := self.ratio(library)) else None,
                    "seconds_per_call": times,
                }
                for library, times in self.times.items()
            },
        }


def race(
    workload: str,
    libraries: Iterable[str],
    threads: int,
    rounds: int = 25,
    seconds: float = 15.0,
    sizes: dict[str, Any] | None = None,
) -> Race:
    """Let the libraries take turns: so many rounds, or until time is up, but at least seven."""
    sizes = sizes or {}
    result = Race(workload, threads, sizes)
    workers = [Worker(library, workload, threads, sizes) for library in libraries]
    try:
        checks: dict[str, list[float]] = {}
        ready = []
        for worker in workers:
            try:
                reply = worker.answer()
            except UnableError as reason:
                result.skipped[worker.name] = str(reason)
                continue
            checks[worker.name] = reply["check"]
            result.versions[worker.name] = reply["version"]
            result.times[worker.name] = []
            ready.append(worker)
        compare(workload, checks)
        start = time.perf_counter()
        for done in range(rounds):
            if done >= 7 and time.perf_counter() - start > seconds:
                break
            for worker in ready:
                time.sleep(PAUSE if threads == 1 else PAUSE_OF_POOLS)
                result.times[worker.name].append(worker.turn(TURN))
    finally:
        for worker in workers:
            worker.close()
    return result


def compare(workload: str, checks: dict[str, list[float]], tolerance: float = 2e-3) -> None:
    """A race between libraries that compute different things would mean nothing."""
    if not checks:
        return
    first = OURS if OURS in checks else next(iter(checks))
    for library, values in checks.items():
        for ours, theirs in zip(checks[first], values, strict=False):  # Keras gives only its first
            if not math.isclose(ours, theirs, rel_tol=tolerance, abs_tol=tolerance / 200):
                raise RuntimeError(
                    f"{workload}: {first} has {checks[first]}, {library} has {values}: they do "
                    "not compute the same, so their times cannot be compared"
                )


# --- telling --------------------------------------------------------------------------------------


def readable(seconds: float) -> str:
    """0.00034 -> '340 us'."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            break
    value = seconds / size
    return f"{value:.{max(0, 2 - max(0, math.floor(math.log10(value))))}f} {unit}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that can be read as it stands."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in (head, ["-" * w for w in widths], *rows)
    ]
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Where and when the figures were taken, and how busy it was."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


def announce() -> dict[str, Any]:
    """Print the machine, with a warning if it has other things to do."""
    here = machine()
    print(f"{here['processor']}, {here['cores']} cores, Python {here['python']}, {here['when']}")
    if here["load"] is not None and here["load"] > 0.5:
        print(f"The machine is busy (load {here['load']:.1f}): these figures will mean little.")
    return here


def libraries_argument(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=LIBRARIES[1:],
        default=[name for name in default if name != OURS],
        help="whom to compare with; skipped, with the reason, where not installed (default: "
        "%(default)s)",
    )


def save_json(path: str | None, here: dict[str, Any], results: list[dict[str, Any]]) -> None:
    if path:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w") as out:
            json.dump({"machine": here, "results": results}, out, indent=1)
        print(f"\nwritten: {path}")
