"""The layout holds: imports point downwards, the core needs NumPy alone, the root stays short."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS = [  # each imports only from those before it, or from its own
    {"autograd.grad_mode", "random"},
    {"autograd.engine"},
    {"autograd.gradients"},
    {"device"},
    {"dtypes"},
    {"cuda"},
    {"ops"},
    {"functions"},
    {"tensor"},
    {"memory"},
    {"autograd.gradcheck", "autograd.functional", "autograd.function", "autograd.anomaly"},
    {"autograd", "fused", "utils", "checkpoint"},
    {"optim", "nn", "safetensors"},
    {"data", "generation", "training"},
    {""},  # minigrad/__init__.py
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / "minigrad").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in (ROOT / "minigrad").rglob("*.py")}


def layer(name: str) -> int:
    """The layer of a module: that of the longest entry which it equals or lies in."""
    fits = [
        (len(entry), i)
        for i, entries in enumerate(LAYERS)
        for entry in entries
        if name == entry or (entry and name.startswith(entry + "."))
    ]
    assert fits, f"minigrad.{name} is in no layer: say in tests/test_structure.py where it belongs"
    return max(fits)[1]


def imports(path: Path) -> set[str]:
    """The modules of minigrad that a file imports when it is loaded."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minigrad"):
            package = (node.module or "").removeprefix("minigrad").lstrip(".")
            for alias in node.names:
                inner = f"{package}.{alias.name}".lstrip(".")
                found.add(inner if inner in MODULES else package)
    return found


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_downwards(name: str) -> None:
    for other in imports(MODULES[name]):
        assert layer(other) <= layer(name), f"minigrad.{name} imports minigrad.{other}"


def test_the_layers_would_notice() -> None:
    assert layer("nn.module") > layer("tensor") > layer("ops.shape") > layer("autograd.engine")
    assert "autograd.engine" in imports(MODULES["ops.shape"])


def test_the_core_needs_numpy_alone() -> None:
    """Nothing but NumPy and the standard library is loaded by `import minigrad`."""
    code = (
        "import sys, numpy.random; before = set(sys.modules); import minigrad; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(out.stdout.split()) - {"minigrad", "numpy"}
    assert loaded <= set(sys.stdlib_module_names) | {"_distutils_hack"}, loaded


def test_the_root_holds_what_it_should() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if tracked.returncode:
        pytest.skip("not a checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= {
        *("minigrad", "models", "examples", "benchmarks", "tests"),
        *("pyproject.toml", "README.md", "LICENSE"),
    }
