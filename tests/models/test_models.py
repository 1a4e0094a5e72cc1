"""The three models as a whole, by finite differences in float64 with random cotangents."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from models import char_lstm, char_rnn, forecaster

small = st.integers(1, 4)


def check(model: nn.Module, f) -> None:
    """Compare the gradient of <cotangents, f()> with its change along random directions."""
    random = np.random.default_rng(0)
    model.double()
    for p in model.parameters():  # away from the tiny weights of a recipe's start
        p.data.copy_(mg.tensor(random.normal(scale=0.5, size=p.shape)))
    parameters = [p for p in model.parameters() if p.requires_grad]
    outputs = f()
    cotangents = [mg.tensor(random.normal(size=y.shape)) for y in outputs]

    def projected() -> mg.Tensor:
        return sum((y * g).sum() for y, g in zip(f(), cotangents, strict=True))

    gradients = mg.grad(projected(), parameters)
    start = [p.detach().clone() for p in parameters]
    eps = 1e-5
    for moved in range(len(parameters)):  # each parameter by itself, so that none hides
        direction = mg.tensor(random.normal(size=start[moved].shape))
        values = []
        for sign in (1, -1):
            with mg.no_grad():
                parameters[moved].copy_(start[moved] + sign * eps * direction)
                values.append(projected().item())
        with mg.no_grad():
            parameters[moved].copy_(start[moved])
        expected = (values[0] - values[1]) / (2 * eps)
        found = (gradients[moved] * direction).sum().item()
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)


@settings(max_examples=10)
@given(symbols=small, hidden=small, length=small, carried=st.booleans())
def test_char_rnn(symbols, hidden, length, carried):
    model = char_rnn.CharRNN(char_rnn.Config(symbols, hidden))
    x = mg.randint(symbols, (length,))
    h = mg.randn(1, hidden, dtype=mg.float64) if carried else None
    check(model, lambda: model(x, h))


@settings(max_examples=10)
@given(
    recipe=st.sampled_from(["stream", "windows"]),
    sizes=st.tuples(small, small, small, small, st.integers(1, 3)),
    carried=st.booleans(),
)
def test_char_lstm(recipe, sizes, carried):
    symbols, hidden, length, batch, layers = sizes
    config = char_lstm.Config(symbols, recipe, hidden, layers, 0.5, 3, length, batch)
    model = char_lstm.CharLSTM(config).eval()
    x, y = mg.randint(symbols, (length, batch)), mg.randint(symbols, (length, batch))
    targets = y[-1] if recipe == "windows" else y
    state = None
    if carried:
        state = tuple(mg.randn(layers, batch, hidden, dtype=mg.float64) for _ in range(2))

    def outputs():
        with default_float64():  # the windows recipe turns numbers into floats
            logits, (h, c) = model(x, state)
        return logits, h, c, model.loss(logits, targets)

    check(model, outputs)


def test_char_lstm_with_dropout():
    model = char_lstm.CharLSTM(char_lstm.Config(3, hidden=4, layers=2, dropout=0.5, embedding=2))
    x = mg.randint(3, (5, 2))

    def outputs():
        mg.manual_seed(1)  # the same units silent each time
        logits, (h, c) = model(x)
        return logits, h, c

    check(model, outputs)


@settings(max_examples=10)
@given(hidden=small, layers=st.integers(1, 2), batch=small, length=small)
def test_forecaster(hidden, layers, batch, length):
    model = forecaster.Forecaster(forecaster.Config(hidden, layers))
    windows = mg.randn(batch, length, dtype=mg.float64)
    check(model, lambda: (model(windows),))


class default_float64:
    def __enter__(self):
        mg.set_default_dtype(mg.float64)

    def __exit__(self, *exception):
        mg.set_default_dtype(mg.float32)


# --- what the recipes promise ---------------------------------------------------------------------


def test_char_rnn_starts_as_the_recipe_does():
    model = char_rnn.CharRNN(char_rnn.Config(81))
    for name, p in model.named_parameters():
        value = p.detach().numpy()
        if "bias" in name:
            assert not value.any()
        else:
            assert 0.009 < value.std() < 0.011
    training = char_rnn.Training(model, np.arange(60) % 81, char_rnn.Config(81))
    assert training.smooth_loss == pytest.approx(109.86, abs=0.01)
    loss = training.step(*training.next_chunk())
    assert loss == pytest.approx(109.86, abs=0.1)


def test_char_rnn_trains_exactly_as_the_recipe():
    """Beside the recipe in plain NumPy: 60 updates, the text's end and the clipping among them."""
    V, H, L, rng = 5, 7, 4, np.random.default_rng(0)
    text = rng.integers(V, size=90)
    config = char_rnn.Config(V, hidden=H, length=L, clip=0.2)
    model = char_rnn.CharRNN(config).double()
    training = char_rnn.Training(model, text, config)

    drawn = model.rnn.weight_ih_l0, model.rnn.weight_hh_l0, model.output.weight
    Wxh, Whh, Why = (w.detach().numpy().copy() for w in drawn)
    bh, by = np.zeros(H), np.zeros(V)
    weights = Wxh, Whh, Why, bh, by
    memories = [np.zeros_like(w) for w in weights]
    smooth, position, clipped = -np.log(1 / V) * L, 0, False
    h = np.zeros(H)
    for _ in range(60):
        if position + L + 1 >= len(text):
            position, h = 0, np.zeros(H)
        x, y = text[position : position + L], text[position + 1 : position + L + 1]
        states, p, loss = [h], [], 0.0
        for t in range(L):
            h = np.tanh(Wxh[:, x[t]] + Whh @ states[-1] + bh)
            scores = np.exp(Why @ h + by)
            states.append(h)
            p.append(scores / scores.sum())
            loss -= np.log(p[t][y[t]])
        gradients = dWxh, dWhh, dWhy, dbh, dby = [np.zeros_like(w) for w in weights]
        dh_next = np.zeros(H)
        for t in reversed(range(L)):
            dy = p[t].copy()
            dy[y[t]] -= 1
            da = (1 - states[t + 1] ** 2) * (Why.T @ dy + dh_next)
            dWhy += np.outer(dy, states[t + 1])
            dby += dy
            dWhh += np.outer(da, states[t])
            dWxh[:, x[t]] += da
            dbh += da
            dh_next = Whh.T @ da
        for w, dw, memory in zip(weights, gradients, memories, strict=True):
            clipped = clipped or bool((abs(dw) > 0.2).any())
            np.clip(dw, -0.2, 0.2, out=dw)
            memory += dw * dw
            w -= 0.1 * dw / np.sqrt(memory + 1e-8)
        smooth = 0.999 * smooth + 0.001 * loss
        position += L

        assert training.step(*training.next_chunk()) == pytest.approx(loss, rel=1e-9)
        assert training.smooth_loss == pytest.approx(smooth, rel=1e-12)
    assert clipped
    np.testing.assert_allclose(drawn[1].detach().numpy(), Whh, rtol=1e-8, atol=1e-10)


def test_char_rnn_goes_back_to_the_start_with_a_zero_state():
    config = char_rnn.Config(5, hidden=4, length=3)
    training = char_rnn.Training(char_rnn.CharRNN(config), np.arange(12) % 5, config)
    starts = []
    for _ in range(5):
        x, y = training.next_chunk()
        starts.append((training.position - 3, training.h is None))
        np.testing.assert_array_equal((x.numpy() + 1) % 5, y.numpy())
        training.step(x, y)
        assert training.h.grad_fn is None
    # p + 3 + 1 >= 12 from p = 8 on: chunks at 0, 3, 6, then the start again
    assert starts == [(0, True), (3, False), (6, False), (0, True), (3, False)]


def test_char_rnn_learns_and_clips():
    config = char_rnn.Config(3, hidden=8, length=6)
    training = char_rnn.Training(char_rnn.CharRNN(config), np.arange(80) % 3, config)
    losses = []
    for _ in range(60):
        losses.append(training.step(*training.next_chunk()))
        assert all(abs(p.grad.numpy()).max() <= 5 for p in training.trained)
    assert losses[-1] < 0.1 * losses[0]
    assert not training.model.rnn.bias_hh_l0.detach().numpy().any()
    written = char_rnn.sample(training.model, 0, 9, None, mg.Generator().manual_seed(0))
    assert written == [1, 2, 0] * 3


def test_characters_are_drawn_in_proportion():
    """A net that sees nothing: its scores are the biases of its last layer."""
    config = char_lstm.Config(3, hidden=2, embedding=2)
    model = char_lstm.CharLSTM(config)
    for p in model.parameters():
        p.data.zero_()
    model.output.bias.data.copy_(mg.log(mg.tensor([0.1, 0.6, 0.3])))
    generator = mg.Generator().manual_seed(0)

    def shares(temperature, top_k=None):
        written = char_lstm.generate(model, [0], 1000, temperature, top_k, generator)
        return np.bincount(written, minlength=3) / 1000

    np.testing.assert_array_equal(shares(0), [0, 1, 0])
    np.testing.assert_array_equal(shares(5.0, 1), [0, 1, 0])
    assert (shares(5.0, 2) > 0).tolist() == [False, True, True]
    np.testing.assert_allclose(shares(1.0), [0.1, 0.6, 0.3], atol=0.06)
    squares = np.array([0.01, 0.36, 0.09])
    np.testing.assert_allclose(shares(0.5), squares / squares.sum(), atol=0.06)


@pytest.mark.parametrize("recipe", ["stream", "windows"])
def test_generate_is_what_reading_everything_anew_would_give(recipe):
    config = char_lstm.Config(6, recipe, hidden=5, layers=2, embedding=3, length=4, batch=2)
    model = char_lstm.CharLSTM(config)
    for p in model.parameters():
        p.data.copy_(3 * p.detach())
    prompt = [1, 2, 3, 4, 5]
    written = char_lstm.generate(model, prompt, 6, temperature=0)
    assert model.training  # as it was
    numbers = list(prompt)
    model.eval()
    for _ in range(6):
        read = numbers[-4:] if recipe == "windows" else numbers
        logits, _ = model(mg.tensor(read).unsqueeze(1))
        numbers.append(int(logits.reshape(-1, 6)[-1].argmax().item()))
    assert written == numbers[5:]
    with pytest.raises(ValueError, match="at least one character"):
        char_lstm.generate(model, [], 3)


def test_recipes_of_char_lstm():
    windows = char_lstm.Config.of_recipe("windows", 40)
    assert (windows.hidden, windows.layers, windows.dropout) == (300, 2, 0.2)
    assert (windows.length, windows.batch) == (50, 30)
    features = char_lstm.CharLSTM(windows).features(mg.tensor([[0, 10], [39, 40]]))
    np.testing.assert_allclose(features.numpy()[:, :, 0], [[0, 0.25], [0.975, 1]])
