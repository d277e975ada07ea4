"""Negatives are never training positives, and every pair comes once an epoch."""

from __future__ import annotations

import pytest
import torch

from lmm4rec.core.errors import TrainingError
from lmm4rec.training.sampler import RowSampler, TripleSampler, UserSampler, automatic_batch_size


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def dense_world() -> tuple[torch.Tensor, torch.Tensor]:
    """Users who have interacted with all but one of 20 items: nearly every sample is rejected at first."""
    users = torch.arange(30).repeat_interleave(19)
    items = torch.cat([torch.tensor([item for item in range(20) if item != user % 20]) for user in range(30)])
    return users, items


@pytest.mark.long
def test_negatives_are_never_training_positives() -> None:
    users, items = dense_world()
    sampler = TripleSampler(users, items, 20, batch_size=64, negatives=3)
    for batch in sampler.epoch(generator()):
        assert torch.equal(batch.negatives, (batch.users % 20)[:, None].expand(-1, 3))


def test_negatives_are_uniform_over_the_rest() -> None:
    sampler = TripleSampler(torch.zeros(2).long(), torch.tensor([0, 1]), 6, batch_size=2, negatives=1)
    drawn = sampler.sample_negatives(torch.zeros(40_000).long(), generator()).flatten()
    shares = torch.bincount(drawn, minlength=6) / 40_000
    assert shares[:2].tolist() == [0, 0]
    assert (shares[2:] - 0.25).abs().max() < 0.02


def test_an_epoch_has_every_pair_once() -> None:
    users, items = dense_world()
    sampler = TripleSampler(users, items, 20, batch_size=64, negatives=1)
    batches = list(sampler.epoch(generator()))
    assert len(batches) == len(sampler)
    seen = torch.cat([batch.users * 20 + batch.positives for batch in batches])
    assert torch.equal(seen.sort().values, (users * 20 + items).sort().values)
    assert not torch.equal(seen, users * 20 + items)


def test_a_user_who_has_everything_is_left_out() -> None:
    users, items = torch.tensor([0, 1, 1, 2, 1]), torch.tensor([0, 0, 1, 1, 1])
    sampler = TripleSampler(users, items, 2, batch_size=2, negatives=3)
    batches = list(sampler.epoch(generator()))
    assert len(batches) == len(sampler) == 1
    assert sorted(batches[0].users.tolist()) == [0, 2]
    assert torch.equal(batches[0].negatives, (1 - batches[0].positives)[:, None].expand(-1, 3))


def test_no_user_without_everything_is_an_error() -> None:
    with pytest.raises(TrainingError, match="every user has interacted with all 2 items"):
        TripleSampler(torch.tensor([1, 1]), torch.tensor([0, 1]), 2, batch_size=2, negatives=1)


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(TrainingError, match="no interactions"):
        TripleSampler(torch.tensor([]).long(), torch.tensor([]).long(), 2, batch_size=2, negatives=1)


def test_rows_come_once_and_a_single_left_over_row_is_dropped() -> None:
    sampler = RowSampler(torch.arange(9), batch_size=4)
    batches = list(sampler.epoch(generator()))
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(sampler) == 2


@pytest.mark.parametrize(("pairs", "size"), [(3_000, 2048), (262_144, 2048), (1_280_000, 10_000)])
def test_batches_grow_with_the_log_once_it_is_large(pairs: int, size: int) -> None:
    sampler = TripleSampler(torch.arange(pairs) % 1000, torch.arange(pairs) % 7, 10)
    assert sampler.batch_size == size
    assert len(sampler) <= 129


def test_each_user_comes_once_with_the_last_of_their_items() -> None:
    users, items = torch.tensor([3, 0, 3, 5, 0, 3]), torch.tensor([7, 1, 8, 2, 4, 6])
    sampler = UserSampler(users, items, 9, batch_size=2)
    batches = list(sampler.epoch(torch.Generator().manual_seed(0)))
    assert len(batches) == len(sampler) == 2
    pairs = [pair for batch in batches for pair in zip(batch.users.tolist(), batch.positives.tolist(), strict=True)]
    assert sorted(pairs) == [(0, 4), (3, 6), (5, 2)]
    assert all(batch.negatives.shape == (len(batch.users), 0) for batch in batches)


def test_a_share_of_the_negatives_are_the_signals_of_the_user() -> None:
    users, items = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    signals = torch.tensor([0, 0, 0, 2]), torch.tensor([7, 8, 7, 3])  # user 1 has none
    sampler = TripleSampler(users, items, 10, signals, negatives=4, hard_negatives=0.3)
    drawn = sampler.sample_negatives(torch.zeros(20_000).long(), generator())
    shares = torch.bincount(drawn.flatten(), minlength=10) / drawn.numel()
    expected = torch.full((10,), 0.7 / 8)  # uniform over the eight items without an interaction ...
    expected[:2] = 0
    expected[[7, 8]] += 0.15  # ... and half of the share for each of the two signals
    assert (shares - expected).abs().max() < 0.005
    assert set(sampler.sample_negatives(torch.ones(500).long(), generator()).flatten().tolist()) == {
        0,
        1,
        *range(3, 10),
    }


def test_without_hard_negatives_nothing_changes() -> None:
    users, items = dense_world()
    plain = TripleSampler(users, items, 30, batch_size=64, negatives=2)
    given = TripleSampler(users, items, 30, (users[:1], items[:1] + 20), batch_size=64, negatives=2)
    for one, other in zip(plain.epoch(generator()), given.epoch(generator()), strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_automatic_batches_grow_with_the_log() -> None:
    """2,048 up to 262,144 pairs; then 128 batches, or fewer, down to 32, where each reads the whole graph."""
    pairs = [1, 197_338, 262_144, 524_288, 1_360_606, 2_400_000]
    assert [automatic_batch_size(count) for count in pairs] == [2048, 2048, 2048, 4096, 10_630, 18_750]
    of_graphs = [automatic_batch_size(count, reads_whole_graph=True) for count in pairs]
    assert of_graphs == [2048, 2048, 2048, 8192, 42_519, 75_000]
    users = torch.arange(300_000) % 3_000
    assert TripleSampler(users, torch.arange(300_000) // 3_000, 101).batch_size == 2344
