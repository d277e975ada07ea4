"""What a new item's score is made of: shares that add up to it, each what is lost without its modality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.coldstart.fit_content_to_vectors import fit_content_to_vectors
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Neighbors
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.experiments.build.bundle import lost_without
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle
from worlds import camp_features, camps

KINDS = ("image", "text", "audio")


def three_kinds() -> dict[str, Tensor]:
    """Features of the camps' items, a third modality among them; some lack one."""
    features = camp_features(torch.Generator().manual_seed(0))
    features["audio"] = camp_features(torch.Generator().manual_seed(5))["image"] + 0.3
    features["image"][4], features["audio"][7] = 0.0, 0.0
    return features


def bundle_of(name: str) -> tuple[Bundle, dict[str, Tensor]]:
    """An untrained model whose regressions are fitted, and its features."""
    graph, _ = camps()
    features = three_kinds()
    model = RECOMMENDERS.get(name)(graph, features, torch.Generator().manual_seed(1))
    with torch.no_grad():
        scorer = model.embed(features)
    log = Interactions(graph.users.numpy().astype(np.int32), graph.items.numpy().astype(np.int32))
    content_to_vectors = fit_content_to_vectors(scorer, features, log, model.content_projections())
    users, items = (
        Vocabulary([f"u{row}" for row in range(scorer.n_users)]),
        [f"i{row}" for row in range(scorer.n_items)],
    )
    return Bundle(
        scorer, users, Vocabulary(items), items, log, {}, content_to_vectors=content_to_vectors,
        lost=lost_without(model, scorer, features),
    ), features  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", ["bpr", "vbpr", "grcn", "popular", "freedom"])
def test_shares_add_up_and_each_is_what_the_score_loses_without_its_modality(name: str) -> None:
    bundle, features = bundle_of(name)
    whole = {m: x[3] + 0.1 for m, x in features.items()}
    bare = {f"no {m}": {**whole, m: torch.zeros_like(whole[m])} for m in KINDS}
    bundle.add_items([NewItem("one", features={m: x[5] for m, x in features.items()})])  # shares begin at its row
    bundle.add_items([NewItem(id_, features=x) for id_, x in {"whole": whole, **bare}.items()])
    for user in ("u0", "u13", "u20"):
        scores = {one.item: one.score for one in bundle.recommend([user], k=5, only=["whole", *bare])[user]}
        told = bundle.explain(user, "whole")
        assert list(told.shares) == [*KINDS, "new"]
        most = max(abs(told.shares[modality]) for modality in KINDS)
        assert most > 1e-6
        close = {"abs": 1e-3 * most + 1e-6 * abs(told.score)}  # some scores are tiny before training
        assert told.score == pytest.approx(scores["whole"], **close)
        assert sum(told.shares.values()) == pytest.approx(scores["whole"], **close)
        for modality in KINDS:
            assert told.shares[modality] == pytest.approx(scores["whole"] - scores[f"no {modality}"], **close)
            lacking = bundle.explain(user, f"no {modality}").shares
            assert lacking[modality] == 0.0
            assert lacking["new"] == pytest.approx(told.shares["new"], **close)


def test_an_item_that_came_before_origins_were_kept_has_one_share(tmp_path: Path) -> None:
    """Its bundle has none of them; what comes later has them."""
    bundle, features = bundle_of("bpr")
    new = {m: x[3] for m, x in features.items()}
    bundle.add_items([NewItem("older", features=new)])
    bundle.save_pretrained(tmp_path)
    told = read_json(tmp_path / "bundle.json")
    del told["files"][told["stems"].pop("origins")]
    write_json(tmp_path / "bundle.json", told)
    again = Bundle.load(tmp_path)
    again.add_items([NewItem("later", features=new)])
    again.save_pretrained(tmp_path)
    for one in (again, Bundle.load(tmp_path)):
        assert one.explain("u0", "older").shares == {"content": pytest.approx(bundle.explain("u0", "older").score)}
        assert one.explain("u0", "later").shares == pytest.approx(bundle.explain("u0", "older").shares)
        assert set(one.explain("u0", "i3").shares) == set(bundle.explain("u0", "i3").shares)


def test_neighbors_are_alike_by_their_modalities(tmp_path: Path) -> None:
    """Of x and y, which the user has, cosines are (1, 0.6) by image and (0, 0.8) by words; y's mean, 0.7, is best.

    With two neighbors and a scale of 2, x gives 1 and y 1.4: 1 + 1.4 · 0.6 / 1.4 are the image's.
    """
    seen = torch.tensor([[1.0, 1.0, 0.0]]).to_sparse_csr()
    log = Interactions(np.array([0, 0], np.int32), np.array([0, 1], np.int32))
    features = {
        "image": torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]),
        "text": torch.tensor([[0.0, 1.0], [0.8, 0.6], [-1.0, 0.0]]),
    }
    content = ContentSpace({"image": torch.zeros(2), "text": torch.zeros(2)})
    similarity = torch.tensor([[0.0, 0.5, 0.0], [0.5, 0.0, 0.1], [0.0, 0.1, 0.0]]).to_sparse_csr()
    bundle = Bundle(
        Neighbors(seen, similarity), Vocabulary("A", kind="user"), Vocabulary("xyz"), "XYZ", log, {},
        features=features, content_to_vectors=ContentToVectors(content, neighbors=2, scale=2.0),
    )  # fmt: skip
    alone = {"image": torch.tensor([1.0, 0.0]), "text": torch.tensor([1.0, 0.0])}
    bundle.add_items([NewItem("n", features=alone), NewItem("o", features={m: -x for m, x in alone.items()})])
    bundle.save_pretrained(tmp_path)
    for one in (bundle, Bundle.load(tmp_path)):
        told = one.explain("A", "n")
        assert told.score == pytest.approx(one.recommend(["A"], only=["n"])["A"][0].score)
        assert told.shares == pytest.approx({"image": 1.0 + 0.6, "text": 0.8}, abs=1e-3)
        # the similarities themselves; by the scale of 2, n (1) is before y (0.5) among those of x
        near = [("y", "Y", pytest.approx(0.7, abs=1e-3)), ("x", "X", pytest.approx(0.5, abs=1e-3))]
        assert told.nearest == one.similar(["n"], k=2)["n"] == near
        similar = [("n", "n", pytest.approx(0.5, abs=1e-3)), ("y", "Y", 0.5)]
        assert one.similar(["x"], k=2)["x"] == similar
        assert one.explain("A", "o").shares == {"image": 0.0, "text": 0.0}  # similar to nothing that the user has
        assert one.explain("A", "z").shares == {"joint": pytest.approx(0.1)}
