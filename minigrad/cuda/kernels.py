"""Kernels in CUDA: compiled once on the machine that runs them, and kept."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from minigrad.device import array_module, cupy

SOURCES = Path(__file__).parent
THREADS = 256  # of a block, in every kernel


def options(**settings: int) -> tuple[str, ...]:
    """What the compiler is told: the settings become macros of the source."""
    macros = {"THREADS": THREADS, **settings}
    return ("--std=c++17", *(f"-D{name}={value}" for name, value in macros.items()))


@cache
def _module(name: str, cooperative: bool, settings: tuple[tuple[str, int], ...]) -> Any:
    """CuPy keeps the compiled code on disk, from one run to the next."""
    return cupy().RawModule(
        code=(SOURCES / f"{name}.cu").read_text(),
        options=options(**dict(settings)),
        enable_cooperative_groups=cooperative,
    )


@cache
def _kernel(
    device: int | None, name: str, function: str, shared: int, settings: tuple[tuple[str, int], ...]
) -> Any:
    kernel = _module(name, shared > 0, settings).get_function(function)
    if shared > 48 * 1024:  # more has to be asked for
        kernel.max_dynamic_shared_size_bytes = shared
    return kernel


def kernel(device: int | None, name: str, function: str, shared: int = 0, **settings: int) -> Any:
    """The kernel `function` of the source file `name`, ready for `shared` bytes of shared memory.

    One with shared memory is launched cooperatively: all of its grid at once, or an error.
    """
    return _kernel(device, name, function, shared, tuple(sorted(settings.items())))


@cache
def attributes(device: int | None) -> tuple[int, int]:
    """How many multiprocessors there are, and the bytes of shared memory a block can have."""
    found = cupy().cuda.Device(device).attributes
    return found["MultiProcessorCount"], found["MaxSharedMemoryPerBlockOptin"]


def usable(x: Any) -> bool:
    """Whether the kernels, which are for float32, can work on `x`: an array on a GPU."""
    return x.dtype == "float32" and hasattr(array_module(x), "RawModule")
