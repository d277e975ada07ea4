"""Runs that train the encoder too: what they leave behind is of the final weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.build.recommenders import make_recommender
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.run import run
from lmm4rec.features.extract import extract
from lmm4rec.features.side_files import SavedSide
from lmm4rec.features.state_files import StoredStates
from lmm4rec.features.store import FeatureStore

Conf = dict[str, Any]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def conf(**features: Any) -> Conf:
    pytest.importorskip("transformers")
    end2end = {"learning_rate": 1e-3, "precision": "float32"} | features.pop("end2end", {})
    return {
        "data": {"name": "toyshop", "items": 40, "users": 30, "interactions": 300},
        "encoder": {"name": "clip", "checkpoint": "tiny"},
        "features": {"train": "end2end", "precision": "float32", "end2end": end2end, **features},
        "recommender": {"name": "vbpr", "dim": 4, "content_dim": 4},
        "train": {"epochs": 2, "batch_size": 128, "learning_rate": 0.02, "checkpoint_every_s": 0.0},
    }


def best_weights(folder: Path) -> dict[str, Tensor]:
    tensors, prefix = load_file(folder / "checkpoint" / "state.safetensors"), "best.recommender."
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


@pytest.mark.long
def test_what_is_ranked_and_what_is_saved_are_of_the_final_weights(tmp_path: Path) -> None:
    given = conf(end2end={"max_items": 16, "validate_on": "table"})
    result = run(given, out=tmp_path / "run")
    plan = make_plan(load_spec(given))
    split = DataCache().split(plan)
    trained = Clip.from_pretrained(tmp_path / "run" / "encoder")
    store = FeatureStore(tmp_path / "store")
    features = extract(trained, split.dataset.catalog, store=store, precision="float32").features
    before = load_features(plan, split.dataset.catalog).features
    assert all((features[modality] - before[modality]).abs().max() > 1e-3 for modality in ("image", "text"))
    recommender = make_recommender(plan, split, features)
    recommender.load_state_dict(best_weights(tmp_path / "run"))
    with torch.no_grad():
        expected = recommender.embed(features)
    torch.testing.assert_close(result.bundle().scorer.items, expected.items, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_its_cost_is_on_record(tmp_path: Path) -> None:
    """Two batches an epoch that meet all 40 items or nearly, and a look at all of them before each validation."""
    result = run(conf(end2end={"max_items": 10}), out=tmp_path / "run")
    cost, rows = result.metrics["cost"], result.history
    assert [row["encoded"] for row in rows] == [20, 20]
    assert [row["refreshed"] for row in rows] == [40, 40]
    assert (cost["encoded"], cost["refreshed"], cost["encodings"]) == (40, 80, 120)
    assert cost["encodings_per_epoch"] == 60
    assert 0 < cost["trainable_encoder_parameters"] == cost["encoder_parameters"] < cost["parameters"]
    assert {"encode_seconds", "train_seconds", "validate_seconds", "evaluate_seconds"} <= set(cost)
    best = rows[result.metrics["chosen"]["epoch"] - 1]
    assert result.metrics["valid"]["recall@20"] == best["recall@20"]
    page = result.folder.report.read_text(encoding="utf-8")
    assert "Encodings" in page
    assert "clip · end2end" in page


@pytest.mark.long
def test_the_trained_side_of_a_pair_is_saved(tmp_path: Path) -> None:
    given = conf(end2end={"every": "epoch"})
    image = {"name": "clip", "checkpoint": "tiny", "outputs": "image"}
    given["encoder"] = {"name": "paired", "image": image, "text": {"name": "words", "dim": 8}}
    run(given, {"train.epochs": 1}, out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "encoder").iterdir()] == ["image"]
    assert set(Clip.from_pretrained(tmp_path / "run" / "encoder" / "image").dims) == {"image"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"recommender.name": "popular"}, "Popular has no gradient, so no encoder can be trained with it"),
        ({"encoder.name": "color"}, "Color has no weights to train, so it cannot be trained end to end"),
        ({"features.end2end.alignment_weight": 0.1, "features.modalities": ["text"]}, "not both are among the modalit"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, overrides: Conf, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(conf(), overrides, out=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "last"])
def test_a_modality_that_is_not_used_is_not_encoded_and_changes_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: str
) -> None:
    """Beside a run whose encoder cannot leave a modality out, so that it reads and encodes the texts in vain."""
    options = {"modalities": ["image"], "adapter": adapter} | ({"end2end": {"blocks": 1}} if adapter == "last" else {})
    given, texts = conf(**options), []
    with monkeypatch.context() as patched:
        patched.setattr(Clip, "separable", False)
        for source in (PreparedItems, StoredStates):  # else the order of passes follows from the texts
            patched.setattr(source, "text_lengths", None)
        both = run(given, out=tmp_path / "both")
    with monkeypatch.context() as patched:
        for name in ("_text", "_tokenize"):
            patched.setattr(Clip, name, lambda *_: texts.append(1))
        image = run(given, out=tmp_path / "image")
    assert texts == []
    timeless = [[{k: v for k, v in row.items() if "seconds" not in k} for row in one.history] for one in (both, image)]
    assert timeless[0] == timeless[1]
    assert image.measured.test == both.measured.test
    assert torch.equal(image.bundle().scorer.items, both.bundle().scorer.items)
    assert set(Clip.from_pretrained(tmp_path / "image" / "encoder").dims) == {"image", "text"}  # it is saved whole


@pytest.mark.long
def test_a_side_network_of_one_modality_reads_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[int] = []
    for name in ("_text", "_tokenize"):
        monkeypatch.setattr(Clip, name, lambda *_: texts.append(1))
    result = run(conf(modalities=["image"], adapter="side", end2end={"dim": 4}), out=tmp_path / "side")
    assert texts == []
    assert SavedSide.read(result.folder.encoder).facts["dims"].keys() == {"image"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_leave_one_run(tmp_path: Path) -> None:
    """The same files with the same losses; finished, it is read again."""
    (tmp_path / "small.conf").write_text(tomli_w.dumps({"title": "small", **conf()}))
    command = [sys.executable, "-m", "lmm4rec.cli.app", "run", "small.conf"]
    for out, more in (("one", []), ("two", ["--processes", "2"])):
        done = subprocess.run([*command, "-o", out, *more], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.count("Recall@20") == 2  # one table, of test and validation
    one, two = (
        [json.loads(line) for line in (tmp_path / out / "history.jsonl").read_text().splitlines()]
        for out in ("one", "two")
    )
    for mine, theirs in zip(two, one, strict=True):
        assert {name: mine[name] for name in ("loss", "encoded", "refreshed")} == pytest.approx(
            {name: theirs[name] for name in ("loss", "encoded", "refreshed")}, rel=1e-4
        )
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
    subprocess.run([*command, "-o", "two", "--processes", "2", "--resume"], cwd=tmp_path, check=True)
