"""The folder in which the documentation's code runs: the example shop, its conf, and a short run of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from blocks import ROOT

import lmm4rec
from lmm4rec.experiments.example_shop import write_example


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `my_shop`, `my_shop.conf`, `conf`, `runs/my_shop` and a cache, made once."""
    folder = tmp_path_factory.mktemp("example")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LMM4REC_CACHE", str(folder / "cache"))
        write_example(Path("my_shop"), image_side=64)
        lmm4rec.run("my_shop.conf", {"train.epochs": 4}, out="runs/my_shop")
    return folder


@pytest.fixture
def shop(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a copy of the example that a page may write to."""
    for name in ("my_shop", "runs"):
        shutil.copytree(example / name, tmp_path / name, copy_function=os.link if name == "my_shop" else shutil.copy2)
    shutil.copy2(example / "my_shop.conf", tmp_path / "my_shop.conf")
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMM4REC_CACHE", str(example / "cache"))
    return tmp_path
