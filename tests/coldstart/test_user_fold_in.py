"""The vectors of a new user from a history, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmm4rec.coldstart.user_fold_in import UserFoldIn
from lmm4rec.core.errors import DataError, LMM4RecError
from lmm4rec.core.types import Embeddings, Neighbors
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.serving.bundle import Bundle

NOBODY = Interactions(np.array([], np.int32), np.array([], np.int32))


def test_the_vector_is_regularized_least_squares_beside_the_constant_columns() -> None:
    """Free columns V = diag(2, 1) over two items, so VᵀV = diag(4, 1), whose mean diagonal is 2.5.

    A history of item 0 gives (2 / (4 + 2.5), 0) and one of both (2 / 6.5, 1 / 3.5), scaled to the users' mean
    length, 2.
    The third column is 1 for all users.
    """
    users = torch.tensor([[1.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    items = torch.tensor([[2.0, 0.0, 0.5], [0.0, 1.0, -0.5]])
    fold_in = UserFoldIn.of(Embeddings(users, items))
    torch.testing.assert_close(fold_in(items[:1]), torch.tensor([2.0, 0.0, 1.0]))
    both = torch.tensor([2 / 6.5, 1 / 3.5])
    torch.testing.assert_close(fold_in(items), torch.cat([2 * both / both.norm(), torch.ones(1)]))


@pytest.mark.parametrize("count", [1, 2])
def test_where_all_trained_users_are_alike_the_bias_alone_is_constant(count: int) -> None:
    """As above, but no column tells users apart: that named bias stays, the others are solved, at the length 5."""
    users = torch.tensor([[3.0, 4.0, 1.0]] * count)
    items = torch.tensor([[2.0, 0.0, 0.5], [0.0, 1.0, -0.5]])
    fold_in = UserFoldIn.of(Embeddings(users, items, parts={"id": slice(0, 2), "bias": slice(2, 3)}))
    torch.testing.assert_close(fold_in(items[:1]), torch.tensor([5.0, 0.0, 1.0]))
    torch.testing.assert_close(fold_in(items[1:]), torch.tensor([0.0, 5.0, 1.0]))


def test_new_users_of_a_bundle_with_one_trained_user_get_lists_of_their_own() -> None:
    items = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.0, 1.0], [0.0, 0.9]])
    for parts in ({"id": slice(0, 2)}, {}):
        scorer = Embeddings(torch.tensor([[1.0, 0.5]]), items, parts=parts)
        bundle = Bundle(scorer, Vocabulary("A"), Vocabulary("wxyz"), "WXYZ", NOBODY, {})
        assert [bundle.recommend_for([item], k=1)[0].item for item in "wz"] == ["x", "y"]


def test_items_of_the_history_and_excluded_ones_are_not_recommended() -> None:
    items = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.0], [0.0, 1.0]])
    bundle = Bundle(Embeddings(torch.eye(2), items), Vocabulary("AB"), Vocabulary("wxyz"), "WXYZ", NOBODY, {})
    assert [one.item for one in bundle.recommend_for(["w"])] == ["x", "y", "z"]
    assert [one.item for one in bundle.recommend_for(["w", "w"], exclude=["x"])] == ["y", "z"]
    assert [one.item for one in bundle.recommend_for(["w"], only=["z", "w"])] == ["z"]
    assert bundle.recommend_for("wxyz") == []
    with pytest.raises(DataError, match="the history is empty"):
        bundle.recommend_for([])
    with pytest.raises(DataError, match="unknown item 'q'"):
        bundle.recommend_for(["q"])


def test_neighbors_add_up_over_the_history() -> None:
    similarity = torch.tensor([[0.0, 0.5, 0.2], [0.5, 0.0, 0.1], [0.2, 0.1, 0.0]]).to_sparse_csr()
    scorer = Neighbors(torch.zeros(1, 3).to_sparse_csr(), similarity)
    bundle = Bundle(scorer, Vocabulary("A"), Vocabulary("xyz"), "XYZ", NOBODY, {})
    assert bundle.recommend_for(["x", "y"]) == [("z", "Z", pytest.approx(0.3))]


def test_popularity_takes_anybody_in() -> None:
    """Where all columns are constant there is nothing to solve; one user is enough for the column named bias."""
    counts = torch.tensor([[3.0], [5.0]])
    alone = Bundle(
        Embeddings(torch.ones(1, 1), -counts, parts={"bias": slice(0, 1)}), Vocabulary("A"), Vocabulary("xy"), "XY",
        NOBODY, {},
    )  # fmt: skip
    assert alone.recommend_for(["y"]) == [("x", "X", -3.0)]
    unnamed = Bundle(Embeddings(torch.ones(2, 1), -counts), Vocabulary("AB"), Vocabulary("xy"), "XY", NOBODY, {})
    assert unnamed.recommend_for(["y"]) == [("x", "X", -3.0)]
    scorer = Embeddings(torch.ones(2, 1), counts, parts={"bias": slice(0, 1)})
    bundle = Bundle(scorer, Vocabulary("AB"), Vocabulary("xy"), "XY", NOBODY, {})
    assert bundle.recommend_for(["x"]) == [("y", "Y", 5.0)]
    assert bundle.explain("A", "y").nearest == []
    with pytest.raises(DataError, match="knows no similar ones"):
        bundle.similar(["x"])


def test_without_any_trained_user_vectors_say_why_and_neighbors_go_on() -> None:
    items = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    similarity = torch.tensor([[0.0, 0.5], [0.5, 0.0]]).to_sparse_csr()
    scorers = (Embeddings(torch.eye(2), items), Neighbors(torch.zeros(2, 2).to_sparse_csr(), similarity))
    vectors, neighbors = (Bundle(one, Vocabulary("AB"), Vocabulary("xy"), "XY", NOBODY, {}) for one in scorers)
    for bundle in (vectors, neighbors):
        assert bundle.recommend_for(["x"])[0].item == "y"
        bundle.forget_users("AB")
    assert neighbors.recommend_for(["x"]) == [("y", "Y", 0.5)]
    with pytest.raises(LMM4RecError, match="all users that this model was trained on have been erased"):
        vectors.recommend_for(["x"])
