"""Every Python snippet in every README runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(ROOT.glob("README.md")) + sorted(ROOT.glob("*/README.md"))


def snippets() -> list[Any]:
    """Each snippet of each page, with what has to run before it.

    That is the first one of the page, where the imports stand, and the earlier ones of its section.
    """
    found = []
    for page in PAGES:
        before: list[str] = []
        first: list[str] = []
        text = page.read_text()
        for part in re.finditer(r"^(#+ [^\n]*)$|^```(\w*)\n(.*?)^```$", text, re.M | re.S):
            if part[1]:
                before = list(first)
            elif part[2] == "python":
                line = text[: part.start(3)].count("\n")
                code = "\n" * line + part[3]  # so that a traceback shows the page's own lines
                name = f"{page.relative_to(ROOT)}:{line + 1}"
                mixed = "np.array" in code and "* x" in code  # NumPy arrays among tensors
                marks = [pytest.mark.cpu_only("it is about NumPy")] if mixed else []
                found.append(pytest.param([*before, code], page, id=name, marks=marks))
                before.append(code)
                first = first or [code]
    return found


@pytest.mark.parametrize(("codes", "page"), snippets())
def test_snippet(codes: list[str], page: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for code in codes:
        exec(compile(code, str(page), "exec"), namespace)


def test_the_snippets_are_found() -> None:
    pages = {parameters.values[1] for parameters in snippets()}
    assert {page.parent.name for page in pages} >= {"tests", "minigrad"}
