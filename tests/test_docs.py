"""Every Python snippet in every README runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(ROOT.glob("README.md")) + sorted(ROOT.glob("*/README.md"))


def snippets() -> list[Any]:
    """Each snippet with the first one of its page, where the imports stand, and its line."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S))
        for block in blocks:
            line = text[: block.start(1)].count("\n")
            name = f"{page.relative_to(ROOT)}:{line + 1}"
            found.append(pytest.param(blocks[0][1], "\n" * line + block[1], page, id=name))
    return found


@pytest.mark.parametrize(("prelude", "snippet", "page"), snippets())
def test_snippet(prelude: str, snippet: str, page: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    if prelude.strip() != snippet.strip():
        exec(compile(prelude, str(page), "exec"), namespace)
    exec(compile(snippet, str(page), "exec"), namespace)
