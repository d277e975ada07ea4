"""`lmm4rec data export`, and the extra that `lmm4rec data download` needs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lmm4rec.cli.app import main
from lmm4rec.core.errors import MissingExtraError
from lmm4rec.data.download.folders import DownloadOptions
from lmm4rec.data.feature_files import read_shipped
from lmm4rec.data.sources import mmrec
from lmm4rec.data.sources.amazon.fetching import fetch_files

CONF = """
[data]
name = "toyshop"
users = 40
items = 60
interactions = 600
k_core = 2
[encoder]
name = "color"
[recommender]
name = "popular"
"""


def test_doctor_says_what_is_odd_where_the_split_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The column of times is there, but nothing in it can be read."""
    monkeypatch.chdir(tmp_path)
    Path("shop").mkdir()
    rows = [f"u{row % 4},i{row % 5},soon" for row in range(20)]
    Path("shop/interactions.csv").write_text("\n".join(["user,item,timestamp", *rows]))
    Path("shop.conf").write_text(
        '[data]\nname = "table"\npath = "shop"\n[split]\nmethod = "leave_last_out"\n[recommender]\nname = "markov"\n'
    )
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "shop.conf"])
    told = " ".join(capfd.readouterr().out.split())
    assert ended.value.code == 1
    assert "error the split 'leave_last_out' needs timestamps" in told
    assert "no cell of the column 'timestamp'" in told


def test_export_in_the_layout_of_mmrec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    Path("tiny.conf").write_text(CONF)
    with pytest.raises(SystemExit) as ended:
        main(["data", "export", "tiny.conf", "out/tiny", "--layout", "mmrec"])
    assert ended.value.code in (0, None)
    assert "image_feat.npy" in capfd.readouterr().out
    assert sorted(file.name for file in Path("out/tiny").iterdir()) == [
        *("image_feat.npy", "item_ids.csv", "tiny.inter", "user_ids.csv"),
    ]
    back = mmrec.load(path="out/tiny")
    assert read_shipped(back.catalog)["image"].shape == (back.n_items, 294)


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpcore2", None)
    with pytest.raises(
        MissingExtraError, match=r"fetching files needs 'httpcore2'.* pip install 'lmm4rec\[download\]'"
    ):
        fetch_files("Baby", "2014", tmp_path, DownloadOptions())
