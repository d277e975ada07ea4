"""Random changes to images and words: what they change, what they leave, and that a seed decides."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Inputs
from lmm4rec.training.augmentation import Augmentation, windows
from toys import Toy, toy_items


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp(batch: int = 64, size: int = 16) -> torch.Tensor:
    """Images whose first channel is the column, whose second is the row, from 0 to size - 1."""
    place = torch.arange(size).float()
    x = torch.stack([place.expand(size, size), place[:, None].expand(size, size), torch.zeros(size, size)])
    return x.expand(batch, 3, size, size).contiguous()


def test_nothing_asked_for_changes_and_draws_nothing() -> None:
    inputs = Toy().prepare(toy_items(6))
    random = generator()
    assert Augmentation()(inputs, random) is inputs
    assert torch.equal(random.get_state(), generator().get_state())


def test_flip_mirrors_about_half_and_leaves_the_rest() -> None:
    pixels = torch.randn(200, 3, 6, 6, generator=generator(1))
    out = Augmentation(flip=True)(Inputs(pixels), generator()).pixels
    assert out is not None
    same = (out - pixels).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (out - pixels.flip(3)).abs().amax((1, 2, 3)) < 1e-5
    assert (same ^ mirrored).all()
    assert 70 < int(mirrored.sum()) < 130


def test_a_crop_is_a_window_of_the_image_of_at_least_the_area_left() -> None:
    """On a ramp a crop is a ramp again: its slope is the window's width, its ends are where the window lies."""
    size = 16
    out = Augmentation(crop=0.6)(Inputs(ramp(size=size)), generator()).pixels
    assert out is not None
    inner = slice(4, size - 4)  # away from the edges, where the ramp ends
    widths = (out[:, 0, inner, size - 5] - out[:, 0, inner, 4]).mean(1) / (size - 9)
    heights = (out[:, 1, size - 5, inner] - out[:, 1, 4, inner]).mean(1) / (size - 9)
    area = widths * heights
    assert (widths < 1 + 1e-4).all()
    assert (heights < 1 + 1e-4).all()
    assert (area > 0.4 * 0.9).all()  # a window longer than the image is cut to it
    assert area.min() < 0.6
    assert area.max() > 0.85
    left = out[:, 0, size // 2, size // 2] - (size / 2) * widths  # where the window's middle lies shows its place
    assert left.std() > 0.5
    assert out.min() >= 0
    assert out.max() <= size - 1


def test_a_window_is_stretched_as_torch_resizes_it() -> None:
    """The lower left quarter; near its edges the window looks at its neighbors, a resize of the quarter cannot."""
    pixels = torch.randn(2, 3, 8, 8, generator=generator(2))
    sizes, places = torch.full((2, 2), 0.5), torch.tensor([[-1.0, 1.0], [-1.0, 1.0]])
    out = windows(pixels, sizes, places, torch.tensor([False, True]))
    expected = F.interpolate(pixels[:, :, 4:, :4], scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(out[0, :, 1:-1, 1:-1], expected[0, :, 1:-1, 1:-1])
    torch.testing.assert_close(out[1, :, 1:-1, 1:-1], expected[1].flip(2)[:, 1:-1, 1:-1])


def test_images_that_are_no_plain_pixels_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"set crop = 0\.0 and flip = false"):
        Augmentation(flip=True)(Inputs(torch.zeros(2, 1, 9, 5)), generator())


def words(length: int, batch: int, width: int = 14) -> Inputs:
    ids = torch.zeros(batch, width, dtype=torch.int64)
    ids[:, :length] = torch.arange(1, length + 1)
    return Inputs(text_ids=ids, text_mask=ids > 0)


def test_masking_leaves_tokens_out_and_keeps_order_and_ends() -> None:
    inputs = words(12, 2000)
    out = Augmentation(mask=0.3)(inputs, generator())
    assert out.text_ids is not None
    assert out.text_mask is not None
    lengths = out.text_mask.sum(1)
    assert float((12 - lengths).float().mean()) == pytest.approx(0.3 * 10, abs=0.1)
    for ids, length in zip(out.text_ids[:200].tolist(), lengths[:200].tolist(), strict=True):
        kept = ids[:length]
        assert kept[0] == 1
        assert kept[-1] == 12
        assert kept == sorted(set(kept))
        assert ids[length:] == [0] * (14 - length)
    assert torch.equal(out.text_mask, out.text_ids > 0)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_masking_leaves_at_least_one_word(length: int) -> None:
    inputs = words(length, 50)
    out = Augmentation(mask=0.99)(inputs, generator())
    assert inputs.text_ids is not None
    assert out.text_ids is not None
    assert torch.equal(out.text_ids, inputs.text_ids)


def test_of_many_words_one_stays_even_where_all_would_go() -> None:
    out = Augmentation(mask=0.999)(words(12, 300), generator())
    assert out.text_mask is not None
    assert int(out.text_mask.sum(1).min()) == 3
