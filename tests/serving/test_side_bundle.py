"""The bundle of a run with a side network: it goes where it is put, takes new items, and says what is wrong with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from layered import NO_PICTURE, NO_WORDS, TEXT, Noise, build, catalog
from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.core.errors import CheckpointError, LMM4RecError
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.types import Embeddings
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.features.cached import SideVectors
from lmm4rec.features.side_files import SavedSide
from lmm4rec.features.state_cache import StatesCache
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.encoder_record import EncoderRecord


def bundle(root: Path, layered_root: Path) -> Bundle:
    """Six items that stand where their content does, and one user; the encoder's checkpoint is in `root`/checkpoint."""
    encoder, items = build("clip", layered_root), catalog()
    shutil.copytree(layered_root / "clip", root / "checkpoint")
    cache = StatesCache(encoder, items, top=None, root=root / "states", precision="float32")
    vectors, generator = SideVectors(cache, dim=8), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in vectors.side.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
        features = vectors(torch.arange(6))
    vectors.save(root / "side")
    content = ContentSpace.of(features)
    columns = content(features)
    width = columns.shape[1]
    content_to_vectors = ContentToVectors(
        content, free=torch.arange(width), weights=torch.eye(width), offset=torch.zeros(width)
    )
    record = EncoderRecord(
        "clip", {"checkpoint": str(root / "checkpoint"), "text": TEXT}, side=SavedSide.read(root / "side")
    )
    log = Interactions(np.array([0], np.int32), np.array([0], np.int32))
    return Bundle(
        Embeddings(columns[:1].clone(), columns), Vocabulary("A", kind="user"), items.ids,
        [items.title(row) for row in range(6)], log, {}, fields=items.fields, features=features,
        content_to_vectors=content_to_vectors, encoder=record,
    )  # fmt: skip


@pytest.mark.long
def test_a_bundle_with_a_side_network_goes_where_it_is_put(layered_root: Path, tmp_path: Path) -> None:
    """A new item with the image and the words of one of the catalog stands where that one does (bfloat16 states)."""
    first, items = bundle(tmp_path, layered_root), catalog()
    first.save_pretrained(tmp_path / "named")
    first.save_pretrained(tmp_path / "copied", copy_encoder=True)
    Bundle.load(tmp_path / "named").save_pretrained(tmp_path / "again")
    shutil.rmtree(tmp_path / "side")
    shutil.move(tmp_path / "copied", tmp_path / "moved")
    moved, again = Bundle.load(tmp_path / "moved"), Bundle.load(tmp_path / "again")
    for one in (first, again, moved):
        if one is moved:
            shutil.rmtree(tmp_path / "checkpoint")  # nothing but its folder is needed
        rows = [0, NO_PICTURE, NO_WORDS]
        one.add_items([NewItem(f"new{row}", items[row].fields, items[row].image) for row in rows])
        grown = one.scorer
        assert isinstance(grown, Embeddings)
        torch.testing.assert_close(grown.items[-3:], grown.items[rows], atol=5e-3, rtol=0)
        # one item stands alone there, as in the question
        by_words, by_image = (
            one.search(items[NO_PICTURE].fields["title"], k=2),
            one.search(image=Noise(NO_WORDS), k=2),
        )
        assert by_words[0].item in ("i2", "new2")
        assert {found.item for found in by_image} == {"i3", "new3"}


def test_a_side_network_that_is_damaged_or_gone_is_reported(layered_root: Path, tmp_path: Path) -> None:
    bundle(tmp_path, layered_root).save_pretrained(tmp_path / "shop")
    (file,) = (tmp_path / "shop").glob("side-*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"damaged \(side-\w+.safetensors is not what was written"):
        Bundle.load(tmp_path / "shop")
    file.unlink()
    with pytest.raises(CheckpointError, match=r"damaged \(side-\w+.safetensors is missing\)"):
        Bundle.load(tmp_path / "shop")
    told = read_json(tmp_path / "shop" / "bundle.json")
    del told["files"][file.name], told["stems"]["side"]
    write_json(tmp_path / "shop" / "bundle.json", told)
    with pytest.raises(CheckpointError, match=r"damaged \('side'\)"):
        Bundle.load(tmp_path / "shop")


def test_another_encoder_than_that_of_the_side_network_is_refused(layered_root: Path, tmp_path: Path) -> None:
    one = bundle(tmp_path, layered_root)
    assert one.encoder is not None
    one.encoder.arguments["text"] = "{title}!"  # type: ignore[index]
    with pytest.raises(CheckpointError, match="trained beside an encoder with other weights or settings"):
        one.search("lamp")


def test_a_bundle_made_before_side_networks_came_along_loads(layered_root: Path, tmp_path: Path) -> None:
    """It has no encoder, and takes new items by their features."""
    older = bundle(tmp_path, layered_root)
    older.encoder = None
    older.save_pretrained(tmp_path / "shop")
    again = Bundle.load(tmp_path / "shop")
    again.add_items([NewItem("new", features={"image": torch.ones(64), "text": torch.ones(64)})])
    with pytest.raises(LMM4RecError, match="this bundle has no encoder"):
        again.search("lamp")
