"""The notebooks run from top to bottom, and hold outputs no larger than a page should load."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from blocks import DOCS

PATHS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default")  # of jupyter's own event loop and sockets
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("execute", DOCS / "notebooks" / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    notebook = module.execute(path, tmp_path)
    assert all(cell.outputs or cell.source for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_small(path: Path) -> None:
    assert path.stat().st_size < 200_000
