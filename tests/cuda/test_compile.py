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

from minigrad.cuda import kernels, recurrent

ARCHITECTURES = (80, 90, 100)
REGISTERS = 65_536  # of a multiprocessor
NVCC = shutil.which("nvcc")
VARIANTS = [("elementwise", {})] + [
    ("recurrent", {"CELL": cell, "COLUMNS": columns})
    for cell, columns in product(sorted(set(recurrent.CELLS.values())), (1, 2, 4, 8))
]


def test_every_source_has_its_variants() -> None:
    assert {path.stem for path in kernels.SOURCES.glob("*.cu")} == {name for name, _ in VARIANTS}


@pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("name", "settings"), [v for v in VARIANTS if v[1].get("COLUMNS", 8) in (1, 8)]
)
def test_registers_and_shared_memory(
    name: str, settings: dict[str, int], architecture: int, tmp_path: Path
) -> None:
    """No spills, no stack, no static shared memory; a block's registers fit."""
    assert NVCC is not None
    command = [NVCC, f"-arch=sm_{architecture}", *kernels.options(**settings), "-cubin"]
    done = subprocess.run(
        [*command, "-Xptxas=-v", "-o", tmp_path / "out", kernels.SOURCES / f"{name}.cu"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    said = done.stdout + done.stderr
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", said)]
    assert len(registers) == len(entry_points((kernels.SOURCES / f"{name}.cu").read_text()))
    assert max(registers) * kernels.THREADS <= REGISTERS
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
        source = (kernels.SOURCES / f"{name}.cu").read_text()
        program = compiler._NVRTCProgram(source, f"{name}.cu")
        flags = (*kernels.options(**settings), f"-arch=sm_{architecture}")
        built, _ = program.compile(flags)
        assert len(built) > 1000
