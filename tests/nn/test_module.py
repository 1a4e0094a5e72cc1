"""Module: registration, walking through it, moving, its state."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.scale = nn.Parameter(mg.tensor([1.0, 2.0]))
        self.register_buffer("mean", mg.tensor([0.5]))
        self.register_buffer("scratch", mg.tensor([0.0]), persistent=False)
        self.register_parameter("nothing", None)
        self.act = nn.Tanh()

    def forward(self, x: Any) -> Any:
        return self.act(self.fc(x)) * self.scale


def test_parameter() -> None:
    p = nn.Parameter(mg.tensor([1.0]))
    assert p.requires_grad and p.is_leaf and isinstance(p, mg.Tensor)
    assert not nn.Parameter(mg.tensor([1]), requires_grad=False).requires_grad
    with pytest.raises(RuntimeError, match="floating"):
        nn.Parameter(mg.tensor([1]))
    assert repr(p).startswith("Parameter containing:\n")
    assert nn.Parameter().shape == (0,)


def test_registration_and_order() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == ["scale", "fc.weight", "fc.bias"]
    assert [name for name, _ in net.named_parameters("m", recurse=False)] == ["m.scale"]
    assert [name for name, _ in net.named_buffers()] == ["mean", "scratch"]
    assert [name for name, _ in net.named_modules()] == ["", "fc", "act"]
    assert [name for name, _ in net.named_children()] == ["fc", "act"]
    assert list(net.children()) == [net.fc, net.act]
    assert list(net.modules()) == [net, net.fc, net.act]
    assert list(net.buffers()) == [net.mean, net.scratch]
    assert list(net.state_dict()) == ["scale", "mean", "fc.weight", "fc.bias"]
    assert net.nothing is None


def test_shared_parameters_count_once() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert len(list(net.parameters())) == 3
    assert len(list(net.named_parameters(remove_duplicate=False))) == 4
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    twice = nn.Sequential(net[0], net[0])
    assert len(list(twice.parameters())) == 2
    assert [name for name, _ in twice.named_modules()] == ["", "0"]
    assert len(list(twice.named_modules(remove_duplicate=False))) == 3
    copied = copy.deepcopy(net)
    assert copied[0].weight is copied[1].weight
    assert copied[0].weight is not net[0].weight


def test_assignment_changes_kind() -> None:
    net = Net()
    net.extra = 3
    net.extra = nn.Parameter(mg.tensor([1.0]))
    assert "extra" not in net.__dict__ and "extra" in dict(net.named_parameters())
    net.fc = None
    assert net.fc is None and [name for name, _ in net.named_parameters()] == ["scale", "extra"]
    net.fc = nn.Identity()
    assert list(dict(net.named_children())) == ["fc", "act"]
    net.mean = nn.Parameter(mg.tensor([1.0]))
    assert "mean" not in dict(net.named_buffers())
    del net.act, net.mean, net.scratch
    assert not hasattr(net, "act") and not hasattr(net, "mean")
    with pytest.raises(AttributeError):
        del net.act


def test_refused_assignments() -> None:
    net = Net()
    with pytest.raises(TypeError, match="cannot assign Tensor to the parameter 'scale'"):
        net.scale = mg.tensor([1.0])
    with pytest.raises(TypeError, match="child module 'fc'"):
        net.fc = 3
    with pytest.raises(TypeError, match="buffer 'mean'"):
        net.mean = 3.0
    for name in ("", "a.b", "fc", "forward"):
        with pytest.raises(KeyError):
            net.register_buffer(name, None)
    with pytest.raises(KeyError, match="already exists"):
        net.register_parameter("forward", None)
    with pytest.raises(KeyError, match="already exists"):
        net.add_module("forward", nn.Identity())
    with pytest.raises(TypeError, match="not a Module"):
        net.add_module("x", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Tensor or None"):
        net.register_buffer("x", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Parameter or None"):
        net.register_parameter("x", mg.tensor([1.0]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="string"):
        net.register_buffer(1, None)  # type: ignore[arg-type]


def test_assigning_before_init() -> None:
    class Forgot(nn.Module):
        def __init__(self, value: Any) -> None:
            self.x = value

    for value in (nn.Linear(1, 1), nn.Parameter(mg.tensor([1.0]))):
        with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
            Forgot(value)
    with pytest.raises(AttributeError, match="super"):
        Forgot(3).parameters()
    with pytest.raises(AttributeError, match="buffer before"):
        Forgot(3).register_buffer("b", None)


def test_misspelt_attribute() -> None:
    net = Net()
    with pytest.raises(AttributeError, match=r"'Net' object has no attribute 'scael'.*'scale'"):
        net.scael  # noqa: B018
    with pytest.raises(AttributeError, match=r"'weight'"):
        net.fc.wieght  # noqa: B018
    assert not hasattr(net, "__no_such_thing__")
    assert {"fc", "scale", "mean", "forward"} <= set(dir(net))


def test_an_error_in_a_property_is_not_hidden() -> None:
    class Broken(nn.Module):
        @property
        def width(self) -> Any:
            return self.no_such_thing

    with pytest.raises(AttributeError, match="no_such_thing"):
        Broken().width  # noqa: B018


@pytest.mark.parametrize(
    "container", [lambda x: [x], lambda x: (1, x), lambda x: {"a": x}, lambda x: [[x]]]
)
def test_layers_in_plain_containers_are_noticed(container: Any) -> None:
    net = Net()
    net.layers = container(nn.Linear(2, 2))
    for use in (net.parameters, net.state_dict):
        with pytest.warns(UserWarning, match=r"Net\.layers .* Linear.*ModuleList"):
            use()
    net.layers = container(nn.Parameter(mg.tensor([1.0])))
    with pytest.warns(UserWarning, match="register_parameter"):
        net.parameters()


def test_a_long_list_of_numbers_is_not_searched() -> None:
    net = Net()
    net.history = [0.0] * 64 + [nn.Linear(1, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.parameters()


def test_plain_containers_of_registered_layers_are_fine() -> None:
    net = Net()
    net.order = [net.fc, net.act, 3, "x"]
    net.tied = (net.fc.weight,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(net.parameters())) == 3


def test_calling_and_hooks() -> None:
    net = Net()
    x = mg.tensor([[1.0, 2.0, 3.0]])
    seen: list[Any] = []
    plain = net(x)
    first = net.register_forward_pre_hook(lambda m, args: seen.append(("pre", args)))
    second = net.register_forward_hook(lambda m, args, y: seen.append(("post", y)))
    net(x)
    assert [kind for kind, _ in seen] == ["pre", "post"] and seen[0][1] == (x,)
    first.remove()
    first.remove()  # twice does no harm
    with net.register_forward_hook(lambda m, args, y: y * 2):
        np.testing.assert_allclose(net(x).value, 2 * plain.value)
    with net.register_forward_pre_hook(lambda m, args: args[0] * 0):
        np.testing.assert_array_equal(net(x).value, net(x * 0).value)
    second.remove()
    np.testing.assert_array_equal(net(x).value, plain.value)
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(x)


def test_hooks_with_keywords_and_order() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Any, by: float = 1.0) -> Any:
            return x * by

    net, order = Scaled(), []
    x = mg.tensor([1.0])
    net.register_forward_hook(lambda m, args, y: order.append(1))
    net.register_forward_hook(lambda m, args, y: order.append(2), prepend=True)
    net.register_forward_pre_hook(
        lambda m, args, kw: (args, {"by": kw["by"] + 1}), with_kwargs=True
    )
    net.register_forward_hook(lambda m, args, kw, y: order.append(kw["by"]), with_kwargs=True)
    assert net(x, by=2.0).item() == 3.0
    assert order == [2, 1, 3.0]


def test_train_eval_apply_requires_grad_zero_grad() -> None:
    net = Net()
    assert net.eval() is net and not net.training and not net.fc.training
    assert net.train().act.training
    with pytest.raises(ValueError, match="boolean"):
        net.train("yes")  # type: ignore[arg-type]
    seen: list[Any] = []
    assert net.apply(seen.append) is net and seen == [net.fc, net.act, net]
    net(mg.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all((p.grad.value == 0).all() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert net.requires_grad_(False) is net
    assert not any(p.requires_grad for p in net.parameters())


def test_moving_keeps_the_parameters() -> None:
    net = Net()
    net.register_buffer("count", mg.tensor([1, 2]))
    before = list(net.parameters())
    buffers = list(net.buffers())
    net(mg.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    assert net.double() is net
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert all(a is b for a, b in zip(buffers, net.buffers(), strict=True))
    assert all(p.dtype == p.grad.dtype == np.float64 for p in net.parameters())
    assert net.mean.dtype == np.float64 and net.count.dtype == np.int64
    for change, dtype in (
        (net.float, "float32"),
        (net.half, "float16"),
        (lambda: net.to(mg.float64), "float64"),
        (lambda: net.to("cpu", mg.float32), "float32"),
        (lambda: net.to(mg.tensor([1.0], dtype=mg.float64)), "float64"),
        (lambda: net.to(device="cpu", dtype="float32"), "float32"),
        (lambda: net.type("float64"), "float64"),
        (lambda: net.cpu(), "float64"),
    ):
        change()
        assert net.scale.dtype == dtype
    with pytest.raises(TypeError, match="floating"):
        net.to(mg.int64)
    with pytest.raises(TypeError, match="unexpected"):
        net.to(devise="cpu")


def test_an_optimizer_survives_a_move_and_a_load() -> None:
    net = nn.Linear(2, 1)
    optimizer = mg.optim.SGD(net.parameters(), lr=1.0)
    net.double().load_state_dict({"weight": np.array([[1.0, 2.0]]), "bias": np.array([0.0])})
    net(mg.tensor([[1.0, 1.0]], dtype=mg.float64)).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(net.weight.value, [[0.0, 1.0]])


def test_a_state_dict_is_a_snapshot() -> None:
    net = nn.Linear(2, 1)
    optimizer = mg.optim.SGD(net.parameters(), lr=1.0)
    saved = net.state_dict()
    before = net.weight.value.copy()
    net(mg.tensor([[1.0, 1.0]])).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(saved["weight"].value, before)
    assert not saved["weight"].requires_grad
    assert net.state_dict(keep_vars=True)["weight"] is net.weight
    net.load_state_dict(saved)
    np.testing.assert_array_equal(net.weight.value, before)


def test_load_names_everything_that_is_wrong_and_changes_nothing() -> None:
    net = Net()
    before = {key: value.value.copy() for key, value in net.state_dict().items()}
    wrong = {key: value + 1 for key, value in before.items()}
    wrong["fc.wieght"] = wrong.pop("fc.weight")
    wrong["mean"] = np.zeros((2, 2), np.float32)
    wrong["scale"] = "not an array"
    with pytest.raises(RuntimeError) as error:
        net.load_state_dict(wrong)
    message = str(error.value)
    for part in (
        "Error(s) in loading state_dict for Net",
        'Missing key(s) in state_dict: "fc.weight"',
        "\"fc.wieght\". Did you mean 'fc.weight'?",
        "size mismatch for mean: copying a param with shape (2, 2) from checkpoint, the shape in "
        "current model is (1,)",
        "scale: expected a Tensor or an array, got str",
    ):
        assert part in message
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value.value, before[key])
    with pytest.raises(TypeError, match="dict-like"):
        net.load_state_dict([1])  # type: ignore[arg-type]


def test_load_not_strict() -> None:
    net = Net()
    found = net.load_state_dict({"scale": mg.tensor([5.0, 6.0]), "other": 3}, strict=False)
    assert found.missing_keys == ["mean", "fc.weight", "fc.bias"]
    assert found.unexpected_keys == ["other"]
    assert "missing_keys" in repr(found)
    np.testing.assert_array_equal(net.scale.value, [5.0, 6.0])
    with pytest.raises(RuntimeError, match="size mismatch"):
        net.load_state_dict({"scale": np.zeros(3)}, strict=False)
    assert repr(net.load_state_dict(net.state_dict())) == "<All keys matched successfully>"


def test_load_casts_copies_and_assigns() -> None:
    net = nn.Linear(1, 1, bias=False)
    weight = net.weight
    array = np.array([[3.0]])
    net.load_state_dict({"weight": array})
    array[0, 0] = 7
    assert net.weight is weight and weight.dtype == np.float32 and weight.item() == 3.0
    same = np.array([[3.0]], np.float32)
    net.load_state_dict({"weight": same})
    same[0, 0] = 7
    assert weight.item() == 3.0
    net.load_state_dict({"weight": array}, assign=True)
    assert net.weight is weight and weight.dtype == np.float64


@pytest.mark.filterwarnings("error")
def test_load_from_another_library() -> None:
    """Whatever converts to an array will do, also without NumPy 2's `copy`; it is copied."""

    class Foreign:
        def __init__(self) -> None:
            self.memory = np.array([[3.0]], np.float32)

        def __array__(self, dtype: Any = None) -> np.ndarray:
            return self.memory

    net, given = nn.Linear(1, 1, bias=False), Foreign()
    net.load_state_dict({"weight": given})
    given.memory[0, 0] = 7
    assert net.weight.item() == 3.0


def test_parts_are_set_by_name() -> None:
    net = Net()
    net.register_module("more", nn.Identity())
    assert isinstance(net.more, nn.Identity) and "more" in dict(net.named_children())
    net.register_buffer("kept", mg.zeros(2))
    net.kept = mg.ones(2)
    assert net.state_dict()["kept"].tolist() == [1, 1]
    computed = nn.Parameter(mg.ones(2), requires_grad=False)
    computed.add_(mg.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match="non-leaf tensor to parameter 'p'"):
        net.register_parameter("p", computed)


def test_to_takes_pytorchs_arguments() -> None:
    net = nn.Linear(1, 1)
    assert net.to(mg.tensor([1.0], dtype=mg.float64)) is net and net.weight.dtype == mg.float64
    net.to("cpu", mg.float32, True)  # non_blocking
    assert net.weight.dtype == mg.float32
    net.to(None, dtype=mg.float64)
    assert net.weight.dtype == mg.float64
    with pytest.raises(TypeError, match="colour"):
        net.to(colour="red")


def test_get_by_path() -> None:
    net = nn.Sequential(Net())
    assert net.get_submodule("0.fc") is net[0].fc and net.get_submodule("") is net
    assert net.get_parameter("0.fc.weight") is net[0].fc.weight
    assert net.get_buffer("0.mean") is net[0].mean
    for get, path in (
        (net.get_submodule, "0.fcc"),
        (net.get_parameter, "0.fc.wieght"),
        (net.get_parameter, "0.nothing"),
        (net.get_buffer, "0.maen"),
    ):
        with pytest.raises(AttributeError):
            get(path)
    with pytest.raises(AttributeError, match="'weight'"):
        net.get_parameter("0.fc.wieght")


def test_copies() -> None:
    net = Net()
    net(mg.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert [n for n, _ in other.named_parameters()] == [n for n, _ in net.named_parameters()]
        for a, b in zip(net.parameters(), other.parameters(), strict=True):
            assert a is not b and isinstance(b, nn.Parameter) and b.requires_grad
            np.testing.assert_array_equal(a.value, b.value)
        other.load_state_dict({k: v * 0 for k, v in other.state_dict().items()})
        assert net.scale.value.any()


MODULES = st.deferred(
    lambda: st.one_of(
        st.builds(nn.Linear, st.integers(1, 3), st.integers(1, 3), st.booleans()),
        st.builds(nn.Embedding, st.integers(1, 3), st.integers(1, 3)),
        st.builds(nn.LayerNorm, st.integers(1, 3), bias=st.booleans()),
        st.builds(nn.LayerNorm, st.integers(1, 3), elementwise_affine=st.just(False)),
        st.builds(nn.Dropout, st.floats(0, 1)),
        st.builds(
            nn.CrossEntropyLoss, st.none() | st.builds(lambda n: mg.tensor([1.0] * n), st.just(2))
        ),
        st.builds(nn.LSTM, st.integers(1, 2), st.integers(1, 2), st.integers(1, 2)),
        st.builds(nn.GRUCell, st.integers(1, 2), st.integers(1, 2)),
        st.lists(MODULES, max_size=3).map(lambda parts: nn.Sequential(*parts)),
        st.lists(MODULES, max_size=3).map(nn.ModuleList),
        st.dictionaries(st.sampled_from("abc"), MODULES, max_size=2).map(nn.ModuleDict),
    )
)


@given(MODULES)
def test_a_state_dict_round_trips(module: nn.Module) -> None:
    saved = {key: value.value.copy() for key, value in module.state_dict().items()}
    assert len(saved) == len({id(t) for t in module.state_dict(keep_vars=True).values()})
    other = copy.deepcopy(module)
    for tensor in other.state_dict(keep_vars=True).values():
        nn.init.constant_(tensor, 9)
    other.load_state_dict(module.state_dict())
    for key, value in other.state_dict().items():
        np.testing.assert_array_equal(value.value, saved[key])
    assert repr(other) == repr(module)
