"""The training loop: stopping, resuming, saving, and the guard."""

import os
import signal
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.checkpoint import load
from minigrad.training import DivergenceError, Progress, Trainer


def trainer(steps=25, path=None, evaluate_every=10, at=None):
    """A small model with dropout, Adam, and a schedule; `at[step]()` is called before a step."""
    mg.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    def step():
        if at and result.done in at:
            at[result.done]()
        x = mg.randn(7, 3)
        loss = ((model(x) - x.sum(1, keepdim=True)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss

    def evaluate(trainer):
        assert trainer is result
        with mg.no_grad():
            return float((model[3].weight ** 2).sum())

    result = Trainer(
        step,
        {"model": model, "optimizer": optimizer, "scheduler": scheduler},
        steps=steps,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        path=path,
    )
    return result


def same(a, b):
    """Whether two saved runs are equal bit for bit."""
    if isinstance(a, mg.Tensor):
        return np.array_equal(a.detach().numpy(), b.detach().numpy())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("stop_at", [1, 10, 14, 24])
def test_interrupted_and_resumed_is_uninterrupted(tmp_path, stop_at):
    whole = trainer()
    assert whole.run()
    path = tmp_path / "deep" / "run.ckpt"
    stopped = trainer(path=path, at={stop_at - 1: lambda: os.kill(os.getpid(), signal.SIGINT)})
    before = signal.getsignal(signal.SIGINT)
    assert not stopped.run()
    assert signal.getsignal(signal.SIGINT) is before
    assert stopped.done == stop_at
    resumed = trainer(path=path)
    mg.randn(5)  # whatever else was drawn meanwhile
    resumed.load_state_dict(load(path))
    assert resumed.done == stop_at
    assert resumed.run()
    assert same(resumed.state_dict(), whole.state_dict())
    assert same(load(path), whole.state_dict())
    assert list(path.parent.iterdir()) == [path]


def test_a_second_interrupt_stops_at_once(tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    run = trainer(path=tmp_path / "run.ckpt", at={12: twice})
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert load(tmp_path / "run.ckpt")["done"] == 10


def test_an_interrupt_in_the_last_step_is_a_finished_run():
    assert trainer(at={24: lambda: os.kill(os.getpid(), signal.SIGINT)}).run()


@pytest.mark.parametrize("when", [4, 13, 19])
def test_divergence_keeps_the_last_good_checkpoint(tmp_path, when):
    path = tmp_path / "run.ckpt"

    def spoil():
        run.parts["model"][0].weight.data.fill_(float("nan"))

    run = trainer(path=path, at={when: spoil})
    with pytest.raises(DivergenceError, match=r"loss is nan at step"):
        run.run()
    if when < 10:
        assert not path.exists()
    else:
        saved = load(path)
        assert saved["done"] == 10
        assert all(np.isfinite(p.numpy()).all() for p in saved["parts"]["model"].values())


def test_no_checkpoint_with_weights_that_are_not_finite(tmp_path):
    run = trainer(path=tmp_path / "run.ckpt")
    run.parts["model"][0].weight.data.fill_(float("inf"))
    with pytest.raises(DivergenceError, match=r"0\.weight is no longer finite"):
        run.save()
    assert not list(tmp_path.iterdir())


def test_the_best_weights_are_kept():
    run = trainer(steps=60)
    losses = {}
    judge = run.evaluate

    def watched(trainer):
        losses[trainer.done] = judge(trainer)
        return losses[trainer.done]

    run.evaluate = watched
    assert run.run()
    assert list(losses) == [10, 20, 30, 40, 50, 60]
    best = min(losses, key=losses.get)
    assert (run.best["step"], run.best["loss"]) == (best, losses[best])
    kept = run.best["model"]["3.weight"].numpy()
    assert float((kept**2).sum()) == pytest.approx(losses[best])  # later steps left it alone


def test_timing_leaves_no_trace():
    timed = trainer()
    before = timed.state_dict()
    assert timed.seconds_per_step(3) > 0
    assert same(timed.state_dict(), before)
    timed.run()
    whole = trainer()
    whole.run()
    assert same(timed.state_dict(), whole.state_dict())


def test_plain_progress(capsys, monkeypatch):
    monkeypatch.setattr(Progress, "SECONDS", 0.0)
    with Progress(10, 40) as progress:
        progress.show(20, 1.23456)
        progress.say("hello")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step 20/40  loss 1.235  ")
    assert first.endswith(" left")
    assert second == "hello"


def test_plain_progress_on_a_terminal_without_tqdm(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(Progress, "SECONDS", 0.0)
    with Progress(0, 2) as progress:
        progress.show(1, 0.5)
    assert capsys.readouterr().out.startswith("step 1/2  loss 0.5")


def test_what_is_said_outside_of_a_run_is_printed(capsys):
    trainer().say("hello")
    assert capsys.readouterr().out == "hello\n"


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress(10, 40) as progress:
        progress.show(20, 1.23456)
        progress.say("hello")
    captured = capsys.readouterr()
    assert "hello" in captured.out
    assert "20/40" in captured.err
    assert "loss=1.235" in captured.err
