"""The sources keep their contracts (`lmm4rec.testing`); those that read files do, on files that they can read."""

from __future__ import annotations

from pathlib import Path

import pytest

import lmm4rec
from lmm4rec.experiments.example_shop import write_example
from lmm4rec.testing import BrokenContractError, check_source
from worlds import write_camps


def test_the_toy_shop() -> None:
    check_source(lambda: lmm4rec.load_dataset("toyshop", users=30, items=40, interactions=300))


def test_tables(tmp_path: Path) -> None:
    write_example(tmp_path / "shop", image_side=64)
    check_source(lambda: lmm4rec.load_dataset("table", path=str(tmp_path / "shop")))


def test_mmrec_files(tmp_path: Path) -> None:
    path = write_camps(tmp_path / "camps")["data"]["path"]
    check_source(lambda: lmm4rec.load_dataset("mmrec", path=path))


def test_a_broken_promise_is_named() -> None:
    sizes = iter((300, 310))
    with pytest.raises(
        BrokenContractError, match=r"breaks the contract 'reading_twice_gives_the_same': .*two readings"
    ):
        check_source(
            lambda: lmm4rec.load_dataset("toyshop", users=30, items=40, interactions=next(sizes)),
            contract="reading_twice_gives_the_same",
        )
