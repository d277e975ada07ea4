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
    """A folder with `my_shop` and `my_shop.conf`, written once: those of `lmm4rec example`, but of a smaller shop."""
    folder = tmp_path_factory.mktemp("example")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(toyshop, "load", partial(toyshop.load, users=200, items=120, interactions=3000))
        write_example(Path("my_shop"), image_side=64)
    return folder


@pytest.fixture
def shop(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a copy of the example, with a cache beside it that pages share."""
    shutil.copytree(example / "my_shop", tmp_path / "my_shop", copy_function=os.link)
    shutil.copy2(example / "my_shop.conf", tmp_path / "my_shop.conf")
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMM4REC_CACHE", str(example / "cache"))
    return tmp_path


@pytest.fixture
def trained_shop(shop: Path) -> Path:
    """The same with `runs/my_shop`, a short run."""
    lmm4rec.run("my_shop.conf", {"train.epochs": 4}, out="runs/my_shop")
    return shop
