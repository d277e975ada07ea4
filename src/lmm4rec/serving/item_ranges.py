"""Ranking by ranges of items, whose vectors need not fit into one worker: the lists of all ranges are merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float
from safetensors import safe_open
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Embeddings
from lmm4rec.distributed.pool import Job, Pool
from lmm4rec.evaluation.ranking import Ranking, restrict, top_k
from lmm4rec.serving.asked_users import AskedUsers
from lmm4rec.serving.bundle_files import vectors_file
from lmm4rec.serving.bundle_source import source_folder

BLOCK = 16_384  # users in a job
_BLOCKS = 64  # whose lists are in memory while all ranges are ranked


@dataclass(frozen=True)
class ItemRange:
    """The items of a bundle from row `start` to row `stop`."""

    run: Path
    start: int
    stop: int


def ranges_of(run: Path, items: int, count: int) -> list[ItemRange]:
    """`count` ranges of about the same length."""
    return [ItemRange(run, a, b) for a, b in pairwise(items * i // count for i in range(count + 1)) if a < b]


def best_in_ranges(
    asked: AskedUsers, candidates: Bool[Tensor, " items"] | None, k: int, ranges: Sequence[ItemRange], pool: Pool
) -> Iterator[Ranking]:
    """The `k` best items of each user among the candidates (None: all), block by block: those of `top_k`.

    The jobs go through the ranges one after the other, so that a worker seldom reads the vectors of another one.

    Raises:
        ConfigError: the scores do not come from vectors of items.
    """
    if not isinstance(asked.scorer, Embeddings):
        raise ConfigError("item ranges divide the vectors of items, and this model has none: leave them out")
    vectors = asked.scorer.users
    blocks = [asked.rows[start : start + BLOCK] for start in range(0, len(asked.rows), BLOCK)]

    def job(number: int, one: ItemRange) -> Job:
        rows, columns = blocks[number], slice(one.start, one.stop)
        exclude = None if asked.exclude is None else asked.exclude[rows][:, columns]
        chosen = None if candidates is None else candidates[columns].clone()
        return Job(f"{number}/{one.start}", best_of_range, (one, vectors[torch.from_numpy(rows)], exclude, chosen, k))

    with progress(total=len(blocks) * len(ranges), description="recommending", unit="block", after_s=0.5) as bar:
        for first in range(0, len(blocks), _BLOCKS):
            numbers = range(first, min(first + _BLOCKS, len(blocks)))
            merged: dict[int, Ranking] = {}
            for outcome in pool.run(job(number, one) for one in ranges for number in numbers):
                number, best = int(outcome.job.name.partition("/")[0]), outcome.result()
                merged[number] = merge(merged[number], best) if number in merged else best
                bar.update(1)
            yield from (merged[number] for number in numbers)


def best_of_range(
    one: ItemRange,
    users: Float[Tensor, "users dim"],
    exclude: sp.csr_array | None,
    candidates: Bool[Tensor, " items"] | None,
    k: int,
) -> Ranking:
    """The `k` best items of a range for each user; their rows are those of the whole catalog. Done by a worker."""
    scorer = restrict(Embeddings(users, _vectors(one)), candidates)
    best = top_k(scorer, np.arange(len(users)), k, exclude=() if exclude is None else exclude)
    return Ranking(np.where(best.items < 0, -1, best.items + one.start), best.scores)


def merge(one: Ranking, other: Ranking) -> Ranking:
    """The best of two lists of each user; of equal scores the first row of the catalog is first, as in `top_k`."""
    items, scores = (np.concatenate(pair, axis=1) for pair in zip(one, other, strict=True))
    order = np.lexsort((items, -scores), axis=1)[:, : one.items.shape[1]]
    return Ranking(np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1))


@lru_cache(maxsize=1)
def _vectors(one: ItemRange) -> Float[Tensor, "items dim"]:
    with safe_open(vectors_file(source_folder(one.run)), framework="pt") as file:
        vectors: Tensor = file.get_slice("items")[one.start : one.stop]
    return vectors
