"""Weights to and from .safetensors files."""

import builtins
import json
import os
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad import safetensors
from minigrad.autograd.engine import wrap

pytest.importorskip("safetensors")

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", ">f4", ">i2"]
arrays = hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, min_side=0, max_side=4))


@given(tensors=st.dictionaries(st.text(), arrays, max_size=4), transposed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_is_saved_comes_back(tensors, transposed, tmp_path_factory):
    if transposed:
        tensors = {name: array.T for name, array in tensors.items()}
    path = tmp_path_factory.getbasetemp() / "net.safetensors"
    tensors = {name: array for name, array in tensors.items() if name != "__metadata__"}
    safetensors.save_file({n: wrap(a) for n, a in tensors.items()}, path, {"made": "by hand"})
    back = safetensors.load_file(path)
    assert set(back) == set(tensors)
    for name, array in tensors.items():
        assert back[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(back[name].value, array)
        assert not back[name].requires_grad
        assert back[name].value.flags.writeable


def test_what_cannot_be_saved(tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.save_file({"w": np.ones(2)}, path)
    old = path.read_bytes()
    for bad in ([1.0], np.ones(2, complex), np.array(["a"])):
        with pytest.raises(TypeError, match="'w'"):
            safetensors.save_file({"w": bad}, path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["net.safetensors"]


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.save_file({"w": np.ones(200)}, path)
    content = path.read_bytes()
    for damaged in (b"", content[:50], content[:-1], b"\x80\x02}q\x00." * 9):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="no safetensors file"):
            safetensors.load_file(path)


def test_half_precision_from_elsewhere(tmp_path):
    """bfloat16 is the upper half of a float32; 8-bit floats are refused."""
    path = tmp_path / "net.safetensors"

    def write(dtype, shape, data):  # the format: the length of a JSON header, it, and the data
        entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
        header = json.dumps({"w": entry}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + data)

    values = np.array([[1.0, -2.5], [0.15625, 3e38]], np.float32)
    halves = (values.view("<u4") >> 16).astype("<u2")
    write("BF16", [2, 2], halves.tobytes())
    expected = (halves.astype("<u4") << 16).view("<f4")
    back = safetensors.load_file(path)["w"]
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back.value, expected)
    np.testing.assert_allclose(back.value, values, rtol=2**-7)
    write("F8_E4M3", [2], b"ab")
    with pytest.raises(ValueError, match="w has dtype F8_E4M3, which minigrad lacks"):
        safetensors.load_file(path)


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path):
    real = builtins.__import__

    def missing(name, *rest):
        if name == "safetensors":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "safetensors")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match="pip install safetensors"):
        safetensors.load_file(tmp_path / "net.safetensors")
    with pytest.raises(ImportError, match="pip install safetensors"):
        safetensors.save_file({}, tmp_path / "net.safetensors")


@pytest.mark.oracle
def test_pytorch_reads_and_writes_the_same_files(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    path = tmp_path / "net.safetensors"
    theirs = {
        "w": torch.randn(3, 4),
        "half": torch.randn(5).half(),
        "count": torch.arange(4),
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "bf16": torch.randn(7).bfloat16(),
    }
    save_file(theirs, path)
    ours = safetensors.load_file(path)
    for name, tensor in theirs.items():
        want = tensor.float() if name == "bf16" else tensor
        assert np.array_equal(ours[name].value, want.numpy())
        assert ours[name].value.dtype == want.numpy().dtype
    safetensors.save_file(ours, path)
    for name, tensor in load_file(path).items():
        assert torch.equal(tensor, theirs[name].float() if name == "bf16" else theirs[name])
