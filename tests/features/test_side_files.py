"""An encoder with its side network gives any item what the side network gives a catalog's from cached states."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from layered import NO_PICTURE, build, catalog, whole_vectors
from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.types import Item
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.sizing import ResolvedPrecision
from lmm4rec.features.cached import SideVectors
from lmm4rec.features.side_files import SavedSide, SideEncoder
from lmm4rec.features.state_cache import StatesCache
from towers import Gray

ROWS = torch.arange(6)


def side_vectors(
    encoder: Encoder, root: Path, stored: ResolvedPrecision = "float32", *, learned: bool = True
) -> SideVectors:
    """A side network over the catalog of `layered`; `learned`: its weights are moved from where they start."""
    cache = StatesCache(
        encoder, catalog(), top=None, root=root / "states", stored=stored, precision="float32", block_size=4,
    )  # fmt: skip
    vectors, generator = SideVectors(cache, dim=8), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in vectors.side.parameters() if learned else ():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return vectors


def saved(vectors: SideVectors, folder: Path) -> SavedSide:
    vectors.save(folder)
    return SavedSide.read(folder)


# states that are rounded may round to the other side, one part in 256 of a number, when batches differ
@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "stored", "within"),
    [("beit3", "float32", 1e-5), ("clip", "float32", 1e-5), ("clip", "bfloat16", 1e-2), ("paired", "float32", 1e-5)],
)
def test_the_catalog_s_vectors_come_out_again(
    name: str, stored: ResolvedPrecision, within: float, layered_root: Path, tmp_path: Path
) -> None:
    vectors = side_vectors(build(name, layered_root), tmp_path, stored)
    again = SideEncoder(build(name, layered_root), saved(vectors, tmp_path / "side")).eval()
    items = catalog()
    with torch.no_grad():
        expected, frozen = vectors(ROWS), whole_vectors(again.encoder, ROWS.tolist())
        together = again(again.prepare(items[:]))
        alone = [again(again.prepare([item])) for item in items]
    for modality, x in expected.items():
        torch.testing.assert_close(together[modality], x, atol=within, rtol=within)
        torch.testing.assert_close(torch.cat([one[modality] for one in alone]), x, atol=within, rtol=within)
        assert torch.equal(together[modality].any(1), x.any(1))  # what is missing stays missing
        assert float((x - frozen[modality]).abs().max()) > 10 * within  # the side network has a say


def test_one_that_has_not_learned_gives_the_encoder_s_own_vectors(layered_root: Path, tmp_path: Path) -> None:
    encoder = build("clip", layered_root)
    vectors = side_vectors(encoder, tmp_path, learned=False)
    side = SideEncoder(encoder, saved(vectors, tmp_path / "side"))
    with torch.no_grad():
        for modality, x in side(side.prepare(catalog()[:])).items():
            torch.testing.assert_close(x, whole_vectors(encoder, ROWS.tolist())[modality], atol=1e-6, rtol=1e-5)


def test_a_text_alone_is_encoded_like_that_of_an_item_without_image(layered_root: Path, tmp_path: Path) -> None:
    vectors = side_vectors(build("clip", layered_root), tmp_path)
    side = SideEncoder(build("clip", layered_root), saved(vectors, tmp_path / "side"))
    words = catalog()[NO_PICTURE].fields
    with torch.no_grad():
        asked = side(side.prepare([Item("query", words)]))
        expected = vectors(torch.tensor([NO_PICTURE]))
    torch.testing.assert_close(asked["text"], expected["text"], atol=1e-5, rtol=1e-5)
    assert not asked["image"].any()


@pytest.mark.long
def test_files_are_those_that_the_encoder_beside_it_reads(layered_root: Path, tmp_path: Path) -> None:
    """A sound is part of an item's content; only what is named and cannot be read is broken."""
    for name in ("audio", "paired"):
        encoder = build(name, layered_root)
        side = SideEncoder(encoder, saved(side_vectors(encoder, tmp_path / name), tmp_path / f"{name}-side"))
        assert [side.item_digest(item) for item in catalog()] == [encoder.item_digest(item) for item in catalog()]
        words, image, broken = catalog()[0].fields, catalog()[0].image, Gray(-1)
        items = [Item("i0", words, image), Item("no sound", words, image), Item("i0", words, broken)]
        assert side.unreadable(items, side.prepare(items)).tolist() == [False, False, name == "paired"]


def test_what_does_not_belong_together_is_refused(layered_root: Path, tmp_path: Path) -> None:
    encoder = build("clip", layered_root)
    kept = saved(side_vectors(encoder, tmp_path), tmp_path / "side")
    weights = {name: x for name, x in kept.weights.items() if name != "gates"}
    with pytest.raises(CheckpointError, match=r"the side network is damaged .*gates"):
        SideEncoder(encoder, replace(kept, weights=weights))
    with torch.no_grad():
        next(encoder.parameters()).add_(1e-3)
    with pytest.raises(
        CheckpointError, match="trained beside an encoder with other weights or settings than this Clip"
    ):
        SideEncoder(encoder, kept)
    file = tmp_path / "side" / "side.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"side.safetensors cannot be read"):
        SavedSide.read(tmp_path / "side")
    file.unlink()
    with pytest.raises(CheckpointError, match=r"side.safetensors cannot be read"):
        SavedSide.read(tmp_path / "side")
