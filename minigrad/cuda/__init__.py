"""The GPU: whether there is one, and how it is doing. PyTorch's names."""

from __future__ import annotations

from typing import Any

from minigrad.device import cupy
from minigrad.device import device as _Device

__all__ = [
    "current_device",
    "device_count",
    "empty_cache",
    "get_device_name",
    "is_available",
    "memory_allocated",
    "memory_reserved",
    "set_device",
    "synchronize",
]


def is_available() -> bool:
    """Whether device "cuda" can be used: CuPy is installed, with a driver and a GPU."""
    try:
        cupy()
    except RuntimeError:
        return False
    return True


def device_count() -> int:
    """How many GPUs there are: 0 where "cuda" cannot be used."""
    return int(cupy().cuda.runtime.getDeviceCount()) if is_available() else 0


def _index(device: Any) -> int:
    """The number of the GPU that `device` names: None, a number, "cuda:1" or a device."""
    if device is None or isinstance(device, int):
        return current_device() if device is None else device
    where = _Device(device)
    if where.type != "cuda":
        raise ValueError(f"expected a cuda device, not {where}")
    return current_device() if where.index is None else where.index


def current_device() -> int:
    """The number of the GPU that "cuda" means. Raises RuntimeError if there is none."""
    return int(cupy().cuda.runtime.getDevice())


def set_device(device: Any) -> None:
    """Let "cuda" mean this GPU."""
    cupy().cuda.Device(_index(device)).use()


def get_device_name(device: Any = None) -> str:
    """What its maker calls it."""
    return str(cupy().cuda.runtime.getDeviceProperties(_index(device))["name"].decode())


def synchronize(device: Any = None) -> None:
    """Wait until the GPU has done all it was asked to."""
    cupy().cuda.Device(_index(device)).synchronize()


def memory_allocated(device: Any = None) -> int:
    """Bytes that arrays hold."""
    with cupy().cuda.Device(_index(device)):
        return int(cupy().get_default_memory_pool().used_bytes())


def memory_reserved(device: Any = None) -> int:
    """Bytes taken from the GPU: those of arrays, and those kept for new ones."""
    with cupy().cuda.Device(_index(device)):
        return int(cupy().get_default_memory_pool().total_bytes())


def empty_cache() -> None:
    """Give the memory that no array holds back to the GPU."""
    cupy().get_default_memory_pool().free_all_blocks()
