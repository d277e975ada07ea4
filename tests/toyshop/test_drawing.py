"""The toy shop's images: what they show, that they repeat, and the curves they are made of."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from lmm4rec.core.types import ItemImage
from lmm4rec.toyshop.attributes import CATEGORIES, COLORS, PATTERNS
from lmm4rec.toyshop.drawing import Drawing, random_drawing
from lmm4rec.toyshop.outlines import outline
from lmm4rec.toyshop.shapes import SHAPES

VARIANTS = [(category, variant) for category, variants in SHAPES.items() for variant in range(len(variants))]
TYPICAL = {  # what people call by these names, near the CSS colors; purple as in XKCD's survey
    "red": (220, 40, 40), "orange": (255, 140, 0), "yellow": (255, 215, 0), "green": (60, 160, 60),
    "teal": (0, 128, 128), "sky blue": (135, 206, 235), "navy": (0, 0, 128), "purple": (126, 30, 156),
    "pink": (255, 160, 190),
    "brown": (139, 69, 19), "gray": (128, 128, 128), "cream": (255, 240, 210),
}  # fmt: skip


def pixels(drawing: Drawing) -> np.ndarray:
    return np.asarray(drawing.open()).astype(int)


def test_every_category_has_a_shape() -> None:
    assert set(SHAPES) == set(CATEGORIES)


@pytest.mark.parametrize(("category", "variant"), VARIANTS)
def test_an_item_fills_its_image_and_is_not_cut(category: str, variant: int) -> None:
    extreme = {"size": 0.88, "x": 2.0, "y": 2.0, "angle": 7.0, "stretch": 1.06}
    red, blue = (Drawing(category, color, "plain", variant=variant, **extreme) for color in ("red", "sky blue"))
    assert red.open().size == (64, 64)
    assert red.open().mode == "RGB"
    differs = (pixels(red) != pixels(blue)).any(axis=2)  # exactly where the item shows its color
    assert 0.08 < differs.mean() < 0.7
    frame = np.ones((64, 64), dtype=bool)
    frame[1:-1, 1:-1] = False
    assert not differs[frame].any()


@pytest.mark.parametrize("color", COLORS)
def test_a_plain_item_has_the_color_of_that_name(color: str) -> None:
    middle = np.median(pixels(Drawing("cushion", color, "plain"))[24:40, 24:40].reshape(-1, 3), axis=0)
    distance = {name: float(np.linalg.norm(middle - rgb)) for name, rgb in TYPICAL.items()}
    assert min(distance, key=distance.__getitem__) == color


def test_every_pattern_looks_different() -> None:
    seen = {pattern: pixels(Drawing("cushion", "navy", pattern)) for pattern in PATTERNS}
    for one in PATTERNS:
        for other in PATTERNS:
            if one < other:
                assert np.abs(seen[one] - seen[other])[16:48, 16:48].mean() > 10, (one, other)


def test_a_drawing_repeats_and_can_be_sent_to_another_process() -> None:
    drawing = random_drawing("kite", "red", "stars", np.random.default_rng(0))
    assert isinstance(drawing, ItemImage)
    copy = pickle.loads(pickle.dumps(drawing))
    assert copy == drawing
    assert copy.digest() == drawing.digest()
    assert (pixels(copy) == pixels(drawing)).all()


@pytest.mark.parametrize("field", dataclasses.fields(Drawing), ids=lambda field: field.name)
def test_the_digest_and_the_pixels_change_with_every_parameter(field: dataclasses.Field) -> None:
    plainly = Drawing("mug", "red", "stripes", variant=0, motif_shift=0.2)
    other = {
        "category": "kite",
        "color": "navy",
        "pattern": "dots",
        "backdrop": "floor",
        "mirrored": True,
        "variant": 1,
    }
    value = other.get(field.name, getattr(plainly, field.name) + 0.3 if field.name not in other else None)
    value = {"x": 3.0, "y": 3.0, "angle": 9.0}.get(field.name, value)
    changed = dataclasses.replace(plainly, **{field.name: value})
    assert changed.digest() != plainly.digest()
    assert (pixels(changed) != pixels(plainly)).any()


def test_it_can_be_drawn_larger() -> None:
    drawing = Drawing("mug", "red", "dots")
    large = drawing.draw(128)
    assert large.size == (128, 128)
    assert np.abs(np.asarray(large.reduce(2)).astype(int) - pixels(drawing)).mean() < 4


def test_curves_are_those_of_bezier() -> None:
    quadratic = outline("M 0 0 Q 10 20 30 0")
    cubic = outline("M 0 0 C 0 40 40 40 80 0 L 90 5 Z")
    assert quadratic[5] == pytest.approx([(0 + 2 * 10 + 30) / 4, (0 + 2 * 20 + 0) / 4])  # the middle of each
    assert cubic[5] == pytest.approx([(0 + 3 * 0 + 3 * 40 + 80) / 8, (0 + 3 * 40 + 3 * 40 + 0) / 8])
    assert cubic[-2:].tolist() == [[80, 0], [90, 5]]


def test_ellipses_and_round_rectangles() -> None:
    ellipse = outline("E 50 40 20 10")
    assert ((ellipse - [50, 40]) / [20, 10]) ** 2 @ np.ones(2) == pytest.approx(np.ones(len(ellipse)))
    rectangle = outline("R 10 20 60 50 5")
    assert rectangle.min(axis=0) == pytest.approx([10, 20])
    assert rectangle.max(axis=0) == pytest.approx([60, 50])
    x, y = rectangle.T
    area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    assert area == pytest.approx(50 * 30 - (4 - np.pi) * 5**2, rel=0.01)
