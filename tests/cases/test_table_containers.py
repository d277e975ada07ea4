"""Tables in compressed files, JSON, Excel and Parquet, and files that are something else."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import zipfile
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from lmm4rec.core.errors import DataError, MissingExtraError
from lmm4rec.data.object_columns import flat_text
from lmm4rec.data.sources.table import load
from lmm4rec.data.table_files import read_table
from shop_tables import ITEMS, found, shop, titles


def packed(kind: str, content: bytes) -> bytes:
    if kind == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("inner.csv", content)
            archive.writestr("__MACOSX/._inner.csv", b"junk")
        return file.getvalue()
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](content)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
def test_compressed_tables_by_their_bytes(tmp_path: Path, kind: str) -> None:
    lines = "".join(f'{{"item_id": "{row}", "title": "größe"}}\n' for row in range(3))
    for name, content in (
        (f"t.csv.{kind}", "item_id,title\n0,größe\n1\n2,x\n"),
        ("t.csv", ITEMS),
        (f"t.jsonl.{kind}", lines),
    ):
        (tmp_path / name).write_bytes(packed(kind, content.encode()))
    table = read_table(tmp_path / f"t.csv.{kind}", "items")
    assert table.frame.rows() == [("0", "größe"), ("2", "x")]
    assert table.findings[0].examples == (f"t.csv.{kind} row 3: 1 cell",)
    assert read_table(tmp_path / "t.csv", "items").frame["title"].to_list() == ["größe", "名前", "x"]
    assert read_table(tmp_path / f"t.jsonl.{kind}", "items").frame["title"].to_list() == ["größe"] * 3


def test_a_zip_of_two_tables_names_both(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.csv.zip", "w") as archive:
        archive.writestr("a.csv", b"x")
        archive.writestr("b.csv", b"x")
    with pytest.raises(DataError, match=r"a zip of 2 files \(a.csv, b.csv\)"):
        read_table(tmp_path / "t.csv.zip", "items")


def test_json_arrays(tmp_path: Path) -> None:
    objects = [{"item_id": "007", "title": "a"}, {"item_id": 8, "price": [1, 2]}, "stray"]
    wanted = [("007", "a", None), ("8", None, "1, 2")]
    for at, whole in enumerate((objects, {"products": objects, "count": 3})):
        (tmp_path / f"{at}.json").write_text(json.dumps(whole, indent=1))
        table = read_table(tmp_path / f"{at}.json", "items")
        assert [tuple(map(as_shown, row)) for row in table.frame.rows()] == wanted
        assert table.findings[0].examples == (f"{at}.json row 3: 'stray'",)
    (tmp_path / "lines.json").write_text("\n".join(map(json.dumps, objects[:2])))
    assert len(read_table(tmp_path / "lines.json", "items")) == 2


def as_shown(value: object) -> object:
    return None if value is None else flat_text(value)


def excel(path: Path, *sheets: tuple[str, list[list[object]]]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)


@pytest.mark.long
def test_excel_as_log_and_catalog_in_one_file(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    day = datetime(2024, 1, 31, 12)
    late = [[f"u{row}", row, None, None] for row in range(1200)]  # text appears after the first thousand rows
    log = [
        ["user_id", "item_id", "rating", "timestamp"],
        *late,
        [7, 0, 4.5, day],
        [],
        ["v", 1, 4, day],
        [8, 2, "N/A", day],
    ]
    items = [
        ["item_id", "title", "note", "note"],
        ["0", "größe", None, "x"],
        [1, "名前", "n", None],
        ["002", "x", None, None],
    ]
    excel(tmp_path / "shop.xlsx", ("Read me", [["x"]]), ("Interactions", log), ("items", items))
    data = load(interactions=tmp_path / "shop.xlsx", items=tmp_path / "shop.xlsx")
    kinds = found(data)
    assert titles(data) == ["größe", "名前", "x"]
    assert list(data.items) == ["0", "1", "002"]
    assert list(data.users) == ["7", "v"]
    assert data.interactions.ratings is not None
    assert data.interactions.ratings.tolist() == [4.5, 4]
    assert data.interactions.timestamps is not None
    assert data.interactions.timestamps[0] == int(day.replace(tzinfo=UTC).timestamp())
    assert kinds["unreadable-rating"].count == 1201
    assert "'note' in columns 3, 4" in kinds["duplicate-column"].message
    assert "'items' is read as the table of the items" in kinds["other-sheets"].message


def test_rows_of_excel_are_named_as_it_shows_them(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    excel(tmp_path / "t.xlsx", ("a", [["user_id", "item_id"], ["u", "x"], [], [None, "y"], ["v", "x"]]))
    data = load(interactions=tmp_path / "t.xlsx")
    assert found(data)["unreadable-user"].examples == ("t.xlsx row 4: user is None",)
    assert data.n_users == 2


def test_the_extra_for_excel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "interactions.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lmm4rec\[excel\]'"):
        load(path=tmp_path)


def test_parquet_of_every_type_and_in_parts(tmp_path: Path) -> None:
    day = datetime(2024, 1, 31, 12, tzinfo=timezone(timedelta(hours=9)))
    log = pl.DataFrame(
        {"user_id": ["u", "v"], "item_id": ["0", "1"], "rating": [Decimal("4.5")] * 2, "timestamp": [day] * 2}
    )
    (tmp_path / "interactions.parquet").mkdir()
    for part in (0, 1):
        log[part : part + 1].with_columns(pl.col("item_id").cast(pl.Categorical)).write_parquet(
            tmp_path / f"interactions.parquet/part-{part}.parquet"
        )
    (tmp_path / "interactions.parquet/_SUCCESS").touch()
    items = {
        "item_id": ["0", "1"],
        "title": ["a", "b"],
        "bytes": [b"\xff\0", None],
        "nested": [{"a": [{"b": None}]}] * 2,
        "price": [Decimal("1.10")] * 2,
        "nothing": [None] * 2,
        "long": [timedelta(1)] * 2,
    }
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    data = load(path=tmp_path)
    assert data.interactions.timestamps is not None
    assert data.interactions.timestamps.tolist() == [int(day.timestamp())] * 2
    assert data.interactions.ratings is not None
    assert data.interactions.ratings.tolist() == [4.5, 4.5]
    (tmp_path / "empty.parquet").mkdir()
    with pytest.raises(DataError, match="folder without parts"):
        read_table(tmp_path / "empty.parquet", "items")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"sep=;\nuser_id;item_id\n1;2\n", r'first line .* is .sep=;., of Excel: delete it and say separator = ";"'),
        (b" \n \n", "is empty"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"PAR1\0\0\0\0", "is a Parquet file: give it the ending .parquet"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load(path=shop(tmp_path, content))


def test_an_excel_file_with_the_name_of_a_text(tmp_path: Path) -> None:
    excel(tmp_path / "t.xlsx", ("a", [["user_id", "item_id"]]))
    (tmp_path / "t.xlsx").rename(tmp_path / "interactions.csv")
    with pytest.raises(DataError, match=r"is an Excel file: give it the ending \.xlsx"):
        load(path=tmp_path)


def test_files_that_cannot_be_opened_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *options: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    shop(tmp_path)
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with pytest.raises(DataError, match=r"loop\.csv is (a link to nothing|missing)"):
        load(interactions=tmp_path / "loop.csv")
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(DataError, match=r"taken\.csv is a folder; expected the file of the items"):
        load(path=tmp_path, items="taken.csv")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"interactions\.csv cannot be read: Permission denied$"):
        load(path=tmp_path)
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot be read: Permission denied$"):
        load(path=tmp_path)


JSON = [
    '[{"item_id": "0", "title": "a\\ud83d"}, {"item_id": "1", "title": ["b", "c"]}]',
    '{"item_id": ["0", "1"], "title": ["a\\ud83d", ["b", "c"]]}',
    '{"item_id": {"0": "0", "1": "1"}, "title": {"0": "a\\ud83d", "1": ["b", "c"]}}',
    '{\n "item_id": "0",\n "title": "a\\ud83d"\n}\n{\n "item_id": "1",\n "title": [\n"b",\n"c"]\n}\n',
]


@pytest.mark.parametrize("content", JSON)
def test_json_as_programs_write_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "items.json").write_text(content)
    frame = read_table(tmp_path / "items.json", "items").frame
    assert frame["item_id"].to_list() == ["0", "1"]
    assert [as_shown(cell) for cell in frame["title"]] == ["a\ufffd", "b, c"]
