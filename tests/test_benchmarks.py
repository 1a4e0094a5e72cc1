"""The benchmarks run, and their statistics are right. Nothing is timed here."""

import itertools
import math
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import ops
from benchmarks.harness import Interval, compare, readable, table
from benchmarks.peers import PEERS, RUNS, build
from benchmarks.worker import load
from benchmarks.workloads import WORKLOADS, draw


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload_runs_at_tiny_size(name):
    workload = WORKLOADS[name]
    run = workload(load("minigrad", 1), **workload.tiny)
    assert np.isfinite(run.check()).all()
    run()


@pytest.mark.oracle
@pytest.mark.parametrize("name", WORKLOADS)
def test_workload_computes_what_pytorch_computes(name):
    pytest.importorskip("torch")
    workload = WORKLOADS[name]
    checks = {
        library: workload(load(library, 1), **workload.tiny).check()
        for library in ("minigrad", "torch")
    }
    compare(name, checks)


@pytest.mark.oracle
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("library", PEERS)
def test_peer_computes_the_same(library, name, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip(library)
    if library == "tinygrad" and not shutil.which("clang"):
        pytest.skip("tinygrad needs clang")
    workload = WORKLOADS[name]
    ours = workload(load("minigrad", 1), **workload.tiny).check()
    theirs = build(library, name, {**workload.sizes, **workload.tiny}).check()
    compare(name, {"minigrad": ours, library: theirs})


@pytest.mark.parametrize("expression, leaf", ops.expressions())
def test_op_runs_forward_and_backward(expression, leaf):
    names = ops.tensors(load("minigrad", 1))
    assert ops.Op(expression, "", names).value.requires_grad == bool(leaf)
    if leaf:
        gradient = ops.Op(expression, leaf, names).value
        assert gradient.shape == names[leaf].shape and np.isfinite(gradient.numpy()).all()


@pytest.mark.oracle
@pytest.mark.parametrize("expression, leaf", ops.expressions())
def test_op_computes_what_pytorch_computes(expression, leaf):
    pytest.importorskip("torch")
    libraries = {library: ops.tensors(load(library, 1)) for library in ("minigrad", "torch")}
    for result in (ops.race(expression, end, libraries, 1) for end in {"", leaf}):
        assert len(ops.cells(result)) == 4


def test_training_changes_every_weight():
    workload = WORKLOADS["macbeth"]
    run = workload(load("minigrad", 1), **workload.tiny)
    before = {name: w.numpy().copy() for name, w in run.model.state_dict().items()}
    assert before.keys() > {"lstm.weight_ih_l0", "lstm.weight_hh_l1", "linear.bias"}
    run()
    for name, w in run.model.state_dict().items():
        assert not np.array_equal(before[name], w.numpy()), name


def test_the_check_is_without_dropout_but_in_training_mode():
    """cuDNN goes back through a recurrent layer in no other."""
    run = WORKLOADS["macbeth"](load("minigrad", 1), **WORKLOADS["macbeth"].tiny)
    lstm, dropout = run.model.lstm, run.model.dropout
    seen = []
    run.model.register_forward_pre_hook(
        lambda *_: seen.append((lstm.training, lstm.dropout, dropout.training, dropout.p))
    )
    run.check()
    run()
    assert seen == [(True, 0, True, 0)] * 3 + [(True, 0.2, True, 0.2)]


def test_initial_weights_depend_on_name_and_shape_alone():
    assert np.array_equal(draw("lstm.weight", (3, 2)), draw("lstm.weight", (3, 2)))
    assert not np.array_equal(draw("lstm.weight", (3, 2)), draw("lstm.bias", (3, 2)))
    assert draw("x", (2,)).dtype == np.float32


def test_different_losses_are_refused():
    compare("w", {"minigrad": [1.0, 2.0], "torch": [1.0, 2.0001], "keras": [1.0]})
    with pytest.raises(RuntimeError, match=r"torch has \[1.0, 2.1\]"):
        compare("w", {"minigrad": [1.0, 2.0], "torch": [1.0, 2.1]})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_interval_lies_around_the_median(values):
    interval = Interval.of(values)
    assert interval.low <= interval.median <= interval.high
    assert interval.low in values and interval.high in values
    assert math.isclose(interval.median, float(np.median(values)))


@pytest.mark.parametrize("n", range(6, 13))
def test_interval_holds_the_true_median_as_often_as_it_says(n):
    """Exactly, by counting: which of n draws fall below the true median is 2**n equal cases."""
    ranks = Interval.of([float(i) for i in range(n)])
    missed = 0
    for below in itertools.product((False, True), repeat=n):
        count = sum(below)  # the true median lies between the sorted values count - 1 and count
        missed += not ranks.low < count - 0.5 < ranks.high
    assert missed / 2**n <= 0.05
    assert ranks.high - ranks.low < n - 1 or n < 9  # and from nine on, not all of the range


def test_times_are_readable():
    assert [readable(t) for t in (1.5, 0.0562, 3.4e-4, 4.6e-6)] == [
        "1.50 s",
        "56.2 ms",
        "340 us",
        "4.60 us",
    ]


def test_table_is_markdown():
    assert table(("a", "b"), [("1", "22")]) == "| a | b  |\n| - | -- |\n| 1 | 22 |"
