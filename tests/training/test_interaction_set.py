"""The set of interactions, against Python's own sets."""

from __future__ import annotations

import pytest
import torch

from lmm4rec.training.interaction_set import InteractionSet


@pytest.mark.parametrize(("pairs", "n_items"), [(1, 1), (40, 7), (5_000, 300), (3_000, 2**40)])
def test_it_contains_the_interactions_and_nothing_else(pairs: int, n_items: int) -> None:
    generator = torch.Generator().manual_seed(pairs)
    users, items = (torch.randint(min(n, 2000), (pairs,), generator=generator) for n in (200, n_items))
    items = items * (n_items // 2000) if n_items > 2000 else items  # keys of up to 48 bits
    known = set((users * n_items + items).tolist())
    others = torch.randint(200 * min(n_items, 2**32), (20_000,), generator=generator)
    asked = torch.cat([users * n_items + items, others])
    found = InteractionSet(users, items, n_items).contains(asked)
    assert found.tolist() == [key in known for key in asked.tolist()]


def test_most_keys_that_are_not_there_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = torch.arange(1_000).repeat_interleave(5), torch.arange(5_000) * 7 % 4_000
    interactions = InteractionSet(users, items, 4_000)
    others = torch.randint(1_000 * 4_000, (10_000,), generator=torch.Generator().manual_seed(0))
    searched, search = list[int](), torch.searchsorted

    def counted(keys: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        searched.append(len(asked))
        return search(keys, asked)

    monkeypatch.setattr(torch, "searchsorted", counted)
    interactions.contains(others)
    assert 0 < sum(searched) < 1_500


def test_negatives_are_drawn_again_until_the_user_has_not_interacted_with_them() -> None:
    drawn = iter([[2, 2, 1], [1, 0], [0]])  # user 0 has items 1 and 2, user 1 has none
    interactions = InteractionSet(torch.tensor([0, 0, 2]), torch.tensor([1, 2, 0]), 3)
    negatives = interactions.negatives(torch.tensor([0, 1, 0]), lambda n: torch.tensor(next(drawn)))
    assert negatives.tolist() == [0, 2, 0]
