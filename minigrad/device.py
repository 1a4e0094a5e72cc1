"""Where arrays live: read off the array, never stored beside it."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from minigrad.autograd import engine
from minigrad.autograd.engine import Array


@dataclass(frozen=True)
class device:
    """A place for arrays: `device("cpu")`, `device("cuda")`, `device("cuda:1")`.

    Raises RuntimeError for any other name.
    """

    type: str
    index: int | None = None

    def __init__(self, type: str | device, index: int | None = None) -> None:
        if isinstance(type, device):
            index = type.index if index is None else index
            type = type.type
        name, colon, number = type.partition(":")
        if name not in ("cpu", "cuda") or (colon and (not number.isdigit() or index is not None)):
            raise RuntimeError(f"no such device: {type!r}; expected 'cpu', 'cuda' or 'cuda:0'")
        object.__setattr__(self, "type", name)
        object.__setattr__(self, "index", int(number) if number else index)

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type={self.type!r}" + (
            ")" if self.index is None else f", index={self.index})"
        )


_CPU = device("cpu")
_ON_HOST = (np.ndarray, np.generic)
_default: device = _CPU


def get_default_device() -> device:
    """Where new tensors are made: the CPU unless changed."""
    return _default


def set_default_device(where: Any) -> None:
    """Let new tensors, and the parameters of new modules, be made on the device `where`.

    Raises RuntimeError if there is no such device.
    """
    global _default
    chosen = device(where)
    to_device(np.zeros(0), chosen)  # better an error here than at the next tensor
    _default = chosen


def new_on(where: Any, array: Array) -> Array:
    """A new `array` on the device `where`, or on the default one if None."""
    if not isinstance(where, device):
        where = _default if where is None else device(where)
    return to_device(array, where)


def device_of(array: Array) -> device:
    """The device that holds `array`."""
    if isinstance(array, _ON_HOST):
        return _CPU
    return device("cuda", array.device.id)


def array_module(array: Array) -> ModuleType:
    """numpy or cupy: where the functions for `array` are that take no array (zeros, arange)."""
    return np if isinstance(array, _ON_HOST) else cupy()


def cupy() -> Any:
    """The cupy module. Raises RuntimeError, with the cure, where there is none or no GPU."""
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            "device 'cuda' needs CuPy, which is not installed: pip install cupy-cuda12x or "
            "cupy-cuda13x, whichever CUDA your driver (nvidia-smi) has"
        ) from error
    if not cupy.is_available():
        raise RuntimeError(
            "device 'cuda' needs an NVIDIA GPU and its driver, and CuPy finds none (does "
            "nvidia-smi list one?)"
        )
    if cupy.ndarray not in engine._ARRAYS:
        engine._ARRAYS += (cupy.ndarray,)
    return cupy


def to_device(array: Array, where: device) -> Array:
    """`array` itself if it is there already, else a copy."""
    here = device_of(array)
    if where.type == "cpu":
        return array if here.type == "cpu" else cupy().asnumpy(array)
    xp = cupy()
    if here.type == "cuda" and where.index in (None, here.index):
        return array
    if where.index is not None and where.index >= xp.cuda.runtime.getDeviceCount():
        raise RuntimeError(
            f"no device {where}: this machine has {xp.cuda.runtime.getDeviceCount()} GPU(s)"
        )
    with xp.cuda.Device(where.index):
        return xp.asarray(array)
