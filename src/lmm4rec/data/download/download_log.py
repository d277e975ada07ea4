"""The log of a download folder: `downloads.parquet` with every outcome, `downloads.json` with counts and failures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

import polars as pl

from lmm4rec.core.errors import DataError
from lmm4rec.core.files import atomic, write_json
from lmm4rec.data.download.jobs import Job, Outcome

_FAILURES_SHOWN = 1000  # in the JSON file; the table has all
_TYPES = {"size": pl.Int64, "attempts": pl.Int64}
_SCHEMA = {column.name: _TYPES.get(column.name, pl.String()) for column in fields(Outcome)}


class DownloadLog:
    """The outcomes of a folder, the latest of each key; `save` writes them."""

    def __init__(self, folder: Path) -> None:
        """Raises DataError where the folder's log is damaged."""
        self.folder = folder
        self._outcomes: dict[str, Outcome] = {}
        table = folder / "downloads.parquet"
        if table.is_file():
            try:
                rows = pl.read_parquet(table, columns=list(_SCHEMA), glob=False).iter_rows(named=True)
                self._outcomes = {row["key"]: Outcome(**row) for row in rows}
            except (pl.exceptions.PolarsError, OSError) as error:
                raise DataError(f"{table} is damaged ({error}); delete it, the files themselves stay") from None

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._outcomes.values())

    def is_present(self, job: Job, file: Path | None, *, verify: bool = False) -> bool:
        """Whether a job's file is there: from the same URL, of the logged size, with `verify` of the same bytes.

        A file that is not in the log is accepted as it is, and logged with its checksum.
        """
        known = self._outcomes.get(job.key)
        if file is None or not file.is_file() or (known is not None and known.file and known.url != job.url):
            return False
        size = file.stat().st_size
        if known is None or known.file != file.name or not known.sha256:
            self.add(Outcome(job.key, job.url, "present", file.name, size, _digest(file)))
            return True
        if size != known.size or (verify and _digest(file) != known.sha256):
            return False
        self.add(replace(known, status="present", attempts=0))
        return True

    def add(self, outcome: Outcome) -> None:
        """Log an outcome; a file of another name that its key had before is deleted."""
        earlier = self._outcomes.get(outcome.key)
        if earlier and earlier.file and outcome.status == "fetched" and earlier.file != outcome.file:
            (self.folder / earlier.file).unlink(missing_ok=True)
        self._outcomes[outcome.key] = outcome

    def save(self) -> None:
        """Write both files."""
        columns = {name: [getattr(outcome, name) for outcome in self] for name in _SCHEMA}
        with atomic(self.folder / "downloads.parquet") as beside:
            pl.DataFrame(columns, schema=_SCHEMA).write_parquet(beside)
        failed = [asdict(outcome) for outcome in self if outcome.status == "failed"]
        names = ("key", "url", "error", "attempts")
        summary = {
            "counts": dict(Counter(outcome.status for outcome in self)),
            "errors": dict(Counter(row["error"].partition(":")[0] for row in failed).most_common()),
            "failures": [{name: row[name] for name in names} for row in failed[:_FAILURES_SHOWN]],
        }
        write_json(self.folder / "downloads.json", summary)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
