"""Schedules against their closed forms; and against PyTorch (pytest -m oracle)."""

import math
import random
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.checkpoint import load, save
from minigrad.optim import lr_scheduler

S = lr_scheduler


def sgd(lr=0.5, groups=1):
    params = [mg.tensor(np.ones(1), requires_grad=True) for _ in range(groups)]
    return optim.SGD([{"params": [p], "lr": lr * (i + 1)} for i, p in enumerate(params)])


def rates(optimizer, scheduler, epochs=30):
    """The rate of the first group in each epoch."""
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()
    return found


FORMULAS = {
    "StepLR": (lambda S, o: S.StepLR(o, 4, 0.5), lambda t: 0.5 ** (t // 4)),
    "MultiStepLR": (
        lambda S, o: S.MultiStepLR(o, [3, 8, 8, 15], 0.5),
        lambda t: 0.5 ** ((t >= 3) + 2 * (t >= 8) + (t >= 15)),
    ),
    "ConstantLR": (lambda S, o: S.ConstantLR(o, 0.25, 4), lambda t: 0.25 if t < 4 else 1.0),
    "LinearLR": (
        lambda S, o: S.LinearLR(o, 0.25, 0.75, 8),
        lambda t: 0.25 + 0.5 * min(t, 8) / 8,
    ),
    "ExponentialLR": (lambda S, o: S.ExponentialLR(o, 0.9), lambda t: 0.9**t),
    "CosineAnnealingLR": (
        lambda S, o: S.CosineAnnealingLR(o, 7),
        lambda t: (1 + math.cos(math.pi * t / 7)) / 2,
    ),
    "LambdaLR": (lambda S, o: S.LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: 1 / (1 + t)),
    "SequentialLR": (
        lambda S, o: S.SequentialLR(
            o,
            [S.LinearLR(o, 0.25, 1.0, 3), S.StepLR(o, 4, 0.5), S.ExponentialLR(o, 0.9)],
            [4, 12],
        ),
        lambda t: (
            0.25 + 0.75 * min(t, 3) / 3
            if t < 4
            else 0.5 ** ((t - 4) // 4)
            if t < 12
            else 0.9 ** (t - 12)
        ),
    ),
    "ChainedScheduler": (
        lambda S, o: S.ChainedScheduler([S.ConstantLR(o, 0.5, 4), S.ExponentialLR(o, 0.9)]),
        lambda t: 0.9**t * (0.5 if t < 4 else 1),
    ),
}
NESTED = {
    "chained in a sequence": lambda S, o: S.SequentialLR(
        o, [S.ConstantLR(o, 0.1, 2), S.CosineAnnealingLR(o, 5, 0.01)], [3]
    ),
    "sequence of sequences": lambda S, o: S.SequentialLR(
        o,
        [
            S.SequentialLR(o, [S.LinearLR(o), S.LambdaLR(o, [lambda t: 0.9**t] * 2)], [3]),
            S.MultiStepLR(o, [2, 4]),
        ],
        [9],
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_rates_follow_the_formula(name):
    make, factor = FORMULAS[name]
    optimizer = sgd()
    scheduler = make(S, optimizer)
    want = [0.5 * factor(t) for t in range(30)]
    np.testing.assert_allclose(rates(optimizer, scheduler), want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", sorted(set(FORMULAS) - {"SequentialLR", "ChainedScheduler"}))
@pytest.mark.parametrize("milestone", [1, 5])
def test_a_schedule_that_starts_late_follows_its_own_formula(name, milestone):
    make, factor = FORMULAS[name]
    optimizer = sgd()
    scheduler = S.SequentialLR(
        optimizer, [S.ExponentialLR(optimizer, 0.8), make(S, optimizer)], [milestone]
    )
    want = [0.5 * (0.8**t if t < milestone else factor(t - milestone)) for t in range(30)]
    np.testing.assert_allclose(rates(optimizer, scheduler), want, rtol=1e-12, atol=1e-15)


@pytest.mark.filterwarnings("ignore:lr_scheduler.step:UserWarning")
def test_a_sequence_may_begin_with_a_sequence():
    optimizer = sgd(groups=2)
    scheduler = NESTED["sequence of sequences"](S, optimizer)
    want = [
        0.5 * (1 / 3 + 2 / 3 * t / 5 if t < 2 else 0.9 ** (t - 2) if t < 9 else factor)
        for t, factor in enumerate([0] * 9 + [1, 1, 0.1, 0.1, 0.01, 0.01])
    ]  # the inner sequence changes at 2, one early: as in PyTorch, starting twice costs it a step
    np.testing.assert_allclose(rates(optimizer, scheduler, 15), want, rtol=1e-12)


def test_a_schedule_of_ones_own():
    class Halves(S.LRScheduler):
        def next_lr(self, lr, base_lr):
            return base_lr / (1 + self.last_epoch)

    optimizer = sgd()
    assert rates(optimizer, Halves(optimizer), 3) == [0.5, 0.25, 0.5 / 3]
    with pytest.raises(NotImplementedError, match="next_lr"):
        S.LRScheduler(sgd())


def test_a_schedule_as_one_writes_it_for_pytorch():
    class Halves(S.LRScheduler):
        def get_lr(self):
            return [base / (1 + self.last_epoch) for base in self.base_lrs]

    optimizer = sgd(groups=2)
    late = S.SequentialLR(optimizer, [S.ExponentialLR(optimizer, 0.1), Halves(optimizer)], [2])
    np.testing.assert_allclose(rates(optimizer, late, 5), [0.5, 0.05, 0.5, 0.25, 0.5 / 3])


def add_group(optimizer, lr):
    optimizer.add_param_group({"params": [mg.ones(1, requires_grad=True)], "lr": lr})
    optimizer.step()


def test_a_group_that_is_added_later_joins_in():
    optimizer = sgd()
    scheduler = S.StepLR(optimizer, 2, 0.5)
    add_group(optimizer, 0.8)
    found = []
    for _ in range(4):
        scheduler.step()
        found.append(scheduler.get_last_lr()[1])
    assert found == [0.8, 0.4, 0.4, 0.2]

    optimizer = sgd()
    scheduler = S.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, min_lr=0.3)
    add_group(optimizer, 0.8)
    for _ in range(3):
        scheduler.step(1.0)
    assert scheduler.get_last_lr() == [0.3, 0.3]

    optimizer = sgd()
    scheduler = S.LambdaLR(optimizer, lambda t: 0.5)
    add_group(optimizer, 0.8)
    with pytest.raises(ValueError, match="LambdaLR has 1 rates for 2 parameter groups"):
        scheduler.step()


@pytest.mark.parametrize("name", [*FORMULAS, "ReduceLROnPlateau"])
@pytest.mark.parametrize("stop", [0, 3, 4, 11])
def test_a_schedule_goes_on_from_its_state_dict(name, stop, tmp_path):
    def make(optimizer):
        if name == "ReduceLROnPlateau":
            return S.ReduceLROnPlateau(optimizer, patience=1, cooldown=1)
        return FORMULAS[name][0](S, optimizer)

    def run(optimizer, scheduler, epochs):
        found = []
        for t in epochs:
            optimizer.step()
            scheduler.step(*([1.0 + t % 3] if name == "ReduceLROnPlateau" else []))
            found += scheduler.get_last_lr()
        return found

    optimizer = sgd(groups=2)
    scheduler = make(optimizer)
    run(optimizer, scheduler, range(stop))
    saved = {"s": scheduler.state_dict(), "o": optimizer.state_dict()}
    save(saved, tmp_path / "run.mg")
    want = run(optimizer, scheduler, range(stop, 20))
    saved = load(tmp_path / "run.mg")
    optimizer = sgd(lr=77.0, groups=2)
    scheduler = make(optimizer)
    scheduler.load_state_dict(saved["s"])
    optimizer.load_state_dict(saved["o"])
    assert run(optimizer, scheduler, range(stop, 20)) == want


def test_resuming_by_last_epoch():
    with pytest.raises(KeyError, match="initial_lr"):
        S.ExponentialLR(sgd(), 0.5, last_epoch=3)
    optimizer = sgd()
    want = rates(optimizer, S.CosineAnnealingLR(optimizer, 8), 20)
    optimizer.param_groups[0]["lr"] = want[4]
    scheduler = S.CosineAnnealingLR(optimizer, 8, last_epoch=3)
    assert scheduler.last_epoch == 4
    np.testing.assert_allclose(rates(optimizer, scheduler, 16), want[4:], atol=1e-15)


def test_a_rate_set_by_hand_is_respected():
    optimizer = sgd()
    scheduler = S.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 8.0
    scheduler.step()
    assert scheduler.get_last_lr() == [4.0]


def test_a_plateau_reduces_the_rate():
    optimizer = sgd(lr=1.0, groups=2)
    scheduler = S.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=2, cooldown=1, min_lr=[0.05, 0.0]
    )
    history = []
    for metric in [5, 4, 4, 4, 4, 4, 4, 4, 4, 3, 3, 3]:
        scheduler.step(mg.tensor(float(metric)))
        history.append(round(optimizer.param_groups[0]["lr"], 6))
    assert history == [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05]
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.02)


@pytest.mark.parametrize(("mode", "better"), [("min", 0.9), ("max", 1.1)])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_what_counts_as_better(mode, better, threshold_mode):
    for metric, counted in ((better, 0), ((1 + better) / 2, 0), (1.0, 1), ((9 + better) / 10, 1)):
        scheduler = S.ReduceLROnPlateau(sgd(), mode, threshold=0.02, threshold_mode=threshold_mode)
        scheduler.step(1.0)
        scheduler.step(metric)
        assert scheduler.num_bad_epochs == counted


def test_stepping_before_the_optimizer_warns():
    optimizer = sgd()
    scheduler = S.ExponentialLR(optimizer, 0.5)
    with pytest.warns(UserWarning, match="before optimizer.step"):
        scheduler.step()
    optimizer = sgd()
    scheduler = S.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda o: S.StepLR("adam", 3), TypeError),
        (lambda o: S.ReduceLROnPlateau("adam"), TypeError),
        (lambda o: S.LambdaLR(o, [lambda t: 1] * 3), ValueError),
        (lambda o: S.ConstantLR(o, 1.5), ValueError),
        (lambda o: S.LinearLR(o, 0.0), ValueError),
        (lambda o: S.LinearLR(o, 0.5, 1.5), ValueError),
        (lambda o: S.ReduceLROnPlateau(o, factor=1.0), ValueError),
        (lambda o: S.ReduceLROnPlateau(o, "best"), ValueError),
        (lambda o: S.ReduceLROnPlateau(o, threshold_mode="some"), ValueError),
        (lambda o: S.ReduceLROnPlateau(o, min_lr=[1, 2]), ValueError),
        (lambda o: S.SequentialLR(o, [], []), ValueError),
        (lambda o: S.SequentialLR(o, [S.ExponentialLR(o, 0.9)], [3]), ValueError),
        (lambda o: S.SequentialLR(o, [S.ExponentialLR(sgd(), 0.9)], []), ValueError),
        (lambda o: S.SequentialLR(o, [S.ReduceLROnPlateau(o)], []), ValueError),
        (lambda o: S.ChainedScheduler([]), ValueError),
        (
            lambda o: S.SequentialLR(
                o, [S.StepLR(o, 2), S.ChainedScheduler([S.StepLR(o, 2)])], [3]
            ),
            ValueError,
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, kind):
    with pytest.raises(kind):
        make(sgd())


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*FORMULAS, *NESTED])
@pytest.mark.parametrize("groups", [1, 2])
def test_pytorch_agrees(name, groups):
    torch = pytest.importorskip("torch")
    make = NESTED.get(name) or FORMULAS[name][0]
    if name == "sequence of sequences" and groups == 1:
        groups = 2
    ours = sgd(groups=groups)
    theirs = torch.optim.SGD(
        [
            {"params": [torch.ones(1, requires_grad=True)], "lr": 0.5 * (i + 1)}
            for i in range(groups)
        ]
    )
    a, b = make(S, ours), make(torch.optim.lr_scheduler, theirs)
    for _ in range(40):
        assert a.get_last_lr() == b.get_last_lr()
        for x in (ours, theirs, a, b):
            x.step()


@pytest.mark.oracle
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_pytorch_agrees_on_plateaus(mode, threshold_mode):
    torch = pytest.importorskip("torch")
    options = {"mode": mode, "threshold_mode": threshold_mode, "patience": 2, "cooldown": 2}
    ours, theirs = sgd(), torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.5)
    a = S.ReduceLROnPlateau(ours, threshold=0.1, **options)
    b = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, threshold=0.1, **options)
    rng = np.random.default_rng(0)
    for metric in rng.normal(size=100):
        a.step(metric)
        b.step(metric)
        assert (a.get_last_lr(), a.num_bad_epochs) == (b.get_last_lr(), b.num_bad_epochs)


def draw_schedule(r, groups, combined=True):
    """A random schedule, or a random combination of some: made by what is returned."""

    def one():
        gamma = r.choice([0.1, 0.5, 1.0, 1.3])
        settings = {
            "StepLR": [r.randint(1, 6), gamma],
            "MultiStepLR": [[r.randint(0, 15) for _ in range(r.randint(0, 5))], gamma],
            "ConstantLR": [r.choice([0.25, 1 / 3, 1.0]), r.randint(1, 8)],
            "LinearLR": [r.choice([0.25, 1.0]), r.choice([0.0, 0.5, 1.0]), r.randint(1, 8)],
            "ExponentialLR": [gamma],
            "CosineAnnealingLR": [r.randint(1, 9), r.choice([0.0, 0.01, 0.2])],
            "LambdaLR": [[lambda t, g=gamma / (1 + i): g**t for i in range(groups)]],
        }
        name = r.choice(sorted(settings))
        return lambda S, o, **options: getattr(S, name)(o, *settings[name], **options)

    kind = r.choice(["one", "chained", "sequence"])
    if kind == "one" or not combined:
        return one(), True
    parts = [draw_schedule(r, groups, combined=False)[0] for _ in range(r.randint(1, 3))]
    milestones = sorted(r.randint(0, 14) for _ in parts[1:])
    if kind == "chained":
        return lambda S, o: S.ChainedScheduler([part(S, o) for part in parts]), False
    return lambda S, o: S.SequentialLR(o, [part(S, o) for part in parts], milestones), False


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(100))
def test_pytorch_agrees_on_any_settings(seed):
    """To the last bit: several groups, resumed late, set by hand, and from a state dict."""
    torch = pytest.importorskip("torch")
    r = random.Random(seed)
    groups = r.randint(1, 3)
    make, alone = draw_schedule(r, groups)
    options = {"last_epoch": r.randint(0, 12)} if alone and r.random() < 0.3 else {}

    def optimizer_of(library, ones):
        found = library.optim.SGD(
            [{"params": [ones(1, requires_grad=True)], "lr": 0.5 * (i + 1)} for i in range(groups)]
        )
        for group in found.param_groups if options else []:
            group.update(initial_lr=group["lr"], lr=0.7 * group["lr"])
        return found

    ours, theirs = optimizer_of(mg, mg.ones), optimizer_of(torch, torch.ones)
    a, b = make(S, ours, **options), make(torch.optim.lr_scheduler, theirs, **options)
    saved, by_hand = r.randint(0, 25), r.randint(0, 60)
    for n in range(30):
        assert a.get_last_lr() == b.get_last_lr()
        assert a.get_last_lr() == [group["lr"] for group in ours.param_groups]
        for group in [*ours.param_groups, *theirs.param_groups] if n == by_hand else []:
            group["lr"] *= 1.7
        if n == saved:
            states = ours.state_dict(), a.state_dict()
            ours = optimizer_of(mg, mg.ones)
            a = make(S, ours, **options)
            ours.load_state_dict(states[0])
            a.load_state_dict(states[1])
        for x in (ours, theirs, a, b):
            x.step()
