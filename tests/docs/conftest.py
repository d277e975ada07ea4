"""The folder in which the documentation's code runs: the example shop, its conf, and for slow pages a run."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from blocks import ROOT

import lmm4rec
from lmm4rec.data.sources import toyshop
from lmm4rec.experiments.example_shop import write_example


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `my_shop` and `my_shop.conf`, written once."""
    return _written(tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="session")
def small_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a smaller shop, for pages that state no number of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toyshop, "load", partial(toyshop.load, users=200, items=120, interactions=3000))
        return _written(tmp_path_factory.mktemp("small"))


def _written(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_example(Path("my_shop"), image_side=64)
    return folder


@pytest.fixture
def shop(small_example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a copy of the smaller example, with a cache beside it that pages share."""
    return _copied(small_example, tmp_path, monkeypatch)


@pytest.fixture
def trained_shop(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same of the whole example, with `runs/my_shop`, a short run."""
    folder = _copied(example, tmp_path, monkeypatch)
    lmm4rec.run("my_shop.conf", {"train.epochs": 4}, out="runs/my_shop")
    return folder


def _copied(example: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(example / "my_shop", folder / "my_shop", copy_function=os.link)
    shutil.copy2(example / "my_shop.conf", folder / "my_shop.conf")
    (folder / "conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LMM4REC_CACHE", str(example / "cache"))
    return folder
