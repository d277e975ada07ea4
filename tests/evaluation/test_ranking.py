from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from lmm4rec.core.errors import ConfigError, DataError, LMM4RecError
from lmm4rec.core.types import Embeddings, Neighbors
from lmm4rec.data.interactions import Interactions
from lmm4rec.evaluation.ranking import RankingError, interaction_matrix, top_k, users_per_block


@dataclass
class Table:
    """A scorer that is no product of matrices; it remembers how many users it was asked for at a time."""

    table: Tensor
    asked: list[int] = field(default_factory=list)

    @property
    def n_users(self) -> int:
        return self.table.shape[0]

    @property
    def n_items(self) -> int:
        return self.table.shape[1]

    def scores(self, users: Tensor) -> Tensor:
        self.asked.append(len(users))
        return self.table[users]


def log(*pairs: tuple[int, int]) -> Interactions:
    columns = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return Interactions(columns[:, 0].copy(), columns[:, 1].copy())


def random_log(rng: np.random.Generator, n_users: int, n_items: int, size: int) -> Interactions:
    """Pairs with repetitions, as two logs that overlap would have."""
    return Interactions(
        rng.integers(n_users, size=size).astype(np.int32), rng.integers(n_items, size=size).astype(np.int32)
    )


def by_hand(scores: np.ndarray, k: int, exclude: list[Interactions]) -> np.ndarray:
    """The same ranking by sorting every user's items whole, one user at a time."""
    top = np.full((len(scores), k), -1)
    for user, row in enumerate(scores):
        hidden = {int(item) for part in exclude for item in part.items[part.users == user]}
        order = [item for item in np.lexsort((np.arange(len(row)), -row)) if item not in hidden][:k]
        top[user, : len(order)] = order
    return top


@pytest.mark.parametrize("levels", [1, 2, 5, 40, 10_000])
@pytest.mark.parametrize("k", [1, 7, 29, 30, 31, 50])
def test_equals_sorting_everything_with_ties_everywhere(levels: int, k: int) -> None:
    rng = np.random.default_rng(levels * 100 + k)
    table = rng.integers(-levels, levels, size=(300, 30)).astype(np.float32)  # more users than fit in one block
    exclude = [random_log(rng, 300, 30, 1500), random_log(rng, 300, 30, 300)]
    ranking = top_k(Table(torch.from_numpy(table)), np.arange(300), k, exclude=exclude)
    expected = by_hand(table, k, exclude)
    np.testing.assert_array_equal(ranking.items, expected)
    at = np.take_along_axis(table, expected[:, :30].clip(0), axis=1)
    np.testing.assert_array_equal(ranking.scores[:, :30], np.where(expected[:, :30] < 0, -np.inf, at))
    assert (ranking.scores[:, 30:] == -np.inf).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equals_sorting_everything_in_any_precision(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    users, items = (torch.randn(n, 4, generator=generator).to(dtype) for n in (20, 400))
    scores = (users @ items.T).double().numpy()
    ranking = top_k(Embeddings(users, items), torch.arange(20), 25)
    np.testing.assert_array_equal(ranking.items, by_hand(scores, 25, []))
    np.testing.assert_array_equal(ranking.scores, np.take_along_axis(scores, ranking.items, axis=1))


def test_a_tie_at_the_last_rank_goes_to_the_first_item_rows() -> None:
    table = torch.tensor([[1.0, 3.0, 1.0, 2.0, 1.0, 1.0], [0.0, -0.0, 0.0, -0.0, 0.0, -1.0]])
    ranking = top_k(Table(table), np.arange(2), 4)
    assert ranking.items.tolist() == [[1, 3, 0, 2], [0, 1, 2, 3]]
    assert ranking.scores[0].tolist() == [3, 2, 1, 1]
    hidden = top_k(Table(table), np.arange(2), 4, exclude=[log((0, 0), (1, 2))])
    assert hidden.items.tolist() == [[1, 3, 2, 4], [0, 1, 3, 4]]


def test_what_is_left_out_never_appears_and_minus_one_pads() -> None:
    table = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, -torch.inf, -torch.inf]])
    exclude = [log((0, 2), (1, 0), (1, 1)), log((1, 2), (1, 0), (2, 1))]
    ranking = top_k(Table(table), np.arange(3), 2, exclude=exclude)
    assert ranking.items.tolist() == [[1, 0], [-1, -1], [0, -1]]
    assert ranking.scores.tolist() == [[2, 1], [-np.inf, -np.inf], [1, -np.inf]]


def test_any_choice_and_order_of_users() -> None:
    rng = np.random.default_rng(0)
    table = torch.from_numpy(rng.integers(5, size=(40, 12)).astype(np.float32))
    exclude = [random_log(rng, 40, 12, 90)]
    everybody = top_k(Table(table), np.arange(40), 6, exclude=exclude).items
    chosen = np.array([7, 3, 3, 39, 0], dtype=np.int32)
    chosen.flags.writeable = False
    assert top_k(Table(table), chosen, 6, exclude=exclude).items.tolist() == everybody[chosen].tolist()
    assert top_k(Table(table), torch.tensor([5]), 6, exclude=exclude).items.tolist() == everybody[[5]].tolist()
    assert top_k(Table(table), np.array([], dtype=np.int64), 6).items.shape == (0, 6)
    built = interaction_matrix(exclude, n_users=40, n_items=12)
    assert top_k(Table(table), chosen, 6, exclude=built).items.tolist() == everybody[chosen].tolist()


def test_neighbors_rank_as_their_dense_scores() -> None:
    rng = np.random.default_rng(1)
    seen = (rng.random((30, 20)) < 0.2).astype(np.float32)
    similarity = rng.integers(3, size=(20, 20)).astype(np.float32)
    scorer = Neighbors(torch.from_numpy(seen).to_sparse_csr(), torch.from_numpy(similarity).to_sparse_csr())
    users, items = (column.astype(np.int32) for column in np.nonzero(seen))
    exclude = [Interactions(users, items)]
    expected = by_hand(seen @ similarity.T, 8, exclude)
    np.testing.assert_array_equal(top_k(scorer, np.arange(30), 8, exclude=exclude).items, expected)


def test_blocks_keep_to_the_memory() -> None:
    scorer = Table(torch.zeros(100, 20_000))
    top_k(scorer, np.arange(100), 3, memory_mb=4)
    assert sum(scorer.asked) == 100
    assert 1 <= max(scorer.asked) * 20_000 * 4 * 5 <= 4 * 2**20  # scores, and what is derived from them
    assert users_per_block(10**9, memory_mb=1) == 1


def test_the_scorers_own_tensor_is_left_alone() -> None:
    class Alone(Table):
        def scores(self, users: Tensor) -> Tensor:
            return self.table

    table = torch.ones(3, 4).requires_grad_()
    ranking = top_k(Alone(table), np.arange(3), 2, exclude=[log((0, 0), (1, 1))])
    assert ranking.items.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert torch.equal(table, torch.ones(3, 4))


def test_nan_names_the_user() -> None:
    table = torch.ones(600, 9)
    table[431, 4] = torch.nan
    table[502] = torch.nan
    with pytest.raises(RankingError, match="user row 431") as raised:
        top_k(Table(table), np.arange(600), 2)
    assert isinstance(raised.value, LMM4RecError)
    assert top_k(Table(table), np.array([431]), 9, exclude=[log((431, 4))]).items[0].tolist() == [
        0, 1, 2, 3, 5, 6, 7, 8, -1,
    ]  # fmt: skip


def test_rows_that_the_scorer_does_not_know() -> None:
    scorer = Table(torch.ones(3, 4))
    with pytest.raises(DataError, match="user row 3 is outside the 3 users"):
        top_k(scorer, np.array([0, 3]), 2)
    with pytest.raises(DataError, match="user row -1"):
        top_k(scorer, np.array([-1]), 2)
    with pytest.raises(DataError, match="item row 4 is outside the 4 items"):
        top_k(scorer, np.arange(3), 2, exclude=[log((0, 4))])
    with pytest.raises(DataError, match=r"\(3, 5\) users and items, but the scorer knows \(3, 4\)"):
        top_k(scorer, np.arange(3), 2, exclude=interaction_matrix([], n_users=3, n_items=5))
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        top_k(scorer, np.arange(3), 0)


@pytest.mark.gpu
def test_ranks_on_a_gpu_as_on_the_cpu() -> None:
    rng = np.random.default_rng(2)
    users, items = (torch.from_numpy(rng.integers(-3, 4, size=(n, 4)).astype(np.float32)) for n in (300, 90))
    exclude = [random_log(rng, 300, 90, 900)]
    cpu = top_k(Embeddings(users, items), np.arange(300), 20, exclude=exclude)
    gpu = top_k(Embeddings(users.cuda(), items.cuda()), np.arange(300), 20, exclude=exclude)
    np.testing.assert_array_equal(gpu.items, cpu.items)
