"""Prepared inputs: as small as bytes, and the same to the last bit."""

from __future__ import annotations

import pytest
import torch
from towers import Gray, Towers

from lmm4rec.core.types import Inputs, Item
from lmm4rec.encoding.prepared_items import Levels, PreparedItems


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


def test_more_than_256_levels_are_no_bytes() -> None:
    assert Levels().encode(torch.linspace(0, 1, 257).view(1, 1, 1, 257)) is None


def item(row: int) -> Item:
    words = {"title": "abcdefgh"[: row % 5]}
    return Item(str(row), words, None if row % 7 == 3 else Gray(row))


class Fractions(Towers):
    """The same with noise in the pixels, which takes far more than 256 values."""

    def prepare(self, items: list[Item]) -> Inputs:
        inputs = super().prepare(items)
        noise = torch.tensor([float(one.id) for one in items]).sin()[:, None, None, None]
        return inputs._replace(pixels=inputs.pixels + noise)


@pytest.mark.parametrize("encoder", [Towers(), Fractions()])
@pytest.mark.parametrize("memory_mb", [1, 0])
def test_what_is_kept_is_what_the_encoder_prepares(encoder: Towers, memory_mb: int) -> None:
    items = [item(row) for row in range(280)]
    prepared = PreparedItems(encoder, items, memory_mb=memory_mb)
    assert prepared.in_memory == bool(memory_mb)
    rows = torch.tensor([279, 3, 130, 131])
    inputs, expected = prepared.of(rows), encoder.prepare([items[row] for row in rows.tolist()])
    for mine, theirs in zip(inputs, expected, strict=True):
        assert torch.equal(mine, theirs)


def test_images_take_a_byte_a_number() -> None:
    """12 pixels and up to 4 tokens of 5 bytes."""
    prepared = PreparedItems(Towers(), [item(row) for row in range(128)], memory_mb=1)
    assert prepared.needed_mb == pytest.approx(128 * (12 + 4 * 5) / 2**20)
