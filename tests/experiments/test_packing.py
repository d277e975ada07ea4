"""What a run's bundle holds, by model and encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lmm4rec
from layered import build, catalog
from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Embeddings
from lmm4rec.experiments.build.bundle import encoder_record, lost_without
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.end2end import save_item_vectors
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan
from lmm4rec.features.adapters import make_item_vectors
from worlds import camp_features, camps

SHOP = {"name": "toyshop", "users": 30, "items": 40, "interactions": 300}
LIGHT = {"name": "paired", "image": {"name": "color"}, "text": {"name": "words"}}


@pytest.mark.long
@pytest.mark.parametrize("name", RECOMMENDERS.names())
def test_every_score_can_be_told_apart(name: str) -> None:
    """Every model with vectors names its columns, or can do without each modality."""
    graph, _ = camps()
    features = camp_features(torch.Generator().manual_seed(0))
    model = RECOMMENDERS.get(name)(graph, features, torch.Generator().manual_seed(1))
    with torch.no_grad():
        scorer = model.embed(features)
    lost = lost_without(model, scorer, features)
    if not isinstance(scorer, Embeddings):  # no columns
        assert lost == {}
    elif scorer.parts:
        ends = sorted((part.start, part.stop) for part in scorer.parts.values())
        assert [0, *(end for _, end in ends)] == [*(start for start, _ in ends), scorer.items.shape[1]]
        assert lost == {}
    else:
        assert set(lost) == {"image", "text"}
        assert all(rows.any() for rows in lost.values())


def test_what_is_lost_adds_up_where_the_model_is_linear() -> None:
    """FREEDOM adds the modalities' item graphs (arXiv 2211.06924, eq. 3): what is lost without each is all of both."""
    graph, _ = camps()
    features = camp_features(torch.Generator().manual_seed(0))
    model = RECOMMENDERS.get("freedom")(graph, features, torch.Generator().manual_seed(1))
    with torch.no_grad():
        scorer = model.embed(features)
        bare = model.embed({modality: torch.zeros_like(x) for modality, x in features.items()})
    lost = lost_without(model, scorer, features)
    torch.testing.assert_close(scorer.items - bare.items, lost["image"] + lost["text"], atol=1e-6, rtol=1e-4)


@pytest.mark.long
def test_a_run_of_ids_takes_no_new_items_and_is_not_searched(tmp_path: Path) -> None:
    conf = {"data": SHOP, "recommender": {"name": "bpr", "dim": 4}, "train": {"epochs": 1}}
    bundle = lmm4rec.run(conf, out=tmp_path / "run").bundle()
    with pytest.raises(LMM4RecError, match="it takes no new items"):
        bundle.add_items([lmm4rec.NewItem("n")])
    with pytest.raises(LMM4RecError, match="this bundle has no encoder"):
        bundle.search("cup")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECOMMENDERS.names() if not RECOMMENDERS.get(name).uses_content])
def test_a_model_without_content_takes_new_items_by_its_run_s_encoder(name: str, tmp_path: Path) -> None:
    conf = {"data": SHOP, "recommender": {"name": name}, "encoder": LIGHT, "train": {"epochs": 1}}
    bundle = lmm4rec.run(conf, out=tmp_path / "run").bundle()
    title = next(bundle.title(item) for item in bundle.items if bundle.title(item) != item)
    bundle.add_items([lmm4rec.NewItem("n", {"title": title}, bundle.thumbnail("T0001"))])
    user = bundle.users[0]
    assert [found.item for found in bundle.recommend([user], only=["n"])[user]] == ["n"]
    assert "n" in [found.item for found in bundle.search(title, k=3)]


def test_paths_of_checkpoints_are_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    encoder = {"name": "paired", "image": {"name": "vision", "checkpoint": "models"}, "text": {"name": "words"}}
    plan = make_plan(load_spec({"title": "t", "data": SHOP, "recommender": {"name": "vbpr"}, "encoder": encoder}))
    record = encoder_record(plan, DataCache().dataset(plan).catalog, tmp_path / "encoder")
    assert record is not None
    assert record.arguments["image"].arguments["checkpoint"] == str(tmp_path / "models")
    encoder["image"] = {"name": "vision", "checkpoint": "hub/name"}
    plan = make_plan(load_spec({"title": "t", "data": SHOP, "recommender": {"name": "vbpr"}, "encoder": encoder}))
    record = encoder_record(plan, DataCache().dataset(plan).catalog, tmp_path / "encoder")
    assert record is not None
    assert record.arguments["image"].arguments["checkpoint"] == "hub/name"


@pytest.mark.long
def test_both_trained_sides_of_a_paired_encoder_are_found(layered_root: Path, tmp_path: Path) -> None:
    """What training end to end leaves of each side is what new items are read with."""
    pytest.importorskip("sentence_transformers")
    vectors = make_item_vectors(build("paired", layered_root), catalog())
    save_item_vectors(vectors, tmp_path / "encoder")
    sides = {"image": {"name": "vision", "checkpoint": "a"}, "text": {"name": "sentence", "checkpoint": "b"}}
    conf = {"title": "t", "data": SHOP, "recommender": {"name": "vbpr"}, "encoder": {"name": "paired", **sides}}
    plan = make_plan(load_spec(conf | {"features": {"train": "end2end"}}))
    record = encoder_record(plan, catalog(), tmp_path / "encoder")
    assert record is not None
    assert {side: record.arguments[side].saved for side in sides} == {
        "image": tmp_path / "encoder" / "image",
        "text": tmp_path / "encoder" / "text",
    }
