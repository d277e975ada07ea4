"""RecBole's atomic files, as its documentation describes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.sources.recbole import load
from lmm4rec.data.splits import split

LOG = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "1\t1193\t5\t978300760\n1\t661\t3\t978302109\n2\t1193\t4\t9\n"
)
ITEMS = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq\tscore:float\n"
    "1193\tOne Flew Over the Cuckoo's Nest\t1975\tDrama\t4.4\n"
    "661\tJames and the Giant Peach\t1996\tAnimation Musical\t3\n"
)
USERS = "user_id:token\tage:token\tgender:token\n1\t1\tF\n2\t56\tM\n"


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return path


def pairs(data: Dataset) -> list[tuple[str, str]]:
    log = data.interactions
    return [(data.users[user], data.items[item]) for user, item in zip(log.users, log.items, strict=True)]


def test_log_items_and_users(tmp_path: Path) -> None:
    data = load(path=folder(tmp_path, ml_inter=LOG, ml_item=ITEMS, ml_user=USERS))
    assert data.name == "ml"
    assert pairs(data) == [("1", "1193"), ("1", "661"), ("2", "1193")]
    assert data.interactions.ratings.tolist() == [5, 3, 4]
    assert data.interactions.timestamps.tolist() == [978300760, 978302109, 9]
    assert dict(data.catalog[1].fields) == {"movie_title": "James and the Giant Peach", "genre": "Animation Musical"}
    assert [finding.examples for finding in data.findings] == [("release_year",), ("age", "gender")]
    named = load(path=tmp_path, text_fields=["movie_title", "release_year"])
    assert dict(named.catalog[0].fields) == {"movie_title": "One Flew Over the Cuckoo's Nest", "release_year": "1975"}


def test_a_log_alone(tmp_path: Path) -> None:
    data = load(path=folder(tmp_path, ml_inter=LOG) / "ml.inter")
    assert list(data.items) == ["1193", "661"]
    assert data.interactions.labels is None


def test_the_files_own_split(tmp_path: Path) -> None:
    header, *rows = LOG.splitlines(keepends=True)
    folder(tmp_path, ml_train_inter=header + rows[0] + rows[2], ml_valid_inter=header + rows[1])
    folder(tmp_path, ml_test_inter=header + "1\t7\t1\t1\n", ml_item=ITEMS + "7\tSeven\t1995\tThriller\t5\n")
    data = load(path=tmp_path)
    assert data.name == "ml"
    assert data.interactions.labels.tolist() == [0, 0, 1, 2]
    parts = split(data, "labels")
    assert [len(part) for part in (parts.train, parts.valid, parts.test)] == [2, 1, 1]
    alone = load(path=tmp_path / "ml.train.inter")
    assert (alone.name, pairs(alone), alone.interactions.labels) == ("ml", [("1", "1193"), ("2", "1193")], None)


def test_parts_with_different_columns_keep_those_of_all(tmp_path: Path) -> None:
    ids = "user_id:token\titem_id:token"
    folder(tmp_path, ml_train_inter=f"{ids}\trating:float\ttimestamp:float\n1\t7\t5\t9\n")
    folder(tmp_path, ml_valid_inter=f"{ids}\ttimestamp:float\n1\t8\t10\n")
    data = load(path=folder(tmp_path, ml_test_inter=f"timestamp:float\t{ids}\n11\t1\t9\n"))
    assert pairs(data) == [("1", "7"), ("1", "8"), ("1", "9")]
    assert data.interactions.timestamps.tolist() == [9, 10, 11]
    assert data.interactions.ratings is None
    (finding,) = [finding for finding in data.findings if finding.kind == "differing-parts"]
    assert (finding.level, finding.count) == ("warning", 1)
    assert "(rating)" in finding.message
    assert finding.examples == ("ml.valid.inter has no readable rating", "ml.test.inter has no readable rating")


def test_ids_of_different_parts_meet(tmp_path: Path) -> None:
    """The user 7 of the first part is 7.0 in the last, where 8.0 has no other spelling and stays."""
    header = "user_id:token\titem_id:token\n"
    folder(tmp_path, ml_train_inter=header + "7\tx\na\tx\n", ml_test_inter=header + "7.0\tx\n8.0\tx\na \tx\n")
    data = load(path=tmp_path)
    assert [user for user, _ in pairs(data)] == ["7", "a", "7", "8.0", "a"]
    assert {"ids-with-point-zero", "ids-respelled"} <= {finding.kind for finding in data.findings}


def test_other_names_of_columns(tmp_path: Path) -> None:
    log = LOG.replace("user_id", "uid").replace("item_id", "iid").replace("rating", "stars").replace("timestamp", "t")
    data = load(
        path=folder(tmp_path, ml_inter=log),
        user_field="uid",
        item_field="iid",
        rating_field="stars",
        time_field="t",
    )
    assert data.interactions.ratings.tolist() == [5, 3, 4]
    assert data.interactions.timestamps is not None


def test_rows_that_cannot_be_read(tmp_path: Path) -> None:
    data = load(path=folder(tmp_path, ml_inter=LOG + "3\t661\tgood\t1\n4\t661\n\t661\t1\t1\n"))
    assert {finding.kind: finding.count for finding in data.findings if finding.level == "warning"} == {
        "ragged-row": 1,
        "unreadable-user": 1,
        "unreadable-rating": 1,
    }


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "it has none"),
        ({"a_inter": LOG, "b_inter": LOG}, r"it has a\.inter, b\.inter\. Give the path of one"),
        ({"a_train_inter": LOG, "b_test_inter": LOG}, "must have one .inter file"),
        ({"a_train_inter": LOG, "a_valid_inter": LOG}, "must have one .inter file"),
        ({"a_inter": "user_id\titem_id\n1\t2\n"}, "the header 'user_id' must be NAME:TYPE"),
        ({"a_inter": "user_id:text\titem_id:token\n1\t2\n"}, "of the types token, token_seq, float, float_seq"),
        ({"a_inter": LOG.replace("user_id", "userid")}, "no column 'user_id'.* Did you mean 'userid'"),
        ({"a_inter": LOG, "a_item": "id:token\n1\n"}, "a.item has no column 'item_id'"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, files: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(path=folder(tmp_path, **files))
    with pytest.raises(DataError, match=r"data\.path = .* does not exist; it must be a folder with a \.inter file"):
        load(path=tmp_path / "none")
