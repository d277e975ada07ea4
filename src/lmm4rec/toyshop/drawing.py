"""The images of the toy shop: drawn from parameters whenever they are opened, four times too large, then reduced."""

from __future__ import annotations

import colorsys
from dataclasses import asdict, dataclass
from typing import TypeAlias, cast

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.toyshop.outlines import outline
from lmm4rec.toyshop.patterns import motifs
from lmm4rec.toyshop.shapes import SHAPES

Rgb: TypeAlias = tuple[int, int, int]

VERSION = 1  # raise it when the same parameters give other pixels
SIDE = 64  # pixels
_OVERSAMPLING, _LARGE_OVERSAMPLING = 4, 2  # of images up to SIDE, and of larger ones, whose edges need less
_OUTLINED_WIDTH = 4.0  # lines from this width on have an outline, as filled parts have

_PALETTE: dict[str, Rgb] = {
    "red": (214, 52, 50),
    "orange": (240, 132, 44),
    "yellow": (247, 200, 52),
    "green": (82, 160, 74),
    "teal": (38, 158, 150),
    "sky blue": (98, 174, 232),
    "navy": (42, 62, 120),
    "purple": (128, 80, 172),
    "pink": (240, 138, 178),
    "brown": (134, 86, 54),
    "gray": (138, 144, 150),
    "cream": (243, 230, 200),
}
_MATERIAL_COLORS: dict[str, Rgb] = {
    "wood": (190, 142, 96),
    "metal": (172, 178, 186),
    "white": (250, 249, 245),
    "ink": (52, 54, 66),
    "leaf": (120, 150, 110),
    "glow": (255, 240, 190),
    "flame": (255, 178, 66),
    "glass": (176, 214, 232),
}
_WHITE, _BLACK = (255, 255, 255), (24, 20, 34)


@dataclass(frozen=True)
class Drawing:
    """The parameters of an item's image: what it shows, and its variations of shape, place, shade and background."""

    category: str
    color: str
    pattern: str
    variant: int = 0  # which of the category's shapes
    brightness: float = 0.0  # of the color, -1 to 1
    x: float = 0.0  # shift of the center, in units of a hundredth of the side
    y: float = 0.0
    size: float = 0.8  # share of the side
    stretch: float = 1.0  # width over height
    angle: float = 0.0  # degrees
    mirrored: bool = False
    motif_size: float = 1.0
    motif_shift: float = 0.0  # 0 to 1
    backdrop: str = "wall"  # "wall", "floor" or "disc"
    backdrop_hue: float = 0.0  # 0 to 1
    backdrop_warmth: float = 0.5  # 0 to 1, how strong the background's color is

    def open(self) -> Image.Image:
        """The image, 64 by 64 pixels."""
        return self.draw(SIDE)

    def digest(self) -> str:
        """A digest of the parameters and of the version of the drawing code."""
        return fingerprint(VERSION, asdict(self))

    def draw(self, side: int) -> Image.Image:
        """The image at any size, `side` by `side` pixels."""
        if side <= SIDE:
            item = _draw_item(self, side * _OVERSAMPLING).resize((side, side), Image.Resampling.LANCZOS)
        else:
            item = _draw_item(self, side * _LARGE_OVERSAMPLING).reduce(_LARGE_OVERSAMPLING)
        item = _with_light(item)
        image = _background(self, side)
        image.paste(_BLACK, mask=_shadow(item.getchannel("A")))
        image.paste(item, mask=item)
        return image


def random_drawing(category: str, color: str, pattern: str, rng: np.random.Generator) -> Drawing:
    """A drawing of such an item, with position, size, angle, shades and background at random."""
    return Drawing(
        category,
        color,
        pattern,
        variant=int(rng.integers(len(SHAPES[category]))),
        brightness=_between(rng, -1.0, 1.0),
        x=_between(rng, -2.0, 2.0),
        y=_between(rng, -1.0, 2.0),
        size=_between(rng, 0.77, 0.88),
        stretch=_between(rng, 0.94, 1.06),
        angle=_between(rng, -7.0, 7.0),
        mirrored=bool(rng.random() < 0.5),
        motif_size=_between(rng, 0.85, 1.2),
        motif_shift=_between(rng, 0.0, 1.0),
        backdrop=str(rng.choice(["wall", "floor", "disc"])),
        backdrop_hue=_between(rng, 0.0, 1.0),
        backdrop_warmth=_between(rng, 0.2, 1.0),
    )


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 4)


def _draw_item(drawing: Drawing, side: int) -> Image.Image:
    """The item alone, on a transparent background."""
    matrix, shift = _placement(drawing, side)
    colors = _colors(drawing)
    surface = _draw_surface(drawing, side, colors)
    layer = Image.new("RGBA", (side, side), (*colors["deep"], 0))
    pen = ImageDraw.Draw(layer)
    unit = side * drawing.size / 100
    edge = max(round(1.6 * unit), 1)
    for part in SHAPES[drawing.category][drawing.variant]:
        points = _flat(outline(part.path) @ matrix + shift)
        paint = colors.get(part.paint, colors["base"])
        outline_color = _mix(paint, _BLACK, 0.42)
        if part.width:
            if part.width >= _OUTLINED_WIDTH:
                pen.line(points, fill=outline_color, width=round(part.width * unit) + 2 * edge, joint="curve")
            pen.line(points, fill=paint, width=max(round(part.width * unit), 1), joint="curve")
            continue
        if part.paint == "body":
            mask = Image.new("L", (side, side))
            ImageDraw.Draw(mask).polygon(points, fill=255)
            layer.paste(surface, mask=mask)
        else:
            pen.polygon(points, fill=paint)
        pen.line([*points, *points[:4]], fill=outline_color, width=edge, joint="curve")
    return layer


def _placement(drawing: Drawing, side: int) -> tuple[Float[np.ndarray, "2 2"], Float[np.ndarray, " 2"]]:
    """The map from a shape's units to pixels: points @ matrix + shift."""
    turn = np.deg2rad(drawing.angle)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    wide = np.sqrt(drawing.stretch) * (-1 if drawing.mirrored else 1)
    scale = side * drawing.size / 100
    matrix = np.diag([wide * scale, scale / np.sqrt(drawing.stretch)]) @ rotation
    center = side * (0.5 + np.array([drawing.x, drawing.y]) / 100)
    return matrix, center - np.array([50.0, 50.0]) @ matrix


def _colors(drawing: Drawing) -> dict[str, Rgb]:
    base = _PALETTE[drawing.color]
    toward = _WHITE if drawing.brightness > 0 else _BLACK
    base = _mix(base, toward, 0.13 * abs(drawing.brightness))
    light = _luminance(base)
    pale, deep = _mix(base, _WHITE, 0.5), _mix(base, _BLACK, 0.32)
    dark, bright = _mix(base, _BLACK, 0.5), _mix(base, _WHITE, 0.82)
    return {
        **_MATERIAL_COLORS,
        "base": base,
        "pale": pale,
        "deep": deep,
        "motif": dark if light > 150 else bright,
        "faded": dark if light > 215 else bright,
    }


def _draw_surface(drawing: Drawing, side: int, colors: dict[str, Rgb]) -> Image.Image:
    """The color with its pattern, over the whole canvas, turned as the item is."""
    if drawing.pattern == "ombre":
        ramp = Image.linear_gradient("L").rotate(-drawing.angle, Image.Resampling.BILINEAR, fillcolor=128)
        return _blend(colors["faded"], colors["base"], ramp.resize((side, side)))
    surface = Image.new("RGB", (side, side), colors["base"])
    pen = ImageDraw.Draw(surface)
    matrix, shift = _placement(drawing, side)
    for motif in motifs(drawing.pattern, size=drawing.motif_size, shift=drawing.motif_shift):
        pen.polygon(_flat(motif @ matrix + shift), fill=colors["motif"])
    return surface


def _with_light(item: Image.Image) -> Image.Image:
    """The item in light that falls from the upper left."""
    side = item.width
    falling = Image.linear_gradient("L").rotate(60).resize((side, side))
    alpha = item.getchannel("A")
    shade = ImageChops.multiply(alpha, falling.point(lambda level: max(level - 110, 0) * 0.55))
    shine = ImageChops.multiply(alpha, falling.point(lambda level: max(120 - level, 0) * 0.5))
    colors = item.convert("RGB")
    colors.paste(_BLACK, mask=shade)
    colors.paste(_WHITE, mask=shine)
    colors.putalpha(alpha)
    return colors


def _shadow(alpha: Image.Image) -> Image.Image:
    side = alpha.width
    fallen = ImageChops.offset(alpha, round(side * 0.02), round(side * 0.045))
    return fallen.filter(ImageFilter.GaussianBlur(side * 0.03)).point(lambda level: level * 0.3)


def _background(drawing: Drawing, side: int) -> Image.Image:
    upper = _pastel(drawing.backdrop_hue, 0.03 + 0.05 * drawing.backdrop_warmth, 0.98)
    lower = _pastel(drawing.backdrop_hue, 0.06 + 0.09 * drawing.backdrop_warmth, 0.92)
    image = _blend(upper, lower, Image.linear_gradient("L").resize((side, side)))
    if drawing.backdrop == "floor":
        image.paste(_mix(lower, _BLACK, 0.1), (0, round(side * 0.72), side, side))
    if drawing.backdrop == "disc":
        mask = Image.new("L", (side * _OVERSAMPLING,) * 2)
        inset = side * _OVERSAMPLING * 0.06
        ImageDraw.Draw(mask).ellipse((inset, inset, mask.width - inset, mask.width - inset), fill=150)
        image.paste(_WHITE, mask=mask.reduce(_OVERSAMPLING))
    return image


def _blend(color: Rgb, other: Rgb, share: Image.Image) -> Image.Image:
    """A canvas of the color that turns into the other where `share` is bright."""
    canvas = Image.new("RGB", share.size, color)
    canvas.paste(other, mask=share)
    return canvas


def _pastel(hue: float, saturation: float, value: float) -> Rgb:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def _mix(color: Rgb, other: Rgb, share: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


def _luminance(color: Rgb) -> float:
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def _flat(points: Float[np.ndarray, "points 2"]) -> list[float]:
    """The points as x, y, x, y, ..., the form that Pillow reads fastest."""
    return cast(list[float], points.ravel().tolist())
