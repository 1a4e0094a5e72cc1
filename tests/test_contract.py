"""The names that minigrad shares with PyTorch: each is there, and does what it does there.

`contract.txt` has one line of PyTorch a row, with the kind of error it raises, if any, after `!!`.
The default run checks that each row runs, or raises that kind; `-m oracle` that PyTorch gives the
same values, dtypes, shapes and gradients. What differs on purpose is listed below, with its reason.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from contract_rows import Outcome, difference, run

NAMES = {
    "minigrad": """tensor as_tensor from_numpy zeros ones full empty arange linspace eye zeros_like
        ones_like full_like empty_like randn rand randint randperm bernoulli multinomial
        manual_seed Generator get_default_dtype set_default_dtype Tensor save load grad no_grad
        enable_grad set_grad_enabled is_grad_enabled device float16 float32 float64 int8 int16 int32
        int64 uint8 bool half float double short int long
        exp log log1p expm1 sqrt rsqrt square pow abs sign neg reciprocal sin cos tan tanh sinh cosh
        sigmoid relu softplus floor ceil round clamp maximum minimum where add sub mul div matmul mm
        bmm mv dot outer einsum addmm sum mean var std max min amax amin argmax argmin prod cumsum
        logsumexp softmax log_softmax norm all any sort topk argsort reshape flatten transpose
        permute swapaxes movedim squeeze unsqueeze tile cat stack split chunk unbind flip tril triu
        diagonal gather scatter index_select take_along_dim masked_fill masked_select one_hot isnan
        isinf isfinite allclose equal""",
    "minigrad.Tensor": """shape ndim size numel dtype device T mT requires_grad requires_grad_ grad
        grad_fn is_leaf data detach clone item tolist numpy to cpu cuda float double long bool
        type_as backward retain_grad register_hook __array__ __dlpack__ __len__ __iter__ __bool__
        __float__ add_ mul_ copy_ zero_ fill_ clamp_ uniform_ normal_ __setitem__
        exp log log1p expm1 sqrt rsqrt square pow abs sign neg reciprocal sin cos tan tanh sinh cosh
        sigmoid relu floor ceil round clamp maximum minimum where add sub mul div matmul mm bmm mv
        dot outer addmm sum mean var std max min amax amin argmax argmin prod cumsum logsumexp
        softmax log_softmax norm all any sort topk argsort reshape view flatten transpose permute
        swapaxes movedim squeeze unsqueeze expand expand_as repeat tile split chunk unbind flip tril
        triu diagonal gather scatter index_select take_along_dim masked_fill masked_select isnan
        isinf isfinite allclose equal bernoulli multinomial""",
    "minigrad.autograd": """grad functional gradcheck gradgradcheck Function detect_anomaly no_grad
        enable_grad set_grad_enabled is_grad_enabled Op""",
    "minigrad.autograd.functional": "vjp jvp jacobian hessian hvp",
    "minigrad.utils.checkpoint": "checkpoint",
    "minigrad.nn": """Module Parameter Sequential ModuleList ModuleDict Identity Flatten Linear
        Embedding Sigmoid Tanh ReLU Softmax LogSoftmax Dropout LayerNorm RNN LSTM GRU RNNCell
        LSTMCell GRUCell MSELoss L1Loss SmoothL1Loss HuberLoss CrossEntropyLoss NLLLoss BCELoss
        BCEWithLogitsLoss init functional utils""",
    "minigrad.nn.Module": """parameters named_parameters children named_children modules
        named_modules buffers apply train eval to double float half state_dict load_state_dict
        zero_grad requires_grad_ register_buffer register_forward_hook cpu cuda""",
    "minigrad.nn.functional": """linear embedding dropout layer_norm pad relu sigmoid tanh softplus
        softmax log_softmax one_hot mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy
        binary_cross_entropy_with_logits cross_entropy nll_loss""",
    "minigrad.nn.init": """uniform_ normal_ trunc_normal_ constant_ ones_ zeros_ eye_ dirac_
        xavier_uniform_ xavier_normal_ kaiming_uniform_ kaiming_normal_ orthogonal_ sparse_
        calculate_gain""",
    "minigrad.nn.utils": """clip_grad_norm_ clip_grad_value_ parameters_to_vector
        vector_to_parameters rnn""",
    "minigrad.nn.utils.rnn": """pad_sequence pack_padded_sequence pad_packed_sequence pack_sequence
        PackedSequence""",
    "minigrad.optim": "SGD Adagrad RMSprop Adam AdamW lr_scheduler Optimizer",
    "minigrad.optim.lr_scheduler": """LambdaLR StepLR ExponentialLR LinearLR CosineAnnealingLR
        ReduceLROnPlateau SequentialLR""",
    "minigrad.safetensors": "load_file save_file",
    "minigrad.cuda": "is_available device_count synchronize memory_allocated",
    "minigrad.random": "manual_seed",
}

DIFFERENCES = {  # row: why minigrad does otherwise
    "torch.multinomial(torch.tensor([1, 2]), 1)": "counts are weights too",
    "repr(torch.zeros(2, dtype=torch.float64))": "dtypes are NumPy's",
    "str(x.shape)": "a shape is a tuple",
    "x // y.detach()": "a step, whose gradient is 0",
    "x // 0": "a step, whose gradient is 0",
    "torch.floor_divide(x, 2)": "a step, whose gradient is 0",
    "x + np.ones(4, np.float32)": "NumPy arrays are operands",
    "np.ones((3, 4), np.float32) * x_": "NumPy arrays are operands",
    "a = x.clone(); a[0] = np.ones(4, np.float32); a": "NumPy arrays are operands",
    "torch.maximum(x, 0)": "a number is an operand",
    "x.clamp(y, 1.0)": "a number is an operand",
    "torch.allclose(x, d)": "two dtypes can be compared",
    "torch.abs(b)": "it is what it says",
    "torch.relu(b)": "it is what it says",
    "F.softplus(i)": "integers count as floats, as in exp",
    "torch.softmax(i, 0)": "integers count as floats, as in exp",
    "torch.log_softmax(i, 0)": "integers count as floats, as in exp",
    "torch.norm(i)": "integers count as floats, as in exp",
    "b.argmax(1)": "booleans are ordered",
    "u.all(), u.any(0)": "always booleans",
    "x[..., ...]": "NumPy's rule",
    "c[0, :, k]": "NumPy's rule: the integer counts among the arrays",
    "x[::-1]": "NumPy's rule: a step may be negative",
    "x[u]": "neither mask nor positions: say .bool() or .long()",
    "x.scatter(1, torch.tensor([[0, 1], [1, 2], [3, 0]]), y)": "src may be larger and learn",
    "x.scatter_add(1, torch.tensor([[0, 0], [1, 1], [3, 0]]), y)": "src may be larger and learn",
    "x.take_along_dim(torch.tensor([[9]]), 1)": "out of range is an error",
    "a = x.sum(); a.backward(); a.backward()": "a freed graph is an error even where it would do",
    "F.binary_cross_entropy(torch.sigmoid(x), b.long())": "targets are converted",
    "F.binary_cross_entropy(torch.sigmoid(x), q_.double())": "targets are converted",
    "F.binary_cross_entropy_with_logits(x, b.long())": "targets are converted",
    "F.cross_entropy(x, k.int())": "any integers are classes",
    "noncontiguous.view(-1)": "layout in memory is no part of a tensor",
    "F.mse_loss(x, y, None, None, 'mean')": "the deprecated size_average and reduce are gone",
    "nn.LSTM(4, 2)(c, torch.zeros(1, 3, 2))": "the error names the tuple that is wanted",
    "torch.sign(torch.tensor(float('nan')))": "nan in, nan out",
    "torch.relu(odd)": "the gradient at nan is 0",
    "torch.maximum(odd, torch.ones(3))": "the gradient at nan is 0",
    "odd.amax()": "the gradient of nan goes to the nans, as in max()",
    "a = x_.numpy(); a[0, 0] = 5": "tensors are values: numpy() is a view to read",
    "a = np.zeros(2); t_ = torch.from_numpy(a); a[0] = 1; t_": "tensors are values: a copy",
    "a = np.zeros(2); t_ = torch.as_tensor(a); a[0] = 1; t_": "tensors are values: a copy",
    "a = x_.clone(); t_ = a.view(-1); t_[0] = 9; a": "tensors are values: views do not write",
    "a = x_.clone(); a[0].zero_(); a": "tensors are values: views do not write",
    "nn.init.zeros_(nn.Linear(2, 2).weight[0])": "views do not write: .weight.data[0] does",
    "a = nn.Linear(2, 2); b_ = a.state_dict(); a.bias.data.zero_(); b_['bias']": "it is a snapshot",
}


def read_table() -> list[tuple[str, list[tuple[str, str | None]]]]:
    """The sections of contract.txt: rows and the error each raises."""
    sections: list[tuple[str, list[tuple[str, str | None]]]] = []
    for line in (Path(__file__).parent / "contract.txt").read_text().splitlines():
        if line.startswith("## "):
            sections.append((line[3:], []))
        elif line:
            row, _, error = line.partition("  !! ")
            sections[-1][1].append((row, error or None))
    return sections


TABLE = read_table()
each_section = pytest.mark.parametrize("rows", [pytest.param(r, id=name) for name, r in TABLE])


def resolve(path: str) -> Any:
    """A module, or a class in one."""
    parts = path.split(".")
    if parts[-1][0].isupper():
        return getattr(importlib.import_module(".".join(parts[:-1])), parts[-1])
    return importlib.import_module(path)


@pytest.mark.parametrize("where", NAMES)
def test_every_name_is_there(where: str) -> None:
    home = resolve(where)
    missing = [name for name in NAMES[where].split() if not hasattr(home, name)]
    assert not missing, f"{where} lacks {missing}"


def report(failures: list[str]) -> None:
    assert not failures, "\n" + "\n".join(failures)


def at_hand(row: str, outcome: Outcome) -> str:
    return f"{row}\n    {outcome.message or outcome.values}"[:500]


@each_section
@pytest.mark.cpu_only("numpy() and positions out of range are looked at")
def test_every_row_runs_or_raises_as_it_says(rows: list[tuple[str, str | None]]) -> None:
    failures = []
    for row, error in rows:
        outcome = run("minigrad", row)
        if outcome.error != error:
            failures.append(f"expected {error or 'no error'}: {at_hand(row, outcome)}")
    report(failures)


@pytest.mark.oracle
@each_section
def test_pytorch_gives_the_same(rows: list[tuple[str, str | None]]) -> None:
    pytest.importorskip("torch")
    failures = []
    for row, _ in rows:
        differs = difference(run("minigrad", row), run("torch", row))
        if differs:
            failures.append(f"{row}\n    {differs}"[:500])
    report(failures)


@pytest.mark.oracle
@pytest.mark.parametrize("row", DIFFERENCES)
def test_what_is_said_to_differ_does(row: str) -> None:
    """A difference that is gone is to be taken off the list, and put into the table."""
    pytest.importorskip("torch")
    assert difference(run("minigrad", row), run("torch", row)), DIFFERENCES[row]


def test_the_comparison_can_fail() -> None:
    """Of values, dtypes, errors, gradients."""
    ours = run("minigrad", "x * 2")
    for row in ("x + x + 1e-3", "(x * 2).double()", "x * 'a'", "x.detach() * 2", "x + x.detach()"):
        assert difference(ours, run("minigrad", row)), row
    assert difference(ours, run("minigrad", "x + x")) is None
