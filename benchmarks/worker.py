"""One library with one workload in a process of its own: it works when told to, and sleeps between.

The parent (`harness.py`) starts it with a JSON description and speaks to it in lines: it writes a
number of seconds, and reads how long a call took, on average, in the turn of that length.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

WARM_UP = 0.02  # seconds at the head of a turn that do not count: sleeping threads wake up


def load(library: str, threads: int) -> Any:
    """The module `torch` or `minigrad`, with all that a workload uses."""
    module = importlib.import_module(library)
    for part in ("nn", "nn.utils", "optim"):
        importlib.import_module(f"{library}.{part}")
    if hasattr(module, "set_num_threads"):
        module.set_num_threads(threads)
    return module


def build(library: str, workload: str, threads: int, sizes: dict[str, Any]) -> Any:
    """What is called again and again."""
    from benchmarks.workloads import WORKLOADS

    if library in ("torch", "minigrad"):
        return WORKLOADS[workload](load(library, threads), **sizes)
    from benchmarks import peers

    return peers.build(library, workload, {**WORKLOADS[workload].sizes, **sizes})


def seconds_per_call(call: Any, seconds: float) -> float:
    """Call at least once, until `seconds` have passed."""
    start = time.perf_counter()
    calls = 0
    while True:
        call()
        calls += 1
        passed = time.perf_counter() - start
        if passed >= seconds:
            return passed / calls


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like a reply

    def reply(**what: Any) -> None:
        print(json.dumps(what), file=replies)

    job = json.loads(sys.argv[1])
    if job["cores"]:
        os.sched_setaffinity(0, job["cores"])
    try:
        call = build(job["library"], job["workload"], job["threads"], job["sizes"])
        check = call.check()
        last = seconds_per_call(call, 0)
        version = getattr(sys.modules[job["library"]], "__version__", "")
    except Exception as error:  # a peer that cannot do this is no reason for the others to stop
        reply(error=f"{type(error).__name__}: {error}")
        return
    reply(check=check, version=version, seconds=last)
    for line in sys.stdin:
        if last < WARM_UP:
            seconds_per_call(call, WARM_UP)
        last = seconds_per_call(call, float(line))
        reply(seconds=last)


if __name__ == "__main__":
    main()
