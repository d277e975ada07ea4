"""Encoders by name in Python, with what a conf takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lmm4rec
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import cache_folder
from lmm4rec.experiments.build import encoders as build_encoders
from lmm4rec.features.store import FeatureStore


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def catalog() -> lmm4rec.Catalog:
    return lmm4rec.load_dataset("toyshop", users=30, items=40, interactions=300).catalog


@pytest.mark.long
def test_a_tiny_encoder_has_the_vocabulary_of_the_catalog(catalog: lmm4rec.Catalog) -> None:
    encoder = lmm4rec.load_encoder("clip", checkpoint="tiny", catalog=catalog)
    ids = encoder.prepare(catalog[:]).text_ids
    assert ids is not None
    texts = {encoder.item_text(item) for item in catalog}
    assert len({tuple(row) for row in ids.tolist()}) == len(texts)
    features = lmm4rec.encode(encoder, catalog)
    assert {modality: len(x) for modality, x in features.items()} == {"image": 40, "text": 40}
    with pytest.raises(ConfigError, match=r"learned from a catalog: pass catalog=dataset\.catalog"):
        lmm4rec.load_encoder("clip", checkpoint="tiny")


@pytest.mark.long
def test_the_toyshop_checkpoint_is_trained_once_and_needs_no_catalog(
    catalog: lmm4rec.Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_encoders, "_TOYSHOP_ITEMS", 40)
    monkeypatch.setattr(build_encoders, "_TOYSHOP_TRAINING", build_encoders._TOYSHOP_TRAINING | {"epochs": 1})
    encoder = lmm4rec.load_encoder("dual", checkpoint="toyshop").eval()
    (untrained,) = (cache_folder() / "encoders").glob("tiny-dual-*")
    assert encoder.fingerprint() != lmm4rec.load_encoder("dual", checkpoint=str(untrained)).fingerprint()
    with torch.inference_mode():
        vectors = encoder(encoder.prepare(catalog[:3]))
    assert {modality: tuple(x.shape) for modality, x in vectors.items()} == {
        modality: (3, dim) for modality, dim in encoder.dims.items()
    }

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(build_encoders, "fit_pairs", never)
    assert lmm4rec.load_encoder("dual", checkpoint="toyshop").fingerprint() == encoder.fingerprint()


@pytest.mark.long
def test_what_the_face_gives_prints_as_one_line(tmp_path: Path) -> None:
    dataset = lmm4rec.load_dataset("toyshop", items=30, users=20, interactions=200)
    split = lmm4rec.split(dataset, "random", valid=0.1, test=0.1, seed=0)
    conf = {"data": {"name": "toyshop", "items": 30, "users": 20, "interactions": 200}, "recommender": {"name": "bpr"},
            "train": {"epochs": 1}}  # fmt: skip
    result = lmm4rec.run(conf, out=tmp_path / "run")
    encoder = lmm4rec.load_encoder("color")
    bundle = result.bundle()
    shown = {
        "Dataset('toyshop': 20 users, 30 items, 200 interactions)": dataset,
        "Interactions(200, with ratings, timestamps)": dataset.interactions,
        f"Catalog(30 items: title, description; {dataset.catalog.has_image.sum()} with an image)": dataset.catalog,
        f"Split('toyshop', random: {len(split.train)} train, {len(split.valid)} valid, {len(split.test)} test)": split,
        "Split('toyshop', random: test part sealed)": split.without_test(),
        "Vocabulary(20 users: 'u001', 'u002', 'u003', …)": dataset.users,
        "Color(image 294; 0 parameters)": encoder,
        "Bundle(BPR: 20 users, 30 items, 200 interactions)": bundle,
        "Embeddings(20 users, 30 items, 64 columns)": bundle.scorer,
        "Inputs(pixels [2, 3, 64, 64], has_image [2])": encoder.prepare(dataset.catalog[:2]),
        "NewItem('x': title, an image)": lmm4rec.NewItem("x", {"title": "mug"}, b"..."),
        f"FeatureStore('{tmp_path}')": FeatureStore(tmp_path),
        f"Result(BPR in {tmp_path}/run: recall@": result,
    }
    for text, value in shown.items():
        assert repr(value)[: len(text)] == text
        assert "\n" not in repr(value)
        assert len(repr(value)) < 200
