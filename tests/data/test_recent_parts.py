"""Parts of days before `since` stay unread; what has no day, or none of the calendar, is read."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.data.filters import unix_seconds
from lmm4rec.data.recent_parts import RecentParts
from lmm4rec.data.sources import table


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("day=2026-01-01/a.parquet", False),
        ("log/day=2026-01-29/hour=3/a.parquet", False),  # over everywhere when the 31st begins in UTC
        ("day=2026-01-30/a.parquet", True),  # not yet, in the west
        ("day=2026-13-45/a.parquet", True),
        ("2026-01-01/a.parquet", True),
        ("a.parquet", True),
    ],
)
def test_a_day_that_is_over_everywhere(name: str, read: bool) -> None:
    recent = RecentParts("2026-01-31")
    assert recent(name) is read
    assert len(recent.finding()) == (not read)
    assert RecentParts(None)(name)


def test_a_folder_of_days_is_read_from_a_day_on(tmp_path: Path) -> None:
    for day, user in (("2026-01-01", "a"), ("2026-01-30", "b"), ("2026-02-01", "c")):
        (tmp_path / f"log/day={day}").mkdir(parents=True)
        rows = {"user_id": [user], "item_id": ["x"], "timestamp": [unix_seconds(day)]}
        pl.DataFrame(rows).write_parquet(tmp_path / f"log/day={day}/part.parquet")
    (tmp_path / "log/day=2026-01-01/part.parquet").write_bytes(b"never opened")
    data = table.load(interactions=tmp_path / "log", since="2026-01-31")
    assert list(data.users) == ["c"]
    assert data.findings[0].message == "1 part not read: from before 2026-01-31 by the dates of their folders"
    with pytest.raises(DataError, match=r"3 parts, and none with a day from data\.since = 2027-01-01 on"):
        table.load(interactions=tmp_path / "log", since="2027-01-01")
