"""minigrad on a GPU beside PyTorch with cuDNN: the suite, then the benchmarks, in one call.

    python -m benchmarks.gpu                    # under ten minutes; a table comes last
    python -m benchmarks.gpu --no-suite         # the benchmarks alone
    python -m benchmarks.gpu --soak --sanitize  # instead: growth of memory, compute-sanitizer

Both libraries work in this process, on one GPU, in turns.  A turn is some steps between two CUDA
events; what is reported is the median of all turns, and the ratio of these.  The numbers that both
compute are compared first.  float32 everywhere, in both libraries with TF32 off, then on.  Texts
are written by PyTorch in the plain loop, by minigrad with `minigrad.generation.generate`.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
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
LIMIT = 580  # seconds for all
PROCESSES = 6  # for the tests
WRITTEN = 1000  # characters of a text
SOAK = 10_000  # steps


def suite(seconds: float) -> str:
    """The tests, with every tensor on the GPU: what pytest says last, in each of some processes.

    One that hangs or fails leaves the results of the others.  What needs no GPU is left out.
    """
    found = sorted(Path("tests").rglob("test_*.py"))
    files = [str(f) for f in found if "examples" not in f.parts and f.name != "test_compile.py"]
    command = [sys.executable, "-m", "pytest", "--device", "cuda", "--tb=short"]
    command += ["-p", "no:cacheprovider"]
    deadline, said = time.monotonic() + seconds, []
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for i in range(PROCESSES):
            log = Path(folder) / str(i)
            with log.open("w") as out:
                tests = [*command, *files[i::PROCESSES]]
                running.append((subprocess.Popen(tests, stdout=out, stderr=out), log))
        for process, log in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
                said.append("")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                said.append(f"STOPPED after {seconds:.0f} s: ")
            text = log.read_text().strip()
            print(text[-6000:], flush=True)
            said[-1] += text.rpartition("\n")[2]
    return "; ".join(said)


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


class InOneLaunch:
    """The writing of text by minigrad, without a loop in Python."""

    def __init__(self, plain: Any) -> None:
        self.model, self.check = plain.model, plain.check

    def __call__(self) -> list[int]:
        from minigrad.generation import generate

        model = self.model
        return generate(model.embedding, model.lstm, model.linear, [0], WRITTEN)


def without_default_device(torch: Any, step: Any) -> None:
    """PyTorch as its users have it, where a default device would slow it down.

    It costs time in every call, and puts an optimizer's count of steps on the GPU, which the host
    then waits for.
    """
    torch.set_default_device(None)
    if hasattr(step, "optimizer"):
        for state in step.optimizer.state.values():
            state["step"] = state["step"].cpu()


def race(
    name: str, libraries: dict[str, Any], clocks: dict[str, Any], turns: int, tolerance: float
) -> Any:
    """Seconds per unit of work, by library, of each turn."""
    workload = WORKLOADS[name]
    writes = name.startswith("generate")
    sizes = {"length": WRITTEN} if writes else {}
    for library in libraries.values():
        library.set_default_device("cuda")
    steps = {key: workload(library, **sizes) for key, library in libraries.items()}
    without_default_device(libraries["torch"], steps["torch"])
    if writes:
        steps["minigrad"] = InOneLaunch(steps["minigrad"])
    compare(name, {key: step.check() for key, step in steps.items()}, tolerance)
    counts = {}
    for key, step in steps.items():
        for _ in range(2 if writes else 5):  # compilation, memory pools, cuDNN's choices
            clocks[key](step, 1)
        counts[key] = max(1, math.ceil(TURN / clocks[key](step, 1 if writes else 2)))
    times: dict[str, list[float]] = {key: [] for key in steps}
    units = WRITTEN if writes else workload.count
    for _ in range(turns):
        for key, step in steps.items():
            times[key].append(clocks[key](step, counts[key]) / units)
    return times


def soak(minigrad: Any) -> list[str]:
    """Train for SOAK steps: what arrays hold, and what was taken from the GPU, early and late."""
    said = []
    for name in ("flights", "min-char-rnn", "macbeth"):
        step = WORKLOADS[name](minigrad)
        held = []
        for count in (100, SOAK - 100):
            for _ in range(count):
                step()
            gc.collect()
            minigrad.cuda.synchronize()
            held.append((minigrad.cuda.memory_allocated(), minigrad.cuda.memory_reserved()))
        (first, _), (last, _) = held
        verdict = "no growth" if last <= first else f"GROWN by {last - first:,}"
        numbers = f"after 100 steps {held[0]}, after {SOAK:,} {held[1]}"
        said.append(f"{name}, bytes held and reserved {numbers}: {verdict}")
        print(said[-1], flush=True)
    return said


# Slow in there.
SANITIZED = "25-1-100 or 7-5-37 or dropout or training_run or that_end or (writes and not 1500)"
WITHOUT_POOL = """
import sys, cupy, pytest
cupy.cuda.set_allocator(None)  # an allocation for each array: else its neighbours hide mistakes
sys.exit(pytest.main(sys.argv[1:]))
"""


def sanitize() -> list[str]:
    """The smaller tests of the kernels under compute-sanitizer: what its tools say last."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    if sanitizer is None:
        return ["compute-sanitizer is not installed (it comes with the CUDA toolkit): not run"]
    said = []
    for tool in ("memcheck", "racecheck"):
        command = [sanitizer, "--tool", tool, "--error-exitcode", "99"]
        if tool == "memcheck":  # CuPy asks for attributes that a GPU may not have: no error of ours
            command += ["--report-api-errors", "no"]
        command += [sys.executable, "-c"]
        tests = ["tests/cuda/test_on_gpu.py", "-p", "no:cacheprovider", "-k", SANITIZED]
        try:
            done = subprocess.run(
                [*command, WITHOUT_POOL, *tests], capture_output=True, text=True, timeout=240
            )
        except subprocess.TimeoutExpired:
            said.append(f"{tool}: stopped after 240 s")
            continue
        print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
        last = [line for line in done.stdout.splitlines() if "SUMMARY" in line or "passed" in line]
        said.append(f"{tool}: {'clean' if not done.returncode else 'FAILED'}: {'; '.join(last)}")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no-suite", action="store_true")
    parser.add_argument("--soak", action="store_true", help="does memory grow? no benchmarks")
    parser.add_argument("--sanitize", action="store_true", help="compute-sanitizer; no benchmarks")
    parser.add_argument("--suite-seconds", type=float, default=360)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=AIMS, default=list(AIMS))
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()

    import minigrad

    if not minigrad.cuda.is_available():
        raise SystemExit("this needs an NVIDIA GPU, CuPy, and PyTorch with CUDA")
    if options.soak or options.sanitize:
        said = sanitize() if options.sanitize else []
        minigrad.set_default_device("cuda")
        said += soak(minigrad) if options.soak else []
        print("", minigrad.cuda.get_device_name(), *said, sep="\n")
        return
    cupy, torch = importlib.import_module("cupy"), importlib.import_module("torch")
    device = minigrad.cuda.get_device_name()
    print(device, "CuPy", cupy.__version__, "PyTorch", torch.__version__, flush=True)
    began = time.monotonic()
    outcome = "not run" if options.no_suite else suite(options.suite_seconds)
    rows: list[tuple[str, ...]] = []
    results: list[dict[str, Any]] = []

    def report(end: str) -> None:
        save_json(options.json, {"device": device}, results)
        print(f"\nsuite on the GPU: {outcome}\n{end} after {time.monotonic() - began:.0f} s")
        head = ("workload", "TF32", "minigrad", "PyTorch", "times as fast", "least (aim)")
        print(table(head, rows), flush=True)

    def give_up() -> None:  # a kernel that never ends: the host waits in C, where only threads run
        report("STOPPED, something hangs,")
        os._exit(1)

    watch = threading.Timer(LIMIT - (time.monotonic() - began), give_up)
    watch.daemon = True
    watch.start()
    libraries = {"minigrad": minigrad, "torch": torch}
    clocks = {"minigrad": cupy_clock(cupy), "torch": torch_clock(torch)}
    for tf32 in (False, True):
        torch.backends.cudnn.allow_tf32 = tf32
        for library in (minigrad, torch):
            library.set_float32_matmul_precision("high" if tf32 else "highest")
        tolerance = 2e-2 if tf32 else 2e-3  # TF32 rounds to 10 bits, at places of each one's own
        for name in options.only:
            workload = WORKLOADS[name]
            least, aim = AIMS[name]
            label = f"{workload.title}, per {workload.per}"
            try:
                times = race(name, libraries, clocks, options.turns, tolerance)
            except Exception as error:  # the other rows are still wanted
                traceback.print_exc()
                message = f"{type(error).__name__}: {error}"[:60].replace("\n", " ")
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
    watch.cancel()
    report("done")


if __name__ == "__main__":
    main()
