"""Folders in the layout of the MMRec toolbox."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.data.feature_files import read_shipped
from lmm4rec.data.sources.mmrec import load

LOG = "userID\titemID\trating\ttimestamp\tx_label\n0\t1\t5.0\t100\t0\n1\t0\t4.0\t200\t1\n0\t2\t3.0\t300\t2\n"


def folder(path: Path, log: str = LOG, **features: np.ndarray) -> Path:
    (path / "toys.inter").write_text(log)
    for modality, rows in features.items():
        np.save(path / f"{modality}_feat.npy", rows)
    return path


def test_everything_in_the_folder(tmp_path: Path) -> None:
    audio = np.arange(8, dtype=np.float16).reshape(4, 2)
    (tmp_path / "item_ids.csv").write_text("itemID,item_id\n1,007\n0,b\n2,c\n3,d\n")
    (tmp_path / "user_ids.csv").write_text("userID,user_id\n0,anna\n1,ben\n")
    data = load(path=folder(tmp_path, audio=audio))
    assert data.name == "toys"
    assert list(data.users) == ["anna", "ben"]
    assert list(data.items) == ["b", "007", "c", "d"]  # item 3 has a feature row and no interaction
    log = data.interactions
    assert (log.users.tolist(), log.items.tolist(), log.labels.tolist()) == ([0, 1, 0], [1, 0, 2], [0, 1, 2])
    assert (log.ratings.tolist(), log.timestamps.tolist()) == ([5, 4, 3], [100, 200, 300])
    assert read_shipped(data.catalog)["audio"].tolist() == audio.tolist()


def test_the_maps_of_mmrec_s_own_notebooks(tmp_path: Path) -> None:
    (tmp_path / "i_id_mapping.csv").write_text("asin\titemID\nB00\t0\n007\t1\nB02\t2\n")
    (tmp_path / "u_id_mapping.csv").write_text("user_id\tuserID\nanna\t0\nben\t1\n")
    data = load(path=folder(tmp_path))
    assert (list(data.users), list(data.items)) == (["anna", "ben"], ["B00", "007", "B02"])
    (tmp_path / "item_ids.csv").write_text("itemID,item_id\n0,a\n1,b\n2,c\n")
    assert list(load(path=tmp_path).items) == ["a", "b", "c"]


def test_ids_without_a_map(tmp_path: Path) -> None:
    data = load(path=folder(tmp_path, "userID\titemID\n0\t2\n") / "toys.inter")
    assert list(data.items) == ["0", "1", "2"]
    assert data.interactions.labels is None
    assert data.interactions.timestamps is None


def test_unreadable_rows_are_set_aside(tmp_path: Path) -> None:
    log = "userID\titemID\tx_label\n0\t0\t0\n-1\t0\t0\n0\tx\t0\n0\t0.5\t0\n0\t1\t3\n0\t1\n"
    data = load(path=folder(tmp_path, log))
    assert len(data.interactions) == 1
    assert {finding.kind: finding.count for finding in data.findings} == {
        "ragged-row": 1,
        "unreadable-userID": 1,
        "unreadable-itemID": 2,
        "unreadable-x_label": 1,
    }
    assert data.findings[-1].examples == ("toys.inter row 6: x_label is '3'",)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"image": np.zeros((2, 4))}, "one row for each of the 3 items; rows: .*image_feat.npy 2"),
        ({"image": np.zeros((3, 4)), "text": np.zeros((4, 4))}, "image_feat.npy 3, .*text_feat.npy 4"),
        ({"image": np.zeros(3)}, "expected numbers of shape"),
        ({"image": np.zeros((3, 0))}, "expected numbers of shape"),
    ],
)
def test_feature_files_that_do_not_fit(tmp_path: Path, features: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(path=folder(tmp_path, **features))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("itemID,item_id\n0,a\n2,c\n", "an id for each itemID from 0 to 1"),
        ("itemID,item_id\n0,a\n0,b\n1,c\n", "each once"),
        ("itemID,item_id\n0,a\n1,b\n", "gives 2 ids; expected one for each of the 3 items"),
        ("itemID,item_id\n0,a\n1,a\n2,c\n", "'a' occurs twice"),
        ("itemID,asin\n0,a\n", "no column 'item_id'"),
    ],
)
def test_id_maps_that_do_not_fit(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "item_ids.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        load(path=folder(tmp_path))


def test_none_or_several_logs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no \.inter file; it holds nothing"):
        load(path=tmp_path)
    folder(tmp_path)
    (tmp_path / "more.inter").write_text(LOG)
    with pytest.raises(DataError, match=r"several \.inter files, more\.inter, toys\.inter"):
        load(path=tmp_path)
    with pytest.raises(DataError, match=r"data\.path = .* does not exist; it must be a folder with a \.inter file"):
        load(path=tmp_path / "none")


def test_missing_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'itemID'.*Did you mean 'item_id'"):
        load(path=folder(tmp_path, "userID\titem_id\n0\t1\n"))


@pytest.mark.parametrize(
    ("name", "counts", "modalities"),
    [
        ("films", (90_176, 610, 3_639), {"image": 1024, "text": 384}),
        ("tiktok", (68_722, 9_308, 6_710), {"image": 128, "audio": 128}),
    ],
)
def test_real_folders(shared: Path, name: str, counts: tuple, modalities: dict) -> None:
    data = load(path=shared / "data" / "mmrec" / name)
    assert (len(data.interactions), data.n_users, data.n_items) == counts
    features = read_shipped(data.catalog)
    assert {modality: rows.shape for modality, rows in features.items()} == {
        modality: (counts[2], dim) for modality, dim in modalities.items()
    }
    assert data.findings == ()
