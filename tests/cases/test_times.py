"""Timestamps as logs really hold them: every cell gives its own moment, or its row is named."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.doctor import describe, examine
from lmm4rec.data.filters import prepare
from lmm4rec.data.findings import Finding
from lmm4rec.data.sources.mmrec import load as load_mmrec
from lmm4rec.data.sources.recbole import load as load_recbole
from lmm4rec.data.sources.table import load
from lmm4rec.data.splits import split

NEW_YEAR = 1_704_067_200  # the first of January 2024


def log(*cells: Any, **more: list[Any]) -> Dataset:
    columns = {"user_id": range(len(cells)), "item_id": [1] * len(cells), "timestamp": cells, **more}
    return load(interactions=pl.DataFrame(columns))


def found(data: Dataset) -> dict[str, Finding]:
    return {finding.kind: finding for finding in data.findings if finding.kind != "no-items-table"}


def days(data: Dataset) -> list[str]:
    assert data.interactions.timestamps is not None
    return [str(np.datetime64(moment, "s")) for moment in data.interactions.timestamps.tolist()]


def test_two_exports_with_two_units_in_one_log() -> None:
    """Nine users in seconds and one in milliseconds, and the other way around: the split by time holds out the last."""
    for few in (1, 9):
        cells = [(NEW_YEAR + day) * (1000 if day < few else 1) for day in range(10)]
        data = log(*map(str, cells), user_id=[0] * 10, item_id=list(range(10)))
        assert data.interactions.timestamps.tolist() == [NEW_YEAR + day for day in range(10)]
        finding = found(data)["mixed-times"]
        assert finding.level == "warning"
        assert finding.count == 1
        assert f"{10 - few} unix seconds" in finding.message
        assert f"{few} milliseconds" in finding.message
        assert any(f"row {few + 1}:" in example for example in finding.examples)
        assert split(data, "global_time").test.items.tolist() == [9]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ((20240131, 20240201), ["2024-01-31T00:00:00", "2024-02-01T00:00:00"]),
        (("20240131", "20240201"), ["2024-01-31T00:00:00", "2024-02-01T00:00:00"]),
        (("20240131.0", "20240201.0"), ["2024-01-31T00:00:00", "2024-02-01T00:00:00"]),
        (("202401311205", "202402010000"), ["2024-01-31T12:05:00", "2024-02-01T00:00:00"]),
        (("20240131120501", "20240201000000"), ["2024-01-31T12:05:01", "2024-02-01T00:00:00"]),
        (("20240131T120501", "20240201T000000"), ["2024-01-31T12:05:01", "2024-02-01T00:00:00"]),
        (("2024-01-31 12:05:01 UTC", "2024-02-01"), ["2024-01-31T12:05:01", "2024-02-01T00:00:00"]),
        (("2024-01-31T10:00Z", "2024-02-01 00:30+02:00"), ["2024-01-31T10:00:00", "2024-01-31T22:30:00"]),
        (("2024-01-31T10:00:01,5", "2024-01-31T10:00:02,250Z"), ["2024-01-31T10:00:01", "2024-01-31T10:00:02"]),
        (("20240131T101500Z", "20240201T003000.5+0200"), ["2024-01-31T10:15:00", "2024-01-31T22:30:00"]),
        (("20240131T1015", "20240201T0030+02"), ["2024-01-31T10:15:00", "2024-01-31T22:30:00"]),
        (("31.01.2024", "01.02.2024"), ["2024-01-31T00:00:00", "2024-02-01T00:00:00"]),
        (("31/01/2024", "01/02/2024"), ["2024-01-31T00:00:00", "2024-02-01T00:00:00"]),
        (("01/31/2024", "02/01/2024 10:30"), ["2024-01-31T00:00:00", "2024-02-01T10:30:00"]),
        ((datetime.date(2024, 1, 31), datetime.date(2024, 2, 1)), ["2024-01-31T00:00:00", "2024-02-01T00:00:00"]),
    ],
)
def test_dates_in_the_forms_of_exports(cells: tuple[Any, ...], expected: list[str]) -> None:
    data = log(*cells)
    assert days(data) == expected
    assert found(data) == {}


def test_compact_dates_can_be_filtered_by_date() -> None:
    assert len(prepare(log(20240131, 20240201, 20240202), since="2024-02-01").interactions) == 2


def test_a_compact_date_that_does_not_exist_is_named() -> None:
    cells = [20240101 + day for day in range(20)]
    data = log(*cells, 20240230)
    assert len(data.interactions) == 20
    assert found(data)["unreadable-timestamp"].examples == ("interactions row 21: timestamp is 20240230",)


def test_order_numbers_of_eight_digits_stay_numbers() -> None:
    data = log(20240131, 20240197, 20240198)
    assert data.interactions.timestamps.tolist() == [20240131, 20240197, 20240198]
    assert [finding.kind for finding in examine(data) if finding.level == "warning"] == ["moments-in-1970"]


def test_iso_and_unix_in_one_column_whichever_is_the_greater_part() -> None:
    for cells in (["2024-01-01", str(NEW_YEAR), "20240101"], ["2024-01-01", "2024-01-01T00:00:00Z", str(NEW_YEAR)]):
        data = log(*cells)
        assert data.interactions.timestamps.tolist() == [NEW_YEAR] * 3
        assert "unix seconds" in found(data)["mixed-times"].message


@pytest.mark.parametrize("wrong", ["9999-12-31", "0001-01-01", "99999999999", "-9999999999", "1e300"])
def test_a_year_that_cannot_be_is_set_aside_and_named(wrong: str) -> None:
    data = log("2024-01-01", wrong, "2024-01-01")
    assert days(data) == ["2024-01-01T00:00:00"] * 2
    (finding,) = [finding for kind, finding in found(data).items() if kind.endswith("-timestamp")]
    assert finding.examples == (f"interactions row 2: timestamp is '{wrong}'",)


def test_a_log_of_odd_moments_alone_is_used_with_a_warning() -> None:
    data = log(60_000_000_000, 60_000_000_001)
    assert len(data.interactions) == 2
    assert found(data)["impossible-timestamp"].count == 2


def test_dates_that_may_be_read_in_two_ways_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"day or month first: write 2024-02-01.*row 1: timestamp is '01/02/2024'"):
        log("01/02/2024", "03/04/2024")


def test_zeros_are_of_every_unit() -> None:
    assert found(log("0", str(NEW_YEAR * 1000))) == {}


def test_other_sources_read_times_in_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.inter").write_text("userID\titemID\ttimestamp\n0\t0\t20240101\n1\t0\t20240101\n")
    (tmp_path / "x.inter").write_text(
        f"user_id:token\titem_id:token\ttimestamp:float\nu\ti\t{NEW_YEAR}\nv\ti\t{NEW_YEAR}000\n"
    )
    assert load_mmrec(path=tmp_path / "a").interactions.timestamps.tolist() == [NEW_YEAR] * 2
    data = load_recbole(path=tmp_path / "x.inter")
    assert data.interactions.timestamps.tolist() == [NEW_YEAR] * 2
    assert "mixed-times" in found(data)


def test_dislikes_are_a_finding_that_names_the_filter() -> None:
    """Ratings +1 and -1, or 0 to 5 with zeros: all rows count as positive, which nobody means."""
    for ratings, least in (([1, -1, 1, -1, 1], 1), ([0.0, 0.5, 5.0, 0.0, 3.0], 0.5)):
        data = log(*[NEW_YEAR] * 5, rating=ratings)
        for findings in (examine(data), prepare(data).findings, examine(prepare(data))):
            (finding,) = [finding for finding in findings if finding.kind == "dislikes"]
            assert finding.level == "warning"
            assert finding.count == 2
            assert f"rating_at_least = {least:g} leaves them out" in finding.message
            assert finding.examples[0].startswith("user ")
        kept = prepare(data, rating_at_least=float(least))
        assert len(kept.interactions) == 3
        assert "dislikes" not in {finding.kind for finding in kept.findings}
        assert describe(data)["ratings"] == f"{min(ratings):g} to {max(ratings):g}, median {np.median(ratings):g}"


def test_ratings_that_are_all_negative_are_found_too() -> None:
    (finding,) = [finding for finding in prepare(log(NEW_YEAR, rating=[-2])).findings if finding.kind == "dislikes"]
    assert "rating_at_least can leave some out" in finding.message


def test_junk_among_ratings_is_named() -> None:
    ratings = [float(1 + at % 5) for at in range(100)]
    assert "junk-ratings" not in {finding.kind for finding in examine(log(*[NEW_YEAR] * 100, rating=ratings))}
    ratings[42] = 999.0
    (finding,) = [
        finding for finding in examine(log(*[NEW_YEAR] * 100, rating=ratings)) if finding.kind == "junk-ratings"
    ]
    assert finding.count == 1
    assert finding.examples == ("user 42, item 1: 999",)
    assert "rating_at_least" in finding.message
    counts = [1.0] * 50 + [float(2**at) for at in range(50)]  # plays, with a long tail
    assert "junk-ratings" not in {finding.kind for finding in examine(log(*[NEW_YEAR] * 100, rating=counts))}
