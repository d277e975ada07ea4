"""Recommendations for many users as frames: a row for each item of each list, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import polars as pl

from lmm4rec.core.progress import progress
from lmm4rec.distributed.pool import Job, Pool
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.item_ranges import ranges_of
from lmm4rec.serving.rules import RuleSet

OWN = ("user", "rank", "item", "title", "score")  # columns, before those of the catalog
_BATCH = 1024  # users ranked at a time
_JOB = 16  # batches in a job of a pool


@dataclass(frozen=True)
class ListRequest:
    """What lists are to be; hashable, so that a worker loads the bundle once for all of its jobs."""

    run: Path
    k: int
    only: tuple[str, ...] | None = None
    where: tuple[str, ...] = ()
    seen_too: bool = False
    rules: RuleSet | None = None  # with `where` in it
    columns: tuple[str, ...] | None = ()  # of the catalog, to be added; None: all
    item_ranges: int = 1  # of which a pool's worker holds one at a time


class RecommendationLists:
    """Lists of a bundle as frames."""

    def __init__(self, bundle: Bundle, request: ListRequest) -> None:
        self._bundle, self._request = bundle, request

    @cached_property
    def _catalog(self) -> pl.DataFrame:
        """ "item", and the columns to add."""
        columns = self._request.columns
        catalog = self._bundle.table(None if columns is None else list(columns))
        names = {name: f"item_{name}" for name in catalog.columns if name in OWN and name not in ("item", "title")}
        return catalog.rename(names).drop("title", strict=False)

    def for_users(self, ids: Sequence[str], pool: Pool | None = None) -> Iterator[pl.DataFrame]:
        """The lists of many users in their order, batch by batch, with a progress bar; ranked by a pool's workers."""
        if pool is not None and self._request.item_ranges > 1:
            yield from self._in_ranges(ids, pool)
            return
        bar = progress(total=len(ids), description="recommending", unit="user", after_s=0.5)
        with bar:
            for frame in self._batches(ids) if pool is None else _in_order(self._request, ids, pool):
                yield frame
                bar.update(frame["user"].n_unique())

    def _batches(self, ids: Sequence[str]) -> Iterator[pl.DataFrame]:
        for start in range(0, len(ids), _BATCH):
            yield self.of_batch(ids[start : start + _BATCH])

    def _in_ranges(self, ids: Sequence[str], pool: Pool) -> Iterator[pl.DataFrame]:
        request = self._request
        ranges = ranges_of(request.run, len(self._bundle.catalog), request.item_ranges)
        blocks = self._bundle.recommend_in_ranges(
            ids, request.k, ranges, pool, exclude_seen=not request.seen_too, only=request.only, where=request.where
        )
        for lists in blocks:
            yield self._frame([(user, *row) for user, best in lists.items() for row in enumerate(best, start=1)])

    def of_batch(self, users: Sequence[str]) -> pl.DataFrame:
        """The lists of some users; by rules with a column "rules": the boosts and the like that apply to an item."""
        request = self._request
        if request.rules is None:
            lists = self._bundle.recommend(
                users, request.k, exclude_seen=not request.seen_too, only=request.only, where=request.where
            )
            return self._frame([(user, *row) for user in users for row in enumerate(lists[user], start=1)])
        ruled = self._bundle.recommend_by_rules(users, request.k, request.rules)
        rows = [(user, *row) for user in users for row in enumerate(ruled[user].items, start=1)]
        reasons = [", ".join(ruled[user].reasons.get(item.item, [])) for user, _, item in rows]
        return self._frame(rows).with_columns(pl.Series("rules", reasons, dtype=pl.String))

    def for_history(self, items: Sequence[str]) -> pl.DataFrame:
        """The list of an unknown user with this history."""
        request = self._request
        best = self._bundle.recommend_for(items, request.k, only=request.only, where=request.where)
        return self._frame([("this history", *row) for row in enumerate(best, start=1)])

    def _frame(self, rows: Sequence[tuple[str, int, tuple[str, str, float]]]) -> pl.DataFrame:
        types = (pl.String, pl.Int32, pl.String, pl.String, pl.Float64)
        frame = pl.DataFrame(
            [(user, rank, *item) for user, rank, item in rows], schema=dict(zip(OWN, types, strict=True)), orient="row"
        )
        catalog = self._catalog
        return frame.join(catalog, on="item", how="left", maintain_order="left") if catalog.width > 1 else frame


def _in_order(request: ListRequest, ids: Sequence[str], pool: Pool) -> Iterator[pl.DataFrame]:
    """The frames of a pool's jobs in the order of the users; those that end early wait in memory."""
    size, waiting, following = _JOB * _BATCH, dict[int, pl.DataFrame](), 0
    jobs = (Job(str(start), _lists_of, (request, ids[start : start + size])) for start in range(0, len(ids), size))
    for outcome in pool.run(jobs):
        waiting[int(outcome.job.name)] = outcome.result()
        while following in waiting:
            yield waiting.pop(following)
            following += size


def _lists_of(request: ListRequest, ids: Sequence[str]) -> pl.DataFrame:
    """The lists of some users; done by a worker."""
    return pl.concat(_loaded(request)._batches(ids))


@lru_cache(maxsize=1)
def _loaded(request: ListRequest) -> RecommendationLists:
    return RecommendationLists(Bundle.load(request.run), request)
