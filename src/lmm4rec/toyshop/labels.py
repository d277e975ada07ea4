"""Images of the pre-training catalog: drawings with printed labels that show brand, material and season.

The shop's own images have no labels. An encoder that was pre-trained with them knows what brands, materials and seasons
are, so its text vectors tell the shop's items apart by them, as text vectors of encoders pre-trained on the web do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image, ImageDraw

from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.toyshop.attributes import BRANDS, MATERIALS, SEASONS
from lmm4rec.toyshop.drawing import SIDE, VERSION, Drawing

_PRINTED = 0.7  # probability of each label
_LABEL = 0.25  # side of a label, as a share of the image's
_INKS = ((214, 52, 50), (42, 62, 120), (82, 160, 74), (247, 200, 52), (128, 80, 172))
_PAPERS = ((250, 249, 245), (52, 54, 66))
_CORNERS = 2, 3, 4, 5, 40  # of the polygons that stand for seasons and brands; 40: a disc


@dataclass(frozen=True)
class LabeledDrawing:
    """A drawing with up to three labels in its corners; an empty value has no label."""

    drawing: Drawing
    brand: str = ""
    material: str = ""
    season: str = ""

    def open(self) -> Image.Image:
        """The image, 64 by 64 pixels."""
        return self.draw(SIDE)

    def digest(self) -> str:
        """A digest of the parameters and of the version of the drawing code."""
        return fingerprint(VERSION, asdict(self))

    def draw(self, side: int) -> Image.Image:
        """The image, `side` by `side` pixels."""
        image = self.drawing.draw(side)
        if self.brand:
            shape, paper = divmod(BRANDS.index(self.brand), len(_PAPERS))
            _print(image, 1, 1, _emblem(side, shape, _INKS[shape], _PAPERS[paper]))
        if self.material:
            angle, ink = divmod(MATERIALS.index(self.material), len(_INKS))
            _print(image, 0, 1, _swatch(side, angle * 90, _INKS[ink]))
        if self.season:
            shape = SEASONS.index(self.season)
            _print(image, 0, 0, _emblem(side, shape, _PAPERS[1], _INKS[-1 - shape]))
        return image


def labeled(drawing: Drawing, values: Mapping[str, str], rng: np.random.Generator) -> LabeledDrawing:
    """The drawing with labels of the values, each printed or not at random."""
    printed = {name: values[name] if rng.random() < _PRINTED else "" for name in ("brand", "material", "season")}
    return LabeledDrawing(drawing, **printed)


def _print(image: Image.Image, column: int, row: int, label: Image.Image) -> None:
    free = image.width - label.width
    image.paste(label, (column * free, row * free))


def _emblem(side: int, shape: int, ink: tuple[int, int, int], paper: tuple[int, int, int]) -> Image.Image:
    """A polygon or a disc on paper."""
    width = round(side * _LABEL)
    label = Image.new("RGB", (4 * width, 4 * width), paper)
    corners = _CORNERS[shape]
    angles = 2 * np.pi * np.arange(max(corners, 3)) / max(corners, 3) - np.pi / 2
    points = 2 * width * (1 + 0.72 * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    pen = ImageDraw.Draw(label)
    if corners == 2:
        pen.line([(width, width), (3 * width, 3 * width)], fill=ink, width=width)
    else:
        pen.polygon([tuple(point) for point in points.tolist()], fill=ink)
    return label.reduce(4)


def _swatch(side: int, angle: int, ink: tuple[int, int, int]) -> Image.Image:
    """A striped piece of material."""
    width = round(side * _LABEL)
    label = Image.new("RGB", (4 * width, 4 * width), _PAPERS[0])
    pen = ImageDraw.Draw(label)
    for start in range(0, 4 * width, 2 * width):
        pen.rectangle((0, start, 4 * width, start + width - 1), fill=ink)
    return label.rotate(angle).reduce(4)
