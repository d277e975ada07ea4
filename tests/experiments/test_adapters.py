"""Adapters as a conf file names them: they run, learn, are saved, and what they take is told before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from layered import build, catalog, complete_inputs
from lmm4rec.core.errors import ConfigError
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.end2end import save_item_vectors
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.estimate.end2end import forward_passes, items_per_epoch
from lmm4rec.experiments.estimate.run import estimate_run
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.run import run
from lmm4rec.features.adapters import make_item_vectors
from lmm4rec.features.side_files import SavedSide
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.content_encoder import ContentEncoder
from lmm4rec.training.sampler import TripleSampler

CONF: dict[str, Any] = {
    "data": {"name": "toyshop", "users": 60, "items": 40, "interactions": 600},
    "encoder": {"name": "clip", "checkpoint": "tiny"},
    "features": {"train": "end2end", "precision": "float32", "end2end": {"learning_rate": 1e-3}},
    "recommender": {"name": "vbpr", "dim": 8, "content_dim": 8},
    "train": {"epochs": 2, "batch_size": 256, "device": "cpu"},
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path_factory.getbasetemp() / "adapters-cache"))


def conf(adapter: str, **own: Any) -> dict[str, Any]:
    pytest.importorskip("transformers")
    features = CONF["features"] | {"adapter": adapter, "end2end": CONF["features"]["end2end"] | own}
    return CONF | {"features": features}


@pytest.mark.slow
@pytest.mark.parametrize(("adapter", "own"), [("lora", {"rank": 2}), ("last", {"blocks": 1}), ("side", {"dim": 8})])
def test_a_run_with_an_adapter_changes_what_ranks_and_says_what_it_took(
    adapter: str, own: dict[str, Any], tmp_path: Path
) -> None:
    if adapter == "lora":
        pytest.importorskip("peft")
    result = run(conf(adapter, precision="float32", **own), out=tmp_path / "run")
    cost = result.metrics["cost"]
    assert cost["trainable_encoder_parameters"] > 0
    assert cost["encoded"] > 0
    assert (cost["encoder_passes"] == 0) == (adapter == "side")
    if adapter != "side":
        assert cost["trainable_encoder_parameters"] < cost["encoder_parameters"]
    saved = {path.name for path in (tmp_path / "run" / "encoder").iterdir()}
    assert saved >= {"lora": {"lora.safetensors", "model.safetensors"}, "last": {"model.safetensors"}}.get(
        adapter, {"side.safetensors", "side.json"}
    )
    _takes_new_items_like_the_run(result, tmp_path)


def _takes_new_items_like_the_run(result: Result, folder: Path) -> None:
    """The bundle's encoder gives the features that rank; they are kept in half precision, within 5e-4 below 1."""
    bundle, items = result.bundle(), DataCache().dataset(result.plan).catalog
    assert bundle.encoder is not None
    encoder = ContentEncoder(bundle.encoder.build(lambda: items[:]))
    kept = load_file(next((folder / "run" / "bundle").glob("features-*.safetensors")))
    for modality, x in encoder.encode(items[:]).items():
        torch.testing.assert_close(x, kept[modality].float(), atol=1e-3, rtol=0)
    bundle.add_items([NewItem("new", items[3].fields, items[3].image)])
    vectors, columns = bundle.scorer.items, bundle.scorer.parts["image"]  # type: ignore[attr-defined]
    torch.testing.assert_close(vectors[-1, columns], vectors[3, columns], atol=1e-3, rtol=1e-2)


@pytest.mark.long
@pytest.mark.parametrize("adapter", ["lora", "last", "side"])
def test_a_saved_encoder_gives_the_vectors_that_were_learned(adapter: str, layered_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    encoder = build("clip", layered_root)
    frozen = encoder(complete_inputs(encoder))
    options = {"last": {"blocks": 1}, "side": {"dim": 8}, "lora": {"rank": 2}}[adapter]
    encoding = {"root": tmp_path / "states", "precision": "float32"} if adapter != "lora" else {}
    vectors = make_item_vectors(encoder, catalog(), adapter, encoding, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in vectors.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)), alpha=0.05)
        learned = vectors.eval()(torch.tensor([0, 1, 4, 5]))
    save_item_vectors(vectors, tmp_path / "saved")
    if adapter == "side":
        again = SavedSide.read(tmp_path / "saved").network().state_dict()
        assert all(torch.equal(again[name], one) for name, one in vectors.side.state_dict().items())  # type: ignore[attr-defined]
        return
    saved = type(encoder).from_pretrained(tmp_path / "saved").eval()  # type: ignore[attr-defined]
    saved.text = encoder.text
    with torch.no_grad():
        for modality, x in saved(complete_inputs(saved)).items():
            torch.testing.assert_close(x, learned[modality], atol=0.02 if adapter == "last" else 1e-4, rtol=0)
            assert (x - frozen[modality]).abs().max() > 0.05


@pytest.mark.long
@pytest.mark.parametrize("adapter", ["none", "last", "side"])
def test_a_dry_run_reports_passes_time_memory_and_disk_and_does_nothing(adapter: str, tmp_path: Path) -> None:
    own = {"blocks": 1} if adapter == "last" else {}
    estimate = estimate_run(conf(adapter, max_items=16, **own))
    assert estimate.seconds > 0
    assert estimate.items_per_s > 0
    assert 0 < estimate.trainable <= estimate.parameters
    facts = estimate.facts()
    assert ("training the side network end to end" in facts) == (adapter == "side")
    assert ("disk" in facts) == (adapter != "none")
    assert "MB" in facts["memory"]
    assert not list(tmp_path.iterdir())


def test_a_dry_run_without_training_an_encoder_counts_the_items_to_encode() -> None:
    estimate = estimate_run(conf("none") | {"features": {"train": "frozen"}})
    assert (estimate.forward_passes, estimate.passes) == (40, 0)
    assert estimate_run({"data": CONF["data"], "recommender": {"name": "bpr"}}).forward_passes == 0


def test_encodings_are_counted_as_live_features_take_them() -> None:
    """Four batches of two pairs; each batch's distinct items are counted by hand from the same draws."""
    users, items = torch.arange(8), torch.arange(8)
    sampler = TripleSampler(users, items, 20, batch_size=2)
    met = [
        set(batch.positives.tolist()) | set(batch.negatives.flatten().tolist())
        for batch in sampler.epoch(torch.Generator().manual_seed(0))
    ]
    live = {"every": 1, "max_items": 0}
    assert items_per_epoch(sampler, live) == sum(map(len, met))
    assert items_per_epoch(sampler, live | {"max_items": 2}) == 8
    assert items_per_epoch(sampler, live | {"every": 2}) == len(met[0] | met[1]) + len(met[2] | met[3])
    assert items_per_epoch(sampler, live | {"every": "epoch"}) == len(set().union(*met))
    once = {"warm_start": 0, "refresh_every": 0, "validate_on": "table"}
    assert forward_passes(100, 10, 1, once) == 100
    assert forward_passes(100, 10, 2, once | {"validate_on": "fresh"}) == 600
    assert forward_passes(100, 10, 2, once | {"warm_start": 4, "refresh_every": 1}) == 700
    both = once | {"refresh_every": 2, "validate_on": "fresh"}
    assert forward_passes(100, 12, 3, both) == 900  # after epochs 2, 3, 4, 6, 8, 9, 10 and 12, and at the end
    assert forward_passes(100, 12, 5, both | {"refresh_every": 0}) == 400  # 5, 10, and the last one
    assert forward_passes(100, 12, 4, both | {"refresh_every": 0, "warm_start": 12}) == 100


@pytest.mark.parametrize(
    ("adapter", "own", "expected"),
    [
        ("lora", {"blocks": 1}, r"no parameter 'blocks'.* It takes: .*rank"),
        ("last", {"blocks": 0}, "features.end2end.blocks = 0 does not fit"),
        ("none", {"rank": 8}, "no parameter 'rank'"),
        ("lorra", {}, "features.adapter = 'lorra' does not fit"),
    ],
)
def test_keys_are_those_of_the_adapter(adapter: str, own: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        make_plan(load_spec(conf(adapter, **own)))


def test_an_adapter_without_training_is_refused() -> None:
    table = conf("side")
    with pytest.raises(ConfigError, match='adapter = "side" is for train = "end2end", but train is "frozen"'):
        make_plan(load_spec(table | {"features": {"train": "frozen", "adapter": "side"}}))


@pytest.mark.long
def test_layers_that_are_not_there_stop_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="top 3 blocks are to train, but the image tower of Clip has 2"):
        run(conf("last", blocks=3), out=tmp_path / "run")
