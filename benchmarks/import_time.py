"""What `import` costs on top of NumPy's own: `python -m benchmarks.import_time`.

Fresh processes in turns, one library each. NumPy is imported first and timed apart.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

from benchmarks.harness import (
    LIBRARIES,
    OURS,
    announce,
    environment,
    libraries_argument,
    readable,
    save_json,
    spread,
    table,
)

PROGRAM = """
import time
start = time.perf_counter()
import numpy
middle = time.perf_counter()
import {library}
print(middle - start, time.perf_counter() - middle)
"""


def import_seconds(library: str) -> tuple[float, float]:
    """(NumPy's, what `library` adds). RuntimeError if it cannot be imported."""
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(library=library)],
        env=environment(1),
        capture_output=True,
        text=True,
    )
    if child.returncode:
        raise RuntimeError(child.stderr.strip().splitlines()[-1])
    numpy, added = child.stdout.split()[-2:]
    return float(numpy), float(added)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.import_time", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", metavar="FILE", help="write all times there, too")
    libraries_argument(parser, LIBRARIES)
    options = parser.parse_args()

    here = announce()
    numpy: list[float] = []
    added: dict[str, list[float]] = {}
    for library in (OURS, *options.peers):
        try:
            import_seconds(library)  # the first import of all compiles and fills the file cache
        except RuntimeError as reason:
            print(f"{library} skipped: {reason}")
        else:
            added[library] = []
    for _ in range(options.rounds):
        for library, times in added.items():
            seconds = import_seconds(library)
            numpy.append(seconds[0])
            times.append(seconds[1])

    ours = added.get(OURS)
    rows = [("NumPy itself", readable(median(numpy)), f"{spread(numpy):.1%}", "")]
    for library, times in added.items():
        ratio = f"{median(times) / median(ours):.1f}" if ours else ""
        rows.append((library, readable(median(times)), f"{spread(times):.1%}", ratio))
    print(table(("import", "adds", "spread", "ratio to minigrad"), rows))
    results = [{"library": library, "seconds": times} for library, times in added.items()]
    save_json(options.json, here, [{"library": "numpy", "seconds": numpy}, *results])


if __name__ == "__main__":
    main()
