"""Memory of a training step: `python -m benchmarks.memory`. See README.md for how, and the figures.

Two instruments, because each is blind to something:

* what the library *asks for*: every block that NumPy (`tracemalloc`) or PyTorch (its profiler)
  takes and gives back, summed up from before the model is made. Exact to the byte, the same in
  every run; blind to what the matrix product libraries take for themselves;
* what the *process* grows by: its largest resident size (Linux's VmHWM) after some steps, less
  what was resident before the model was made. It sees everything, in pages of 4 KB, and what
  the C library keeps instead of giving it back.

Each figure has fresh processes, warmed up with the same workload in tiny sizes.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import DEFAULT, OURS, announce, environment, save_json, table
from benchmarks.worker import load
from benchmarks.workloads import WORKLOADS, Training

TRAINING = [name for name, workload in WORKLOADS.items() if workload.trains]
REPEATS = 3  # processes for the second instrument, of which the median counts
STEPS = 3  # before the one that counts: the optimizer has its state, buffers have their size

Figures = dict[str, float]


# --- in the process that is measured --------------------------------------------------------------


def asked_for_numpy(make: Callable[[], Training]) -> Figures:
    """From `tracemalloc`, to which NumPy reports its arrays.

    The Python objects that live between steps are taken off again: PyTorch's profiler does not
    count its own.  Those that a step makes for itself stay in.
    """
    import tracemalloc

    import numpy as np

    tracemalloc.start()
    training = make()
    for _ in range(STEPS):
        training()
    traces = tracemalloc.take_snapshot().filter_traces(
        [tracemalloc.DomainFilter(False, np.lib.tracemalloc_domain)]
    )
    objects = sum([trace.size for trace in traces.traces])
    del traces
    between = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    loss = training.forward()
    forward = tracemalloc.get_traced_memory()[0]
    training.learn(loss)
    peak = tracemalloc.get_traced_memory()[1]
    return {
        "between": between - objects,
        "saved": forward - between,
        "peak": peak - objects,
        "objects": objects,
    }


def asked_for_torch(make: Callable[[], Training]) -> Figures:
    """From the profiler's record of every block taken and given back."""
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        training = make()
        for _ in range(STEPS):
            training()
        with record_function("mark: step"):
            pass
        loss = training.forward()
        with record_function("mark: forward"):
            pass
        training.learn(loss)
    events = profiler.profiler.kineto_results.events()
    figures: Figures = {}
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "mark: step":
            figures["between"] = peak = live
        elif event.name() == "mark: forward":
            figures["saved"] = live - figures["between"]
        elif event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return {**figures, "peak": peak}


def resident(field: str) -> int:
    """VmRSS: bytes in memory now; VmHWM: the most there ever were."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")


def grown(make: Callable[[], Training]) -> Figures:
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here
    training = make()
    for _ in range(STEPS + 1):
        training()
    return {"resident": resident("VmHWM") - before}


def measure_here(job: dict[str, Any]) -> Figures:
    """What the child process does."""
    torch = load(job["library"], job["threads"])
    workload = WORKLOADS[job["workload"]]
    workload(torch, **workload.tiny)()
    gc.collect()

    def make() -> Training:
        training: Training = workload(torch, **job["sizes"])
        return training

    if job["instrument"] == "process":
        return grown(make)
    return asked_for_torch(make) if job["library"] == "torch" else asked_for_numpy(make)


# --- in the parent --------------------------------------------------------------------------------


def in_a_process(**job: Any) -> Figures:
    """What `measure_here` gives in a fresh process. RuntimeError if that ends badly."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--child", json.dumps(job)],
        env=environment(job["threads"]),
        capture_output=True,
        text=True,
    )
    if child.returncode:
        raise RuntimeError(child.stderr.strip().splitlines()[-1])
    figures: Figures = json.loads(child.stdout.splitlines()[-1])
    return figures


def measure(
    library: str, workload: str, threads: int = 1, sizes: dict[str, Any] | None = None
) -> Figures:
    """Bytes: `between` steps, `saved` for backward, at the `peak`; and `resident`."""
    job = {"library": library, "workload": workload, "threads": threads, "sizes": sizes or {}}
    figures = in_a_process(**job, instrument="library")
    grown = [in_a_process(**job, instrument="process")["resident"] for _ in range(REPEATS)]
    return {**figures, "resident": median(grown)}


def megabytes(size: float) -> str:
    return f"{size / 1e6:.3g}" if size < 1e8 else f"{size / 1e6:.0f}"


HEAD = ("workload", "", "library", "between steps", "saved for backward", "peak", "process grew by")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description="Memory of a training step, in MB. A ratio above 1: minigrad needs less.",
    )
    parser.add_argument("--only", nargs="+", choices=TRAINING, default=TRAINING)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="write the bytes there, too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_here(json.loads(options.child))))
        return

    here = announce()
    rows: list[tuple[str, ...]] = []
    results = []
    for name in options.only:
        found: dict[str, Figures] = {}
        for library in DEFAULT:
            try:
                found[library] = figures = measure(library, name, options.threads)
            except RuntimeError as reason:
                print(f"{name}: {library} skipped: {reason}")
                continue
            columns = ("between", "saved", "peak", "resident")
            sizes = [megabytes(figures[column]) for column in columns]
            rows.append((name, WORKLOADS[name].title, library, *sizes))
            results.append({"workload": name, "library": library, **figures})
        if len(found) == len(DEFAULT):
            ours, theirs = found[OURS], found["torch"]
            ratios = [f"{theirs[column] / ours[column]:.2f}" for column in columns]
            rows.append(("", "", "ratio", *ratios))
        print(f"{name} done", flush=True)
    print("\nMB\n" + table(HEAD, rows))
    save_json(options.json, here, results)


if __name__ == "__main__":
    main()
