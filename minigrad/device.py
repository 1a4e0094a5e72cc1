"""Where arrays live: read off the array, never stored beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, TypeGuard

import numpy as np

from minigrad.autograd import engine
from minigrad.autograd.engine import Array


@dataclass(frozen=True)
class device:
    """A place for arrays: `device("cpu")`, `device("cuda")`, `device("cuda:1")`, or `device(1)`.

    Raises RuntimeError for any other name or a negative number, TypeError for anything else.
    """

    type: str
    index: int | None = None

    def __init__(self, type: str | int | device, index: int | None = None) -> None:
        if isinstance(type, device):
            index = type.index if index is None else index
            type = type.type
        if _is_number(type) and index is None:
            index, type = type, "cuda"
        if not isinstance(type, str) or not (index is None or _is_number(index)):
            given = repr(type) if index is None else f"{type!r}, {index!r}"
            raise TypeError(
                f"a device is 'cpu', 'cuda', 'cuda:0' or the number of a GPU: not {given}"
            )
        found = re.fullmatch("(cpu|cuda)(?::([0-9]+))?", type)
        if not found or (found[2] and index is not None):
            raise RuntimeError(f"no such device: {type!r}; expected 'cpu', 'cuda' or 'cuda:0'")
        number = found[2] or index
        if number is not None and int(number) < 0:
            raise RuntimeError(f"no such device: number {number}; the first GPU is number 0")
        object.__setattr__(self, "type", found[1])
        object.__setattr__(self, "index", None if number is None else int(number))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type={self.type!r}" + (
            ")" if self.index is None else f", index={self.index})"
        )


def _is_number(x: Any) -> TypeGuard[int]:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


_CPU = device("cpu")
_ON_HOST = (np.ndarray, np.generic)
_default: device = _CPU


def get_default_device() -> device:
    """Where new tensors are made: the CPU unless changed."""
    return _default


def set_default_device(where: Any) -> None:
    """Let new tensors, and the parameters of new modules, be made on the device `where`.

    None: on the CPU, as at first.  Raises RuntimeError if there is no such device.
    """
    global _default
    chosen = _CPU if where is None else device(where)
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
    return _gpu(array.device.id)


@cache
def _gpu(index: int) -> device:
    return device("cuda", index)


def array_module(array: Array) -> ModuleType:
    """numpy or cupy: where the functions for `array` are that take no array (zeros, arange)."""
    return np if isinstance(array, _ON_HOST) else cupy()


def cupy() -> Any:
    """The cupy module. Raises RuntimeError, with the cure, where there is none or no GPU."""
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            "device 'cuda' needs CuPy, which is not installed: pip install 'cupy-cuda12x[ctk]' or "
            "'cupy-cuda13x[ctk]', whichever CUDA your driver (nvidia-smi) has"
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
        return xp.asarray(np.asarray(array, order="C") if here.type == "cpu" else array)
