"""One's own tables, as users have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.filters import k_core, prepare
from lmm4rec.data.sources.table import load

LOG = "user_id,item_id,rating,timestamp\nu1,a,5,100\nu1,b,3.5,200\nu2,a,1,300\n"
ITEMS = "item_id,title,tags,year,image\na,Ärmel 👕,X|Y | Z,1990,a.png\nb,שלום עולם,,1991,\nc,,|,1992,none.png\n"


def shop(folder: Path, log: str = LOG, items: str | None = ITEMS) -> Path:
    (folder / "interactions.csv").write_text(log, encoding="utf-8")
    if items is not None:
        (folder / "items.csv").write_text(items, encoding="utf-8")
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    return folder


def pairs(data: Dataset) -> list[tuple[str, str]]:
    log = data.interactions
    return [(data.users[user], data.items[item]) for user, item in zip(log.users, log.items, strict=True)]


def kinds(data: Dataset) -> dict[str, int]:
    return {finding.kind: finding.count for finding in data.findings}


def test_a_whole_shop(tmp_path: Path) -> None:
    data = load(path=shop(tmp_path), title="Shop")
    assert data.name == "Shop"
    assert pairs(data) == [("u1", "a"), ("u1", "b"), ("u2", "a")]
    assert list(data.items) == ["a", "b", "c"]
    assert data.interactions.ratings.tolist() == [5, 3.5, 1]
    assert data.interactions.timestamps.tolist() == [100, 200, 300]
    assert dict(data.catalog[0].fields) == {"title": "Ärmel 👕", "tags": "X, Y, Z"}
    assert dict(data.catalog[1].fields) == {"title": "שלום עולם", "tags": ""}
    assert dict(data.catalog[2].fields) == {"title": "", "tags": ""}
    assert data.catalog.has_image.tolist() == [True, False, True]
    assert kinds(data) == {"unused-column": 1, "missing-image": 1}
    assert data.findings[0].examples == ("year",)


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl", "ndjson"])
def test_every_kind_of_file_gives_the_same(tmp_path: Path, kind: str) -> None:
    log = pl.DataFrame({"user_id": [1, 2, 1], "item_id": [10, 10, 20], "timestamp": [1, 2, 3]})
    items = pl.DataFrame({"item_id": [10, 20], "title": ["x", "y"]})
    for name, frame in (("interactions", log), ("items", items)):
        path = tmp_path / f"{name}.{kind}"
        if kind == "parquet":
            frame.write_parquet(path)
        elif kind in ("csv", "tsv"):
            frame.write_csv(path, separator="," if kind == "csv" else "\t")
        else:
            frame.write_ndjson(path)
    data = load(path=tmp_path)
    assert pairs(data) == [("1", "10"), ("2", "10"), ("1", "20")]
    assert data.catalog.title(1) == "y"


@pytest.mark.parametrize("frame", [pl.DataFrame, pd.DataFrame])
def test_frames_and_ids_of_any_type(frame: type) -> None:
    log = frame({"user_id": [1.0, 2.0, 1.0], "item_id": ["a", "b", "007"]})
    items = frame({"item_id": ["a", "b", "007"], "title": ["x", "y", "z"]})
    data = load(interactions=log, items=items)
    assert pairs(data) == [("1", "a"), ("2", "b"), ("1", "007")]
    assert data.catalog.title(2) == "z"


def test_mixed_ids_in_pandas() -> None:
    log = pd.DataFrame({"user_id": [1, "x", 2.0], "item_id": ["a", 5, "a"]})
    assert pairs(load(interactions=log)) == [("1", "a"), ("x", "5"), ("2", "a")]


def test_lists_in_cells_are_joined(tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": [1], "tags": [["a", "b"]]})
    data = load(interactions=pl.DataFrame({"user_id": [1], "item_id": [1]}), items=items)
    assert dict(data.catalog[0].fields) == {"tags": "a, b"}


def test_columns_by_name_and_separator(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text("who\twhat\tstars\twhen\n1\t9\t5\t2020-01-31\n")
    (tmp_path / "shop.csv").write_text("what,name,year,photo\n9,a;b,1990,p.png\n")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "photos/p.png")
    data = load(
        path=tmp_path,
        interactions="log.tsv",
        items="shop.csv",
        user_column="who",
        item_column="what",
        rating_column="stars",
        timestamp_column="when",
        image_column="photo",
        image_folder="photos",
        text_columns=["name", "year"],
        list_separator=";",
    )
    assert data.interactions.ratings.tolist() == [5]
    assert data.interactions.timestamps.tolist() == [1_580_428_800]
    assert dict(data.catalog[0].fields) == {"name": "a, b", "year": "1990"}
    assert data.catalog.images[0].open().size == (2, 2)
    assert data.findings == ()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1580428800", "1580428801"], [1_580_428_800, 1_580_428_801]),
        (["1580428800.7", "0"], [1_580_428_800, 0]),
        (["1580428800123", "1580428801000"], [1_580_428_800, 1_580_428_801]),
        (["1580428800123456", "1580428801000000"], [1_580_428_800, 1_580_428_801]),
        (["2020-01-31", "2020-01-31 00:00:01"], [1_580_428_800, 1_580_428_801]),
        (["2020-01-31T01:00:00+01:00", "2020-01-31T00:00:01.5Z"], [1_580_428_800, 1_580_428_801]),
    ],
)
def test_moments_in_many_forms(cells: list[str], expected: list[int]) -> None:
    log = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": cells})
    assert load(interactions=log).interactions.timestamps.tolist() == expected


def test_dates_in_a_frame() -> None:
    log = pd.DataFrame({"user_id": [1], "item_id": [1], "timestamp": pd.to_datetime(["2020-01-31"])})
    assert load(interactions=log).interactions.timestamps.tolist() == [1_580_428_800]


def test_unreadable_rows_are_set_aside_with_their_row(tmp_path: Path) -> None:
    rows = ["u1,a,5,100", ",b,3,200", "u2,,1,300", "u2,a,good,400", "u2,b,4,soon", "u3,zz,4,1", "u3,b,inf,1"]
    log = "\n".join(["user_id,item_id,rating,timestamp", *rows, ""])
    data = load(path=shop(tmp_path, log))
    assert pairs(data) == [("u1", "a")]
    found = {finding.kind: finding.examples for finding in data.findings}
    assert found["unreadable-user"] == ("interactions.csv row 3: user is None",)
    assert found["unreadable-item"] == ("interactions.csv row 4: item is None",)
    assert found["unreadable-rating"] == (
        "interactions.csv row 5: rating is 'good'",
        "interactions.csv row 8: rating is 'inf'",
    )
    assert found["unreadable-timestamp"] == ("interactions.csv row 6: timestamp is 'soon'",)
    assert found["unknown-item"] == ("interactions.csv row 7: item zz",)
    assert sum(count for kind, count in kinds(data).items() if kind.startswith("un") and kind != "unused-column") == 6


def test_duplicate_items_keep_the_first_and_features_stay_aligned(tmp_path: Path) -> None:
    items = "item_id,title\na,first\nb,x\na,second\n\nc,y\nbroken\n,nameless\n"
    shop(tmp_path, items=items)
    data = load(path=tmp_path)
    assert [item.fields["title"] for item in data.catalog] == ["first", "x", "y"]
    assert data.catalog.source_rows.tolist() == [0, 1, 3]
    assert data.catalog.source_size == 6
    assert kinds(data) == {"ragged-row": 1, "unreadable-item_id": 1, "duplicate-item": 1}


def test_feature_files_come_along(tmp_path: Path) -> None:
    shop(tmp_path)
    (tmp_path / "features").mkdir()
    for name in ("features/image_feat.npy", "features/text_feat.npy", "image_feat.npy"):
        np.save(tmp_path / name, np.zeros((3, 2)))
    shipped = load(path=tmp_path).catalog.shipped
    assert shipped == {
        "image": tmp_path / "image_feat.npy",
        "text": tmp_path / "features/text_feat.npy",
    }


def test_without_items_the_log_makes_the_catalog(tmp_path: Path) -> None:
    data = load(path=shop(tmp_path, items=None))
    assert list(data.items) == ["a", "b"]
    assert kinds(data) == {"no-items-table": 2}
    assert data.catalog[0].fields == {}


def test_ratings_can_be_asked_for_here_too(tmp_path: Path) -> None:
    assert pairs(load(path=shop(tmp_path), rating_at_least=3.5)) == [("u1", "a"), ("u1", "b")]


@pytest.mark.parametrize(
    ("log", "items", "options", "words"),
    [
        (
            "userid,item_id\n1,a\n",
            ITEMS,
            {},
            "no column 'user_id'.* Did you mean 'userid'.* Its columns: userid, item_id",
        ),
        (LOG, "id,title\na,x\n", {}, "items.csv has no column 'item_id'"),
        (LOG, ITEMS, {"rating_column": "stars"}, "no column 'stars' for the ratings"),
        (LOG, ITEMS, {"image_column": "imag"}, "Did you mean 'image'"),
        (LOG, ITEMS, {"text_columns": ["titel"]}, "Did you mean 'title'"),
        ("", ITEMS, {}, "interactions.csv is empty"),
        (LOG, "", {}, "items.csv is empty"),
        ("user_id,item_id\n,a\n", ITEMS, {}, "no readable row .*they have no user id"),
        ("user_id,item_id\n1,A\n", ITEMS, {}, "log has items such as 'A', the catalog such as 'a'"),
    ],
)
def test_bad_tables(tmp_path: Path, log: str, items: str, options: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(path=shop(tmp_path, log, items), **options)


def test_bad_places(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs 'path'"):
        load()
    with pytest.raises(
        DataError, match=r"data\.path = '.*none' does not exist; it must be the folder that holds inter"
    ):
        load(path=tmp_path / "none")
    with pytest.raises(DataError, match="has no interactions"):
        load(path=tmp_path)
    shop(tmp_path)
    (tmp_path / "interactions.tsv").write_text("x")
    with pytest.raises(DataError, match=r'has interactions\.csv, interactions\.tsv; say which with interactions = "…"'):
        load(path=tmp_path)


@pytest.mark.long
def test_films(shared: Path) -> None:
    films = load(path=shared / "data" / "movielens")
    core = prepare(films, k_core=5)
    assert (len(core.interactions), core.n_users, core.n_items) == (90_176, 610, 3_639)
    kept = prepare(films, rating_at_least=4.0, k_core=5)
    assert (len(kept.interactions), kept.n_users, kept.n_items) == (41_179, 601, 1_948)
    log = kept.interactions
    assert log.ratings.min() >= 4
    assert min(log.user_counts(601).min(), log.item_counts(1_948).min()) == 5
    assert k_core(kept, 5, 5).fingerprint == kept.fingerprint
    empty = (films.catalog.fields["description"] == "").sum()
    assert empty == 1_660
    assert films.catalog.has_image.all()
    assert set(films.catalog.shipped) == {"image", "text"}
