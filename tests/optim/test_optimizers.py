"""Each rule against its formula, written plainly; and against PyTorch (pytest -m oracle)."""

import copy
import pickle

import numpy as np
import pytest
import strict_cupy
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim

SHAPES = [(3, 4), (), (5,), (0, 2), (1, 1)]


def rate(low=0.0):
    return st.sampled_from([low, 0.01, 0.1, 0.5])


shared = {
    "lr": st.sampled_from([0.0, 0.01, 0.1]),
    "weight_decay": rate(),
    "maximize": st.booleans(),
}
adam = {
    "betas": st.tuples(st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0.5, 0.99, 0.999])),
    "eps": st.sampled_from([1e-8, 1e-3]),
    "amsgrad": st.booleans(),
}
OPTIONS = {
    "SGD": st.fixed_dictionaries(
        {**shared, "momentum": rate(), "dampening": rate(), "nesterov": st.just(False)}
    )
    | st.fixed_dictionaries({**shared, "momentum": rate(0.9), "nesterov": st.just(True)}),
    "Adagrad": st.fixed_dictionaries(
        {**shared, "lr_decay": rate(), "initial_accumulator_value": rate(), "eps": rate(1e-10)}
    ),
    "RMSprop": st.fixed_dictionaries(
        {
            **shared,
            "alpha": st.sampled_from([0.5, 0.9, 0.99]),
            "eps": rate(1e-8),
            "momentum": rate(),
            "centered": st.booleans(),
        }
    ),
    "Adam": st.fixed_dictionaries({**shared, **adam}),
    "AdamW": st.fixed_dictionaries({**shared, **adam}),
}
RULES = sorted(OPTIONS)


def reference_sgd(x, g, t, s, o):
    if o["momentum"]:
        first = t == 1
        s["b"] = g if first else o["momentum"] * s["b"] + (1 - o.get("dampening", 0)) * g
        g = g + o["momentum"] * s["b"] if o["nesterov"] else s["b"]
    return x - o["lr"] * g


def reference_adagrad(x, g, t, s, o):
    s["sum"] = s.get("sum", o["initial_accumulator_value"]) + g**2
    return x - o["lr"] / (1 + (t - 1) * o["lr_decay"]) * g / (np.sqrt(s["sum"]) + o["eps"])


def reference_rmsprop(x, g, t, s, o):
    s["v"] = o["alpha"] * s.get("v", 0) + (1 - o["alpha"]) * g**2
    s["a"] = (o["alpha"] * s.get("a", 0) + (1 - o["alpha"]) * g) if o["centered"] else 0
    step = g / (np.sqrt(s["v"] - s["a"] ** 2) + o["eps"])
    s["b"] = o["momentum"] * s.get("b", 0) + step
    return x - o["lr"] * s["b"]


def reference_adam(x, g, t, s, o):
    beta1, beta2 = o["betas"]
    s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g**2
    s["max"] = np.maximum(s.get("max", 0), s["v"])
    m_hat = s["m"] / (1 - beta1**t)
    v_hat = (s["max"] if o["amsgrad"] else s["v"]) / (1 - beta2**t)
    return x - o["lr"] * m_hat / (np.sqrt(v_hat) + o["eps"])


def reference_adamw(x, g, t, s, o):
    return reference_adam(x * (1 - o["lr"] * o["weight_decay"]), g, t, s, o)


def reference(name, x, g, t, s, o):
    g = -g if o["maximize"] else g
    if name != "AdamW":
        g = g + o["weight_decay"] * x
    return globals()[f"reference_{name.lower()}"](x, g, t, s, o)


def leaf(value):
    return mg.tensor(value, requires_grad=True)


def problem(seed, shapes=SHAPES, dtype=np.float64):
    rng = np.random.default_rng(seed)
    values = [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]
    return values, lambda: [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]


@pytest.mark.parametrize("name", RULES)
@given(data=st.data(), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_fifty_steps_follow_the_formula(name, data, seed):
    options = data.draw(OPTIONS[name])
    want, gradients = problem(seed)
    params = [leaf(x) for x in want]
    optimizer = getattr(optim, name)(params, **options)
    states = [{} for _ in want]
    ages = [0] * len(want)
    for step in range(50):
        for i, g in enumerate(gradients()):
            skipped = (step + i) % 7 == 0  # no gradient: nothing may change, not even the age
            params[i].grad = None if skipped else mg.tensor(g)
            if not skipped:
                ages[i] += 1
                want[i] = reference(name, want[i], g, ages[i], states[i], options)
        optimizer.step()
    for p, x in zip(params, want, strict=True):
        np.testing.assert_allclose(p.value, x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_float32_stays_float32_and_large_arrays_are_done_in_full(name):
    """Longer than one chunk, and not a multiple of it; parameters that are not contiguous."""
    shapes = [(70_001,), (300, 257), (3,)]
    want, gradients = problem(1, shapes, np.float32)
    params = [leaf(x) for x in want]
    params[1].value = params[1].value.copy(order="F")
    options = {"lr": 0.1, "weight_decay": 0.1}
    optimizer = getattr(optim, name)(params, **options)
    full = {**optimizer.param_groups[0]}
    states = [{} for _ in want]
    for t in range(1, 4):
        for i, g in enumerate(gradients()):
            params[i].grad = mg.tensor(np.asfortranarray(g))
            want[i] = reference(name, want[i], g, t, states[i], full)
        optimizer.step()
    for p, x in zip(params, want, strict=True):
        assert p.value.dtype == np.float32
        assert all(
            v.value.dtype == np.float32 for k, v in optimizer.state[p].items() if k != "step"
        )
        np.testing.assert_allclose(p.value, x, rtol=2e-4, atol=1e-5)


# --- values are values ----------------------------------------------------------------------------


HOLDERS = {  # each, alone, must be enough
    "detach": lambda p: p.detach(),
    "numpy": lambda p: p.detach().numpy(),
    "part": lambda p: p.detach().numpy()[1:, ::2],
    "array": lambda p: p.value,
    "memoryview": lambda p: memoryview(p.value),
}


@pytest.mark.cpu_only("it looks into the memory of NumPy arrays")
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("holder", HOLDERS)
def test_what_was_taken_before_a_step_does_not_change(name, holder):
    p = leaf(np.ones((4, 3)))
    optimizer = getattr(optim, name)([p], lr=0.1)
    for _ in range(3):
        p.grad = mg.tensor(np.full((4, 3), 0.5))
        held = HOLDERS[holder](p)
        shown = getattr(held, "value", held)
        wanted = np.array(shown)
        optimizer.step()
        assert np.array_equal(shown, wanted)
        assert not np.array_equal(p.value[1:, ::2], np.ones((3, 2)))


@pytest.mark.cpu_only("it looks into the memory of NumPy arrays")
@pytest.mark.parametrize("name", RULES)
def test_a_state_dict_is_a_snapshot(name):
    _, optimizer = trained(name, 2, **STATES[name][0])
    snapshot = optimizer.state_dict()
    copies = [{k: np.array(v.value) for k, v in s.items()} for s in snapshot["state"].values()]
    trained(name, 2, 1, optimizer.param_groups[0]["params"], optimizer)
    for state, copied in zip(snapshot["state"].values(), copies, strict=True):
        assert all(np.array_equal(state[k].value, copied[k]) for k in copied)
    assert not np.array_equal(
        next(iter(snapshot["state"][0].values())).value,
        next(iter(optimizer.state_dict()["state"][0].values())).value,
    )


@pytest.mark.cpu_only("it looks into the memory of NumPy arrays")
@pytest.mark.parametrize("name", RULES)
def test_an_array_that_nobody_else_holds_is_written_in_place(name):
    p = leaf(np.ones(4))
    optimizer = getattr(optim, name)([p], lr=0.1)
    p.grad = mg.tensor(np.full(4, 0.5))
    optimizer.step()
    where = [p.value.ctypes.data]
    where += [v.value.ctypes.data for k, v in optimizer.state[p].items() if k != "step"]
    for _ in range(3):
        optimizer.step()
        now = [p.value.ctypes.data]
        now += [v.value.ctypes.data for k, v in optimizer.state[p].items() if k != "step"]
        assert now == where


@pytest.mark.parametrize("name", RULES)
def test_state_that_was_taken_does_not_change(name):
    params, optimizer = trained(name, 2, **STATES[name][0])
    held = {k: v.detach() for k, v in optimizer.state[params[0]].items()}
    given = optimizer.state_dict()
    other = getattr(optim, name)(params, lr=0.1)
    other.load_state_dict(given)  # both optimizers now show the same arrays
    wanted = {k: v.tolist() for k, v in held.items()}
    trained(name, 1, 1, params, optimizer)
    for k, v in held.items():
        assert v.tolist() == given["state"][0][k].tolist() == wanted[k]
        assert other.state[params[0]][k].tolist() == wanted[k]
        assert optimizer.state[params[0]][k].tolist() != wanted[k]


def test_state_that_comes_without_a_count_starts_at_0():
    params, optimizer = trained("Adam", 3)
    del optimizer.state[params[0]]["step"]
    trained("Adam", 1, 1, params, optimizer)
    assert [optimizer.state[p]["step"].item() for p in params] == [1, 4, 4, 4, 4]


@pytest.mark.cpu_only("it looks into the memory of NumPy arrays")
def test_a_view_given_as_parameter_leaves_its_base_alone():
    base = np.ones(6)
    p = leaf(np.zeros(3))
    p.value = base[:3]
    p.grad = mg.tensor(np.ones(3))
    optim.SGD([p], lr=1.0).step()
    assert np.array_equal(p.value, np.zeros(3))
    assert np.array_equal(base, np.ones(6))


def test_gradients_are_not_written_to():
    for name in RULES:
        p = leaf(np.ones(5))
        p.grad = mg.tensor(np.arange(5.0))
        p.grad.value.flags.writeable = False
        optimizer = getattr(optim, name)([p], lr=0.1, weight_decay=0.1, maximize=True)
        optimizer.step()
        assert np.array_equal(p.grad.value, np.arange(5.0))


def test_backward_through_a_value_that_a_step_has_changed_is_refused():
    p = leaf(np.ones(3))
    y = (p * p).sum()
    p.grad = mg.tensor(np.ones(3))
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed"):
        y.backward()


# --- groups and options ---------------------------------------------------------------------------


def test_groups_have_options_of_their_own():
    a, b, c = (leaf(np.ones(2)) for _ in range(3))
    given_group = {"params": a, "lr": 1.0}
    optimizer = optim.SGD([given_group, {"params": (p for p in [b])}], lr=0.1)
    optimizer.add_param_group({"params": [c], "lr": 10.0, "maximize": True})
    for p in (a, b, c):
        p.grad = mg.tensor(np.ones(2))
    optimizer.step()
    assert [p.value[0] for p in (a, b, c)] == [0.0, 0.9, 11.0]
    assert given_group == {"params": a, "lr": 1.0}
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1, 10.0]


def test_generators_and_named_parameters():
    params = [leaf(np.ones(2)) for _ in range(3)]
    assert optim.Adam(p for p in params).param_groups[0]["params"] == params
    named = optim.Adam((f"p{i}", p) for i, p in enumerate(params))
    assert named.param_groups[0]["params"] == params
    assert named.state_dict()["param_groups"][0]["param_names"] == ["p0", "p1", "p2"]
    with pytest.raises(ValueError, match="names"):
        optim.Adam([("a", params[0]), params[1]])
    with pytest.raises(ValueError, match="names"):
        optim.Adam([("a", params[0])]).add_param_group({"params": [params[1]]})


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda p: [], ValueError, "empty parameter list"),
        (lambda p: iter(()), ValueError, "empty parameter list"),
        (lambda p: p, TypeError, "iterable of Tensors"),
        (lambda p: [p, p], ValueError, "more than once"),
        (lambda p: [{"params": p}, {"params": [p]}], ValueError, "more than once"),
        (lambda p: [np.ones(2)], TypeError, "ndarray"),
        (lambda p: [p * p], ValueError, "non-leaf"),
        (lambda p: [{"params": {p}}], TypeError, "order"),
        (lambda p: [{"params": [p]}, [p]], TypeError, "must be a dict"),
    ],
)
def test_what_is_no_list_of_parameters_is_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        optim.SGD(make(leaf(np.ones(2))))


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {"lr": value}) for name in RULES for value in (-0.1, float("nan"))]
    + [(name, {"weight_decay": -0.1}) for name in RULES]
    + [(name, {"eps": -1e-8}) for name in RULES if name != "SGD"]
    + [("SGD", {"momentum": -1}), ("SGD", {"nesterov": True})]
    + [("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1})]
    + [("Adagrad", {"lr_decay": -1}), ("Adagrad", {"initial_accumulator_value": -1})]
    + [("RMSprop", {"alpha": -1}), ("RMSprop", {"momentum": -1})]
    + [
        (name, {"betas": b})
        for name in ("Adam", "AdamW")
        for b in ((1.0, 0.9), (0.9, -0.1), (0, 0))
    ],
)
def test_options_that_make_no_sense_are_refused(name, options):
    with pytest.raises(ValueError, match=r"Invalid|Nesterov|betas"):
        getattr(optim, name)([leaf(np.ones(2))], **options)


def test_defaults_are_pytorchs():
    p = [leaf(np.ones(2))]
    assert optim.SGD(p).defaults["lr"] == 1e-3
    assert optim.Adagrad(p).defaults["lr"] == 1e-2
    assert optim.RMSprop(p).defaults["alpha"] == 0.99
    assert optim.Adam(p).defaults["weight_decay"] == 0
    assert optim.AdamW(p).defaults["weight_decay"] == 1e-2


def test_closure_zero_grad_and_repr():
    p = leaf(np.full(2, 3.0))
    optimizer = optim.SGD([p], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with mg.no_grad():  # the closure records all the same
        assert optimizer.step(closure).item() == 18.0
    assert np.array_equal(p.value, [1.5, 1.5])
    grad = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert np.array_equal(p.grad.value, [0, 0])
    assert np.array_equal(grad.value, [6, 6])
    for set_to_none in (True, False):  # where there is none, none is made
        optimizer.zero_grad(set_to_none)
        assert p.grad is None
    optimizer.step()
    assert np.array_equal(p.value, [1.5, 1.5])
    assert "SGD (\nParameter Group 0\n    dampening: 0\n    lr: 0.25" in repr(optimizer)


def test_a_gradient_that_does_not_fit_is_refused():
    p = leaf(np.ones(3))
    p.grad = mg.tensor(np.ones(3))
    p.value = np.ones((3, 3))
    with pytest.raises(RuntimeError, match=r"shape \(3, 3\).*gradient of shape \(3,\)"):
        optim.SGD([p]).step()


# --- state ----------------------------------------------------------------------------------------


def trained(name, steps, seed=0, params=None, optimizer=None, **options):
    want, gradients = problem(seed)
    params = params or [leaf(x) for x in want]
    optimizer = optimizer or getattr(optim, name)(params, lr=0.1, **options)
    for _ in range(steps):
        for p, g in zip(params, gradients(), strict=True):
            p.grad = mg.tensor(g.astype(p.value.dtype))
        optimizer.step()
    return params, optimizer


STATES = {
    "SGD": ({"momentum": 0.9}, {"momentum_buffer"}),
    "Adagrad": ({}, {"step", "sum"}),
    "RMSprop": (
        {"momentum": 0.9, "centered": True},
        {"step", "square_avg", "momentum_buffer", "grad_avg"},
    ),
    "Adam": ({"amsgrad": True}, {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}),
    "AdamW": ({}, {"step", "exp_avg", "exp_avg_sq"}),
}


@pytest.mark.parametrize("name", RULES)
def test_a_run_goes_on_from_its_state_dict_to_the_last_bit(name, tmp_path):
    from minigrad.checkpoint import load, save

    options, keys = STATES[name]
    params, optimizer = trained(name, 5, **options)
    assert set(optimizer.state_dict()["state"][0]) == keys
    save({"p": params, "o": optimizer.state_dict()}, tmp_path / "run.mg")
    trained(name, 5, 1, params, optimizer)

    back = load(tmp_path / "run.mg")
    other = getattr(optim, name)(back["p"], lr=99.0)
    other.load_state_dict(back["o"])
    assert other.param_groups[0]["lr"] == 0.1
    trained(name, 5, 1, back["p"], other)
    for p, q in zip(params, back["p"], strict=True):
        assert np.array_equal(p.value, q.value)
        for key, value in optimizer.state[p].items():
            assert np.array_equal(value.value, other.state[q][key].value)


@pytest.mark.parametrize("name", RULES)
def test_state_follows_its_parameter(name):
    params, optimizer = trained(name, 2, **STATES[name][0])
    for p in params:
        p.value, p.grad = p.value.astype(np.float32), None
    trained(name, 2, 1, params, optimizer)
    for p in params:
        assert p.value.dtype == np.float32
        assert all(
            v.value.dtype == np.float32 for k, v in optimizer.state[p].items() if k != "step"
        )
    single, other = trained(name, 2, **STATES[name][0])
    for p in single:
        p.value, p.grad = p.value.astype(np.float32), None
    fresh = getattr(optim, name)(single)
    fresh.load_state_dict(other.state_dict())
    for p in single:
        assert all(v.value.dtype == np.float32 for k, v in fresh.state[p].items() if k != "step")


def test_state_can_be_looked_at_and_set():
    params, optimizer = trained("Adam", 3)
    assert optimizer.state[params[0]]["step"].item() == 3
    for p in params:
        optimizer.state[p]["exp_avg"] = mg.tensor(np.zeros(p.shape))
    optimizer.state[params[0]].clear()
    trained("Adam", 1, 1, params, optimizer)
    assert [optimizer.state[p]["step"].item() for p in params] == [1, 4, 4, 4, 4]
    _, gradients = problem(1)
    for p, g in zip(params, gradients(), strict=True):
        np.testing.assert_allclose(optimizer.state[p]["exp_avg"].value, 0.1 * g)


def test_a_state_dict_that_does_not_fit_is_refused_and_changes_nothing():
    _, optimizer = trained("Adam", 2)
    good = optimizer.state_dict()
    groups = good["param_groups"]
    few = [{**groups[0], "params": [0]}]
    wrong = {**good["state"], 2: {"exp_avg": np.zeros(4)}}
    for bad, message in (
        ({**good, "param_groups": groups * 2}, "2 parameter groups, this optimizer 1"),
        ({**good, "param_groups": few}, "has 1 parameters, that of this optimizer 5"),
        ({"param_groups": groups, "state": wrong}, r"parameter 2 has shape \(4,\)"),
        ({"param_groups": groups, "state": {17: {}}}, "parameter 17"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(bad)
    again = optimizer.state_dict()
    for k, v in good["state"][0].items():
        assert np.array_equal(again["state"][0][k].value, v.value)


def test_a_rule_without_state_saves_none():
    assert trained("SGD", 2)[1].state_dict()["state"] == {}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("name", RULES)
def test_a_copy_goes_on_by_itself(name, copied):
    params, optimizer = trained(name, 3, **STATES[name][0])
    others, other = copied((params, optimizer))
    trained(name, 3, 1, others, other)
    trained(name, 3, 1, params, optimizer)
    for p, q in zip(params, others, strict=True):
        assert np.array_equal(p.value, q.value)
        for key, value in optimizer.state[p].items():
            assert np.array_equal(value.value, other.state[q][key].value)


def test_gradients_that_come_and_go_regroup_the_parameters():
    """State moves with its parameter, whichever others it is updated with."""
    want, gradients = problem(3)
    params = [leaf(x) for x in want]
    alone = [leaf(x) for x in want]
    together = optim.Adam(params, lr=0.1)
    single = [optim.Adam([p], lr=0.1) for p in alone]
    for step in range(12):
        for i, g in enumerate(gradients()):
            given = None if (step // (i + 1)) % 3 == 1 else mg.tensor(g)
            params[i].grad = alone[i].grad = given
        together.step()
        for optimizer in single:
            optimizer.step()
    for p, q in zip(params, alone, strict=True):
        np.testing.assert_allclose(p.value, q.value, rtol=1e-12)


def test_adamw_loads_what_adam_saved():
    params, adam = trained("Adam", 2)
    adamw = optim.AdamW(params)
    adamw.load_state_dict(adam.state_dict())
    assert adamw.param_groups[0]["decoupled_weight_decay"]


def test_own_rules_can_be_written_as_in_pytorch():
    class Halve(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["seen"] = self.state[p].get("seen", 0) + 1
                    p.value = p.value / 2

    p = leaf(np.ones(2))
    optimizer = Halve([p])
    optimizer.step()
    assert np.array_equal(p.value, [0.5, 0.5])
    saved = optimizer.state_dict()
    assert saved["state"] == {0: {"seen": 1}}
    optimizer.load_state_dict(saved)
    assert optimizer.state[p] == {"seen": 1}


# --- on a GPU (its strict stand-in) ---------------------------------------------------------------


@pytest.mark.cpu_only("it compares both devices")
@pytest.mark.parametrize("name", RULES)
def test_a_gpu_gives_the_same_numbers_and_is_never_waited_for(name, monkeypatch):
    strict_cupy.install(monkeypatch)
    options = {**STATES[name][0], "weight_decay": 0.1, "lr": 0.1, "maximize": True}
    values, gradients = problem(3, [*SHAPES, (5000,)])
    here = [leaf(x) for x in values]
    there = [mg.tensor(x, device="cuda", requires_grad=True) for x in values]
    ours, theirs = getattr(optim, name)(here, **options), getattr(optim, name)(there, **options)
    for step in range(4):
        for p, q, g in zip(here, there, gradients(), strict=True):
            p.grad, q.grad = mg.tensor(g), mg.tensor(g, device="cuda")
        ours.step()
        waits = strict_cupy.syncs
        theirs.step()
        assert strict_cupy.syncs == waits
        if step == 1:  # carried on from a state that was saved on a CPU
            theirs.load_state_dict(ours.state_dict())
    for p, q in zip(here, there, strict=True):
        assert q.device.type == "cuda"
        assert np.array_equal(p.value, q.detach().cpu().value)
        assert all(v.device.type == "cuda" for k, v in theirs.state[q].items() if k != "step")
    ours.load_state_dict(theirs.state_dict())
    assert all(v.device.type == "cpu" for p in here for v in ours.state[p].values())


# --- against PyTorch ------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("name", RULES)
@given(data=st.data(), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_pytorch_agrees_and_states_go_both_ways(name, data, seed):
    torch = pytest.importorskip("torch")
    options = data.draw(OPTIONS[name])
    values, gradients = problem(seed)
    ours = [leaf(x) for x in values]
    theirs = [torch.tensor(x, requires_grad=True) for x in values]
    a = getattr(optim, name)(ours, **options)
    b = getattr(torch.optim, name)(theirs, **options)
    assert {k: b.defaults[k] for k in a.defaults} == a.defaults

    def steps(count):
        for _ in range(count):
            for p, q, g in zip(ours, theirs, gradients(), strict=True):
                p.grad, q.grad = mg.tensor(g), torch.tensor(g)
            a.step()
            b.step()

    def compare():
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.value, q.detach().numpy(), rtol=1e-12, atol=1e-12)
            assert set(a.state[p]) == set(b.state[q])
            for key, value in b.state[q].items():
                np.testing.assert_allclose(
                    a.state[p][key].value, value.numpy(), rtol=1e-12, atol=1e-12
                )

    steps(50)
    compare()
    # Exchange the states: each goes on from the other's.
    from_theirs, from_ours = b.state_dict(), a.state_dict()
    from_ours["state"] = {
        i: {k: torch.tensor(np.array(v.value)) for k, v in entries.items()}
        for i, entries in from_ours["state"].items()
    }
    a, b = getattr(optim, name)(ours), getattr(torch.optim, name)(theirs)
    a.load_state_dict(from_theirs)
    b.load_state_dict(from_ours)
    steps(5)
    compare()
