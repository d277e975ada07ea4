"""The file of added items: order, what is refused, one process at a time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from lmm4rec.core.errors import CheckpointError
from lmm4rec.serving import added_items
from lmm4rec.serving.added_items import FILE, AddedItems
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.served_items import ServedItems


def test_items_come_back_in_their_order(tmp_path: Path) -> None:
    kept = AddedItems(tmp_path / "a.sqlite")
    kept.add("z", {"title": "Żółw 'quoted'"}, b"\0image")
    kept.add("a", {}, None)
    kept.close()
    again = AddedItems(tmp_path / "a.sqlite")
    assert [(item.id, item.fields, item.image) for item in again] == [
        ("z", {"title": "Żółw 'quoted'"}, b"\0image"),
        ("a", {}, None),
    ]
    assert again.remove("z")
    assert not again.remove("z")
    assert len(again) == 1
    again.close()


def test_an_id_is_kept_once(tmp_path: Path) -> None:
    kept = AddedItems(tmp_path / "a.sqlite")
    kept.add("a", {"title": "first"}, None)
    with pytest.raises(sqlite3.IntegrityError):
        kept.add("a", {"title": "second"}, None)
    assert [item.fields["title"] for item in kept] == ["first"]
    kept.close()


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    kept, other = AddedItems(tmp_path / "a.sqlite"), AddedItems(tmp_path / "a.sqlite")
    assert other.changed()
    assert not other.changed()
    kept.add("a", {}, None)
    assert other.changed()
    assert [item.id for item in other] == ["a"]
    with pytest.raises(sqlite3.IntegrityError):
        other.add("a", {}, None)
    for file in (kept, other):
        file.close()


@pytest.mark.long
def test_what_others_add_is_read_once(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of many added items are too much to read whenever one more comes."""
    read, item = list[str](), added_items._item
    monkeypatch.setattr(added_items, "_item", lambda row: read.append(row[0]) or item(row))
    bundle, other = Bundle.load(runs[0]), AddedItems(runs[0] / FILE)
    served = ServedItems("whole", other.path)
    for id_ in "abc":
        other.add(id_, {"title": "A mug"}, None)
        served.follow(bundle)
    other.remove("b")
    other.add("b", {"title": "A lamp"}, None)
    served.follow(bundle)
    assert read == ["a", "b", "c", "b"]
    assert [bundle.title(id_) for id_ in "abc"] == ["A mug", "A lamp", "A mug"]
    for file in (served, other):
        file.close()


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    words = tmp_path / "words.sqlite"
    words.write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(CheckpointError, match="is not a file of added items"):
        AddedItems(words)
    assert words.read_text().startswith("no database")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as file:
        file.execute("CREATE TABLE items (name TEXT)")
    file.close()
    with pytest.raises(CheckpointError, match="SQLite file of another kind"):
        AddedItems(other)


def test_a_folder_in_its_place_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").mkdir()
    with pytest.raises(CheckpointError, match="cannot be opened or created"):
        AddedItems(tmp_path / "a.sqlite")
