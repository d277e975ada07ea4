"""Prepared inputs: as small as bytes, in a file where they are large, and the same to the last bit."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.encoders.paired import Paired
from lmm4rec.encoding import prepared_items as prepared_items_module
from lmm4rec.encoding.packed_inputs import PackedInputs
from lmm4rec.encoding.pixel_levels import Levels
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.testing.items import INCOMPLETE, ITEMS
from lmm4rec.testing.one_sided_encoders import AudioSide, ImageSide, TextSide
from towers import Gray, Towers


def test_pixels_of_256_levels_come_back_to_the_last_bit() -> None:
    """As CLIP scales them, block by block, with values that only a later block has."""
    levels, generator = Levels(), torch.Generator().manual_seed(0)
    mean, std = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.26, 0.27, 0.28])[:, None, None]
    blocks = [torch.randint(low, high, (4, 3, 8, 9), generator=generator) for low, high in ((90, 120), (0, 256))]
    pixels = [(block / 255 - mean) / std for block in blocks]
    codes = [levels.encode(block) for block in pixels]
    for block, code in zip(pixels, codes, strict=True):
        assert code is not None
        assert code.dtype == torch.uint8
        assert torch.equal(levels.decode(code), block)


def test_uneven_levels_come_back_to_the_last_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.cat([torch.rand(200, generator=generator) ** 4, torch.tensor([-1e30, 1e-30, 1e30])])
    pixels = values[torch.randint(len(values), (2, 1, 40, 50), generator=generator)]
    levels = Levels()
    codes = levels.encode(pixels)
    assert codes is not None
    assert torch.equal(levels.decode(codes), pixels)


def test_a_missing_image_is_no_level_more() -> None:
    """256 levels without 0, images before and after one that is missing, and one batch of missing ones alone."""
    pixels = (torch.arange(256.0) + 0.5).repeat(3).view(3, 1, 16, 16)
    pixels[1] = 0.0
    for rows in ([1], [0, 1, 2]):
        has_image, levels = torch.tensor([row != 1 for row in rows]), Levels()
        codes = levels.encode(pixels[rows], has_image)
        assert codes is not None
        assert torch.equal(levels.decode(codes, has_image), pixels[rows])


class AllLevels(Towers):
    """Images that have all levels of 8 bits, none of them 0."""

    def prepare(self, items: list[Item]) -> Inputs:
        inputs = super().prepare(items)
        pixels = (torch.arange(256.0) + 0.5).view(1, 1, 16, 16) * inputs.has_image[:, None, None, None]
        return inputs._replace(pixels=pixels.repeat(1, 3, 1, 1))


def test_a_catalog_in_which_images_are_missing_takes_a_byte_a_number() -> None:
    rows = torch.arange(12)
    prepared, expected = PreparedItems(AllLevels(), [item(row) for row in rows.tolist()], memory_mb=1), AllLevels()
    assert prepared.nbytes == 12 * (3 * 256 + 4 * 5)
    assert torch.equal(prepared.of(rows).pixels, expected.prepare([item(row) for row in rows.tolist()]).pixels)
    packed = PackedInputs.of(expected.prepare([item(row) for row in rows.tolist()]), Levels())
    assert packed.values["pixels"].dtype == np.uint8
    assert torch.equal(packed.unpack(torch.device("cpu")).pixels, prepared.of(rows).pixels)


def test_more_than_256_levels_are_no_bytes() -> None:
    assert Levels().encode(torch.linspace(0, 1, 257).view(1, 1, 1, 257)) is None


def item(row: int) -> Item:
    words = {"title": "abcdefgh"[: row % 5]}
    return Item(str(row), words, None if row % 7 == 3 else Gray(row))


class Fractions(Towers):
    """The same with noise in the pixels of later items, which then take far more than 256 values."""

    def prepare(self, items: list[Item]) -> Inputs:
        inputs = super().prepare(items)
        numbers = torch.tensor([float(one.id) for one in items])
        return inputs._replace(pixels=inputs.pixels + (numbers * (numbers > 90)).sin()[:, None, None, None])


@pytest.mark.parametrize("encoder", [Towers(), Fractions()])
@pytest.mark.parametrize("memory_mb", [1, 0])
def test_inputs_are_those_that_the_encoder_prepares(
    encoder: Towers, memory_mb: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory and in a file; with noise the first block is kept as bytes until the second comes."""
    monkeypatch.setattr(prepared_items_module, "_BLOCK", 80)
    items = [item(row) for row in range(280)]
    prepared = PreparedItems(encoder, items, memory_mb=memory_mb)
    pixels = prepared._dense["pixels"].values
    assert pixels is not None
    assert bool(pixels.untyped_storage().filename) == (not memory_mb)
    for chosen in ([279, 3, 130, 131], [1, 79, 80, 95, 200]):
        inputs, expected = prepared.of(torch.tensor(chosen)), encoder.prepare([items[row] for row in chosen])
        for one, other in zip(inputs, expected, strict=True):
            assert one is other is None or torch.equal(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize("encoder", [Towers(), Fractions()])
def test_inputs_on_a_gpu_are_those_on_the_cpu(encoder: Towers) -> None:
    prepared, rows = PreparedItems(encoder, [item(row) for row in range(100)], memory_mb=1), torch.tensor([99, 3, 95])
    for cpu, gpu in zip(prepared.of(rows), prepared.of(rows.cuda()), strict=True):
        assert cpu is gpu is None or (gpu.is_cuda and torch.equal(gpu.cpu(), cpu))


@pytest.mark.parametrize("memory_mb", [1, 0])
def test_images_texts_and_sounds_are_kept_side_by_side(memory_mb: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two items without a readable image are without sound, too."""
    monkeypatch.setattr(prepared_items_module, "_BLOCK", 3)
    encoder, items = Paired(image=ImageSide(), text=TextSide(), audio=AudioSide()), [*ITEMS, *INCOMPLETE]
    prepared, chosen = PreparedItems(encoder, items, memory_mb=memory_mb), [6, 0, 7, 5]
    inputs, expected = prepared.of(torch.tensor(chosen)), encoder.prepare([items[row] for row in chosen])
    for one, other in zip(inputs, expected, strict=True):
        assert one is other is None or torch.equal(one, other)
    assert prepared.complete().tolist() == list(range(len(ITEMS)))


def test_images_take_a_byte_a_number() -> None:
    """12 pixels and up to 4 tokens of 5 bytes."""
    assert PreparedItems(Towers(), [item(row) for row in range(128)], memory_mb=1).nbytes == 128 * (12 + 4 * 5)


def test_whole_items_have_an_image_that_can_be_read_and_text() -> None:
    items = [item(0), item(3), item(4), Item("broken", {"title": "a"}, Gray(-1)), item(6)]  # no text, no image, ...
    assert PreparedItems(Towers(), items, memory_mb=1).complete().tolist() == [2, 4]


def test_modalities_that_are_not_used_are_not_prepared() -> None:
    items = [item(row) for row in range(9)]
    assert PreparedItems(Towers().with_modalities(["text"]), items, memory_mb=1).of(torch.arange(9)).pixels is None
    inputs = PreparedItems(Towers().with_modalities(["image"]), items, memory_mb=1).of(torch.arange(9))
    assert inputs.text_ids is inputs.text_mask is None
    assert inputs.pixels is not None


def test_a_full_disk_is_named_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=2**10))
    with pytest.raises(
        DataError, match=r"of 280 items need 0 MiB, more than the 0 MiB .* name a larger disk in TMPDIR"
    ):
        PreparedItems(Towers(), [item(row) for row in range(280)], memory_mb=0)


def test_the_length_of_a_text_is_where_its_last_token_is() -> None:
    """Of an encoder that reads letters; an item without text included. One that reads images alone has no lengths."""
    items = [Item(id=str(letters), fields={"title": "a" * letters, "description": ""}) for letters in (3, 0, 12, 5)]
    lengths = PreparedItems(TextSide(), items, memory_mb=1).text_lengths
    assert lengths is not None
    assert lengths.tolist() == [3, 0, 12, 5]
    assert PreparedItems(ImageSide(), ITEMS[:2], memory_mb=1).text_lengths is None
