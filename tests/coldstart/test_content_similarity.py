"""New items of models without vectors whose own maps give similarities from content: EASE with content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lmm4rec.coldstart.fit_content_to_vectors import fit_content_to_vectors
from lmm4rec.core.errors import DataError
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.recommenders.addease import AddEASE
from lmm4rec.recommenders.base import Recommender
from lmm4rec.recommenders.cease import CEASE
from lmm4rec.serving.bundle import Bundle, NewItem
from worlds import camp_features, camps

NEW = ["new0", "new1", "new2"]


def fitted(component: type[Recommender]) -> tuple[Bundle, dict[str, Tensor], Recommender]:
    graph, _ = camps(items=16, users=20, held_out=8)  # items of the own camp fill the lists
    features = camp_features(torch.Generator().manual_seed(0), items=16)
    model = component(graph, features, torch.Generator())  # type: ignore[call-arg]
    scorer = model.embed(features)
    log = Interactions(graph.users.numpy().astype(np.int32), graph.items.numpy().astype(np.int32))
    maps = fit_content_to_vectors(scorer, features, log, model.content_projections(), model.similarity_as_new)
    users = Vocabulary([f"u{row}" for row in range(graph.n_users)], kind="user")
    items = Vocabulary([f"i{row}" for row in range(graph.n_items)])
    return Bundle(scorer, users, items, list(items), log, {}, content_to_vectors=maps), features, model


def newborn(features: dict[str, Tensor]) -> list[NewItem]:
    """An item for each camp, with the mean content of the camp's items; the last one has no image."""
    means = {m: x.view(3, -1, x.shape[1]).mean(1) for m, x in features.items()}
    means["image"][2] = 0
    return [NewItem(f"new{camp}", features={m: x[camp] for m, x in means.items()}) for camp in range(3)]


@pytest.mark.parametrize("component", [CEASE, AddEASE])
def test_new_items_are_scored_by_the_maps_of_the_model(component: type[Recommender], tmp_path: Path) -> None:
    """Without features of the known items; also from a saved bundle, and the shares of modalities sum to the score."""
    bundle, features, model = fitted(component)
    maps, items = bundle.content_to_vectors, newborn(features)
    assert maps is not None
    bundle.add_items(items)
    own = sum(path(torch.stack([x.features[m] for x in items])) for m, path in model.content_projections().items())
    torch.testing.assert_close(bundle.scorer.similarity[-3:], maps.scale * own)
    for row in (0, 25, 59):
        best = bundle.recommend([f"u{row}"], k=1, only=NEW)[f"u{row}"][0]
        assert best.item == f"new{row // 20}"
        why = bundle.explain(f"u{row}", best.item)
        assert set(why.shares) == {"image", "text"}
        assert why.score == pytest.approx(best.score, rel=1e-5)
        assert (why.shares["image"] == 0) == (row == 59)
    bundle.save_pretrained(tmp_path / "bundle")
    loaded = Bundle.from_pretrained(tmp_path / "bundle")
    assert loaded.recommend(["u0"], k=5) == bundle.recommend(["u0"], k=5)
    loaded.add_items([NewItem("new3", features=items[1].features)])
    torch.testing.assert_close(loaded.scorer.similarity[-1], bundle.scorer.similarity[-2])
    assert loaded.explain("u25", "new3").score == pytest.approx(bundle.explain("u25", "new1").score)
    with pytest.raises(DataError, match="numbers of 'image'"):
        loaded.add_items([NewItem("x", features={"image": torch.ones(3), "text": items[0].features["text"]})])


@pytest.mark.parametrize("component", [CEASE, AddEASE])
def test_new_items_have_their_share_of_the_lists(component: type[Recommender]) -> None:
    """The new items are every fourth of the world once more, with their content: a fifth of the catalog then."""
    bundle, features, model = fitted(component)
    assert bundle.content_to_vectors is not None
    facts = bundle.content_to_vectors.facts
    assert facts["recall@4"] > 1.8 * facts["recall@4 of chance"]  # 9 items are held out
    bundle.add_items(NewItem(f"new{row}", features={m: x[row] for m, x in features.items()}) for row in range(0, 48, 4))
    scores = bundle.scorer.scores(torch.arange(60))
    scores[model.graph.users, model.graph.items] = -torch.inf
    assert float((scores.topk(4).indices >= 48).float().mean()) == pytest.approx(0.2, abs=0.1)
