"""Clients of a service over two small shops."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from shops import HERE, write_shop

from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.settings import Settings


@pytest.fixture(scope="session")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: one that can everything, one without an encoder."""
    folder = tmp_path_factory.mktemp("shops")
    write_shop(folder / "whole", title="Whole")
    write_shop(folder / "bare", seed=1, content=False, title="Bare")
    return folder


@pytest.fixture
def runs(shops: Path, tmp_path: Path) -> list[Path]:
    """The two runs, fresh for one test."""
    shutil.copytree(shops, tmp_path / "runs")
    return [tmp_path / "runs" / "whole", tmp_path / "runs" / "bare"]


@pytest.fixture
def client(runs: list[Path]) -> Iterator[TestClient]:
    with TestClient(make_app(runs, Settings(hosts=HERE))) as client:
        yield client


@pytest.fixture(scope="session")
def reader(shops: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client for tests that change nothing; it takes bodies of half a megabyte."""
    folder = tmp_path_factory.mktemp("reader") / "runs"
    shutil.copytree(shops, folder)
    app = make_app([folder / "whole", folder / "bare"], Settings(hosts=HERE, max_body_mb=0.5))
    with TestClient(app) as client:
        yield client
