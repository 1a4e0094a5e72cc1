"""Weights to and from other frameworks, as .safetensors files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from minigrad.autograd.engine import Node, wrap
from minigrad.checkpoint import replacing
from minigrad.device import device as _device
from minigrad.device import to_device

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_SAVED = {np.dtype(code).newbyteorder("=") for code in _DTYPES.values()}


def _library() -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(
            "safetensors files need the safetensors package: pip install safetensors"
        ) from error
    return safetensors


def load_file(filename: str | os.PathLike[str], device: Any = "cpu") -> dict[str, Any]:
    """The tensors in the file, by name. Bfloat16, which NumPy lacks, comes as float32.

    Raises ValueError for a file that is damaged or of another kind.
    """
    library = _library()
    where = _device(device)
    with open(filename, "rb") as file:
        content = file.read()
    try:
        entries = library.deserialize(content)
    except library.SafetensorError as error:
        raise ValueError(f"{filename} is no safetensors file, or damaged: {error}") from error
    tensors = {}
    for name, entry in entries:
        kind, data = entry["dtype"], entry["data"]
        if kind == "BF16":  # the upper half of a float32
            array = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        elif kind in _DTYPES:
            array = np.frombuffer(data, _DTYPES[kind]).copy()
        else:
            raise ValueError(f"{filename}: {name} has dtype {kind}, which minigrad lacks")
        tensors[name] = wrap(to_device(array.reshape(entry["shape"]), where))
    return tensors


def save_file(
    tensors: dict[str, Any],
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
) -> None:
    """Write tensors (or arrays) by name, as in `save_file(net.state_dict(), "net.safetensors")`.

    `metadata`: text to go with them.  Raises TypeError for anything that is no tensor.  As with
    `mg.save`, a failure leaves no half-written file.
    """
    _library()
    from safetensors.numpy import save

    arrays = {}
    for name, tensor in tensors.items():
        value = tensor.value if isinstance(tensor, Node) else tensor
        if not hasattr(value, "dtype"):
            raise TypeError(f"{name!r} is of type {type(tensor).__name__}, not a tensor")
        if value.dtype.newbyteorder("=") not in _SAVED:
            raise TypeError(f"{name!r} has dtype {value.dtype}, which safetensors lacks")
        arrays[name] = np.ascontiguousarray(to_device(value, _device("cpu"))).reshape(value.shape)
    with replacing(filename) as file:
        file.write(save(arrays, metadata))
