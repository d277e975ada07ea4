"""Columns of tables as shops have them: nested cells, weights, ratings, empty columns, titles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.data.doctor import examine
from lmm4rec.data.filters import prepare
from lmm4rec.data.sources.table import load
from lmm4rec.data.splits import split
from shop_tables import found, shop

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


def test_a_catalog_of_many_empty_columns_has_one_finding(tmp_path: Path) -> None:
    names = [f"c{row}" for row in range(50)]
    items = ",".join(["item_id", "title", *names]) + "\n0,t," + "," * 49 + "\n1,t," + "," * 49 + "\n"
    data = load(path=shop(tmp_path, "user_id,item_id\nu,0\n", items))
    findings = [finding for finding in examine(data) if finding.kind == "empty-text"]
    assert [(finding.count, finding.examples[:2]) for finding in findings] == [(50, ("c0", "c1"))]


def test_titles_are_shown_short_and_without_control_characters(tmp_path: Path) -> None:
    long = "word " * 100_000
    data = load(path=shop(tmp_path, items=f"item_id,title\n0,{long}\n1,a\x1b[31m\x07b\n2,\x00\n"))
    assert [len(data.catalog.title(0)), data.catalog.title(1), data.catalog.title(2)] == [300, "a[31mb", "2"]
    assert data.catalog[0].fields["title"] == long


def test_ratings_beyond_float32_cost_their_row(tmp_path: Path) -> None:
    data = load(path=shop(tmp_path, "user_id,item_id,rating\nu,0,1e300\nv,1,5\n"))
    assert found(data)["unreadable-rating"].count == 1
    assert len(data.interactions) == 1
