"""Bundles of models that read sequences: order counts, feedback counts at once, new items are read like others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from fastapi.testclient import TestClient

from lmm4rec.coldstart.fit_content_to_vectors import fit_content_to_vectors
from lmm4rec.core.errors import DataError
from lmm4rec.core.sequences import Sequences
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.evaluation.known_sequences import sequences_of
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender
from lmm4rec.recommenders.gru4rec import GRU4Rec
from lmm4rec.recommenders.markov import Markov
from lmm4rec.recommenders.sasrec import SASRec
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.bundle_comparison import compare_bundles
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.settings import Settings
from lmm4rec.serving.posted_interactions import PostedInteraction

USERS, ITEMS, LENGTH = 6, 12, 4
COMPONENTS = {"sasrec": SASRec, "gru4rec": GRU4Rec, "markov": Markov}
KINDS = pytest.mark.parametrize("kind", list(COMPONENTS))


def log() -> Interactions:
    """Each user has three items, whose times are not in the order of the log."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(ITEMS)[:3] for _ in range(USERS)]).astype(np.int32)
    times = np.tile(np.array([300, 100, 200], np.int64), USERS)
    return Interactions(np.repeat(np.arange(USERS, dtype=np.int32), 3), items, timestamps=times)


def features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"image": torch.randn(ITEMS, 5, generator=generator), "text": torch.randn(ITEMS, 3, generator=generator)}


def model(kind: str, items: str = "id") -> Recommender:
    known = log().by_time()
    graph = InteractionGraph(
        torch.from_numpy(known.users).long(), torch.from_numpy(known.items).long(), USERS, ITEMS, in_order=True
    )
    generator = torch.Generator().manual_seed(2)
    if kind == "markov":
        return Markov(graph, {}, generator)
    built: Recommender = COMPONENTS[kind](graph, features(), generator, dim=8, length=LENGTH, items=items)  # type: ignore[call-arg]
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return built


def bundle_of(kind: str, items: str = "id") -> Bundle:
    recommender = model(kind, items)
    with torch.no_grad():
        scorer = recommender.embed(features())
    ids = Vocabulary([f"u{n}" for n in range(USERS)], kind="user"), Vocabulary([f"i{n}" for n in range(ITEMS)])
    maps = None
    if items != "id":
        maps = fit_content_to_vectors(scorer, features(), log(), recommender.content_projections())
    more = {"content_to_vectors": maps, "features": features() if items != "id" else None}
    return Bundle(scorer, *ids, [f"title {n}" for n in range(ITEMS)], log(), {"model": kind}, **more)


def in_time(user: int) -> list[str]:
    known = log().by_time()
    return [f"i{item}" for item in known.items[known.users == user]]


def listed(found: list) -> list[tuple[str, float]]:
    return [(one.item, pytest.approx(one.score, rel=1e-4, abs=1e-5)) for one in found]


@KINDS
def test_a_known_user_and_the_same_history_of_an_unknown_one_get_the_same_list(kind: str) -> None:
    bundle, history = bundle_of(kind), in_time(2)
    own = bundle.recommend(["u2"], ITEMS)["u2"]
    assert listed(own) == [(one.item, one.score) for one in bundle.recommend_for(history, ITEMS)]
    turned = bundle.recommend_for([history[-1], *history[:-1]], ITEMS)
    assert [one.score for one in turned] != [one.score for one in own]  # the order counts


@KINDS
def test_feedback_counts_at_once_and_in_the_order_of_its_times(kind: str) -> None:
    bundle, history = bundle_of(kind), in_time(0)
    new = [f"i{n}" for n in range(ITEMS) if f"i{n}" not in history][:2]
    bundle.add_interactions([PostedInteraction("u0", new[0], time=900.0), PostedInteraction("u0", new[1], time=150.0)])
    expected = [history[0], new[1], *history[1:], new[0]]  # at 100, 150, 200, 300 and 900
    assert listed(bundle.recommend(["u1", "u0"], ITEMS)["u0"]) == [
        (one.item, one.score) for one in bundle.recommend_for(expected, ITEMS)
    ]
    assert bundle.history("u0")[0].item == new[0]


@KINDS
def test_an_item_that_is_posted_again_is_the_latest_and_a_disliked_one_is_not_read(kind: str) -> None:
    bundle, (first, second, third) = bundle_of(kind), in_time(3)
    bundle.add_interactions(
        [PostedInteraction("u3", first, time=900.0), PostedInteraction("u3", second, "dislike", 901.0)]
    )
    expected = bundle.recommend_for([third, first], ITEMS, exclude=[second])
    assert listed(bundle.recommend(["u3"], ITEMS)["u3"]) == [(one.item, one.score) for one in expected]


@KINDS
def test_a_new_user_is_read_from_the_first_posted_item_on(kind: str) -> None:
    bundle = bundle_of(kind)
    bundle.add_interactions([PostedInteraction("new", "i5", time=2.0), PostedInteraction("new", "i7", time=1.0)])
    assert listed(bundle.recommend(["new"], ITEMS)["new"]) == [
        (one.item, one.score) for one in bundle.recommend_for(["i7", "i5"], ITEMS)
    ]


@KINDS
def test_a_history_longer_than_the_model_reads_is_that_of_its_latest_items(kind: str) -> None:
    bundle, history = bundle_of(kind), [f"i{n}" for n in range(7)]
    latest = bundle.recommend_for(history[-LENGTH:], ITEMS, exclude=history)
    assert listed(bundle.recommend_for(history, ITEMS)) == [(one.item, one.score) for one in latest]


@KINDS
def test_an_item_that_the_catalog_lost_is_refused_in_a_history_and_left_out_of_feedback(kind: str) -> None:
    bundle = bundle_of(kind)
    bundle.remove_items(["i4"])
    with pytest.raises(DataError, match="item 'i4' was removed"):
        bundle.recommend_for(["i4", "i5"])
    bundle.add_interactions([PostedInteraction("new", "i4", time=2.0), PostedInteraction("new", "i5", time=1.0)])
    assert listed(bundle.recommend(["new"], ITEMS)["new"]) == [
        (one.item, one.score) for one in bundle.recommend_for(["i5"], ITEMS)
    ]


@KINDS
def test_a_bundle_on_disk_answers_as_before_and_without_erased_users(kind: str, tmp_path: Path) -> None:
    bundle = bundle_of(kind)
    expected = bundle.recommend_for(["i3", "i8", "i1"], ITEMS), bundle.recommend(["u1"], ITEMS)
    bundle.forget_users(["u0"])
    bundle.save_pretrained(tmp_path / "bundle")
    loaded = Bundle.from_pretrained(tmp_path / "bundle")
    assert listed(loaded.recommend_for(["i3", "i8", "i1"], ITEMS)) == [(one.item, one.score) for one in expected[0]]
    assert listed(loaded.recommend(["u1"], ITEMS)["u1"]) == [(one.item, one.score) for one in expected[1]["u1"]]
    assert loaded.explain("u1", expected[1]["u1"][0].item).score == pytest.approx(expected[1]["u1"][0].score, rel=1e-4)
    assert "u0" not in loaded.users


def test_over_http_a_history_counts_in_its_order_and_feedback_at_once(tmp_path: Path) -> None:
    bundle = bundle_of("sasrec")
    bundle.save_pretrained(tmp_path / "run" / "bundle")

    def ids(answer: Any) -> list[str]:
        return [one["id"] for one in answer.raise_for_status().json()["items"]]

    with TestClient(make_app([tmp_path / "run"], Settings(hosts=("testserver",)))) as client:
        for history in (["i3", "i8", "i1"], ["i1", "i8", "i3"], ["i3", "i8", "i3"]):
            found = ids(client.post("/recommend", json={"history": history, "k": 5}))
            assert found == [one.item for one in bundle.recommend_for(history, 5)]
        client.post("/interactions", json={"interactions": [{"user": "u2", "item": "i0"}]}).raise_for_status()
        expected = bundle.recommend_for([*in_time(2), "i0"], 5)
        assert ids(client.get("/recommend/u2", params={"k": 5})) == [one.item for one in expected]


def test_weights_of_a_network_that_are_gone_are_a_damaged_bundle(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from lmm4rec.serving.scorer_tensors import read_scorer, scorer_tensors

    tensors, kind = scorer_tensors(bundle_of("sasrec").scorer)
    save_file(tensors, tmp_path / "vectors")
    read = load_file(tmp_path / "vectors")
    del read["network.norm.weight"]
    with pytest.raises(ValueError, match=r"norm\.weight"):
        read_scorer(read, kind, {}, (USERS, ITEMS, ITEMS))


@pytest.mark.parametrize("kind", ["sasrec", "gru4rec"])
def test_a_new_item_has_the_vector_of_a_known_one_with_its_content(kind: str) -> None:
    bundle = bundle_of(kind, "content")
    assert bundle.content_to_vectors is not None
    twin = {modality: x[3:4] for modality, x in features().items()}
    vector = bundle.content_to_vectors.vectors(twin, bundle.scorer, {})
    torch.testing.assert_close(vector[0], bundle.scorer.items[3], atol=1e-5, rtol=1e-4)  # type: ignore[attr-defined]


def test_of_a_model_with_ids_it_has_the_mean_of_the_id_vectors_beside_its_content() -> None:
    recommender, bundle = model("sasrec", "both"), bundle_of("sasrec", "both")
    assert bundle.content_to_vectors is not None
    twin = {modality: x[3:4] for modality, x in features().items()}
    weights = recommender.state_dict()
    warm = np.unique(log().items)
    table = weights["model.items.table"]
    own = bundle.scorer.items[3] - table[3]  # type: ignore[attr-defined]
    vector = bundle.content_to_vectors.vectors(twin, bundle.scorer, {})[0]
    torch.testing.assert_close(vector, own + table[warm].mean(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["sasrec", "gru4rec"])
def test_added_items_are_ranked_and_read_at_once(kind: str) -> None:
    bundle = bundle_of(kind, "content")
    rows = {modality: x[3] for modality, x in features().items()}
    bundle.add_items([NewItem("twin", {"title": "as i3"}, features=rows)])
    scores = {one.item: one.score for one in bundle.recommend_for(["i1", "i2"], ITEMS + 1)}
    assert scores["twin"] == pytest.approx(scores["i3"], rel=1e-3, abs=1e-4)
    by_twin, by_known = (
        bundle.recommend_for(["i1", last], ITEMS + 1, exclude=["twin", "i3"]) for last in ("twin", "i3")
    )
    assert listed(by_twin) == [(one.item, pytest.approx(one.score, rel=1e-3, abs=1e-4)) for one in by_known]


def test_recent_interactions_are_no_part_of_the_sequences_by_which_bundles_are_compared() -> None:
    """Else the later bundle would be measured on items that it reads."""
    bundle, known = bundle_of("markov"), log().by_time()
    last = {user: in_time(user)[-1] for user in range(USERS)}
    recent = pl.DataFrame({"user": [f"u{user}" for user in last], "item": list(last.values())})
    compared = compare_bundles(bundle, bundle, 3, recent=recent)
    assert compared.recent is not None
    latest = np.array([known.users[: at + 1].tolist().count(user) == 3 for at, user in enumerate(known.users)])
    scorer = bundle.scorer.of_sequences(sequences_of([known.take(~latest)], USERS))  # type: ignore[attr-defined]
    scores = scorer.scores(torch.arange(USERS))
    for user in range(USERS):
        scores[user, [int(item[1:]) for item in in_time(user)[:-1]]] = -torch.inf
    top = scores.topk(3, dim=1).indices
    hits = [int(item[1:]) in top[user].tolist() for user, item in last.items()]
    assert compared.recent.all_items.after == pytest.approx(np.mean(hits))


def test_sequences_of_parts_without_times_are_those_of_one_part_after_the_other() -> None:
    first, second = (
        Interactions(np.array(u, np.int32), np.array(i, np.int32))
        for u, i in (([0, 1, 0], [4, 5, 2]), ([1, 0], [3, 1]))
    )
    found = sequences_of([first, second], 3)
    assert found.items.tolist() == [4, 2, 1, 5, 3]
    assert found.counts.tolist() == [3, 2, 0]


def test_the_latest_items_are_padded_behind_the_end() -> None:
    rows, lengths = Sequences.of_lists([np.array([1, 2, 3]), np.array([], np.int64), np.array([4])]).latest(2)
    assert rows.tolist() == [[2, 3], [-1, -1], [4, -1]]
    assert lengths.tolist() == [2, 0, 1]
