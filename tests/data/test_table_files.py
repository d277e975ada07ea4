"""Files in good and bad order; rows are numbered as an editor shows them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.data.table_files import read_table


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_ragged_rows_are_listed_by_their_row(tmp_path: Path) -> None:
    text = 'id,text,note\n1,a,x\n2,b\n\n3,"c\nd",y\n4,e,z,more\n5,f,\n\n'
    table = read_table(write(tmp_path, "t.csv", text), "items")
    assert table.frame["id"].to_list() == ["1", "3", "5"]
    assert table.frame["text"].to_list() == ["a", "c\nd", "f"]
    assert table.records.tolist() == [0, 2, 4]  # blank lines are no records, ragged ones are
    assert table.size == 5
    (finding,) = table.findings
    assert (finding.kind, finding.count) == ("ragged-row", 2)
    assert finding.examples == ("t.csv row 3: 2 cells", "t.csv row 6: 4 cells")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.TSV.gz"])
def test_every_delimited_kind_keeps_leading_zeros(tmp_path: Path, name: str) -> None:
    separator = "," if ".csv" in name else "\t"
    content = f"\ufeffid{separator}n\n007{separator}1.0\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert read_table(tmp_path / name, "items").frame.to_dicts() == [{"id": "007", "n": "1.0"}]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_cells_of_any_length(tmp_path: Path, name: str) -> None:
    separator, long = "," if name == "t.csv" else "\t", "<p>long</p>, " * 20_000
    rows = [("id", "text", "size"), ("1", f'"{long}"', "L"), ("2", '"short"', ""), ("3", "odd")]
    table = read_table(write(tmp_path, name, "".join(separator.join(row) + "\n" for row in rows)), "items")
    assert table.frame.rows() == [("1", long, "L"), ("2", "short", None)]
    assert table.findings[0].examples == (f"{name} row 4: 2 cells",)


def test_long_rows_in_a_compressed_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2,3\n4,5\n"))
    table = read_table(tmp_path / "t.csv.gz", "items")
    assert table.frame.rows() == [("4", "5")]
    assert table.findings[0].examples == ("t.csv.gz row 2: 3 cells",)


def test_broken_json_lines(tmp_path: Path) -> None:
    text = '{"id": 1, "tags": ["a", "b"]}\n{broken\n\n[2]\n{"id": "x"}\n'
    table = read_table(write(tmp_path, "t.jsonl", text), "items")
    assert table.frame["id"].to_list() == ["1", "x"]
    assert table.records.tolist() == [0, 3]
    assert table.findings[0].examples == ("t.jsonl row 2: {broken", "t.jsonl row 4: [2]")


def test_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1, 2]}).write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", "items").frame["id"].to_list() == [1, 2]


def test_pandas_with_mixed_and_missing_values() -> None:
    frame = pd.DataFrame(
        {
            "mixed": [1, "a", None],
            "number": [1.5, None, 2.0],
            "nullable": pd.array([1, None, 2**60 + 1], dtype="Int64"),
            "text": ["x", "y", None],
            "kind": pd.Categorical(["p", "q", "p"]),
            "when": pd.to_datetime(["2020-01-01", None, "2020-01-03"]),
        },
        index=[7, 8, 9],
    )
    read = read_table(frame, "items").frame
    assert read["mixed"].to_list() == ["1", "a", None]
    assert read["nullable"].to_list() == [1, None, 2**60 + 1]
    assert read["text"].to_list() == ["x", "y", None]
    assert read["kind"].to_list() == ["p", "q", "p"]
    assert read["when"].null_count() == 1
    assert read["when"].dtype == pl.Datetime


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"a,b\n", "is empty: it has no rows"),
        ("t.csv", b"a,b\n\n\n", "no readable row|is empty"),
        ("t.csv", b"a,b\n1,\xe9\n", "expected UTF-8"),
        ("t.csv", b'a,b\n1,"open\n', "no readable row .*a quote in them is not closed"),
        ("t.jsonl", b"", "no JSON lines|is empty"),
        ("t.jsonl", b"nonsense\n", "no JSON lines"),
        ("t.parquet", b"nonsense", "not readable Parquet"),
        ("t.parquet", b"", "not readable Parquet"),
        ("t.xyz", b"x", r"unknown kind \(.xyz\); expected one of .csv"),
        ("t", b"x", r"unknown kind \(its name has no ending\)"),
        ("t.xlsx", b"a,b", "not a readable Excel file"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-12], "is damaged"),
        ("t.csv.zst", b"\x28\xb5\x2f\xfdxx", "unknown kind"),
        ("t.csv", b"\x28\xb5\x2f\xfdxx", "Zstandard.*unpack it"),
        ("t.json", b"[1, 2]", "array without objects"),
        ("", b"", "is a folder"),
        ("none.csv", None, "is missing"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if name and content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / name, "items").filled()


def test_parquet_parts_of_which_later_ones_have_another_schema(tmp_path: Path) -> None:
    """A column that came later, and ids that became text: nothing is lost, and a note names both."""
    for day, rows in (("01", {"user_id": [1], "item_id": [7]}), ("02", {"user_id": ["b"], "item_id": [8]}),
                      ("03", {"user_id": ["c"], "item_id": [9], "kind": ["skip"]})):  # fmt: skip
        (tmp_path / f"log/day={day}").mkdir(parents=True)
        pl.DataFrame(rows).write_parquet(tmp_path / f"log/day={day}/part.parquet")
    table = read_table(tmp_path / "log", "interactions")
    assert table.frame.select("user_id", "item_id", "kind").rows() == [("1", 7, None), ("b", 8, None), ("c", 9, "skip")]
    assert "differ in columns or types ('kind', 'user_id')" in table.findings[0].message
