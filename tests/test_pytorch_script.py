"""A script for recurrent nets written for PyTorch runs after changing its import lines only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

SCRIPT = """
{imports}
import numpy as np

data = np.array([112., 118., 132., 129., 121., 135., 148., 148., 136., 119., 104., 118., 115.,
                 126., 141., 135., 125., 149., 170., 170., 158., 133., 114., 140., 145., 150.])
train, test = data[:-6], data[-6:]
low, high = train.min(), train.max()
scaled = torch.FloatTensor((train - low) / (high - low) * 2 - 1).view(-1)
window = 6


def sequences(series, window):
    pairs = []
    for i in range(len(series) - window):
        pairs.append((series[i:i + window], series[i + window:i + window + 1]))
    return pairs


class LSTM(nn.Module):
    def __init__(self, input_size=1, hidden_layer_size=20, output_size=1):
        super().__init__()
        self.hidden_layer_size = hidden_layer_size
        self.lstm = nn.LSTM(input_size, hidden_layer_size)
        self.linear = nn.Linear(hidden_layer_size, output_size)
        self.hidden_cell = (torch.zeros(1, 1, self.hidden_layer_size),
                            torch.zeros(1, 1, self.hidden_layer_size))

    def forward(self, input_seq):
        lstm_out, self.hidden_cell = self.lstm(input_seq.view(len(input_seq), 1, -1),
                                               self.hidden_cell)
        predictions = self.linear(lstm_out.view(len(input_seq), -1))
        return predictions[-1]


torch.manual_seed(1)
model = LSTM()
prepare(model)
loss_function = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
losses = []
for epoch in range(12):
    for seq, label in sequences(scaled, window):
        optimizer.zero_grad()
        model.hidden_cell = (torch.zeros(1, 1, model.hidden_layer_size),
                             torch.zeros(1, 1, model.hidden_layer_size))
        prediction = model(seq)
        single_loss = loss_function(prediction, label)
        single_loss.backward()
        optimizer.step()
    losses.append(single_loss.item())
    print(f'epoch: {{epoch:3}} loss: {{single_loss.item():10.8f}}')

model.eval()
inputs = scaled[-window:].tolist()
for _ in range(6):
    seq = torch.FloatTensor(inputs[-window:])
    with torch.no_grad():
        model.hidden_cell = (torch.zeros(1, 1, model.hidden_layer_size),
                             torch.zeros(1, 1, model.hidden_layer_size))
        inputs.append(model(seq).item())
forecast = (np.array(inputs[window:]) + 1) / 2 * (high - low) + low
text = str(model)
"""


def run(library: str) -> dict[str, Any]:
    """Run the script on a library, from weights that do not depend on it."""

    def prepare(model: Any) -> None:
        generator = np.random.default_rng(0)
        state = model.state_dict()
        tensor = __import__(library).tensor
        model.load_state_dict(
            {
                name: tensor(generator.uniform(-0.2, 0.2, tuple(value.shape)).astype(np.float32))
                for name, value in state.items()
            }
        )

    imports = f"import {library} as torch\nimport {library}.nn as nn"
    namespace: dict[str, Any] = {"prepare": prepare, "__name__": "__main__"}
    exec(compile(SCRIPT.format(imports=imports), "script", "exec"), namespace)
    return namespace


def test_the_flights_tutorial_runs(capsys: pytest.CaptureFixture[str]) -> None:
    result = run("minigrad")
    assert result["losses"][-1] < result["losses"][0]
    assert np.all((result["forecast"] > 50) & (result["forecast"] < 250))
    assert "(lstm): LSTM(1, 20)" in result["text"]


@pytest.mark.oracle
def test_it_gives_what_pytorch_gives(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    ours, theirs = run("minigrad"), run("torch")
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-3)
    np.testing.assert_allclose(ours["forecast"], theirs["forecast"], rtol=1e-3)
    assert ours["text"] == theirs["text"]
