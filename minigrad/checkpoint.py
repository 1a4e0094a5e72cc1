"""One file that holds a whole run: `save` and `load`, without pickle.

The file is an ordinary zip archive, which standard tools can read:

    checkpoint.json    {"format": "minigrad checkpoint", "version": 1, "arrays": [...], "tree": ...}
    00000 model.lstm.weight_hh_l0.npy    (one such member for each array, in NumPy's own format)

In the tree, null, booleans, numbers, strings and lists stand for themselves; anything else is an
object with one key, which says what it is (`_encode` lists them).  Loading a file runs no code
from it, and writes nothing to disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import re
import secrets
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from minigrad.autograd import engine
from minigrad.autograd.engine import Array, Node, wrap
from minigrad.device import device, device_of, to_device

_FORMAT = "minigrad checkpoint"
_VERSION = 1
_TREE = "checkpoint.json"

Target = str | os.PathLike[str] | IO[bytes]


def save(obj: Any, path: Target) -> None:
    """Write `obj` to `path` (or to an open binary file): load() gives it back.

    `obj` is made of dicts, OrderedDicts, lists, tuples, strings, bytes, numbers, booleans, None,
    dtypes, devices, Tensors and arrays; a dataclass is saved as a dict, a Parameter as a Tensor
    that requires grad.  Raises TypeError, naming the place, for anything else.

    The file appears whole or not at all: it is written beside `path` under another name, flushed
    to the disk, then renamed.
    """
    encoder = _Encoder()
    tree = encoder.encode(obj, "")
    head = {"format": _FORMAT, "version": _VERSION, "arrays": encoder.names, "tree": tree}
    text = json.dumps(head, allow_nan=False)
    with contextlib.ExitStack() as stack:
        file: Any = path if hasattr(path, "write") else stack.enter_context(replacing(path))
        with zipfile.ZipFile(file, "w") as archive:  # stored, not compressed
            archive.writestr(zipfile.ZipInfo(_TREE), text)
            for name, array in zip(encoder.names, encoder.arrays, strict=True):
                with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                    value = np.asarray(to_device(array, device("cpu")), order="C")
                    np.lib.format.write_array(member, value, allow_pickle=False)


def load(path: Target, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """What `save` wrote to `path` (or to an open binary file).

    Tensors return to the device they were saved from, or go to `map_location` ("cpu", "cuda:1").
    `weights_only` changes nothing: no file can run code here.
    Raises ValueError for a file that is damaged, or no checkpoint, saying what it seems to be.
    """
    where = None if map_location is None else device(map_location)
    if hasattr(path, "read"):
        return _load(path, "the file", where)
    with open(path, "rb") as file:
        return _load(file, str(path), where)


def _load(file: Any, title: str, where: device | None) -> Any:
    start = file.tell()
    head = file.read(16)
    file.seek(start)
    if head[:2] != b"PK":
        raise ValueError(f"{title} is no minigrad checkpoint: it {_kind(head)}")
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
            if _TREE not in members:
                raise _ForeignFileError(_kind_of_archive(members))
            found = json.loads(_member(archive, _TREE))
            version = found["version"] if found["format"] == _FORMAT else 0
            if version != _VERSION:
                raise _ForeignFileError(
                    f"has format {found['format']!r}, version {version}, and this minigrad reads "
                    f"version {_VERSION} (a newer one may read it)"
                )
            arrays = [
                np.lib.format.read_array(io.BytesIO(_member(archive, name)), allow_pickle=False)
                for name in found["arrays"]
            ]
    except _ForeignFileError as error:
        raise ValueError(f"{title} is no minigrad checkpoint: it {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever damage makes zipfile, json and NumPy stumble over
        raise ValueError(
            f"{title} is a damaged or truncated checkpoint ({type(error).__name__}: {error}). Go "
            "back to an earlier one, or copy it again"
        ) from error
    return _Decoder(arrays, where).decode(found["tree"])


class _ForeignFileError(Exception):
    """The file is whole, but not ours."""


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member's bytes, after their checksum was found right."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:  # could blow up without bound
        raise _ForeignFileError(
            "is a compressed archive, and checkpoints are stored without compression"
        )
    return archive.read(name)


def _kind(head: bytes) -> str:
    """What a file that begins with `head` seems to be."""
    if not head:
        return "is empty"
    if head[:1] == b"\x80":
        return (
            "is a pickle, which could run any code (an old torch.save file?). Load it with what "
            "wrote it, and save its arrays with safetensors"
        )
    if head[8:9] == b"{":
        return "looks like a safetensors file: use mg.safetensors.load_file"
    for magic, kind in (
        (b"\x93NUMPY", "is a NumPy .npy file: use numpy.load"),
        (b"\x89HDF", "is an HDF5 file"),
        (b"\x1f\x8b", "is a gzip file"),
    ):
        if head.startswith(magic):
            return kind
    return f"begins with {head!r}"


def _kind_of_archive(members: list[str]) -> str:
    """What a zip archive with these members seems to be."""
    if any(name.endswith("data.pkl") for name in members):
        return (
            "was written by torch.save. In PyTorch, save the state dict with "
            "safetensors.torch.save_file, then use mg.safetensors.load_file"
        )
    if any(name.endswith(".npy") for name in members):
        return "is a NumPy .npz file: use numpy.load"
    return f"is a zip archive with other things in it: {members[:3]}"


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` at the end, or vanishes if anything fails."""
    target = Path(os.path.realpath(path))  # a link keeps pointing where it points
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot save {path}: there is no folder {target.parent}")
    if target.exists() and not target.is_file():  # /dev/null must stay what it is
        with open(target, "wb") as special:
            yield (content := io.BytesIO())
            special.write(content.getvalue())
        return
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(
        OSError
    ):  # make the renaming last as well, where folders can be synced
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class _Encoder:
    """Turns objects into JSON and a list of arrays."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self.names: list[str] = []
        self.numbers: dict[int, int] = {}  # id of an array: its number. Tied weights are saved once
        self.open: list[int] = []  # ids of the containers we are in

    def encode(self, x: Any, path: str) -> Any:
        kind = type(x)
        if x is None or kind is bool or kind is str:
            return x
        if kind is int:
            return x if abs(x) < 2**63 else {"int": hex(x)}
        if kind is float:
            return x if math.isfinite(x) else {"float": repr(x)}
        if kind is bytes:
            return {"bytes": x.hex()}
        if isinstance(x, np.dtype) and np.dtype(x.str) == x:
            return {"dtype": x.str}
        if kind is device:
            return {"device": str(x)}
        if isinstance(x, Node):
            entry = {"tensor": self.number(x.value, path), "device": str(device_of(x.value))}
            return {**entry, "requires_grad": True} if x.requires_grad else entry
        if isinstance(x, np.generic):
            return {"scalar": self.number(np.asarray(x), path)}
        if kind in (np.ndarray, np.memmap):
            return {"array": self.number(x, path)}
        if kind in engine._ARRAYS:
            return {"array": self.number(x, path), "device": str(device_of(x))}
        return self.container(x, kind, path)

    def container(self, x: Any, kind: type, path: str) -> Any:
        if id(x) in self.open:
            raise ValueError(f"cannot save {path or 'the object'}: it contains itself")
        self.open.append(id(x))
        try:
            if kind is list:
                return [self.encode(v, f"{path}[{i}]") for i, v in enumerate(x)]
            if kind is tuple:
                return {"tuple": [self.encode(v, f"{path}[{i}]") for i, v in enumerate(x)]}
            if kind is dict or kind is OrderedDict:
                return {kind.__name__: self.items(x, path)}
            if dataclasses.is_dataclass(x) and not isinstance(x, type):
                fields = {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}
                return {"dict": self.items(fields, path)}
        finally:
            self.open.pop()
        raise TypeError(
            f"cannot save {path or 'the object'}: it is of type {kind.__module__}."
            f"{kind.__qualname__}. What can be saved: dict, OrderedDict, list, tuple, str, bytes, "
            "int, float, bool, None, Tensor, array, dtype, device, dataclass. Of a module or an "
            "optimizer save the state_dict(), of a generator the get_state()"
        )

    def items(self, x: Any, path: str) -> Any:
        """A JSON object if all keys are strings, else a list of pairs."""
        pairs = []
        for key, value in x.items():
            if type(key) not in (str, int, float, bool, type(None)):
                raise TypeError(f"cannot save {path or 'the object'}: it has the key {key!r:.80}")
            plain = isinstance(key, str) and re.fullmatch(r"[\w.]+", key)
            inner = f"{path}.{key}".lstrip(".") if plain else f"{path}[{key!r}]"
            pairs.append((self.encode(key, inner), self.encode(value, inner)))
        return dict(pairs) if all(type(key) is str for key in x) else [list(p) for p in pairs]

    def number(self, array: Array, path: str) -> int:
        """The number under which the array is stored."""
        if id(array) not in self.numbers:
            dtype = array.dtype
            descr = np.lib.format.dtype_to_descr(dtype)
            if dtype.hasobject or np.lib.format.descr_to_dtype(descr) != dtype:
                raise TypeError(
                    f"cannot save {path or 'the object'}: an array of dtype {dtype} has no plain "
                    "bytes"
                )
            self.numbers[id(array)] = len(self.arrays)
            readable = re.sub(r"[^\w.]+", "_", path).strip("_")[-80:]
            self.names.append(f"{len(self.arrays):05d} {readable}.npy")
            self.arrays.append(array)
        return self.numbers[id(array)]


class _Decoder:
    """Turns JSON and a list of arrays back into objects."""

    def __init__(self, arrays: list[Array], where: device | None) -> None:
        self.arrays = arrays
        self.where = where
        self.moved: dict[tuple[int, str], Array] = {}  # what is tied stays tied on a GPU

    def decode(self, x: Any) -> Any:
        if isinstance(x, list):
            return [self.decode(v) for v in x]
        if not isinstance(x, dict):
            return x
        kind, content = next(iter(x.items()))
        match kind:
            case "dict" | "OrderedDict":
                pairs = content.items() if isinstance(content, dict) else content
                made = ((self.decode(key), self.decode(value)) for key, value in pairs)
                return dict(made) if kind == "dict" else OrderedDict(made)
            case "tuple":
                return tuple(self.decode(v) for v in content)
            case "tensor":
                value = self.placed(content, x["device"])
                return wrap(value, None, x.get("requires_grad", False))
            case "array":
                return self.placed(content, x["device"]) if "device" in x else self.arrays[content]
            case "scalar":
                return self.arrays[content][()]
            case "int":
                return int(content, 16)
            case "float":
                return float(content)
            case "bytes":
                return bytes.fromhex(content)
            case "dtype":
                return np.dtype(content)
            case "device":
                return device(content)
        raise ValueError(f"a checkpoint cannot hold {kind!r}")

    def placed(self, number: int, saved: str) -> Array:
        """An array on the device it was saved from, or on the one that was asked for."""
        if (number, saved) not in self.moved:
            self.moved[number, saved] = self.move(self.arrays[number], saved)
        return self.moved[number, saved]

    def move(self, array: Array, saved: str) -> Array:
        if self.where is not None:
            return to_device(array, self.where)
        try:
            return to_device(array, device(saved))
        except RuntimeError as error:
            raise RuntimeError(
                f"the checkpoint was saved on {saved}. Where there is none, load it with "
                f"map_location='cpu' ({error})"
            ) from error
