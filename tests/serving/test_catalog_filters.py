"""Filters on columns of the catalog: signs, types of columns, and what is said about wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import polars as pl
import pytest

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.serving.catalog_filters import Filter, NothingPassesError
from lmm4rec.serving.catalog_view import CatalogView

TABLE = pl.DataFrame(
    {
        "category": ["shoes", "Hats", "", "shoes, red"],
        "price": [50.0, 49.5, None, 120.0],
        "size": ["42", "9", "large", "10.0"],
        "listed": ["2024-01-31", "2024-02-01", "soon", ""],
        "added": [date(2024, 1, 31), date(2024, 2, 1), None, date(2025, 1, 1)],
        "stock": [True, False, None, True],
        "a=b": ["x", "y", "z", "x"],
    }
)


MOMENTS = pl.DataFrame(  # the same four moments in columns of each type; midnights in those that hold no time
    {
        "time": [datetime(2026, 10, 31, 23), datetime(2026, 11, 1), datetime(2026, 11, 1, 10), datetime(2026, 11, 2)],
        "zoned": ["2026-10-31T23:00Z", "2026-11-01T02:00+02:00", "2026-11-01T05:00:00-05:00", "2026-11-02 00:00 UTC"],
        "spaced": ["2026-10-31 23:00:00", "2026-11-01 00:00:00", "2026-11-01 10:00:00", "2026-11-02 00:00:00"],
        "mixed": ["20261031T230000", "2026-11-01", "2026-11-01T10:00:00,0", "2026-11-02T00:00"],
        "day": [date(2026, 10, 31), date(2026, 11, 1), date(2026, 11, 1), date(2026, 11, 2)],
        "day_text": ["2026-10-31", "2026-11-01", "2026-11-01", "2026-11-02"],
        "size": ["10-12-14", "2026-11-01", "", "large"],
    }
).with_columns(berlin=pl.col("time").dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin"))


def passing(filters: Sequence[str | Filter], table: pl.DataFrame = TABLE) -> list[int]:
    view = CatalogView(Vocabulary("abcd"), [""] * 4, pl.DataFrame(), {}, attributes=table)
    candidates = [view.candidates(None, filters) for _ in range(2)]  # the second time from what is kept
    assert candidates[0] is not None
    assert candidates[0].equal(candidates[1])
    return candidates[0].nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("category=shoes", [0]),
        ("category = shoes", [0]),
        ("category!=shoes", [1, 2, 3]),
        ("category~SHOES", [0, 3]),
        ("category=", [2]),
        ("category!=", [0, 1, 3]),
        ("price<=50", [0, 1]),
        ("price<50", [1]),
        ("price=50", [0]),
        ("price=50.00", [0]),
        ("price>49.5", [0, 3]),
        ("price=", [2]),
        ("size>=10", [0, 3]),  # 9 is below 10, as a text it would be above
        ("size=10", [3]),
        ("listed>=2024-02-01", [1]),
        ("listed<2024-02-01", [0]),
        ("added>=2024-02-01", [1, 3]),
        ("added<=2024-02-01 00:00:00", [0, 1]),
        ("added=2024-01-31", [0]),
        ("added!=2024-01-31", [1, 2, 3]),
        ("stock=true", [0, 3]),
        ("stock=False", [1]),
    ],
)
def test_the_rows_that_pass(text: str, rows: list[int]) -> None:
    assert passing([text]) == rows


@pytest.mark.parametrize("column", ["time", "zoned", "spaced", "mixed", "berlin", "day", "day_text"])
@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("=2026-11-01", [1, 2]),
        ("!=2026-11-01", [0, 3]),
        ("<2026-11-01", [0]),
        ("<=2026-11-01", [0, 1, 2]),
        (">2026-11-01", [3]),
        (">=2026-11-01", [1, 2, 3]),
    ],
)
def test_a_date_without_a_time_is_the_whole_day(column: str, condition: str, rows: list[int]) -> None:
    assert passing([column + condition], MOMENTS) == rows


@pytest.mark.parametrize("column", ["time", "zoned", "spaced", "mixed", "berlin"])
@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("=2026-11-01T10:00", [2]),
        ("=2026-11-01 10:00:00", [2]),
        ("!=2026-11-01T12:00+02:00", [0, 1, 3]),  # 10:00 UTC
        ("<2026-11-01T10:00", [0, 1]),
        ("<=2026-11-01T10:00", [0, 1, 2]),
        (">2026-11-01T09:00:00", [2, 3]),
        ("<2026-11-01T00:00+02:00", []),  # 22:00 UTC of the day before
        (">=2026-10-31T19:00-04:00", [0, 1, 2, 3]),  # 23:00 UTC
    ],
)
def test_moments_are_compared_in_utc(column: str, condition: str, rows: list[int]) -> None:
    if rows:
        assert passing([column + condition], MOMENTS) == rows
    else:
        with pytest.raises(NothingPassesError):
            passing([column + condition], MOMENTS)


def test_a_cell_without_a_time_is_midnight() -> None:
    for column in ("day", "day_text"):
        assert passing([column + "<2026-11-01T10:00"], MOMENTS) == [0, 1, 2]
        assert passing([column + "=2026-11-01T00:00"], MOMENTS) == [1, 2]


def test_sizes_with_hyphens_are_no_dates() -> None:
    assert passing(["size<=2026-11-01"], MOMENTS) == [1]
    assert passing(["size=10-12-14"], MOMENTS) == [0]


@pytest.mark.parametrize(
    ("cells", "rows"),
    [
        (["9.99", "1,299.00", "n/a", "nan"], {"price>100": [1], "price<=2000": [0, 1], "price=1299": [1]}),
        (["9,99", "1.299,00", "12", ""], {"price>100": [1], "price<=10": [0], "price=9.99": [0]}),
    ],
)
def test_prices_in_text_may_have_separators(cells: list[str], rows: dict[str, list[int]]) -> None:
    assert {text: passing([text], pl.DataFrame({"price": cells})) for text in rows} == rows


def test_all_filters_have_to_pass() -> None:
    assert passing(["category~shoes", "price>100"]) == [3]
    assert passing([Filter("category", "~", "s"), "stock=true"]) == [0, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shoes", "'shoes' is no filter: a filter is COLUMN=VALUE"),
        ("=shoes", "'=shoes' is no filter"),
        (
            "prise<=50",
            "the catalog has no column 'prise'. Did you mean 'price'? Its columns: title, category, price, size",
        ),
        ("category<2024-01-31", "and 'category' holds 'shoes', 'Hats', 'shoes, red'"),
        ("category<50", "< and > take numbers and ISO dates, and 'category' holds 'shoes', 'Hats', 'shoes, red'"),
        ("price<cheap", "the filter price<cheap compares what has no order"),
        ("price<nan", "compares what has no order"),
        ("added<5", "compares what has no order"),
    ],
)
def test_wrong_filters_are_explained(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        passing([text])
    assert message in str(raised.value)


def test_filters_that_no_item_passes_are_counted() -> None:
    with pytest.raises(DataError, match=r"category=shoe: 0, price<=50: 2\)\. Did you mean 'shoes'\?"):
        passing(["category=shoe", "price<=50"])
    with pytest.raises(DataError, match=r"category=shoes: 1, price>100: 1\)\.$"):
        passing(["category=shoes", "price>100"])
