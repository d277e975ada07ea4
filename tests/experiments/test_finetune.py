"""Fine-tuning from a conf file: the fine-tuned encoder is an encoder like any other, its cost is reported before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lmm4rec.core.errors import ConfigError, TrainingError
from lmm4rec.core.files import read_json
from lmm4rec.core.registry import hyper_parameters
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.sources.toyshop import pretraining_catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.beit3 import Beit3
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.dual import Dual
from lmm4rec.encoders.vlmo import Vlmo
from lmm4rec.experiments.build import encoders as build_encoders
from lmm4rec.experiments.build.encoders import make_encoder
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.estimate.estimate import Estimate, readable
from lmm4rec.experiments.estimate.finetuning import estimate_finetuning
from lmm4rec.experiments.folder import open_folder
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.run import run
from lmm4rec.training.finetuning import fit_pairs

pytest.importorskip("transformers")
pytest.importorskip("sentencepiece")

KINDS = {"clip": Clip, "dual": Dual, "vlmo": Vlmo, "beit3": Beit3}
OPTIONS: dict[str, Any] = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "precision": "float32"}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return pretraining_catalog(seed=5, items=40)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(name: str, catalog: Catalog, **more: Any) -> Encoder:
    return make_encoder({"name": name, "checkpoint": "tiny", "text": "{title}"} | more, catalog)


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_a_tuned_folder_is_a_checkpoint(name: str, catalog: Catalog) -> None:
    """It gives the vectors of the encoder that was fine-tuned, with the other keys of the conf as they were."""
    encoder = make(name, catalog, text_len=20)
    untouched = encoder.fingerprint()
    folder = build_encoders.finetune(encoder, catalog, OPTIONS)
    again = make(name, catalog, checkpoint=str(folder), text_len=20)
    assert again.fingerprint() == encoder.fingerprint() != untouched
    inputs = encoder.prepare(catalog[:5])
    with torch.inference_mode():
        for modality, vectors in encoder(inputs).items():
            torch.testing.assert_close(again.eval()(again.prepare(catalog[:5]))[modality], vectors)
    record = read_json(folder / build_encoders.TRAINING)
    assert record["fine_tuning"]["recipe"] == "plain"
    assert record["fine_tuning"]["learning_rate"] == OPTIONS["learning_rate"]
    assert record["fine_tuning"]["weight_decay"] == 0.1
    assert record["options"]["epochs"] == len(record["epochs"]) == 1
    assert record["before"].keys() == record["after"].keys() == {f"retrieval_recall@{k}" for k in (1, 5, 10)}


@pytest.mark.long
def test_vlmo_trains_its_other_space_and_its_matching_head(catalog: Catalog) -> None:
    encoder = make("vlmo", catalog, outputs="fused")
    assert isinstance(encoder, Vlmo)
    heads = ("logit_vl_scale", "vl_image.weight", "itm.weight", "pooler.weight", "itc_text.weight")
    before = {name: encoder.model.get_parameter(name).detach().clone() for name in heads}
    rows = fit_pairs(encoder, catalog[:], None, **OPTIONS).rows
    assert {"loss.contrastive", "loss.contrastive_vl", "loss.matching"} <= set(rows[0])
    for name, weight in before.items():
        assert not torch.equal(weight, encoder.model.get_parameter(name)), name


def test_vlmo_gives_its_spaces_in_the_order_of_its_variant(catalog: Catalog) -> None:
    own, both = make("vlmo", catalog), make("vlmo", catalog, variant="vl")
    assert isinstance(own, Vlmo)
    assert isinstance(both, Vlmo)
    assert (own.spaces, both.spaces) == (("itc", "vl"), ("vl", "itc"))
    inputs = own.prepare(catalog[:4])
    with torch.inference_mode():
        for encoder in (own.eval(), both.eval()):
            image, text = encoder.aligned(inputs, encoder.spaces[0])
            torch.testing.assert_close(encoder(inputs), {"image": image, "text": text})
        torch.testing.assert_close(own.aligned(inputs, "vl"), both.aligned(inputs, "vl"))


def test_the_matching_head_is_saved_under_its_official_name(catalog: Catalog, tmp_path: Path) -> None:
    """And a checkpoint without it gives an encoder that says so."""
    from safetensors.torch import load_file, save_file

    encoder = make("vlmo", catalog)
    assert isinstance(encoder, Vlmo)
    assert encoder.matches
    encoder.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert torch.equal(weights.pop("itm_score.fc.weight"), encoder.model.itm.weight)
    del weights["itm_score.fc.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    without = make("vlmo", catalog, checkpoint=str(tmp_path))
    assert isinstance(without, Vlmo)
    assert not without.matches
    with pytest.raises(TrainingError, match=r"matching_weight = 1\.0, but this Vlmo has no head"):
        fit_pairs(without, catalog[:], None, **OPTIONS | {"matching_weight": 1.0})


@pytest.mark.long
def test_the_estimate_counts_what_training_does(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs, steps and passes by hand, and what the training that follows really does."""
    whole = [item for item in catalog if item.image is not None and item.fields["title"]]
    options = OPTIONS | {"epochs": 3, "batch_size": 8, "valid": 0.25, "patience": 0}
    encoder = make("clip", catalog)
    fingerprint = encoder.fingerprint()
    estimate = estimate_finetuning(encoder, catalog, options)
    assert encoder.fingerprint() == fingerprint
    held_out = round(0.25 * len(whole))
    rest = len(whole) - held_out
    steps = 3 * (rest // 8 + (rest % 8 >= 2))
    assert estimate.details == f"{rest} items, {steps} steps"
    assert estimate.passes == 3 * rest
    assert estimate.facts()["recipe"].startswith("plain: learning_rate = 0.001, weight_decay = 0.1, warmup = 0.1")
    assert estimate.forward_passes == (3 + 2) * held_out + 2 * len(catalog)
    assert estimate.disk_mb == pytest.approx(sum(weight.nbytes for weight in encoder.parameters()) / 2**20)
    passed = []
    encoder.register_forward_hook(lambda *_: passed.append(torch.is_grad_enabled()))
    fit_pairs(encoder, catalog[:], None, **options)
    assert sum(passed) == steps


@pytest.mark.long
def test_the_estimate_of_memory_follows_batch_and_chunk(catalog: Catalog) -> None:
    encoder = make("clip", catalog)
    small, large, chunked = (
        estimate_finetuning(encoder, catalog, OPTIONS | {"batch_size": size, "chunk": chunk}).memory_mb
        for size, chunk in ((4, 0), (32, 0), (32, 4))
    )
    assert small < chunked < large


def test_an_estimate_reads_well() -> None:
    estimate = Estimate("fine-tuning Clip", 5400.0, 812.4, 18000, 2000, 12.5, details="900 items, 160 steps")
    assert str(estimate) == (
        "fine-tuning Clip: 900 items, 160 steps; 18,000 items with gradient, 2,000 items without gradient; 1.5 h, "
        "812 MB beside Python and torch, at most"
    )
    assert estimate.facts()["time"] == "1.5 h (1.50 h), at most"
    assert [readable(seconds) for seconds in (3.2, 100, 7200)] == ["3.2 s", "1.7 min", "2.0 h"]


def test_an_estimate_of_what_cannot_be_is_the_error_of_training(catalog: Catalog) -> None:
    words = pretraining_catalog(seed=5, items=6)
    bare = Catalog(words.ids, words.fields, (None,) * 6, words.source_rows, words.source_size)
    with pytest.raises(TrainingError, match="0 have an image and 6 have text"):
        estimate_finetuning(make("clip", catalog), bare, {})


@pytest.mark.long
def test_another_recipe_is_another_encoder_in_the_cache(catalog: Catalog) -> None:
    encoder = make("beit3", catalog)
    options = [{"recipe": "plain"}, {"recipe": "official"}, {"recipe": "official", "drop_path": 0.0}]
    folders = {build_encoders.finetuned_folder(encoder, catalog, OPTIONS | more) for more in options}
    assert len(folders) == 3
    by_encoder = make("beit3", catalog, drop_path=0.1)
    assert by_encoder.fingerprint() == encoder.fingerprint()
    assert build_encoders.finetuned_folder(by_encoder, catalog, OPTIONS) not in folders


def test_plain_fills_its_numbers_in_and_another_recipe_leaves_them_to_the_encoder() -> None:
    def table(**finetune: Any) -> dict[str, Any]:
        plan = make_plan(load_spec(CONF | {"features": {"train": "finetuned", "finetune": finetune}}))
        return dict(plan.tables["features"]["finetune"])

    keys = ("learning_rate", "weight_decay", "warmup")
    assert [table()[key] for key in keys] == [1e-5, 0.1, 0.1]
    official = table(recipe="official", warmup=0.3)
    assert official["warmup"] == 0.3
    assert not {"learning_rate", "weight_decay", "layer_decay", "drop_path"} & set(official)
    with pytest.raises(ConfigError, match=r"features\.finetune\.recipe = 'oficial' does not fit"):
        table(recipe="oficial")


def test_a_run_folder_from_before_the_recipes_is_resumed(tmp_path: Path) -> None:
    plan = make_plan(load_spec(CONF | {"features": {"finetune": {"learning_rate": 2e-4}}}))
    folder = open_folder(plan, tmp_path / "run", resume=False)
    text = folder.experiment.read_text()
    assert text.count('recipe = "plain"\n') == 1
    folder.experiment.write_text(text.replace('recipe = "plain"\n', ""))
    resumed = open_folder(plan, folder.path, resume=True)
    assert resumed.plan().tables["features"]["finetune"] == plan.tables["features"]["finetune"]
    other = make_plan(load_spec(CONF | {"features": {"finetune": {"recipe": "official"}}}))
    with pytest.raises(ConfigError, match=r"features\.finetune\.recipe was 'plain', now 'official'"):
        open_folder(other, folder.path, resume=True)


CONF: dict[str, Any] = {
    "data": {"name": "toyshop", "users": 40, "items": 60, "interactions": 600},
    "encoder": {"name": "clip", "checkpoint": "tiny"},
    "recommender": {"name": "vbpr", "dim": 8},
    "train": {"epochs": 1},
}


@pytest.mark.slow
def test_a_run_measures_alignment_before_and_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    features = {"train": "finetuned", "finetune": OPTIONS | {"epochs": 2}}
    tuned = run(CONF | {"features": features}, out=tmp_path / "tuned")
    frozen = run(CONF, out=tmp_path / "frozen")
    alignment = tuned.metrics["alignment"]
    numbers = tuned.metrics["features"]["fine_tuning"]
    assert (numbers["recipe"], numbers["learning_rate"], numbers["layer_decay"]) == ("plain", 1e-3, 1.0)
    assert alignment["before"] == frozen.metrics["alignment"] != alignment["after"]
    assert {"alignment", "uniformity_image", "uniformity_text", "modality_gap"} <= set(alignment["after"])
    assert caplog.text.index("fine-tuning Clip: ") < caplog.text.index("tuned for 2 epochs")
    page = (tmp_path / "tuned" / "report.html").read_text()
    assert "Modality gap" in page
    assert "before training" in page
    assert f"{alignment['before']['modality_gap']:.3f}" in page
    assert "before training" not in (tmp_path / "frozen" / "report.html").read_text()


@pytest.mark.long
def test_a_run_without_texts_or_images_has_no_alignment(tmp_path: Path) -> None:
    result = run(CONF | {"encoder": {"name": "words"}}, out=tmp_path / "run")
    assert "alignment" not in result.metrics
    assert "Modality gap" not in (tmp_path / "run" / "report.html").read_text()
    json.dumps(result.metrics)


def test_the_shipped_conf_names_every_key_and_a_wrong_one_is_an_error_also_while_frozen() -> None:
    spec = load_spec(Path(__file__).parents[2] / "conf" / "vbpr.conf")
    keys = hyper_parameters(fit_pairs)
    left_to_the_recipe = {name for name, key in keys.items() if key.default is None and name != "learning_rate"}
    assert set(spec.table("features")["finetune"]) == set(keys) - left_to_the_recipe
    assert make_plan(spec).tables["features"]["train"] == "frozen"
    with pytest.raises(ConfigError, match=r"no parameter 'epoch'\. Did you mean 'epochs'\?"):
        make_plan(load_spec(CONF, {"features.finetune.epoch": 3}))
