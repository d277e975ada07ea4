"""Delimited files as programs and people really write them: encodings, quotes, separators, headers."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.data.sources.recbole import load as load_recbole
from lmm4rec.data.sources.table import load
from lmm4rec.data.table_files import read_table
from shop_tables import ITEMS, LOG, found, shop, titles


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


@pytest.mark.long
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


def test_a_separator_at_the_end_of_each_line_is_no_cell(tmp_path: Path) -> None:
    items = 'item_id,title\n0,a,\n1,"open\n2,c,\n'
    data = load(path=shop(tmp_path, "user_id,item_id\nu,0,\nv,2,,\nw,2,x\n", items))
    assert list(data.users) == ["u", "v"]
    assert found(data)["ragged-row"].examples == ("interactions.csv row 4: 3 cells",)
