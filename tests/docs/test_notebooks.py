"""The notebooks run from top to bottom, and hold outputs no larger than a page should load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import DOCS

PATHS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_the_stored_one_shows(path: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(DOCS / "notebooks" / "execute.py"), str(path), "--into", str(tmp_path)]
    subprocess.run(command, check=True, timeout=1800)
    assert _kinds(tmp_path / path.name) == _kinds(path)


def _kinds(path: Path) -> list[list[str]]:
    """The kinds of each cell's outputs; printed lines may come in several parts."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [sorted({output["output_type"] for output in cell.get("outputs", [])}) for cell in cells]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_small(path: Path) -> None:
    assert path.stat().st_size < 200_000
