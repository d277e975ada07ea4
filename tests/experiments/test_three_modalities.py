"""Images, texts and sounds in one run, each by its own encoder: `paired` of three."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lmm4rec
from lmm4rec.core.errors import ConfigError
from lmm4rec.encoders.audio import Audio
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.sentence import Sentence
from lmm4rec.encoders.vision import Vision
from lmm4rec.experiments.build.encoders import finetune
from lmm4rec.experiments.run import run
from lmm4rec.features.extract import extract
from lmm4rec.features.store import FeatureStore
from lmm4rec.testing.one_sided_encoders import ImageSide
from lmm4rec.testing.sounds import write_sound

SHOP = {"name": "toyshop", "items": 24, "users": 20, "interactions": 160}
SIDES: dict[str, type[Encoder]] = {"image": Vision, "text": Sentence, "audio": Audio}
WITHOUT_SOUND = 5  # row


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint for each modality, and a WAV file of half a second for each item but one."""
    for package in ("transformers", "sentence_transformers", "soundfile"):
        pytest.importorskip(package)
    root: Path = tmp_path_factory.mktemp("three")
    catalog = lmm4rec.load_dataset(**SHOP).catalog
    for modality, kind in SIDES.items():
        kind.write_tiny(root / modality, [item.fields["title"] for item in catalog])
    (root / "sounds").mkdir()
    for row, item in enumerate(catalog):
        if row != WITHOUT_SOUND:
            write_sound(root / "sounds" / f"{item.id}.wav", row % 9, samples=4000)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def table(folder: Path) -> dict[str, Any]:
    names = {"image": "vision", "text": "sentence", "audio": "audio"}
    sides = {modality: {"name": name, "checkpoint": str(folder / modality)} for modality, name in names.items()}
    sides["audio"]["sounds"] = str(folder / "sounds")
    return {"name": "paired", **sides}


def conf(folder: Path, **features: Any) -> dict[str, Any]:
    return {
        "data": SHOP,
        "encoder": table(folder),
        "features": {"precision": "float32", "workers": 0, **features},
        "recommender": {"name": "vbpr", "dim": 4, "content_dim": 4},
        "train": {"epochs": 1, "batch_size": 256, "learning_rate": 0.02},
    }


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:items without a sound file")
def test_frozen_and_end_to_end_all_three_reach_the_recommender(folder: Path, tmp_path: Path) -> None:
    frozen = run(conf(folder), out=tmp_path / "frozen")
    assert set(frozen.bundle().scorer.parts) == {"id", "bias", "image", "text", "audio"}
    end2end = {"learning_rate": 1e-2, "precision": "float32"}
    live = run(conf(folder, train="end2end", end2end=end2end), out=tmp_path / "live")
    for modality, kind in SIDES.items():  # gradient has arrived in each of them, and each is saved
        before: Encoder = kind(checkpoint=str(folder / modality))  # type: ignore[call-arg]
        after = kind.from_pretrained(live.folder.encoder / modality)
        moved = [not torch.equal(x, after.state_dict()[name]) for name, x in before.state_dict().items()]
        assert sum(moved) > 0.5 * len(moved)
        assert after.modalities == (modality,)
    sound = frozen.bundle().scorer.items[:, frozen.bundle().scorer.parts["audio"]]
    assert torch.equal(sound.any(dim=1), torch.arange(24) != WITHOUT_SOUND)


@pytest.mark.long
def test_each_modality_is_encoded_by_itself_and_some_may_be_left_out(folder: Path, tmp_path: Path) -> None:
    encoder = lmm4rec.load_encoder(**table(folder))
    assert encoder.modalities == ("image", "text", "audio")
    catalog, store = lmm4rec.load_dataset(**SHOP).catalog, FeatureStore(tmp_path)
    two = extract(encoder, catalog, store=store, precision="float32", modalities=["image", "audio"], workers=0)
    assert list(two.features) == ["image", "audio"]
    again = extract(encoder, catalog, store=store, precision="float32", workers=0)
    assert torch.equal(again.features["audio"], two.features["audio"])
    assert not two.broken  # an item without sound has its image
    broken = folder / "sounds" / f"{catalog[2].id}.wav"
    sound = broken.read_bytes()
    broken.write_bytes(b"RIFF and no more")
    assert extract(encoder, catalog, store=store, precision="float32", workers=0).broken == (catalog[2].id,)
    broken.write_bytes(sound)
    part = encoder.with_modalities(["audio", "image"])
    assert part.modalities == ("image", "audio")
    inputs = part.prepare(catalog[:3])
    assert inputs.text_ids is None
    assert inputs.pixels is not None
    assert inputs.spectrograms is not None
    other = Path(folder / "sounds" / f"{catalog[0].id}.wav").read_bytes()
    digest = encoder.item_digest(catalog[0])
    write_sound(folder / "sounds" / f"{catalog[0].id}.wav", 8, samples=4000)
    assert encoder.item_digest(catalog[0]) != digest
    (folder / "sounds" / f"{catalog[0].id}.wav").write_bytes(other)


@pytest.mark.long
def test_fine_tuned_sides_go_in_by_folder_beside_sounds(folder: Path) -> None:
    """A whole one cannot be fine-tuned, and says so."""
    catalog = lmm4rec.load_dataset(**SHOP).catalog
    clip = lmm4rec.load_encoder("clip", catalog=catalog, checkpoint="tiny")
    options = {"epochs": 1, "batch_size": 12, "precision": "float32", "device": "cpu"}
    tuned = finetune(clip, catalog, options)
    side = {"name": "clip", "checkpoint": str(tuned)}
    sides = {modality: {**side, "outputs": modality} for modality in ("image", "text")}
    encoder = lmm4rec.load_encoder("paired", **sides, audio=table(folder)["audio"])
    whole = Clip.from_pretrained(tuned).eval()
    with torch.inference_mode():
        got, expected = (one.eval()(one.prepare(catalog[:3])) for one in (encoder, whole))
    assert all(torch.equal(got[modality], expected[modality]) for modality in ("image", "text"))
    assert got["audio"].shape == (3, 64)
    with pytest.raises(ConfigError, match=r"Paired cannot be fine-tuned; .* the checkpoint of both sides"):
        finetune(encoder, catalog, options)


def test_one_encoder_alone_is_no_pair() -> None:
    with pytest.raises(
        ConfigError, match="needs the encoders of two modalities or more: image, text, audio; it has image"
    ):
        lmm4rec.load_encoder("paired", image=ImageSide())
