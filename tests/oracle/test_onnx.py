"""The node cases of the ONNX package: inputs and outputs that others have written down.

Recurrent layers, softmax and losses, as far as ours express them. The cases of the recurrent
layers have all weights equal, so that gates in a wrong order would pass: hence also ONNX's
reference evaluator, on random weights.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

pytestmark = pytest.mark.oracle

GATES = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}  # ours, in ONNX's: iofc, zrh
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
NOT_EXPRESSIBLE = {
    "test_lstm_with_peepholes": "peepholes",
    "test_gru_seq_length": "the reset gate is applied before the product",
    "test_gru_reverse": "the reset gate is applied before the product",
    "test_gru_bidirectional": "the reset gate is applied before the product",
}


@pytest.fixture(scope="module")
def onnx() -> Any:
    return pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def cases(onnx: Any) -> dict[str, list[Any]]:
    """The cases of one node, by the node's kind."""
    node = pytest.importorskip("onnx.backend.test.case.node")
    found: dict[str, list[Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other nodes overflow
        every = node.collect_testcases(None)
    for case in every:
        nodes = case.model.graph.node
        if len(nodes) == 1:
            found.setdefault(nodes[0].op_type, []).append(case)
    return found


def settings_of(onnx: Any, case: Any) -> dict[str, Any]:
    attributes = case.model.graph.node[0].attribute
    found = {a.name: onnx.helper.get_attribute_value(a) for a in attributes}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


def same(case: Any, found: Any, expected: np.ndarray) -> None:
    assert found.numpy().shape == expected.shape, case
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6, err_msg=str(case))


# --- recurrent layers -----------------------------------------------------------------------------


def reordered(w: np.ndarray, kind: str) -> np.ndarray:
    """The blocks of rows in our order of the gates."""
    blocks = np.split(w, len(GATES[kind]))
    return np.concatenate([blocks[i] for i in GATES[kind]])


def run_layer(kind: str, given: dict[str, np.ndarray], settings: dict[str, Any]) -> list[Any]:
    """Our layer with ONNX's weights: Y (T, directions, B, H), Y_h, and an LSTM's Y_c."""
    x, W, R = given["X"], given["W"], given["R"]
    directions, H = len(R), R.shape[2]
    direction = settings.get("direction", "forward")
    if settings.get("layout"):
        x = x.swapaxes(0, 1)
    layer = getattr(nn, kind)(x.shape[2], H, bidirectional=direction == "bidirectional")
    B = given.get("B", np.zeros((directions, 2 * len(GATES[kind]) * H), x.dtype))
    state = {}
    for d in range(directions):
        suffix = "_l0_reverse" if d else "_l0"
        of_input, of_state = np.split(B[d], 2)
        for name, w in (
            ("weight_ih", W[d]),
            ("weight_hh", R[d]),
            ("bias_ih", of_input),
            ("bias_hh", of_state),
        ):
            state[name + suffix] = mg.tensor(reordered(w, kind))
    layer.load_state_dict(state)
    hx: Any = None
    if "initial_h" in given:
        hx = mg.tensor(given["initial_h"])
        hx = (hx, mg.tensor(given["initial_c"])) if kind == "LSTM" else hx
    backwards = direction == "reverse"
    with mg.no_grad():
        y, last = layer(mg.tensor(x[::-1] if backwards else x), hx)
    y = mg.flip(y, 0) if backwards else y
    y = y.reshape(*y.shape[:2], directions, H).transpose(1, 2)  # (T, directions, B, H)
    found = [y, *(last if kind == "LSTM" else [last])]
    if settings.get("layout"):
        return [y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in found[1:])]
    return found


def obstacle(kind: str, given: dict[str, np.ndarray], settings: dict[str, Any]) -> str | None:
    """Why our layer cannot compute this, if it cannot."""
    if "P" in given:
        return "peepholes"
    if settings.get("clip") or settings.get("activations") or settings.get("input_forget"):
        return "another activation"
    if kind == "GRU" and not settings.get("linear_before_reset"):
        # Ours is r (U h + b), the other U (r h) + b: the same only where U h and b are zero.
        H = settings["hidden_size"]
        steps = given["X"].shape[1 if settings.get("layout") else 0]
        if steps > 1 or "initial_h" in given or ("B" in given and given["B"][:, -H:].any()):
            return "the reset gate is applied before the product"
    return None


def test_recurrent_cases(onnx: Any, cases: dict[str, list[Any]]) -> None:
    left_out, count = {}, 0
    for kind in GATES:
        for case in cases[kind]:
            node, settings = case.model.graph.node[0], settings_of(onnx, case)
            for inputs, outputs in case.data_sets:
                names = [name for name in node.input if name]
                given = dict(zip(names, inputs, strict=True))
                assert set(given) <= set(INPUTS), case.name
                if reason := obstacle(kind, given, settings):
                    left_out[case.name] = reason
                    continue
                count += 1
                places = [i for i, name in enumerate(node.output) if name]
                found = run_layer(kind, given, settings)
                for i, expected in zip(places, outputs, strict=True):
                    same(case.name, found[i], expected)
    assert left_out == NOT_EXPRESSIBLE
    assert count >= 14


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("kind", GATES)
def test_recurrent_layers_on_random_weights(
    onnx: Any, kind: str, layout: int, direction: str
) -> None:
    reference = pytest.importorskip("onnx.reference")
    T, B, D, H, directions = 4, 3, 2, 5, 1 + (direction == "bidirectional")
    rows = len(GATES[kind]) * H
    shapes = {
        "X": (T, B, D),
        "W": (directions, rows, D),
        "R": (directions, rows, H),
        "B": (directions, 2 * rows),
        "initial_h": (directions, B, H),
    }
    if kind == "LSTM":
        shapes["initial_c"] = (directions, B, H)
    rng = np.random.default_rng(0)
    given = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    settings: dict[str, Any] = {"hidden_size": H, "direction": direction}
    if kind == "GRU":
        settings["linear_before_reset"] = 1
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    names = [name if name in given else "" for name in INPUTS[: 7 if kind == "LSTM" else 6]]
    node = onnx.helper.make_node(kind, names, outputs, **settings)
    info = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None)
        for n in [*given, *outputs]
    ]
    graph = onnx.helper.make_graph([node], "one", info[: len(given)], info[len(given) :])
    model = onnx.helper.make_model(graph)
    expected = reference.ReferenceEvaluator(model).run(None, given)
    found = run_layer(kind, given, settings)
    if layout:  # the batch first, in everything but the weights
        states = {n: v.swapaxes(0, 1) for n, v in given.items() if n == "X"}
        found = run_layer(kind, given | states, settings | {"layout": 1})
        expected = [expected[0].transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in expected[1:])]
    for i, values in enumerate(expected):
        same(f"{kind} {direction} {outputs[i]}", found[i], values)


# --- softmax and losses ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_softmax_cases(onnx: Any, cases: dict[str, list[Any]], kind: str) -> None:
    assert len(cases[kind]) >= 7
    for case in cases[kind]:
        dim = settings_of(onnx, case).get("axis", -1)
        for (x,), (y,) in case.data_sets:
            same(case.name, getattr(nn, kind)(dim)(mg.tensor(x)), y)


@pytest.mark.parametrize("kind", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_loss_cases(onnx: Any, cases: dict[str, list[Any]], kind: str) -> None:
    assert len(cases[kind]) >= 18
    loss = {"NegativeLogLikelihoodLoss": nn.NLLLoss, "SoftmaxCrossEntropyLoss": nn.CrossEntropyLoss}
    for case in cases[kind]:
        settings = settings_of(onnx, case)
        for inputs, outputs in case.data_sets:
            x, t, *weight = map(mg.tensor, inputs)
            found = loss[kind](*weight, **settings)(x, t)
            same(case.name, found, outputs[0])
            if len(outputs) == 2:
                same(case.name, nn.functional.log_softmax(x, 1), outputs[1])
