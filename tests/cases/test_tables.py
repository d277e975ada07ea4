"""Tables as programs and people really write them: read as meant, or the row and the key to change are named."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lmm4rec.core.errors import DataError, MissingExtraError
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.doctor import examine
from lmm4rec.data.filters import prepare
from lmm4rec.data.findings import Finding
from lmm4rec.data.object_columns import flat_text
from lmm4rec.data.sources.recbole import load as load_recbole
from lmm4rec.data.sources.table import load
from lmm4rec.data.splits import split
from lmm4rec.data.table_files import read_table

LOG = "user_id,item_id\nu,0\nu,1\nv,2\n"
ITEMS = "item_id,title\n0,größe\n1,名前\n2,x\n"


def shop(folder: Path, log: str | bytes = LOG, items: str | bytes = ITEMS, *, ending: str = "csv") -> Path:
    for name, content in (("interactions.csv", log), (f"items.{ending}", items)):
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def found(data: Dataset) -> dict[str, Finding]:
    return {finding.kind: finding for finding in data.findings}


def titles(data: Dataset) -> list[str]:
    return [item.fields["title"] for item in data.catalog]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-8"])
def test_each_encoding_of_unicode_by_its_first_bytes(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith("le") or encoding.endswith("be") else ""
    data = load(path=shop(tmp_path, (mark + LOG).encode(encoding), (mark + ITEMS).encode(encoding)))
    assert titles(data) == ["größe", "名前", "x"]
    assert list(data.users) == ["u", "v"]


def test_excels_unicode_text_in_a_compressed_file_with_ragged_rows(tmp_path: Path) -> None:
    text = "item_id\ttitle\n0\tgröße\n1\n2\tx\n".encode("utf-16")
    (tmp_path / "t.tsv.gz").write_bytes(gzip.compress(text))
    table = read_table(tmp_path / "t.tsv.gz", "items")
    assert table.frame.rows() == [("0", "größe"), ("2", "x")]
    assert table.findings[0].examples == ("t.tsv.gz row 3: 1 cell",)


def test_an_encoding_and_a_separator_that_are_named(tmp_path: Path) -> None:
    log, items = (text.replace(",", ";").replace("名前", "é").encode("cp1252") for text in (LOG, ITEMS))
    data = load(path=shop(tmp_path, log, items), separator=";", encoding="cp1252")
    assert titles(data) == ["größe", "é", "x"]
    with pytest.raises(DataError, match=r'no column .user_id.*The separator may be another: separator = ";"'):
        load(path=tmp_path)
    with pytest.raises(DataError, match=r'expected UTF-8 text.*encoding = "cp1252"'):
        load(path=tmp_path, separator=";", interactions=tmp_path / "items.csv", user_column="title")
    with pytest.raises(DataError, match="encoding = 'klingon' is unknown"):
        load(path=tmp_path, encoding="klingon")
    with pytest.raises(DataError, match="is not ascii text"):
        load(path=tmp_path, encoding="ascii", separator=";")


def test_utf_16_without_a_mark_says_what_to_name(tmp_path: Path) -> None:
    shop(tmp_path, LOG.encode("utf-16-le"), ITEMS.encode("utf-16-le"))
    with pytest.raises(DataError, match='encoding = "utf-16-le"'):
        load(path=tmp_path)
    assert titles(load(path=tmp_path, encoding="utf-16-le"))[0] == "größe"


ODD = ['27" monitor', '"Weird Al" live', '"Unclosed', 'x "" y', '""']


def test_bad_bytes_and_odd_quotes_in_files_with_tabs_cost_their_row_alone(tmp_path: Path) -> None:
    rows = [f'{row}\t"größe {row}'.encode() for row in range(40)]
    rows[7], rows[9] = b"7\tgr\xf6\xdfe", b"9"
    (tmp_path / "x.tsv").write_bytes(b"\n".join([b"item_id\ttitle", *rows]))
    (tmp_path / "x.item").write_bytes(b"\n".join([b"item_id\ttitle", *rows]))
    for name in ("x.tsv", "x.item"):
        table = read_table(tmp_path / name, "items")
        assert len(table) == 38
        assert table.frame["title"][0] == '"größe 0'
        assert [finding.examples for finding in table.findings] == [
            (f"{name} row 9: it is no UTF-8 text",),
            (f"{name} row 11: 1 cell",),
        ]


def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """Random insertions, deletions and replacements: never another error than DataError."""
    draw = random.Random(0)
    pieces = [
        b'"',
        b",",
        b"\t",
        b"\n",
        b"\r\n",
        b"\0",
        b"\xff",
        b"",
        b"9" * 30,
        b"1e400",
        b"nan",
        b"[",
        b"}",
        b".0",
        b"\\",
    ]
    log = "user_id,item_id,rating,timestamp\nu,0,5,1700000000\nv,1.0,-1,2024-01-01\nw,2,x,20240131\n"
    objects = '{"item_id": "0", "title": "a", "c": [["x"]]}\n{"item_id": 1, "title": null, "c": {"a": 1}}\n'
    read = 0
    for ending in ["csv", "tsv", "jsonl"] * 25:
        items = objects if ending == "jsonl" else ITEMS if ending == "csv" else ITEMS.replace(",", "\t")
        damaged = []
        for text in (log, items):
            content = bytearray(text.encode())
            for _ in range(draw.randint(0, 2)):
                at = draw.randrange(len(content))
                content[at : at + draw.choice([0, 1, 5])] = draw.choice(pieces)
            damaged.append(bytes(content))
        shop(tmp_path, *damaged, ending=ending)
        try:
            read += len(load(path=tmp_path).interactions) > 0
        except DataError as error:
            assert "\n" not in str(error).strip()  # noqa: PT017 (either outcome is right)
        (tmp_path / f"items.{ending}").unlink()
    assert read > 20


@pytest.mark.parametrize("ending", ["tsv", "tsv.gz"])
def test_quotes_are_letters_where_they_do_not_enclose(tmp_path: Path, ending: str) -> None:
    items = "".join(["item_id\ttitle\n", *(f"{row}\t{title}\n" for row, title in enumerate(ODD))]).encode()
    data = load(path=shop(tmp_path, items=gzip.compress(items) if ending.endswith("gz") else items, ending=ending))
    assert titles(data) == ODD


def test_quotes_that_enclose_in_a_table_with_tabs(tmp_path: Path) -> None:
    items = 'item_id\ttitle\n0\t"27"" monitor"\n1\t"two\nlines"\n2\t"a\tb"\n'
    assert titles(load(path=shop(tmp_path, items=items, ending="tsv"))) == ['27" monitor', "two\nlines", "a\tb"]


def test_quotes_that_would_enclose_the_end_of_a_line_are_letters(tmp_path: Path) -> None:
    items = 'item_id\ttitle\tnote\n0\t"A\tx\n1\tB"\ty\n'
    assert titles(load(path=shop(tmp_path, items=items, ending="tsv"))) == ['"A', 'B"']


def test_quotes_in_atomic_files_are_letters(tmp_path: Path) -> None:
    rows = "".join(f"{row}\t{title}\n" for row, title in enumerate([*ODD, '"both"']))
    (tmp_path / "x.item").write_text("item_id:token\ttitle:token_seq\n" + rows)
    (tmp_path / "x.inter").write_text('user_id:token\titem_id:token\n"u\t0\nv"\t5\n')
    data = load_recbole(path=tmp_path)
    assert titles(data) == [*ODD, '"both"']
    assert list(data.users) == ['"u', 'v"']


def test_an_open_quote_in_csv_costs_its_row_alone(tmp_path: Path) -> None:
    items = 'item_id,title\n0,27" monitor\n1,"open\n2,"two\nlines, ""quoted"""\n'
    data = load(path=shop(tmp_path, "user_id,item_id\nu,0\nu,2\n", items))
    assert titles(data) == ['27" monitor', 'two\nlines, "quoted"']
    assert found(data)["damaged-row"].examples == ("items.csv row 3: a quote is not closed",)
    assert data.catalog.source_rows.tolist() == [0, 2]


def test_a_row_that_is_no_utf_8_among_many_is_named(tmp_path: Path) -> None:
    rows = [f"{row},größe".encode() for row in range(40)]
    rows[7] = b"7,gr\xf6\xdfe"
    data = load(path=shop(tmp_path, items=b"\n".join([b"item_id,title", *rows])))
    assert len(data.catalog) == 39
    assert found(data)["damaged-row"].examples == ("items.csv row 9: it is no UTF-8 text",)


def test_a_header_with_one_name_twice_is_a_finding_that_names_both(tmp_path: Path) -> None:
    log = "user_id,item_id,user_id\nu,0,x\nv,1,y\n"
    data = load(path=shop(tmp_path, log, "item_id,title,note,title\n0,a,n,b\n1,c,n,d\n"))
    assert list(data.users) == ["u", "v"]
    assert dict(data.catalog[0].fields) == {"title": "a", "note": "n"}
    messages = [finding.message for finding in data.findings if finding.kind == "duplicate-column"]
    assert ["'user_id' in columns 1, 3" in messages[0], "'title' in columns 2, 4" in messages[1]] == [True, True]


NESTED: list[tuple[Any, str]] = [
    ([["Baby", "Toys"], ["X"]], "Baby, Toys, X"),
    ([], ""),
    (None, ""),
    ([[[1, 2]], []], "1, 2"),
    ({"Brand": "A", "Size": None, "Sold": [1, 2]}, "Brand: A, Sold: 1, 2"),
    ([{"name": "A"}, {"name": "B"}], "name: A, name: B"),
]


def test_nested_cells_become_text(tmp_path: Path) -> None:
    """Each kind in a column of its own, then all kinds in one, as dumps of shops have them."""
    for at, (value, text) in enumerate(NESTED):
        lines = [{"item_id": "0", "title": "t", "cell": value}, {"item_id": "1", "title": "u", "cell": value}]
        (tmp_path / str(at)).mkdir()
        folder = shop(tmp_path / str(at), items="\n".join(map(json.dumps, lines)), ending="jsonl")
        data = load(path=folder, text_columns=["title", "cell"])
        assert [item.fields["cell"] for item in data.catalog] == [text, text]
    mixed = [*NESTED, ("plain", "plain"), (3.5, "3.5"), (3.0, "3")]
    lines = [{"item_id": str(at), "title": "t", "cell": value} for at, (value, _) in enumerate(mixed)]
    (tmp_path / "mixed").mkdir()
    data = load(path=shop(tmp_path / "mixed", items="\n".join(map(json.dumps, lines)), ending="jsonl"))
    assert [item.fields["cell"] for item in data.catalog] == [text for _, text in mixed]


def test_weights_are_read_and_what_is_none_costs_its_row(tmp_path: Path) -> None:
    log = "user_id,item_id,weight\nu,0,2.5\nu,1,0\nv,2,-1\nv,0,inf\nv,1,much\nw,2,\nw,1, 7 \n"
    data = load(path=shop(tmp_path, log))
    assert data.interactions.weights is not None
    assert data.interactions.weights.tolist() == [2.5, 7.0]
    finding = found(data)["unreadable-weight"]
    assert (finding.count, finding.examples[0]) == (5, "interactions.csv row 3: weight is '0'")
    assert "not a number above 0" in finding.message
    parts = split(data, "random", valid=0.0, test=0.0)
    assert parts.train.weights is not None
    unweighted = replace(data.interactions, weights=None)
    assert unweighted.fingerprint != data.interactions.fingerprint


def test_a_column_of_weights_that_is_named(tmp_path: Path) -> None:
    data = load(path=shop(tmp_path, "user_id,item_id,hours\nu,0,2\nv,1,3\n"), weight_column="hours")
    assert data.interactions.weights is not None
    assert data.interactions.weights.tolist() == [2.0, 3.0]
    with pytest.raises(DataError, match=r"no column 'hour' for the weights.*Did you mean 'hours'"):
        load(path=tmp_path, weight_column="hour")


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


def test_files_written_one_after_another(tmp_path: Path) -> None:
    data = load(interactions=shop(tmp_path, "\ufeff" + LOG + "\ufeff" + LOG + LOG) / "interactions.csv")
    assert list(data.users) == ["u", "v"]
    assert found(data)["repeated-header"].examples == (
        "interactions.csv row 5: header",
        "interactions.csv row 9: header",
    )


def test_lines_of_the_old_macintosh_and_spaces_in_the_header(tmp_path: Path) -> None:
    log = '"user_id", item_id\ru,0\rv,1\r'
    data = load(path=shop(tmp_path, log, " item_id ,title\r0,a\r1\r2,c\r"))
    assert [list(data.users), list(data.items)] == [["u"], ["0", "2"]]
    assert found(data)["ragged-row"].examples == ("items.csv row 3: 1 cell",)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1,234.5", "1,234,567", "7"], [1234.5, 1234567, 7]),
        (["1.234,5", "3,5", "2,125"], [1234.5, 3.5, 2.125]),  # the second shows what the third is
        (["4,5", " 5 ", "1e2"], [4.5, 5, 100]),
        (["2,125", "7", "8"], [7, 8]),  # two thousand, or two and an eighth
    ],
)
def test_ratings_with_separators(tmp_path: Path, cells: list[str], numbers: list[float]) -> None:
    log = "user_id\titem_id\trating\n" + "".join(f"u\t{row}\t{cell}\n" for row, cell in enumerate(cells))
    (tmp_path / "log.tsv").write_text(log)
    data = load(interactions=tmp_path / "log.tsv")
    assert data.interactions.ratings is not None
    assert data.interactions.ratings.tolist() == numbers


@pytest.mark.parametrize("column", ["rating", "timestamp", "weight"])
@pytest.mark.parametrize("cell", ["", "good"])
def test_a_column_without_a_readable_cell_is_not_used(tmp_path: Path, column: str, cell: str) -> None:
    log = f"user_id,item_id,{column}\nu,0,{cell}\nv,1,{cell}\n"
    data = load(path=shop(tmp_path, log))
    assert len(data.interactions) == 2
    finding = found(data)[f"unused-{column}"]
    assert finding.examples[0] == f"interactions.csv row 2: {column} is {cell or None!r}"
    with pytest.raises(DataError, match=f"{column} is"):
        load(path=tmp_path, **{f"{column}_column": column})


def test_junk_ratings_cost_their_rows_and_dislikes_name_the_key(tmp_path: Path) -> None:
    cells = ["5", "N/A", "5 stars", "", "0", "-1", "3"]
    log = "user_id,item_id,rating\n" + "".join(f"u{row},{row % 3},{cell}\n" for row, cell in enumerate(cells))
    data = prepare(load(path=shop(tmp_path, log)))
    assert len(data.interactions) == 4
    findings = found(data)
    assert findings["unreadable-rating"].examples[:2] == (
        "interactions.csv row 3: rating is 'N/A'",
        "interactions.csv row 4: rating is '5 stars'",
    )
    assert "rating_at_least = 3 leaves them out" in findings["dislikes"].message
    assert len(prepare(load(path=tmp_path, rating_at_least=3.0)).interactions) == 2


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_columns_that_are_mostly_empty(tmp_path: Path, ending: str) -> None:
    rows = [{"item_id": str(row), "title": "t", "late": None if row < 3000 else "text", "none": None,
             "once": "a word" if row == 2000 else None} for row in range(3010)]  # fmt: skip
    if ending == "jsonl":
        items = "\n".join(map(json.dumps, rows))
    else:
        items = "\n".join([",".join(rows[0]), *(",".join(str(cell or "") for cell in row.values()) for row in rows)])
    data = load(path=shop(tmp_path, items=items, ending=ending))
    assert data.catalog[3005].fields["late"] == "text"
    assert data.catalog[2000].fields["once"] == "a word"
    assert data.catalog[0].fields["late"] == ""


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


def test_a_catalog_of_many_empty_columns_has_one_finding(tmp_path: Path) -> None:
    names = [f"c{row}" for row in range(50)]
    items = ",".join(["item_id", "title", *names]) + "\n0,t," + "," * 49 + "\n1,t," + "," * 49 + "\n"
    data = load(path=shop(tmp_path, "user_id,item_id\nu,0\n", items))
    findings = [finding for finding in examine(data) if finding.kind == "empty-text"]
    assert [(finding.count, finding.examples[:2]) for finding in findings] == [(50, ("c0", "c1"))]


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


def test_titles_are_shown_short_and_without_control_characters(tmp_path: Path) -> None:
    long = "word " * 100_000
    data = load(path=shop(tmp_path, items=f"item_id,title\n0,{long}\n1,a\x1b[31m\x07b\n2,\x00\n"))
    assert [len(data.catalog.title(0)), data.catalog.title(1), data.catalog.title(2)] == [300, "a[31mb", "2"]
    assert data.catalog[0].fields["title"] == long


def test_ratings_beyond_float32_cost_their_row(tmp_path: Path) -> None:
    data = load(path=shop(tmp_path, "user_id,item_id,rating\nu,0,1e300\nv,1,5\n"))
    assert found(data)["unreadable-rating"].count == 1
    assert len(data.interactions) == 1


def test_a_separator_at_the_end_of_each_line_is_no_cell(tmp_path: Path) -> None:
    items = 'item_id,title\n0,a,\n1,"open\n2,c,\n'
    data = load(path=shop(tmp_path, "user_id,item_id\nu,0,\nv,2,,\nw,2,x\n", items))
    assert list(data.users) == ["u", "v"]
    assert found(data)["ragged-row"].examples == ("interactions.csv row 4: 3 cells",)


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
