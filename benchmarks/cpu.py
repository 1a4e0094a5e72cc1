"""Speed on the CPU: `python -m benchmarks.cpu`. See README.md for how, and for the figures."""

from __future__ import annotations

import argparse

from benchmarks.harness import (
    DEFAULT,
    LIBRARIES,
    OURS,
    Race,
    announce,
    libraries_argument,
    race,
    readable,
    save_json,
    spread,
    table,
)
from benchmarks.peers import PEERS, RUNS
from benchmarks.workloads import WORKLOADS

HEAD = ("workload", "", "threads", "library", "time", "spread", "ratio to minigrad", "95 %")


def rows(result: Race) -> list[tuple[str, ...]]:
    """One line for each library."""
    work = WORKLOADS[result.workload]
    lines: list[tuple[str, ...]] = []
    for library, times in result.times.items():
        seconds = result.per_unit(library)
        time = f"{readable(seconds)} / {work.per}"
        if work.per == "character":
            time = f"{1 / seconds:,.0f} characters / s"
        ratio = result.ratio(library)
        lines.append(
            (
                result.workload,
                work.title,
                str(result.threads),
                f"{library} {result.versions[library]}".strip(),
                time,
                f"{spread(times):.1%}",
                f"{ratio.median:.2f}" if ratio else "1" if library == OURS else "",
                f"{ratio.low:.2f} - {ratio.high:.2f}" if ratio else "",
            )
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cpu",
        description="Times minigrad and its peers in turns. A ratio above 1: minigrad is faster.",
    )
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=25, help="at most (default: %(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=12,
        help="per workload and number of threads, but never under 7 rounds (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured there, too")
    libraries_argument(parser, DEFAULT)
    options = parser.parse_args()

    here = announce()
    lines: list[tuple[str, ...]] = []
    results = []
    skipped: dict[str, str] = {}
    for threads in options.threads:
        for workload in options.only:
            libraries = [
                library
                for library in LIBRARIES
                if library in (OURS, *options.peers) and (library not in PEERS or workload in RUNS)
            ]
            result = race(workload, libraries, threads, options.rounds, options.seconds)
            results.append(result.as_json())
            lines += rows(result)
            for line in rows(result):
                print("  ".join(line), flush=True)
            for library, reason in result.skipped.items():
                print(f"{workload}: {library} skipped: {reason}", flush=True)
                skipped[library] = reason
    print("\n" + table(HEAD, lines))
    for library, reason in skipped.items():
        print(f"{library} was skipped: {reason}")
    save_json(options.json, here, results)


if __name__ == "__main__":
    main()
