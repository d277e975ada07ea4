"""Runs on features that are rotated or in bfloat16: notes, bundles, resumed runs, warm starts, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Embeddings
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.build.recommender_features import recommender_features
from lmm4rec.experiments.build.recommenders import make_recommender
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.run import run
from lmm4rec.features.rotation import read_axes
from lmm4rec.serving.answers import NewItem

ITEMS, LACKING = 40, 3


@pytest.fixture
def conf(tmp_path: Path) -> dict[str, Any]:
    """Vectors of 30 numbers that lie near a space of 6; one item has none."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(ITEMS, 6)) @ rng.normal(size=(6, 30)) + 1e-3 * rng.normal(size=(ITEMS, 30))
    image[LACKING] = 0
    np.save(tmp_path / "image.npy", image.astype(np.float32))
    return {
        "data": {"name": "toyshop", "items": ITEMS, "users": 30, "interactions": 300},
        "encoder": {"name": "precomputed", "files": {"image": str(tmp_path / "image.npy")}},
        "features": {"rotate": 0.999},
        "recommender": {"name": "vbpr", "ids": False, "content_dim": 4},
        "train": {"epochs": 2, "batch_size": 128, "learning_rate": 0.02},
    }


@pytest.mark.long
def test_a_new_item_has_the_vector_of_a_known_one_with_its_content(conf: dict[str, Any], tmp_path: Path) -> None:
    result = run(conf, out=tmp_path / "run")
    (note,) = [line for line in result.measured.data.findings if "rotation" in line]
    assert "image: 6 numbers an item after rotation, 30 before" in note
    image, bundle = np.load(tmp_path / "image.npy"), result.bundle()
    known = bundle.scorer.items  # type: ignore[union-attr]
    assert not known[LACKING].any()
    for saved in (False, True):
        row = 7 + saved
        bundle.add_items([NewItem(f"new {row}", {}, features={"image": torch.from_numpy(image[row])})])
        torch.testing.assert_close(bundle.scorer.items[-1], known[row], atol=1e-6, rtol=1e-4)  # type: ignore[union-attr]
        bundle.save(tmp_path / "again")
        bundle = type(bundle).load(tmp_path / "again")


ITEMKNN = {"name": "itemknn", "similarity": "content"}
SASREC = {"name": "sasrec", "dim": 4, "items": "content"}


@pytest.mark.long
@pytest.mark.parametrize(
    "model", [{"name": "freedom", "dim": 4}, {"name": "cease"}, ITEMKNN, pytest.param(SASREC, marks=pytest.mark.slow)]
)
def test_other_models_run_and_take_new_items(model: dict[str, Any], conf: dict[str, Any], tmp_path: Path) -> None:
    del conf["train"]["batch_size"]
    result = run({**conf, "recommender": model}, out=tmp_path / "run")
    image = torch.from_numpy(np.load(tmp_path / "image.npy"))
    bundle = result.bundle()
    bundle.add_items([NewItem("new", {}, features={"image": image[7]})])
    assert bundle.scorer.n_items == ITEMS + 1
    assert bundle.recommend([str(bundle.users[0])], 5)


@pytest.mark.long
def test_the_axes_of_a_run_are_those_that_its_weights_refer_to(conf: dict[str, Any], tmp_path: Path) -> None:
    """Other features have other axes; a resumed run keeps its own, and a warm start those of the earlier run."""
    first = run(conf, out=tmp_path / "first").folder.path
    np.save(tmp_path / "image.npy", np.random.default_rng(1).normal(size=(ITEMS, 30)).astype(np.float32))
    plan, data = make_plan(load_spec(conf)), DataCache()
    loaded = load_features(plan, data.dataset(plan).catalog)
    again = recommender_features(plan, loaded, RunFolder(first))
    axes = read_axes(RunFolder(first).axes)["image"]
    torch.testing.assert_close(again.features["image"], loaded.features["image"] @ axes)
    assert recommender_features(plan, loaded).axes["image"].shape[1] > 20  # which are not computed from these
    warm = run(conf, {"train.start_from": str(first)}, out=tmp_path / "warm")
    assert torch.equal(read_axes(warm.folder.axes)["image"], axes)
    with pytest.raises(ConfigError, match=r"projections.image' have the shape \[6, 5\] .* \[30, 5\] now.*\[features\]"):
        run(conf, {"train.start_from": str(first), "features.rotate": 0}, out=tmp_path / "raw")


@pytest.mark.long
def test_bfloat16_is_within_its_rounding_and_bundles_stay_in_float32(conf: dict[str, Any], tmp_path: Path) -> None:
    conf["recommender"] |= {"normalize": False}
    conf["features"] = {"rotate": 0.999}
    plain = run(conf, out=tmp_path / "plain")
    result = run(conf, {"features.vector_precision": "bfloat16"}, out=tmp_path / "run")
    losses = [[row["loss"] for row in one.history] for one in (plain, result)]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=2e-3)
    bundle, image = result.bundle(), np.load(tmp_path / "image.npy")
    known = bundle.scorer.items  # type: ignore[union-attr]
    assert known.dtype == torch.float32
    bundle.add_items([NewItem("new", {}, features={"image": torch.from_numpy(image[7])})])
    torch.testing.assert_close(bundle.scorer.items[-1], known[7], atol=0.02 * float(known[7].norm()), rtol=0.0)  # type: ignore[union-attr]


def test_the_test_part_sees_the_same_axes(conf: dict[str, Any]) -> None:
    conf["features"] |= {"hide": {"image": 0.5}, "hide_at": "test"}
    plan, data = make_plan(load_spec(conf)), DataCache()
    loaded = load_features(plan, data.dataset(plan).catalog)
    short = recommender_features(plan, loaded)
    assert short.at_test is not None
    seen = short.at_test["image"].any(1)
    assert 15 < int(seen.sum()) < 25
    assert torch.equal(short.at_test["image"][seen], short.features["image"][seen])
    assert torch.equal(short.of_encoder["image"], loaded.features["image"])


def test_scores_are_those_of_the_projected_features(conf: dict[str, Any]) -> None:
    """VBPR on axes with weights V is VBPR on the features with weights A V, where nothing is left out or centered."""
    conf["recommender"] |= {"normalize": False}
    conf["features"]["rotate"] = 1.0
    plan, data = make_plan(load_spec(conf)), DataCache()
    split = data.split(plan)
    loaded = load_features(plan, split.dataset.catalog)
    short = recommender_features(plan, loaded)
    on_axes, plain = (make_recommender(plan, split, one.features) for one in (short, loaded))
    state = on_axes.state_dict()
    plain.load_state_dict(
        {n: short.axes["image"] @ x if n.endswith("projections.image") else x for n, x in state.items()}
    )
    one, other = (model.embed(x.features) for model, x in ((on_axes, short), (plain, loaded)))
    assert isinstance(one, Embeddings)
    assert isinstance(other, Embeddings)
    torch.testing.assert_close(one.items, other.items, atol=1e-5, rtol=1e-4)


def test_an_encoder_in_training_is_refused() -> None:
    features = {"train": "end2end", "rotate": 0.99}
    tables = {"data": {"name": "toyshop"}, "encoder": {"name": "color"}, "recommender": {"name": "vbpr"}}
    with pytest.raises(ConfigError, match=r'features\.rotate .* need vectors that do not change: not "end2end"'):
        make_plan(load_spec({**tables, "features": features}))
    with pytest.raises(ConfigError, match=r"features\.vector_precision need vectors that do not change"):
        make_plan(load_spec({**tables, "features": {"train": "end2end", "vector_precision": "bfloat16"}}))
    with pytest.raises(ConfigError, match=r"rotate = 1\.5"):
        make_plan(load_spec({**tables, "features": {"rotate": 1.5}}))
