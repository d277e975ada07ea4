"""What was fetched into a folder, by key: `downloads.parquet`, and `downloads.json` that tells people of failures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import polars as pl

from lmm4rec.core.errors import DataError
from lmm4rec.core.files import atomic, write_json
from lmm4rec.data.download.jobs import Job, Outcome

_TOLD = 1000  # failures in the JSON file; the table has all
_TYPES = {"size": pl.Int64, "attempts": pl.Int64}
_SCHEMA = {column.name: _TYPES.get(column.name, pl.String()) for column in fields(Outcome)}


class Record:
    """The outcomes of a folder, the latest of each key; `save` writes them."""

    def __init__(self, folder: Path) -> None:
        """Raises DataError where the folder's record is damaged."""
        self.folder = folder
        self._outcomes: dict[str, Outcome] = {}
        if self.table.is_file():
            try:
                rows = pl.read_parquet(self.table, columns=list(_SCHEMA)).iter_rows(named=True)
                self._outcomes = {row["key"]: Outcome(**row) for row in rows}
            except (pl.exceptions.PolarsError, OSError) as error:
                raise DataError(f"{self.table} is damaged ({error}); delete it, the files themselves stay") from None

    @property
    def table(self) -> Path:
        """The file with all outcomes."""
        return self.folder / "downloads.parquet"

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._outcomes.values())

    def present(self, job: Job, file: Path | None, *, verify: bool = False) -> bool:
        """Whether a job's file is there: from the same address, as large as it was then, with `verify` the same bytes.

        A file that nobody took down is taken as it is, and its checksum is taken down.
        """
        known = self._outcomes.get(job.key)
        if file is None or not file.is_file() or (known is not None and known.file and known.url != job.url):
            return False
        size = file.stat().st_size
        if known is None or known.file != file.name or not known.sha256:
            self.note(Outcome(job.key, job.url, "present", file.name, size, _digest(file)))
            return True
        if size != known.size or (verify and _digest(file) != known.sha256):
            return False
        self.note(replace(known, status="present", attempts=0))
        return True

    def note(self, outcome: Outcome) -> None:
        """Take down an outcome; the file of an earlier one that has another name gives way."""
        earlier = self._outcomes.get(outcome.key)
        if earlier and earlier.file and outcome.status == "fetched" and earlier.file != outcome.file:
            (self.folder / earlier.file).unlink(missing_ok=True)
        self._outcomes[outcome.key] = outcome

    def save(self) -> None:
        """Write both files."""
        outcomes = list(self._outcomes.values())
        columns = {name: [getattr(outcome, name) for outcome in outcomes] for name in _SCHEMA}
        frame = pl.DataFrame(columns, schema=_SCHEMA)
        with atomic(self.table) as beside:
            frame.write_parquet(beside)
        failed = [outcome for outcome in outcomes if outcome.status == "failed"]
        told = [{"key": one.key, "url": one.url, "error": one.error, "attempts": one.attempts} for one in failed]
        counts = Counter(outcome.status for outcome in outcomes)
        errors = Counter(outcome.error.partition(":")[0] for outcome in failed)
        summary = {"counts": dict(counts), "errors": dict(errors.most_common()), "failures": told[:_TOLD]}
        write_json(self.folder / "downloads.json", summary)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
