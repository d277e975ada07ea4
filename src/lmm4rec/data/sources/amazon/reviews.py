"""Reviews read block by block: ids become integer codes, and no text of a review is kept in memory."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int32, Int64

from lmm4rec.core.errors import DataError
from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.sources.amazon.editions import Edition
from lmm4rec.data.sources.amazon.line_blocks import SkipCounts, blocks

ROWS = 200_000  # of a Parquet file at a time

_COLUMNS = ("user", "item", "rating", "timestamp")
_KINDS = (pl.String, pl.String, pl.Float64, pl.Int64)
_WHY = {
    "broken-line": "they hold no JSON object",
    "unreadable-user": "they have no user id",
    "unreadable-item": "they have no item id",
    "unreadable-rating": "their rating is not a number",
    "unreadable-timestamp": "their timestamp is not a number",
}


@dataclass(frozen=True)
class Reviews:
    """A log in codes: `user_ids[code]` and `item_ids[code]` are the external ids."""

    users: Int32[np.ndarray, " n"]
    items: Int32[np.ndarray, " n"]
    ratings: Float32[np.ndarray, " n"]
    timestamps: Int64[np.ndarray, " n"]  # unix seconds
    user_ids: pl.Series
    item_ids: pl.Series
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.users)

    def take(self, chosen: Bool[np.ndarray, " n"]) -> Reviews:
        """The chosen reviews, the codes as they are."""
        return replace(
            self,
            users=self.users[chosen],
            items=self.items[chosen],
            ratings=self.ratings[chosen],
            timestamps=self.timestamps[chosen],
        )


def read_reviews(files: Sequence[Path], edition: Edition, rating_at_least: float | None = None) -> Reviews:
    """The reviews in the files of an edition, lines that cannot be read set aside and counted.

    Raises:
        DataError: a file is damaged, lacks a column, or no review is left.
    """
    skipped = SkipCounts(files[0].name if len(files) == 1 else files[0].parent.name)
    users, items = _IdCodes(), _IdCodes()
    parts: dict[str, list[np.ndarray]] = {"users": [], "items": [], "ratings": [], "timestamps": []}
    low = 0
    for file in files:
        for frame in _frames(file, edition, skipped):
            rated = frame["rating"].to_numpy()
            kept = np.ones(len(rated), dtype=bool) if rating_at_least is None else rated >= rating_at_least
            low += int((~kept).sum())
            parts["users"].append(users.codes(frame["user"])[kept])
            parts["items"].append(items.codes(frame["item"])[kept])
            parts["ratings"].append(rated[kept].astype(np.float32))
            parts["timestamps"].append(frame["timestamp"].to_numpy()[kept] // edition.per_second)
    findings = skipped.findings(noun="line", why=_WHY)
    if low:
        message = f"{counted(low, 'interaction')} removed: rating below {rating_at_least:g}"
        findings = (*findings, Finding("low-rating", "note", low, message))
    user_codes, user_ids = users.in_order(_concatenate(parts["users"], np.int32))
    item_codes, item_ids = items.in_order(_concatenate(parts["items"], np.int32))
    ratings, timestamps = _concatenate(parts["ratings"], np.float32), _concatenate(parts["timestamps"], np.int64)
    log = Reviews(user_codes, item_codes, ratings, timestamps, user_ids, item_ids, findings)
    if not len(log):
        noticed = "; ".join(str(finding) for finding in findings) or "it is empty"
        raise DataError(f"{skipped.label} has no usable review ({noticed})")
    return log


def early_core(reviews: Reviews, k: int) -> Reviews:
    """The reviews of users and items that have k reviews with each other.

    Filters that only remove reviews, and `k_core` after them, give the same with or without this: a k-core of a part
    lies in the k-core of the whole.

    Raises:
        DataError: nothing is left.
    """
    kept = reviews
    while len(kept):
        good_users = np.bincount(kept.users, minlength=len(kept.user_ids)) >= k
        good_items = np.bincount(kept.items, minlength=len(kept.item_ids)) >= k
        stay = good_users[kept.users] & good_items[kept.items]
        if stay.all():
            break
        kept = kept.take(stay)
    if not len(kept):
        raise DataError(f"nothing is left of {counted(len(reviews), 'review')} after early_core = {k}")
    lost = len(reviews) - len(kept)
    message = f"early_core = {k} left out {counted(lost, 'interaction')} that no {k}-core holds"
    return replace(kept, findings=(*kept.findings, Finding("early-core", "note", lost, message))) if lost else kept


def compact(codes: Int32[np.ndarray, " n"], ids: pl.Series) -> tuple[Int32[np.ndarray, " n"], list[str]]:
    """The codes renumbered without gaps, in the same order, and the ids of the new ones."""
    used = np.bincount(codes, minlength=len(ids)) > 0
    return (np.cumsum(used, dtype=np.int32) - 1)[codes], ids.filter(pl.Series(used)).to_list()


class _IdCodes:
    """Integer codes of texts. Polars holds the texts once, without a Python object for each."""

    def __init__(self) -> None:
        self._categories = pl.Categories.random(physical=pl.UInt32)
        self._type = pl.Categorical(self._categories)
        self._kept = pl.Series([], dtype=self._type)  # Polars forgets the numbers with the last column that has them
        self._known = 0
        self._appeared: list[np.ndarray] = []  # numbers in the order of their first appearance

    def codes(self, texts: pl.Series) -> Int32[np.ndarray, " n"]:
        """The number of each text."""
        codes = texts.cast(self._type).to_physical().to_numpy().astype(np.int32)
        new, first = np.unique(codes[codes >= self._known], return_index=True)
        self._appeared.append(new[np.argsort(first)])
        self._known += len(new)
        return codes

    def in_order(self, codes: Int32[np.ndarray, " n"]) -> tuple[Int32[np.ndarray, " n"], pl.Series]:
        """The codes renumbered in the order of first appearance, and the text of each."""
        order = np.concatenate(self._appeared) if self._appeared else np.empty(0, dtype=np.int32)
        ranks = np.empty(self._known, dtype=np.int32)
        ranks[order] = np.arange(self._known, dtype=np.int32)
        return ranks[codes], self._categories.to_series().gather(order)


def _concatenate(parts: list[np.ndarray], kind: type) -> np.ndarray:
    joined = np.concatenate(parts) if parts else np.empty(0, dtype=kind)
    parts.clear()  # frees memory for the next column
    return joined


def _frames(file: Path, edition: Edition, skipped: SkipCounts) -> Iterator[pl.DataFrame]:
    """Blocks of readable reviews, with the columns user, item, rating and timestamp."""
    if file.suffix == ".parquet":
        yield from _parquet_frames(file, edition, skipped)
        return
    for first, lines in blocks(file):
        frame = _parse_block(lines, edition)
        yield _parse_lines(first, lines, edition, skipped) if frame is None else frame


def _parse_block(lines: bytes, edition: Edition) -> pl.DataFrame | None:
    """The reviews of a block; None where any line is invalid."""
    schema = dict(zip((edition.user, edition.item, edition.rating, edition.timestamp), _KINDS, strict=True))
    try:
        frame = pl.read_ndjson(io.BytesIO(lines), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    frame.columns = _COLUMNS
    whole = frame.height == lines.count(b"\n") + (not lines.endswith(b"\n"))
    return frame if whole and _is_valid(frame).all() else None


def _is_valid(frame: pl.DataFrame) -> pl.Series:
    ids = [
        (pl.col(name) != "") & ~pl.col(name).str.starts_with("[") & ~pl.col(name).str.starts_with("{")
        for name in ("user", "item")  # Polars takes a list for its text
    ]
    checks = (*ids, pl.col("rating").is_finite(), pl.col("timestamp").is_not_null())
    return frame.select(pl.all_horizontal(check.fill_null(False) for check in checks)).to_series()


def _parse_lines(first: int, lines: bytes, edition: Edition, skipped: SkipCounts) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(lines.split(b"\n"), start=first):
        if not line.strip():
            continue
        try:
            review = json.loads(line)
        except (ValueError, RecursionError):
            review = None
        if not isinstance(review, dict):
            skipped.add("broken-line", f"line {number}: {line[:60].decode(errors='replace')}")
            continue
        row = _row([review.get(name) for name in (edition.user, edition.item, edition.rating, edition.timestamp)])
        if isinstance(row, str):
            skipped.add(row, f"line {number}: {line[:60].decode(errors='replace')}")
        else:
            rows.append(row)
    return pl.DataFrame(rows, schema=dict(zip(_COLUMNS, _KINDS, strict=True)), orient="row")


def _row(cells: Sequence[Any]) -> tuple[str, str, float, int] | str:
    """The cells as user, item, rating and timestamp, or the kind of the error."""
    user, item = (str(cell) if isinstance(cell, str | int) else "" for cell in cells[:2])
    rating, timestamp = (_number(cell) for cell in cells[2:])
    if not user or not item:
        return "unreadable-item" if user else "unreadable-user"
    if rating is None:
        return "unreadable-rating"
    if timestamp is None:
        return "unreadable-timestamp"
    return user, item, rating, int(timestamp)


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return None
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < 2**62 else None


def _parquet_frames(file: Path, edition: Edition, skipped: SkipCounts) -> Iterator[pl.DataFrame]:
    names = (edition.user, edition.item, edition.rating, edition.timestamp)
    try:
        table = pl.scan_parquet(file, glob=False)
        missing = set(names) - set(table.collect_schema().names())
        if missing:
            raise DataError(f"{file} has no column {', '.join(sorted(missing))}")
        size = table.select(pl.len()).collect().item()
        columns = [
            pl.col(name).cast(kind, strict=False).alias(column)
            for name, kind, column in zip(names, _KINDS, _COLUMNS, strict=True)
        ]
        for at in range(0, size, ROWS):
            frame = table.slice(at, ROWS).select(columns).collect()
            good = _is_valid(frame)
            for row in np.flatnonzero(~good.to_numpy()):
                error_kind = _row(frame.row(int(row)))
                skipped.add(str(error_kind), f"row {at + row + 1}: {frame.row(int(row))}")
            yield frame.filter(good)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{file} is not readable Parquet: {str(error).splitlines()[0]}") from None
