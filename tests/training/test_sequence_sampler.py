"""Batches of sequences: every item but a user's first is a target once, and negatives are what their counts say."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.sequences import PAD
from lmm4rec.training.sequence_sampler import SequenceSampler

HISTORIES = [list(range(11)), [4, 2, 7], [5], [9, 3, 1, 0, 8]]


def sampler(
    histories: list[list[int]] = HISTORIES, n_items: int = 40, length: int = 4, **options: object
) -> SequenceSampler:
    users = [user for user, items in enumerate(histories) for _ in items]
    items = [item for history in histories for item in history]
    # the users take turns: the first items of all, then the second ones, ...
    mixed = sorted(range(len(users)), key=lambda at: users[:at].count(users[at]))
    columns = torch.tensor([users[at] for at in mixed]), torch.tensor([items[at] for at in mixed])
    return SequenceSampler(*columns, n_items, length, **options)  # type: ignore[arg-type]


def parts(one: SequenceSampler, seed: int) -> list[tuple[int, list[int]]]:
    batches = one.epoch(torch.Generator().manual_seed(seed))
    return [
        (user, [item for item in row if item != PAD])
        for batch in batches
        for user, row in zip(batch.users.tolist(), batch.sequences.tolist(), strict=True)
    ]


def test_an_epoch_has_every_item_but_the_first_as_target_once_after_the_item_before_it() -> None:
    one, cuts = sampler(batch_size=2), set()
    for seed in range(20):
        found = parts(one, seed)
        assert len(found) == sum(1 for _ in one.users) == 3 + 1 + 1
        pairs = sorted((user, *pair) for user, row in found for pair in pairwise(row))
        expected = sorted((user, *pair) for user, row in enumerate(HISTORIES) for pair in pairwise(row))
        assert pairs == expected
        assert max(len(row) for _, row in found) <= 4 + 1
        cuts.add(tuple(sorted(row[0] for user, row in found if user == 0)))
    assert len(cuts) == 3  # 10 targets in 3 parts of 4: the first cut is at 4, 3 or 2


def test_batches_are_as_many_as_it_says_and_the_last_item_of_a_row_stands_before_the_padding() -> None:
    one = sampler(batch_size=2)
    batches = list(one.epoch(torch.Generator().manual_seed(0)))
    assert [len(batch.users) for batch in batches] == [2, 2, 1]
    assert len(batches) == len(one)
    for batch in batches:
        ends = (batch.sequences != PAD).long().diff(dim=1)
        assert (ends <= 0).all()
        assert (batch.sequences[:, :2] != PAD).all()


@pytest.mark.parametrize("per", ["target", "sequence"])
def test_negatives_are_items_that_the_user_has_not_interacted_with(per: str) -> None:
    one = sampler(n_items=12, negatives=50, negatives_per=per)
    for batch in one.epoch(torch.Generator().manual_seed(0)):
        steps = batch.sequences.shape[1] - 1 if per == "target" else 1
        assert batch.negatives.shape == batch.log_expected.shape == (len(batch.users), steps, 50)
        for user, row, sequence in zip(batch.users.tolist(), batch.negatives, batch.sequences, strict=True):
            targets = (sequence[1:] != PAD) if per == "target" else torch.tensor([True])
            assert not set(row[targets].flatten().tolist()) & set(HISTORIES[user])
            assert set(row[~targets].flatten().tolist() if per == "target" else []) <= set(HISTORIES[user])


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_expected_counts_are_how_often_negatives_are_drawn(sampling: str) -> None:
    one = sampler(n_items=14, negatives=20_000, negatives_per="sequence", sampling=sampling)
    for batch in one.epoch(torch.Generator().manual_seed(0)):
        for row, logs in zip(batch.negatives[:, 0], batch.log_expected[:, 0], strict=True):
            drawn, expected = torch.bincount(row, minlength=14).float(), torch.zeros(14)
            expected[row] = logs.exp()
            assert expected.sum() == pytest.approx(20_000, rel=1e-4)
            torch.testing.assert_close(drawn, expected, atol=400, rtol=0)


def test_a_user_who_has_every_item_is_left_out_and_so_is_a_sequence_of_one() -> None:
    one = sampler([[0, 1, 2], [2, 0], [1]], n_items=3)
    assert {user for user, _ in parts(one, 0)} == {1}


def test_popular_negatives_leave_out_who_has_all_items_of_the_log() -> None:
    one = sampler([[0, 1, 2], [2, 0]], n_items=9, sampling="popularity")
    assert {user for user, _ in parts(one, 0)} == {1}


def test_sequences_of_one_cannot_be_trained_on() -> None:
    with pytest.raises(TrainingError, match="no user has a sequence of two items"):
        sampler([[3], [4]])
