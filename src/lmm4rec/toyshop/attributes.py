"""Attributes of the items: color and pattern are seen in the image, material, brand and season are in the text."""

from __future__ import annotations

COLORS = (
    "red", "orange", "yellow", "green", "teal", "sky blue", "navy", "purple", "pink", "brown", "gray", "cream",
)  # fmt: skip
PATTERNS = ("plain", "stripes", "dots", "checks", "zigzag", "stars", "ombre", "flowers")
MATERIALS = ("ceramic", "glass", "oak", "bamboo", "steel", "cotton", "linen", "wool", "leather", "cork")
BRANDS = (
    "Marlowe", "Tindrel", "Okkori", "Velsom", "Pennyroyal", "Hollin", "Quillon", "Sundby", "Fernwick", "Brackwater",
)  # fmt: skip
SEASONS = ("spring", "summer", "autumn", "winter", "all year")

MATERIALS_OF = {  # the materials of each category
    "mug": ("ceramic", "glass", "steel", "bamboo"),
    "teapot": ("ceramic", "glass", "steel"),
    "vase": ("ceramic", "glass", "bamboo", "steel"),
    "plate": ("ceramic", "glass", "bamboo", "oak"),
    "lamp": ("oak", "bamboo", "steel", "ceramic", "linen"),
    "clock": ("oak", "bamboo", "steel", "cork", "glass"),
    "chair": ("oak", "bamboo", "steel", "leather", "wool"),
    "cushion": ("cotton", "linen", "wool", "leather"),
    "shirt": ("cotton", "linen", "wool", "bamboo"),
    "hat": ("wool", "cotton", "linen", "leather"),
    "sneaker": ("leather", "cotton", "wool", "cork"),
    "backpack": ("leather", "cotton", "linen", "cork"),
    "umbrella": ("cotton", "oak", "steel", "bamboo"),
    "kite": ("cotton", "linen", "bamboo"),
    "notebook": ("leather", "cork", "linen", "bamboo"),
    "rocket": ("oak", "steel", "cork", "wool"),
}
CATEGORIES = tuple(MATERIALS_OF)

VALUES = {
    "color": COLORS,
    "pattern": PATTERNS,
    "category": CATEGORIES,
    "material": MATERIALS,
    "brand": BRANDS,
    "season": SEASONS,
}
LOOKS = ("color", "pattern")
"""Attributes that the image shows and the text seldom mentions. The category is in both."""

TEXT_ATTRIBUTES = ("material", "brand", "season")
"""Attributes that only the text states."""
