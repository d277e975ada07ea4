"""The components of CONTRIBUTING.md keep the contracts, and its own test runs as written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


def test_the_code_of_contributing_keeps_the_contracts() -> None:
    """In the order of the page: a recommender, an encoder, a source, and the test of all three."""
    text = PAGE.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "contributing"}
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(code, PAGE.name, "exec"), names)
    names["test_contracts"]()


def test_its_lines_fit_a_page() -> None:
    assert max(map(len, PAGE.read_text(encoding="utf-8").splitlines())) <= 100
