"""What all encoders share: they can be limited to some of their modalities."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from layered import FUSING, SEVERAL_MODALITIES, build, catalog
from lmm4rec.core.errors import ConfigError
from lmm4rec.encoders.base import FUSED
from lmm4rec.features.extract import extract
from lmm4rec.features.item_vectors import EncodedItems
from lmm4rec.features.store import FeatureStore
from towers import Towers, catalog_of


@pytest.mark.long
@pytest.mark.parametrize("name", SEVERAL_MODALITIES)
@pytest.mark.parametrize("modality", ["image", "text"])
def test_with_one_modality_it_has_the_same_vectors_to_the_last_bit(
    name: str, modality: str, layered_root: Path
) -> None:
    encoder = build(name, layered_root).eval()
    selected, rows = encoder.with_modalities([modality]), catalog()[:]
    inputs = selected.prepare(rows)
    assert (inputs.pixels is None) == (modality == "text")
    assert (inputs.text_ids is None) == (inputs.text_mask is None) == (modality == "image")
    with torch.no_grad():
        vectors, whole = selected(inputs), encoder(encoder.prepare(rows))
    assert list(vectors) == list(selected.dims) == [modality]
    assert torch.equal(vectors[modality], whole[modality])
    assert (
        selected.fingerprint() == {part.modalities[0]: part for part in encoder.by_modality()}[modality].fingerprint()
    )


@pytest.mark.long
@pytest.mark.parametrize("name", FUSING)
def test_a_fused_vector_still_reads_both(name: str, layered_root: Path) -> None:
    encoder = build(name, layered_root).eval()
    selected = encoder.with_modalities(["image", FUSED])
    assert list(selected.dims) == ["image", FUSED]
    inputs = selected.prepare(catalog()[:])
    with torch.no_grad():
        vectors, whole = selected(inputs), encoder(inputs)
    assert all(torch.equal(vectors[modality], whole[modality]) for modality in selected.dims)


def test_all_or_none_named_is_the_encoder_itself(layered_root: Path) -> None:
    encoder = build("clip", layered_root)
    assert encoder.with_modalities([]) is encoder.with_modalities(["text", "image"]) is encoder
    with pytest.raises(ConfigError, match=r"Clip has no 'imag' vectors, it gives: image, text\. Did you mean 'image'"):
        encoder.with_modalities(["imag"])
    with pytest.raises(ConfigError, match="Paired has no 'video' vectors"):
        build("paired", layered_root).with_modalities(["video"])


@contextmanager
def counted(modules: dict[str, nn.Module]) -> Iterator[dict[str, int]]:
    """The number of passes of each module."""
    counts = dict.fromkeys(modules, 0)

    def count(name: str) -> None:
        counts[name] += 1

    hooks = [module.register_forward_hook(lambda *_, at=name: count(at)) for name, module in modules.items()]
    yield counts
    for hook in hooks:
        hook.remove()


@pytest.mark.long
@pytest.mark.parametrize(("used", "unused"), [("image", "text"), ("text", "image")])
def test_in_extraction_and_in_training_the_other_tower_never_runs(
    used: str, unused: str, layered_root: Path, tmp_path: Path
) -> None:
    encoder, store = build("clip", layered_root), FeatureStore(tmp_path)
    with counted({"image": encoder.model.vision_model, "text": encoder.model.text_model}) as counts:
        extracted = extract(encoder, catalog(), store=store, workers=0, modalities=[used])
        assert list(extracted.features) == [used]
        vectors = EncodedItems(encoder, catalog()[:], modalities=[used])
        torch.stack([x.sum() for x in vectors(torch.tensor([0, 1])).values()]).sum().backward()
    assert counts[used] > 0
    assert counts[unused] == 0
    with_gradient = {name for name, weight in encoder.named_parameters() if weight.grad is not None}
    assert with_gradient
    assert not any(name.startswith({"image": "model.vision", "text": "model.text"}[unused]) for name in with_gradient)


def test_an_encoder_of_one_modality_has_the_mode_and_the_weights_of_the_whole() -> None:
    encoder = Towers()
    vectors = EncodedItems(encoder, catalog_of([1, 2], ["a", "b"])[:], modalities=["image"])
    assert list(vectors.state_dict()) == ["encoder.weight"]
    with torch.no_grad():
        encoder.weight.fill_(3.0)
    assert vectors(torch.tensor([0]))["image"].tolist() == [[3.0, 3.0]]
    assert encoder.texts == []
    assert encoder.with_modalities(["image"]).training
    assert not encoder.eval().with_modalities(["image"]).training
