"""Interactions that are added to a bundle: lists, histories and explanations follow at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmm4rec.coldstart.user_fold_in import UserFoldIn
from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Embeddings, Neighbors
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.negative_signals import NegativeSignals
from lmm4rec.nn.neighborhoods import UserNeighbors
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.posted_interactions import PostedInteraction
from lmm4rec.serving.rules import RuleSet

USERS, ITEMS = 5, 12


def posted(user: str, *items: str, kind: str = "interaction") -> list[PostedInteraction]:
    return [PostedInteraction(user, item, kind, float(n)) for n, item in enumerate(items)]


def items_of(bundle: Bundle, user: str, k: int = ITEMS, **options: bool) -> list[str]:
    return [one.item for one in bundle.recommend([user], k, **options)[user]]


def csr(dense: torch.Tensor) -> torch.Tensor:
    return dense.to_sparse_csr()


def make(kind: str) -> Bundle:
    generator = torch.Generator().manual_seed(0)
    users = np.repeat(np.arange(USERS, dtype=np.int32), 2)
    items = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, 2], dtype=np.int32)
    seen = Interactions(users, items, timestamps=np.arange(10, dtype=np.int64) + 100)
    history = torch.zeros(USERS, ITEMS)
    history[torch.from_numpy(users).long(), torch.from_numpy(items).long()] = 1.0
    similarity = torch.rand(ITEMS, ITEMS, generator=generator)
    scorers = {
        "embeddings": Embeddings(
            torch.randn(USERS, 4, generator=generator), torch.randn(ITEMS, 4, generator=generator)
        ),
        "neighbors": Neighbors(csr(history), csr(similarity)),
        "dense": Neighbors(csr(history), similarity),
        "users": UserNeighbors(
            csr(history), csr(similarity), csr(torch.rand(USERS, USERS, generator=generator)), torch.ones(ITEMS), 3, 0.0
        ),
    }
    ids = Vocabulary([f"u{n}" for n in range(USERS)], kind="user"), Vocabulary([f"i{n}" for n in range(ITEMS)])
    return Bundle(scorers[kind], *ids, [f"title {n}" for n in range(ITEMS)], seen, {"model": kind})


KINDS = pytest.mark.parametrize("kind", ["embeddings", "neighbors", "dense", "users"])


@KINDS
def test_a_list_follows_at_once_and_without_the_items(kind: str) -> None:
    bundle = make(kind)
    others = {user: bundle.recommend([user], 5)[user] for user in ("u1", "u2")}
    bundle.add_interactions(posted("u0", "i8", "i9"))
    after = bundle.recommend(["u1", "u0", "u2"], ITEMS)
    assert not {one.item for one in after["u0"]} & {"i0", "i1", "i8", "i9"}
    for user, before in others.items():  # whoever posted nothing keeps the trained list
        assert [one.item for one in after[user][:5]] == [one.item for one in before]
        assert [one.score for one in after[user][:5]] == pytest.approx([one.score for one in before], rel=1e-5)
    if kind == "embeddings":
        return
    # the scores are those of an unknown user with the whole history
    folded = bundle.recommend_for(["i0", "i1", "i8", "i9"], ITEMS)
    assert [one.item for one in after["u0"]] == [one.item for one in folded]
    assert [one.score for one in after["u0"]] == pytest.approx([one.score for one in folded], rel=1e-5)


@pytest.mark.parametrize("kind", ["neighbors", "dense"])
def test_scores_by_neighbors_are_sums_over_the_whole_history(kind: str) -> None:
    bundle = make(kind)
    assert isinstance(bundle.scorer, Neighbors)
    similarity = bundle.scorer.similarity.to_dense().numpy()
    bundle.add_interactions(posted("u0", "i8"))
    expected = similarity[:, [0, 1, 8]].sum(1)
    scores = {one.item: one.score for one in bundle.recommend(["u0"], ITEMS)["u0"]}
    assert scores == pytest.approx({f"i{n}": float(expected[n]) for n in range(ITEMS) if n not in (0, 1, 8)}, rel=1e-5)


def test_a_vector_moves_towards_the_fold_in_by_the_share_of_new_items() -> None:
    bundle = make("embeddings")
    scorer = bundle.scorer
    assert isinstance(scorer, Embeddings)
    bundle.add_interactions(posted("u0", "i8"))
    folded = UserFoldIn.of(scorer)(scorer.items[torch.tensor([0, 1, 8])])
    expected = scorer.items @ (2 / 3 * scorer.users[0] + 1 / 3 * folded)
    scores = {one.item: one.score for one in bundle.recommend(["u0"], ITEMS)["u0"]}
    assert scores == pytest.approx({f"i{n}": float(expected[n]) for n in range(ITEMS) if n not in (0, 1, 8)}, rel=1e-5)


@KINDS
def test_what_a_user_dislikes_is_left_out_and_moves_nothing_else(kind: str) -> None:
    bundle = make(kind)
    before = items_of(bundle, "u0")
    bundle.add_interactions(posted("u0", before[0], kind="dislike") + posted("u0", before[2], kind="skip"))
    left = [item for item in before if item not in (before[0], before[2])]
    assert items_of(bundle, "u0") == left
    assert len(items_of(bundle, "u0", exclude_seen=False)) == ITEMS
    bundle.add_interactions([PostedInteraction("u0", before[0], "like", 9.0)])  # a later like takes it back
    assert before[0] in [one.item for one in bundle.history("u0")]


@KINDS
def test_a_new_user_becomes_known(kind: str) -> None:
    bundle = make(kind)
    with pytest.raises(DataError, match="unknown user 'new'"):
        bundle.recommend(["new"])
    bundle.add_interactions(posted("new", "i3", kind="dislike") + posted("new", "not in the catalog"))
    assert not bundle.has_user("new")
    bundle.add_interactions(posted("new", "i4"))
    assert bundle.has_user("new")
    assert bundle.all_users()[-1] == "new"
    got = bundle.recommend(["u1", "new"], 3)
    assert [one.item for one in got["new"]] == [one.item for one in bundle.recommend_for(["i4"], 3, exclude=["i3"])]
    explained = bundle.explain("new", "i5")
    assert [one.item for one in explained.nearest] == ["i4"]
    assert explained.score == pytest.approx({r.item: r.score for r in bundle.recommend(["new"], ITEMS)["new"]}["i5"])


@KINDS
def test_an_item_of_the_training_that_a_user_dislikes_counts_no_more(kind: str) -> None:
    bundle = make(kind)
    bundle.add_interactions(posted("u0", "i0", kind="dislike"))
    scorer = bundle.scorer
    if isinstance(scorer, Embeddings):
        folded = UserFoldIn.of(scorer)(scorer.items[torch.tensor([1])])
        scores = scorer.items @ (scorer.users[0] / 2 + folded / 2)
        expected = [f"i{n}" for n in scores.argsort(descending=True).tolist() if n not in (0, 1)]
    else:
        expected = [one.item for one in bundle.recommend_for(["i1"], ITEMS, exclude=["i0"])]
    assert items_of(bundle, "u0") == expected


def test_negative_signals_of_the_training_stay_hidden() -> None:
    bundle = make("embeddings")
    disliked = NegativeSignals(np.array([0, 1], np.int32), np.array([9, 8], np.int32), np.zeros(2, np.int8), ("skip",))
    bundle = Bundle(
        bundle.scorer, bundle.users, bundle.items, ["t"] * ITEMS, bundle.seen, {}, disliked=disliked
    )  # fmt: skip
    assert "i9" not in items_of(bundle, "u0")
    bundle.add_interactions(posted("u0", "i5"))
    assert not {"i9", "i5", "i0"} & set(items_of(bundle, "u0"))
    bundle.forget_users(["u0"])
    assert bundle.disliked.users.tolist() == [0]
    assert bundle.disliked.items.tolist() == [8]


def test_a_user_without_interactions_keeps_the_trained_list() -> None:
    bundle = make("embeddings")
    scorer, seen = bundle.scorer, bundle.seen
    bundle = Bundle(scorer, bundle.users, bundle.items, ["t"] * ITEMS, seen.take(seen.users != 3), {})
    before = items_of(bundle, "u3")
    bundle.add_interactions(posted("u0", "i8") + posted("u3", before[0], kind="dislike"))
    assert [one.item for one in bundle.recommend(["u0", "u3"], ITEMS)["u3"]] == before[1:]
    assert bundle.explain("u3", before[1]).nearest == []


def test_histories_have_the_latest_first() -> None:
    bundle = make("embeddings")
    bundle.add_interactions(
        [
            PostedInteraction("u0", "i5", "bought", 500.0), PostedInteraction("u0", "i0", "like", 900.0),
            PostedInteraction("u0", "i6", "dislike", 950.0),
        ]
    )  # fmt: skip
    assert [(one.item, one.when) for one in bundle.history("u0")] == [("i0", 900), ("i5", 500), ("i1", 101)]


def test_rules_and_searches_follow_too() -> None:
    bundle = make("embeddings")
    bundle.add_interactions(posted("u0", "i8"))
    plain = [one.item for one in bundle.recommend(["u0"], 4)["u0"]]
    assert [one.item for one in bundle.recommend_by_rules(["u0"], 4, RuleSet())["u0"].items] == plain


@KINDS
def test_a_forgotten_user_is_gone_and_others_stay(kind: str) -> None:
    bundle = make(kind)
    bundle.add_interactions(posted("u1", "i9"))
    before = items_of(bundle, "u2")
    bundle.forget_users(["u1", "nobody"])
    assert not bundle.has_user("u1")
    assert "u1" not in bundle.users
    assert len(bundle.users) == USERS - 1
    assert len(bundle.seen) == 8
    assert bundle.scorer.n_users == USERS - 1
    with pytest.raises(DataError, match="unknown user 'u1'"):
        bundle.recommend(["u1"])
    assert [one.item for one in bundle.history("u2")] == ["i5", "i4"]
    if kind != "users":  # whose neighbor is gone
        assert items_of(bundle, "u2") == before
    bundle.add_interactions(posted("u1", "i9"))
    assert [one.item for one in bundle.history("u1")] == ["i9"]


def test_a_neighbor_who_is_forgotten_counts_no_more() -> None:
    bundle = make("users")
    scorer = bundle.scorer
    assert isinstance(scorer, UserNeighbors)
    dense = scorer.nearest.to_dense()
    bundle.forget_users(["u1"])
    kept = [0, 2, 3, 4]
    assert isinstance(bundle.scorer, UserNeighbors)
    torch.testing.assert_close(bundle.scorer.nearest.to_dense(), dense[kept][:, kept])
    expected = replace(scorer, seen=csr(scorer.seen.to_dense()[kept]), nearest=csr(dense[kept][:, kept]))
    at = torch.arange(4)
    torch.testing.assert_close(bundle.scorer.scores(at), expected.scores(at))
