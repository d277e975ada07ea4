"""What all tests share."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = (
    "1"  # before torch comes: one test process a core, and none waits for the other's threads
)

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

collect_ignore = ["plugin"]  # a project of its own, which tests/testing/test_plugin.py installs


def _shared() -> Path:
    named = os.environ.get("LMM4REC_SHARED")
    return Path(named) if named else Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder of real data and golden files; the test is skipped where it is absent."""
    if not _shared().is_dir():
        pytest.skip(f"no real data at {_shared()} (name another folder in LMM4REC_SHARED)")
    return _shared()


@pytest.fixture(scope="session")
def layered_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the checkpoints of `layered.build` are; each is made once."""
    return tmp_path_factory.mktemp("layered")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; another one is named in LMM4REC_CHROMIUM."""
    path = os.environ.get("LMM4REC_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium here (apt-get install chromium, or name one in LMM4REC_CHROMIUM)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as one:
        browser = one.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
