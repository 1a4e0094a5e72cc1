"""Every kernel compiles for every GPU we mean, and needs what the launch code grants it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest
from on_cpu import entry_points

from minigrad.cuda import elementwise, generation, kernels, recurrent

ARCHITECTURES = (80, 90, 100)
OF_CUPY = "-ftz=true", "--device-as-default-execution-space"  # its own options
REGISTERS = 65_536  # of a multiprocessor
NVCC = shutil.which("nvcc")
CELLS = sorted(set(recurrent.CELLS.values()))
VARIANTS = [
    ("elementwise", {"THREADS": elementwise.THREADS}),
    *[("generation", {"CELL": cell, "THREADS": generation.THREADS}) for cell in CELLS],
    *[
        ("recurrent", {"CELL": cell, "COLUMNS": columns, "THREADS": recurrent.THREADS})
        for cell, columns in product(CELLS, (1, 2, 4, 8))
    ],
]


def test_every_source_has_its_variants() -> None:
    found = {path.stem for path in kernels.SOURCES.glob("*.cu")}
    assert found == {"common", *(name for name, _ in VARIANTS)}


@pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
@pytest.mark.parametrize(
    ("name", "settings"), [v for v in VARIANTS if v[1].get("COLUMNS", 8) in (1, 8)]
)
def test_registers_and_shared_memory(name: str, settings: dict[str, int], tmp_path: Path) -> None:
    """No warnings, no spills, no stack, no static shared memory; a block's registers fit."""
    assert NVCC is not None
    (tmp_path / "kernels.cu").write_text(kernels.source(name))
    command = [NVCC, *kernels.options(**settings), "-fatbin", "--threads=0"]
    command += [f"-gencode=arch=compute_{n},code=sm_{n}" for n in ARCHITECTURES]
    command += ["-Xptxas=-v", "-Werror=all-warnings", "-o", "out", "kernels.cu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert not done.returncode, done.stderr
    said = done.stdout + done.stderr
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", said)]
    assert len(registers) == len(entry_points(kernels.source(name))) * len(ARCHITECTURES)
    assert max(registers) * settings["THREADS"] <= REGISTERS
    found = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores", said)
    assert found and all(pair == ("0", "0") for pair in found), said
    assert "smem" not in said, said


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_them(architecture: int) -> None:
    """The compiler that runs on the user's machine, with the options it gets there."""
    try:
        from cupy.cuda import compiler, nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"NVRTC is not installed ({error})")
    for name, settings in VARIANTS:
        program = compiler._NVRTCProgram(kernels.source(name), f"{name}.cu")
        flags = *kernels.options(**settings), *OF_CUPY, f"-arch=sm_{architecture}"
        built, _ = program.compile(flags)
        assert len(built) > 1000
