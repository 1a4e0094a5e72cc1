"""What one op costs on small tensors, beside PyTorch: `python -m benchmarks.ops`.

At such sizes nearly all of it is overhead: finding the rule, recording it, making the result. Both
libraries take turns in one process, with one thread: there are no pools that could meet.
"""

from __future__ import annotations

import argparse
import math
import timeit
from statistics import median
from typing import Any

from benchmarks.harness import OURS, Interval, announce, compare, readable, save_json, table
from benchmarks.worker import load
from benchmarks.workloads import draw

TURN = 0.006  # seconds of work in a turn

# By the leaf that gets the gradient; `v` and `w` have 100 elements, `m` and `n` are 20 x 50. The
# result must have a gradient: `[0]` takes the values where there are indices, too.
RECORDED = {
    "v": """v + w; v - w; v * w; v / w; v * 2; v + 1; 1 - v; v / 3; v ** 2; -v; v.abs(); v.exp();
        v.log(); v.sqrt(); v.tanh(); v.sigmoid(); v.relu(); v.clamp(0, 1); torch.maximum(v, w);
        torch.where(c, v, w); v.masked_fill(c, 0.0); v.sum(); v.mean(); v[3]; v[i];
        torch.cat([v, w]); torch.stack([v, w])""",
    "m": """m @ n.T; torch.einsum('ij,kj->ik', m, n); m.sum(0); m.sum(1); m.mean(1); m.var(1);
        m.norm(); m.max(1)[0]; m.cumsum(0); m.softmax(1); m.log_softmax(1); m.logsumexp(1);
        m.reshape(50, 20); m.flatten(); m.T; m.transpose(0, 1); m.unsqueeze(0);
        m.expand(2, 20, 50); m.chunk(2, 1)[0]; m[:, 2]""",
}
UNRECORDED = """v > w; v > 0; c & c; m.argmax(1); v.detach(); torch.zeros(100); torch.randn(100);
    torch.tensor([1.0, 2.0, 3.0])"""


def expressions() -> list[tuple[str, str]]:
    """(expression, the leaf that gets its gradient or "")."""
    groups = [*RECORDED.items(), ("", UNRECORDED)]
    return [(op.strip(), leaf) for leaf, text in groups for op in text.split(";")]


def tensors(torch: Any) -> dict[str, Any]:
    """What the expressions are about, by name."""
    names: dict[str, Any] = {
        name: torch.tensor(draw(name, shape) + 0.2, requires_grad=name in RECORDED)
        for name, shape in {"v": (100,), "w": (100,), "m": (20, 50), "n": (20, 50)}.items()
    }
    return {**names, "torch": torch, "c": names["w"] > 0.2, "i": torch.arange(5)}


class Op:
    """An expression in one library: its value, and how long it takes."""

    def __init__(self, expression: str, leaf: str, names: dict[str, Any]) -> None:
        names = dict(names)
        if leaf:
            y = eval(expression, names)
            names["g"] = y.detach() * 0 + 1  # ones in its shape
            expression = f"torch.autograd.grad({expression}, {leaf}, g)[0]"
        self.value = eval(expression, names)
        self.timer = timeit.Timer(expression, globals=names)
        self.last = self.timer.timeit(50) / 50

    def turn(self) -> float:
        """Seconds per call in a turn."""
        calls = max(1, int(TURN / self.last))
        self.last = self.timer.timeit(calls) / calls
        return self.last


def race(expression: str, leaf: str, libraries: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Let the libraries take turns; with a `leaf`, at forward and backward together."""
    ops = {name: Op(expression, leaf, names) for name, names in libraries.items()}
    if "rand" not in expression:
        sums = {name: [(op.value.detach() * 1.0).sum().item()] for name, op in ops.items()}
        compare(expression, sums)
    times: dict[str, list[float]] = {name: [] for name in ops}
    for _ in range(rounds):
        for name, op in ops.items():
            times[name].append(op.turn())
    result: dict[str, Any] = {"op": expression, "backward": bool(leaf), "seconds": times}
    if "torch" in times:
        ratios = [theirs / ours for theirs, ours in zip(times["torch"], times[OURS], strict=True)]
        result["ratio"] = vars(Interval.of(ratios))
    return result


def cells(result: dict[str, Any] | None) -> list[str]:
    """The times of both libraries, and their ratio with its interval."""
    if result is None:
        return [""] * 4
    times = [readable(median(times)) for times in result["seconds"].values()]
    if "ratio" not in result:
        return [*times, "", "", ""]
    ratio = result["ratio"]
    return [*times, f"{ratio['median']:.2f}", f"{ratio['low']:.2f} - {ratio['high']:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ops",
        description="Times single ops on small tensors in turns with PyTorch's, forward alone and "
        "with backward. A ratio above 1: minigrad is faster.",
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="ops that contain this")
    parser.add_argument("--rounds", type=int, default=25, help="(default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write everything measured there, too")
    options = parser.parse_args()

    here = announce()
    libraries = {OURS: tensors(load(OURS, 1))}
    try:
        libraries["torch"] = tensors(load("torch", 1))
    except ImportError as reason:
        print(f"torch skipped: {reason}")
    rows, results = [], []
    for expression, leaf in expressions():
        if options.only in expression:
            forward = race(expression, "", libraries, options.rounds)
            both = race(expression, leaf, libraries, options.rounds) if leaf else None
            results += [forward] if both is None else [forward, both]
            rows.append((f"`{expression}`", *cells(forward), *cells(both)))
    head = ("op", OURS, "PyTorch", "ratio", "95 %", f"{OURS}, with backward", "PyTorch", "", "95 %")
    print(table(head, rows))
    for backward, what in ((False, "forward"), (True, "with backward")):
        ratios = [
            r["ratio"]["median"] for r in results if r["backward"] == backward and "ratio" in r
        ]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            faster = sum(ratio > 1 for ratio in ratios)
            print(f"{what}: faster in {faster} of {len(ratios)}; geometric mean {mean:.2f}")
    save_json(options.json, here, results)


if __name__ == "__main__":
    main()
