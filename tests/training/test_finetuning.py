"""Contrastive fine-tuning: it aligns images with their texts, and says what it cannot do."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.sources.toyshop import pretraining_catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.color import Color
from lmm4rec.encoders.dual import Dual
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.encoding.runner import EncoderRunner
from lmm4rec.evaluation.alignment import retrieval_recall
from lmm4rec.experiments.build import encoders as build_encoders
from lmm4rec.experiments.build.encoders import make_encoder
from lmm4rec.nn.losses import contrastive
from lmm4rec.training import finetuning
from lmm4rec.training.contrastive import Contrastive
from lmm4rec.training.finetuning import fit_pairs
from lmm4rec.training.saved_tensors import read_saved
from process_kills import kill_when
from toys import Dots, Toy, toy_items

OPTIONS: dict[str, Any] = {
    "epochs": 6, "batch_size": 32, "learning_rate": 1e-3, "patience": 0, "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return pretraining_catalog(seed=3, items=160)


@pytest.fixture
def clip(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clip:
    pytest.importorskip("transformers")
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    return Clip(checkpoint=str(build_encoders.tiny_encoder(Clip, catalog, text="{title}. {description}")))


def found(clip: Clip, pairs: list[Item]) -> float:
    with torch.inference_mode():
        vectors = clip.eval()(clip.prepare(pairs))
    return retrieval_recall(vectors["image"], vectors["text"])["retrieval_recall@5"]


@pytest.mark.slow
def test_finetuning_aligns_images_with_their_texts(clip: Clip, catalog: Catalog) -> None:
    pairs = [item for item in catalog if item.image is not None]
    before, scale = found(clip, pairs), clip.logit_scale.item()
    history = fit_pairs(clip, pairs, None, **OPTIONS | {"epochs": 20})
    assert history.rows[-1]["loss"] < 0.5 * history.rows[0]["loss"]
    chance = 5 / len(pairs)
    assert before < 3 * chance
    # machines round differently and the best of 20 epochs is chosen by 16 held-out pairs: 0.3 to 0.8 were seen
    assert found(clip, pairs) > 5 * chance
    assert clip.logit_scale.item() != scale


def test_the_loss_of_equal_vectors_is_the_log_of_the_batch() -> None:
    same = F.normalize(torch.ones(8, 4), dim=1)
    assert float(contrastive(same, same, torch.tensor(10.0))) == pytest.approx(torch.tensor(8.0).log().item())


TOY: dict[str, Any] = {
    "epochs": 4, "batch_size": 8, "learning_rate": 1e-2, "patience": 0, "precision": "float32", "device": "cpu",
}  # fmt: skip


class KilledError(Exception):
    pass


@pytest.mark.long
@pytest.mark.parametrize("killed_after", [1, 3])
def test_killed_it_goes_on_with_the_same_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    """With crops, flips, masks, dropout and stochastic depth the numbers are those of a training left alone."""
    options = TOY | {"crop": 0.3, "flip": True, "mask": 0.3}
    state, whole = tmp_path / "state.safetensors", Toy(dropout=0.2, drop_path=0.3)
    expected = fit_pairs(whole, toy_items(30), None, **options)
    monkeypatch.setattr(finetuning, "Trainer", functools.partial(finetuning.Trainer, checkpoint_every_s=0.0))
    looks = iter(range(-1, killed_after))  # the first is before training

    def kill(image: Tensor, text: Tensor) -> dict[str, float]:
        if next(looks, None) is None:
            raise KilledError
        return retrieval_recall(image, text)

    monkeypatch.setattr(finetuning, "retrieval_recall", kill)
    with pytest.raises(KilledError):
        fit_pairs(Toy(dropout=0.2, drop_path=0.3), toy_items(30), state, **options)
    monkeypatch.setattr(finetuning, "retrieval_recall", retrieval_recall)
    torch.manual_seed(123)  # the global generator has no part in it
    resumed = Toy(dropout=0.2, drop_path=0.3)
    tuned = fit_pairs(resumed, toy_items(30), state, **options)
    assert tuned.rows == expected.rows
    assert (tuned.before, tuned.after) == (expected.before, expected.after)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    still = fit_pairs(Toy(), toy_items(30), None, **TOY)
    assert still.rows != expected.rows


SCRIPT = """
import functools, json, sys
from pathlib import Path
from toys import Toy, toy_items
from lmm4rec.training import finetuning
finetuning.Trainer = functools.partial(finetuning.Trainer, checkpoint_every_s=0.0)
finetuning.fit_pairs(Toy(dropout=0.2, drop_path=0.3), toy_items(60), Path(sys.argv[1]), **json.loads(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_with_sigkill_it_ends_with_the_same_numbers(tmp_path: Path) -> None:
    options = TOY | {"epochs": 12, "crop": 0.3, "flip": True, "mask": 0.3, "chunk": 3}
    expected = fit_pairs(Toy(dropout=0.2, drop_path=0.3), toy_items(60), None, **options)
    state = tmp_path / "state.safetensors"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(state), json.dumps(options)], env={**os.environ, "PYTHONPATH": path}
    )
    kill_when(lambda: state.exists() and _epochs(state) >= 2, process, seconds=100)
    assert 2 <= _epochs(state) < 12
    resumed = fit_pairs(Toy(dropout=0.2, drop_path=0.3), toy_items(60), state, **options)
    assert resumed.rows == expected.rows
    assert resumed.after == expected.after


def _epochs(state: Path) -> int:
    return len(read_saved(state)[1]["history"]["rows"])


@pytest.mark.long
def test_before_and_after_are_of_the_same_held_out_pairs() -> None:
    """After is the best epoch's look, before that of the untouched encoder; the encoder holds the best weights."""
    encoder = Toy()
    tuned = fit_pairs(encoder, toy_items(40), None, **TOY | {"valid": 0.5})
    looks = [row["retrieval_recall@5"] for row in tuned.rows]
    assert tuned.after["retrieval_recall@5"] == max(looks) == tuned.best
    untouched = fit_pairs(Toy(), toy_items(40), None, **TOY | {"valid": 0.5, "epochs": 1})
    assert tuned.before == untouched.before
    assert not encoder.training


@pytest.mark.long
def test_steps_are_in_training_mode_and_validation_is_not() -> None:
    encoder, modes = Toy(), set()
    encoder.register_forward_hook(lambda module, *_: modes.add((torch.is_grad_enabled(), module.training)))
    fit_pairs(encoder, toy_items(12), None, **TOY)
    assert modes == {(True, True), (False, False)}


@pytest.mark.long
def test_tuning_that_makes_it_worse_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    encoder = Toy()
    good = fit_pairs(encoder, toy_items(40), None, **TOY | {"epochs": 15, "valid": 0.0})
    assert "fine-tuned for 15 epochs; held-out image-text retrieval recall@5" in caplog.text
    assert "made it worse" not in caplog.text
    worse = fit_pairs(encoder, toy_items(40), None, **TOY | {"learning_rate": 10.0, "epochs": 1, "valid": 0.5})
    assert worse.after["retrieval_recall@5"] < worse.before["retrieval_recall@5"]
    assert "fine-tuning made it worse; try a lower learning_rate" in caplog.text
    assert good.rows[-1]["loss"] < good.rows[0]["loss"]


@pytest.mark.slow
def test_checkpointing_and_bfloat16_tune_too() -> None:
    plain, thrifty = (
        fit_pairs(Toy(), toy_items(30), None, **TOY | more).rows
        for more in ({}, {"precision": "bfloat16", "checkpointing": True, "chunk": 3})
    )
    for one, other in zip(plain, thrifty, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=0.05)


@pytest.mark.long
def test_clip_is_checkpointed_by_its_library(clip: Clip, catalog: Catalog) -> None:
    items = [item for item in catalog if item.image is not None][:8]
    pairs = PreparedItems(clip, items, memory_mb=64)
    objective = Contrastive(clip, pairs, EncoderRunner(clip, precision="float32"), weights={"contrastive": 1.0}).train()
    grads = []
    for checkpointing in (False, True):
        with objective.runner.checkpointed(enabled=checkpointing):
            assert clip.model.vision_model.encoder.gradient_checkpointing == checkpointing
            loss = objective.losses(torch.arange(8), torch.Generator())["contrastive"]
            grads.append(torch.autograd.grad(loss, clip.logit_scale)[0])
    assert not clip.model.vision_model.encoder.gradient_checkpointing
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([replace(item, image=None) for item in toy_items(9)], "got 0 of 9; 0 have an image and 9 have text"),
        ([replace(item, fields={"title": ""}) for item in toy_items(9)], "got 0 of 9; 9 have an image and 0 have"),
        (toy_items(1), "needs at least 4 items with image and text, got 1 of 1; 1 have an image and 1 have text"),
        ([], "got 0 of 0"),
        (
            [replace(item, image=Dots(-1)) if row > 2 else item for row, item in enumerate(toy_items(9))],
            "got 3 of 9; the images of others cannot be read",
        ),
    ],
)
def test_too_few_whole_pairs_are_an_error_that_counts_what_there_is(items: list[Item], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        fit_pairs(Toy(), items, None, **TOY)


def test_four_pairs_are_enough() -> None:
    assert len(fit_pairs(Toy(), toy_items(4), None, **TOY).rows) == 4


def test_an_encoder_without_a_joint_space_is_refused(catalog: Catalog) -> None:
    with pytest.raises(TrainingError, match="Color gives image and cannot be fine-tuned"):
        fit_pairs(Color(), list(catalog), None)


def test_an_encoder_with_one_output_is_refused_with_what_to_change(clip: Clip, catalog: Catalog) -> None:
    one = Clip(checkpoint=clip.checkpoint, outputs="image")
    with pytest.raises(
        TrainingError, match=r'Clip gives image and cannot be fine-tuned .* set outputs = "image\+text"'
    ):
        fit_pairs(one, list(catalog), None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Clip, Dual])
def test_a_tuned_encoder_is_found_again(
    kind: type[Clip | Dual], catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    template = "{title}. {description}"

    def untouched() -> Encoder:
        return kind(checkpoint=str(build_encoders.tiny_encoder(kind, catalog, text=template)))

    first, seconds = build_encoders.finetuned(untouched(), catalog, OPTIONS | {"epochs": 2})

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(build_encoders, "fit_pairs", never)
    again, known = build_encoders.finetuned(untouched(), catalog, OPTIONS | {"epochs": 2})
    assert known == pytest.approx(seconds, abs=1e-3)  # what it cost is known where it cost nothing this time
    assert seconds > 0
    assert again.fingerprint() == first.fingerprint() != untouched().fingerprint()
    assert first.logit_scale.item() != untouched().logit_scale.item()
    with torch.inference_mode():
        vectors = again(again.prepare(catalog[:4]))
    assert set(vectors) == {"image", "text"}
    assert isinstance(again.prepare(catalog[:1]), Inputs)
    folders = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "cache" / "encoders").iterdir()}
    assert folders == {f"tiny-{kind.__name__.lower()}", "tuned"}


@pytest.mark.long
@pytest.mark.parametrize("name", ["clip", "dual"])
def test_a_conf_names_the_tiny_and_the_toyshop_checkpoint(
    name: str, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "tiny" has the catalog's vocabulary; "toyshop" is that of the second catalog, fine-tuned as the options say."""
    pytest.importorskip("transformers")
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build_encoders, "_TOYSHOP_ITEMS", 40)
    monkeypatch.setattr(build_encoders, "_TOYSHOP_TRAINING", OPTIONS | {"epochs": 1})
    table = {"name": name, "text": "{title}", "outputs": "text"}
    tiny, toyshop = (make_encoder(table | {"checkpoint": checkpoint}, catalog) for checkpoint in ("tiny", "toyshop"))
    assert tiny.modalities == toyshop.modalities == ("text",)
    assert tiny.fingerprint() != toyshop.fingerprint()
    assert make_encoder(table | {"checkpoint": "toyshop"}, catalog).fingerprint() == toyshop.fingerprint()
