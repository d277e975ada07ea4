"""Parts of a table in Parquet by the date in their folder's name (`day=2026-01-31`): old ones stay unread."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from lmm4rec.core.errors import DataError
from lmm4rec.data.filters import unix_seconds
from lmm4rec.data.findings import Finding, counted

_DATED = re.compile(r"(?:^|/)([^/=]+=(\d{4}-\d{2}-\d{2}))/")
_LATEST = timedelta(days=2)  # until a day has ended everywhere on earth


class RecentParts:
    """A test of whether a part, by its name in the folder, can hold anything from a moment on; None: all parts can."""

    def __init__(self, since: str | int | None) -> None:
        """Raises ConfigError where `since` is no moment."""
        self.since, self._first = since, None if since is None else unix_seconds(since)
        self._left_out: set[str] = set()
        self._any_kept = False

    def __call__(self, name: str) -> bool:
        """Whether the part has to be read; those that need not are remembered."""
        dated = _DATED.search(name)
        old = dated is not None and self._is_old(dated[2])
        if dated is not None and old:
            self._left_out.add(name[dated.start(1) :])
        self._any_kept |= not old
        return not old

    def _is_old(self, date: str) -> bool:
        try:
            end = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC) + _LATEST
        except ValueError:  # no day of the calendar
            return False
        return self._first is not None and end.timestamp() <= self._first

    def require_some(self) -> None:
        """Refuse parts that are all left out.

        Raises:
            DataError: it names their number and the key.
        """
        if self._left_out and not self._any_kept:
            raise DataError(
                f"nothing is left of the interactions: {counted(len(self._left_out), 'part')}, and none with a day "
                f"from data.since = {self.since} on"
            )

    def finding(self) -> tuple[Finding, ...]:
        """A note that counts the parts that were left out, where there are any."""
        names = sorted(self._left_out)
        if not names:
            return ()
        message = f"{counted(len(names), 'part')} not read: from before {self.since} by the dates of their folders"
        return (Finding("earlier-parts", "note", len(names), message, tuple(names[:10])),)
