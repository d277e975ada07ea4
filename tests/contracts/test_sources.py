"""The sources keep their contracts (`lmm4rec.testing`); those that read files do, on files that they can read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import lmm4rec
from amazon_files import write_2014, write_2018, write_2023
from lmm4rec.data.sources import toyshop
from lmm4rec.experiments.example_shop import write_example
from lmm4rec.testing import BrokenContractError, check_source
from worlds import write_camps


def test_the_toy_shop() -> None:
    check_source(lambda: lmm4rec.load_dataset("toyshop", users=30, items=40, interactions=300))


@pytest.mark.long
def test_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toyshop, "load", partial(toyshop.load, users=30, items=40, interactions=300))
    write_example(tmp_path / "shop", image_side=64)
    check_source(lambda: lmm4rec.load_dataset("table", path=str(tmp_path / "shop")))


def test_mmrec_files(tmp_path: Path) -> None:
    path = write_camps(tmp_path / "camps")["data"]["path"]
    check_source(lambda: lmm4rec.load_dataset("mmrec", path=path))


def test_recbole_files(tmp_path: Path) -> None:
    (tmp_path / "ml.inter").write_text("user_id:token\titem_id:token\trating:float\n1\t9\t5\n2\t7\t4\n1\t7\t3\n")
    (tmp_path / "ml.item").write_text("item_id:token\tmovie_title:token_seq\n9\tSeven Samurai\n7\tRan\n8\tIkiru\n")
    check_source(lambda: lmm4rec.load_dataset("recbole", path=str(tmp_path)))


@pytest.mark.parametrize(
    ("write", "category", "edition"),
    [(write_2014, "Baby", "2014"), (write_2018, "Appliances", "2018"), (write_2023, "All_Beauty", "2023")],
)
def test_amazon_files(tmp_path: Path, write: Callable[[Path], Path], category: str, edition: str) -> None:
    write(tmp_path)
    check_source(lambda: lmm4rec.load_dataset("amazon", path=str(tmp_path), category=category, edition=edition))


def test_a_broken_promise_is_named() -> None:
    sizes = iter((300, 310))
    with pytest.raises(
        BrokenContractError, match=r"breaks the contract 'reading_twice_gives_the_same': .*two readings"
    ):
        check_source(
            lambda: lmm4rec.load_dataset("toyshop", users=30, items=40, interactions=next(sizes)),
            contract="reading_twice_gives_the_same",
        )
