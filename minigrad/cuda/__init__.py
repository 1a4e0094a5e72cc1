"""The GPU: whether there is one, and how it is doing. PyTorch's names."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from minigrad import random
from minigrad.device import cupy
from minigrad.device import device as _Device

__all__ = [
    "current_device",
    "device_count",
    "empty_cache",
    "get_device_name",
    "get_float32_matmul_precision",
    "is_available",
    "manual_seed",
    "manual_seed_all",
    "memory_allocated",
    "memory_reserved",
    "set_device",
    "set_float32_matmul_precision",
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
    where = _Device("cuda" if device is None else device)
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


def manual_seed(seed: int) -> None:
    """Seed the default generator, which a GPU's numbers come from. Without a GPU, nothing."""
    if is_available():
        random.manual_seed(seed)


manual_seed_all = manual_seed


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


# --- precision -----------------------------------------------------------------------------------

# CuPy has a switch of its own, which it reads from the environment.
_precision = "high" if os.environ.get("CUPY_TF32", "0") not in ("", "0") else "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """How exactly a GPU multiplies float32 matrices; at first "highest".

    "highest": in float32.  "high" and "medium": in TF32, whose factors have 10 bits after the
    point in place of 23, where the GPU can (Ampere and later).  The recurrent kernels work in
    float32 always: only the products with the inputs and for the gradients of weights change.  On
    the CPU there is no difference.  Raises ValueError for any other name.
    """
    global _precision
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"expected 'highest', 'high' or 'medium', not {precision!r}")
    if is_available():
        products = cupy()._core._routines_linalg  # what CUPY_TF32 sets, too; CuPy has no other way
        kind = "DEFAULT" if precision == "highest" else "TF32"
        products.set_compute_type(np.dtype("f"), getattr(products, f"COMPUTE_TYPE_{kind}"))
    _precision = precision


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` has set."""
    return _precision
