"""Kernels in CUDA: compiled once on the machine that runs them, and kept."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.autograd.engine import Array
from minigrad.device import array_module, cupy, device_of

SOURCES = Path(__file__).parent


def source(name: str) -> str:
    """What the compiler is given: common.cu, then `name`.cu.

    One text, not an include: CuPy keeps compiled code by the text, and would not see that an
    included file has changed.
    """
    return "".join((SOURCES / f"{part}.cu").read_text() for part in ("common", name))


def options(**settings: int) -> tuple[str, ...]:
    """What the compiler is told: the settings become macros of the source."""
    return ("--std=c++17", *(f"-D{name}={value}" for name, value in settings.items()))


@cache
def _module(name: str, settings: tuple[tuple[str, int], ...]) -> Any:
    """CuPy keeps the compiled code on disk, from one run to the next."""
    return cupy().RawModule(code=source(name), options=options(**dict(settings)))


@cache
def _kernel(
    device: int, name: str, function: str, shared: bool, settings: tuple[tuple[str, int], ...]
) -> Any:
    raw = _module(name, settings).get_function(function)
    if shared:  # once and for all: the limit belongs to the function, not to one launch of it
        raw.max_dynamic_shared_size_bytes = attributes(device)[1]
    return raw.kernel


def launch(
    like: Array,
    name: str,
    function: str,
    blocks: int,
    arguments: tuple[Any, ...],
    shared: int = 0,
    together: bool = False,
    **settings: int,
) -> None:
    """Start the kernel `function` of the file `name`, on the GPU that holds `like`.

    None stands for a null pointer.  `shared`: bytes of shared memory.  `together`: all blocks run
    at the same time, or an error says that they do not fit.  `settings`: macros of the source;
    THREADS, of a block, is one of them.
    """
    key = tuple(sorted(settings.items()))
    kernel = _kernel(device_of(like).index or 0, name, function, shared > 0, key)
    given = tuple([_NULL if a is None else a for a in arguments])
    threads = (settings["THREADS"],)
    kernel((blocks,), threads, given, shared_mem=shared, enable_cooperative_groups=together)


_NULL = np.uintp(0)


@cache
def attributes(device: int | None) -> tuple[int, int]:
    """How many multiprocessors there are, and the bytes of shared memory a block can have."""
    found = cupy().cuda.Device(device).attributes
    return found["MultiProcessorCount"], found["MaxSharedMemoryPerBlockOptin"]


def usable(x: Any) -> bool:
    """Whether the kernels can work on `x`: a float32 array on the GPU that is the current one."""
    if x.dtype != "float32" or isinstance(x, np.ndarray):
        return False
    xp = array_module(x)
    return hasattr(xp, "RawModule") and x.device.id == xp.cuda.runtime.getDevice()
