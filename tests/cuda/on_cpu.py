"""The kernels on the CPU: the same sources, compiled by a C++ compiler with shim.h for CUDA."""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.cuda import elementwise, generation, kernels, recurrent

HERE = Path(__file__).parent
COMPILER = shutil.which("g++") or shutil.which("clang++")
THREADS = 64  # of a block: two warps are enough to find out what goes wrong between them

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


def entry_points(source: str) -> list[tuple[str, str]]:
    """The kernels of a source file, each with its parameters."""
    return re.findall(r'extern "C" __global__ void[^{]*?\b(\w+)\(\s*([^)]*)\)\s*\{', source)


@cache
def library(name: str, settings: tuple[tuple[str, int], ...]) -> Any:
    """The kernels of `name`.cu as functions that run a whole grid."""
    source = kernels.source(name)
    launchers = []
    for function, parameters in entry_points(source):
        names = ", ".join(p.split()[-1].lstrip("*") for p in parameters.split(","))
        launchers.append(
            f'extern "C" void launch_{function}(unsigned grid, unsigned shared, {parameters}) {{\n'
            f"    shim::launch(grid, THREADS, shared, [=] {{ {function}({names}); }});\n}}\n"
        )
    code = f'#include "{HERE}/shim.h"\n{source}\n' + "\n".join(launchers)
    macros = [f"-D{key}={value}" for key, value in settings]
    key = hashlib.sha256((code + str(macros)).encode()).hexdigest()[:16]
    folder = Path(tempfile.mkdtemp(prefix="minigrad-"))
    (folder / "kernels.cpp").write_text(code)
    built = folder / f"{key}.so"
    assert COMPILER is not None
    command = [COMPILER, "-std=c++17", "-O0", "-w", "-shared", "-fPIC", *macros]
    done = subprocess.run(
        [*command, "-o", built, folder / "kernels.cpp"], capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    loaded = ctypes.CDLL(str(built))
    shutil.rmtree(folder)
    return loaded


def _as_c(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        assert x.flags.c_contiguous, "a kernel got an array that is not contiguous"
        return ctypes.c_void_p(x.ctypes.data)
    if x is None:
        return ctypes.c_void_p(None)
    kinds = {"int32": ctypes.c_int32, "uint32": ctypes.c_uint32, "int64": ctypes.c_int64}
    return {**kinds, "float32": ctypes.c_float}[x.dtype.name](x)


def install(monkeypatch: Any, processors: int = 3, capacity: int = 48 * 1024) -> list[str]:
    """Let minigrad.cuda work on NumPy arrays, as on a small GPU. Returns a list of all launches."""
    launched: list[str] = []
    for module in (elementwise, generation, recurrent):
        monkeypatch.setattr(module, "THREADS", THREADS)

    def launch(
        like: Any, name: str, function: str, blocks: int, arguments: tuple[Any, ...],
        shared: int = 0, together: bool = False, **settings: int,
    ) -> None:  # fmt: skip
        assert shared <= capacity and blocks <= (processors if together else 2**31 - 1)
        launched.append(function)
        run = getattr(library(name, tuple(sorted(settings.items()))), f"launch_{function}")
        run(blocks, shared, *map(_as_c, arguments))

    monkeypatch.setattr(kernels, "launch", launch)
    monkeypatch.setattr(kernels, "usable", lambda x: x.dtype == np.float32)
    monkeypatch.setattr(kernels, "attributes", lambda device: (processors, capacity))
    return launched
