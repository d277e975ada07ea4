"""Lists ranked by ranges of items, beside those of a loop over all scores in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Embeddings, Neighbors
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.distributed.pool import SerialPool, WorkerOptions
from lmm4rec.serving import item_ranges
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.item_ranges import ranges_of
from pools import LastFirst

USERS, ITEMS, K = 9, 23, 6


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A saved bundle whose scores are whole numbers, many of them the same; ranked in blocks of four users."""
    monkeypatch.setattr(item_ranges, "BLOCK", 4)
    monkeypatch.setattr(item_ranges, "_BLOCKS", 2)
    generator = np.random.default_rng(3)
    users, items = (torch.from_numpy(generator.integers(-1, 2, (n, 3))).float() for n in (USERS, ITEMS))
    log = Interactions(*(generator.integers(0, n, 60).astype(np.int32) for n in (USERS, ITEMS)))
    ids = [Vocabulary([f"{kind}{row}" for row in range(n)]) for kind, n in (("u", USERS), ("i", ITEMS))]
    bundle = Bundle(Embeddings(users, items), *ids, [f"item {row}" for row in range(ITEMS)], log, {})
    bundle.remove_items(["i4", "i22"])
    bundle.save(tmp_path)
    return bundle


def expected(bundle: Bundle, candidates: set[int], *, exclude_seen: bool) -> dict[str, list[tuple[str, float]]]:
    """The lists by sorting all scores, the first row of the catalog first among equals."""
    assert isinstance(bundle.scorer, Embeddings)
    scores, seen = (bundle.scorer.users @ bundle.scorer.items.T).tolist(), bundle.seen
    hidden = set(zip(seen.users.tolist(), seen.items.tolist(), strict=True)) if exclude_seen else set()
    lists = {}
    for user in range(USERS):
        rows = sorted((-scores[user][row], row) for row in candidates if (user, row) not in hidden)
        lists[f"u{user}"] = [(f"i{row}", -score) for score, row in rows[:K]]
    return lists


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2, 5, ITEMS])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_lists_are_those_of_all_scores(shop: Bundle, tmp_path: Path, count: int, exclude_seen: bool) -> None:
    ids, ranges = [f"u{user}" for user in range(USERS)], ranges_of(tmp_path, ITEMS, count)
    with LastFirst(WorkerOptions()) as pool:
        blocks = [*shop.recommend_in_ranges(ids, K, ranges, pool, exclude_seen=exclude_seen)]
    assert [len(block) for block in blocks] == [4, 4, 1]
    lists = {user: [(one.item, one.score) for one in best] for block in blocks for user, best in block.items()}
    assert lists == expected(shop, {*range(ITEMS)} - {4, 22}, exclude_seen=exclude_seen)


def test_a_list_that_is_short_of_items_has_no_others(shop: Bundle, tmp_path: Path) -> None:
    few = ["i3", "i9", "i20"]
    with SerialPool(WorkerOptions()) as pool:
        blocks = shop.recommend_in_ranges(["u0", "u8"], K, ranges_of(tmp_path, ITEMS, 4), pool, only=few)
        lists = {user: [(one.item, one.score) for one in best] for block in blocks for user, best in block.items()}
    wanted = expected(shop, {3, 9, 20}, exclude_seen=True)
    assert lists == {user: wanted[user] for user in ("u0", "u8")}
    assert any(len(best) < len(few) for best in wanted.values())


def test_a_range_reads_its_own_vectors(shop: Bundle, tmp_path: Path) -> None:
    ranges = ranges_of(tmp_path, ITEMS, 4)
    assert [(one.start, one.stop) for one in ranges] == [(0, 5), (5, 11), (11, 17), (17, 23)]
    assert isinstance(shop.scorer, Embeddings)
    assert torch.equal(item_ranges._vectors(ranges[2]), shop.scorer.items[11:17])


def test_a_model_without_item_vectors_is_refused(shop: Bundle, tmp_path: Path) -> None:
    neighbors = Neighbors(torch.ones(USERS, ITEMS), torch.ones(ITEMS, ITEMS))
    other = Bundle(neighbors, shop.users, Vocabulary([f"i{row}" for row in range(ITEMS)]), [""] * ITEMS, shop.seen, {})
    with SerialPool(WorkerOptions()) as pool, pytest.raises(ConfigError, match="divide the vectors of items"):
        next(other.recommend_in_ranges(["u0"], K, ranges_of(tmp_path, ITEMS, 2), pool))
