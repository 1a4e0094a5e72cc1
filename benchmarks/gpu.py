"""minigrad on a GPU beside PyTorch with cuDNN: the suite, then the benchmarks, in one call.

    python -m benchmarks.gpu             # under ten minutes; a table comes last
    python -m benchmarks.gpu --no-suite  # the benchmarks alone

Both libraries work in this process, on one GPU, in turns.  A turn is some steps between two CUDA
events; what is reported is the median of all turns, and the ratio of these.  The numbers that both
compute are compared first.  float32 everywhere; PyTorch with TF32 off, then on (minigrad: off).
"""

from __future__ import annotations

import argparse
import importlib
import math
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.harness import compare, readable, save_json, table
from benchmarks.workloads import WORKLOADS

AIMS = {  # at least, and aimed at: how many times as fast as PyTorch
    "macbeth": (1, 2),
    "lstm-512": (1, 1.5),
    "gru-256": (1, 1.5),
    "min-char-rnn": (2, 5),
    "flights": (2, 5),
    "generate-256": (3, 10),
    "generate-512": (3, 10),
}
TURN = 0.05  # seconds


def suite(seconds: float) -> str:
    """The tests, with every tensor on the GPU: the last line of what pytest says."""
    command = [sys.executable, "-m", "pytest", "--device", "cuda", "-q", "-p", "no:cacheprovider"]
    for part in (["tests/cuda"], ["tests", "--ignore=tests/cuda", "--ignore=tests/examples"]):
        try:
            done = subprocess.run(
                [*command, *part], capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired as expired:
            said = (expired.stdout or b"")[-2000:]
            return f"stopped after {seconds:.0f} s: {said!r}"
        print(done.stdout[-6000:], flush=True)
        if done.returncode:
            return "FAILED: " + done.stdout.strip().rpartition("\n")[2]
    return "passed"


def torch_clock(torch: Any) -> Callable[[Callable[[], Any], int], float]:
    def seconds(step: Callable[[], Any], count: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3 / count

    return seconds


def cupy_clock(cupy: Any) -> Callable[[Callable[[], Any], int], float]:
    def seconds(step: Callable[[], Any], count: int) -> float:
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(start, end)) / 1e3 / count

    return seconds


def race(name: str, libraries: dict[str, Any], clocks: dict[str, Any], turns: int) -> Any:
    """Seconds per unit of work, by library, and its median; None for what cannot be done."""
    workload = WORKLOADS[name]
    steps = {key: workload(library) for key, library in libraries.items()}
    compare(name, {key: step.check() for key, step in steps.items()})
    counts = {}
    for key, step in steps.items():
        for _ in range(5):  # compilation, memory pools, cuDNN's choice of an algorithm
            clocks[key](step, 1)
        counts[key] = max(1, math.ceil(TURN / clocks[key](step, 2)))
    times: dict[str, list[float]] = {key: [] for key in steps}
    for _ in range(turns):
        for key, step in steps.items():
            times[key].append(clocks[key](step, counts[key]) / workload.count)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no-suite", action="store_true")
    parser.add_argument("--suite-seconds", type=float, default=240)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=AIMS, default=list(AIMS))
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()

    import minigrad

    if not minigrad.cuda.is_available():
        raise SystemExit("this needs an NVIDIA GPU, CuPy, and PyTorch with CUDA")
    cupy, torch = importlib.import_module("cupy"), importlib.import_module("torch")
    print(minigrad.cuda.get_device_name(), "CuPy", cupy.__version__, "PyTorch", torch.__version__)
    outcome = "not run" if options.no_suite else suite(options.suite_seconds)

    for library in (minigrad, torch):
        library.set_default_device("cuda")
    libraries = {"minigrad": minigrad, "torch": torch}
    clocks = {"minigrad": cupy_clock(cupy), "torch": torch_clock(torch)}
    rows, results = [], []
    began = time.time()
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        for name in options.only:
            workload = WORKLOADS[name]
            least, aim = AIMS[name]
            label = f"{workload.title}, per {workload.per}"
            try:
                times = race(name, libraries, clocks, options.turns)
            except Exception as error:  # the other rows are still wanted
                message = f"{type(error).__name__}: {error}"[:60]
                rows.append((label, "on" if tf32 else "off", message, "", "", ""))
                continue
            results.append({"workload": name, "tf32": tf32, "times": times})
            ours, theirs = median(times["minigrad"]), median(times["torch"])
            goal = f"{least} ({aim})"
            rows.append(
                (label, "on" if tf32 else "off", readable(ours), readable(theirs),
                 f"{theirs / ours:.2f}", goal)
            )  # fmt: skip
            print(*rows[-1], sep="  ", flush=True)
    save_json(options.json, {"device": minigrad.cuda.get_device_name()}, results)
    print(f"\nsuite on the GPU: {outcome}; benchmarks: {time.time() - began:.0f} s")
    head = ("workload", "TF32 of PyTorch", "minigrad", "PyTorch", "times as fast", "least (aim)")
    print(table(head, rows))


if __name__ == "__main__":
    main()
