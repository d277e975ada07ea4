"""Titles and descriptions of items, each statement in one of many phrasings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SHOP_LINES = (
    "Arvika", "Bergen", "Cadiz", "Delft", "Elba", "Faro", "Gotland", "Hvar", "Ischia", "Jura", "Kos", "Lugano",
    "Menton", "Narvik", "Oslo", "Porto", "Rimini", "Skagen", "Tarifa", "Ulm", "Vienna", "Ystad",
)  # fmt: skip
SECOND_LINES = (
    "Avignon", "Bruges", "Corfu", "Dundee", "Essen", "Florence", "Ghent", "Helsinki", "Iona", "Jersey", "Kyoto",
    "Lyon", "Madrid", "Nantes", "Odense", "Parma", "Rouen", "Siena", "Turin", "Utrecht", "Verona", "Zurich",
)  # fmt: skip
"""Every title names its product line, so that texts of the two lists are never equal."""

_NOUNS: dict[str, Sequence[str]] = {
    "mug": ("mug", "coffee mug", "tea cup"),
    "teapot": ("teapot", "tea kettle", "pot for tea"),
    "vase": ("vase", "flower vase", "table vase"),
    "plate": ("plate", "dinner plate", "serving dish"),
    "lamp": ("lamp", "table lamp", "bedside lamp"),
    "clock": ("clock", "quiet clock", "analog clock"),
    "chair": ("chair", "reading chair", "side chair"),
    "cushion": ("cushion", "throw pillow", "sofa cushion"),
    "shirt": ("shirt", "easy-fit shirt", "crew-neck top"),
    "hat": ("hat", "everyday hat", "favorite hat"),
    "sneaker": ("sneaker", "lace-up sneaker", "running shoe"),
    "backpack": ("backpack", "day pack", "rucksack"),
    "umbrella": ("umbrella", "parasol", "walking umbrella"),
    "kite": ("kite", "single-line kite", "flying kite"),
    "notebook": ("notebook", "journal", "sketchbook"),
    "rocket": ("toy rocket", "rocket", "play rocket"),
}
_USES: dict[str, Sequence[str]] = {
    "mug": ("Holds a generous cup of coffee.", "Fits the hand and most shelves.", "Keeps tea warm a little longer."),
    "teapot": ("Pours without a drip.", "Enough for four small cups.", "The lid stays put while pouring."),
    "vase": ("Stands steady with tall stems.", "Lovely with a single branch.", "Room for a whole bunch of tulips."),
    "plate": ("Stacks neatly with its siblings.", "Deep enough for pasta.", "Makes toast look like an occasion."),
    "lamp": ("Gives a calm, warm light.", "Just right beside a book.", "With a dimmer in the cord."),
    "clock": ("No ticking to be heard.", "Easy to read across the room.", "One battery lasts two years."),
    "chair": ("Comfortable for a long dinner.", "Takes five minutes to put together.", "Sits well at any desk."),
    "cushion": ("Plump, and it stays that way.", "The cover comes off for washing.", "Makes any bench softer."),
    "shirt": ("Cut for a relaxed fit.", "Softer after every wash.", "Wear it loose or tucked in."),
    "hat": ("Packs flat in a pocket.", "One size fits nearly everyone.", "Sits close without pressing."),
    "sneaker": ("A springy sole for long walks.", "True to size.", "Comes with a spare pair of laces."),
    "backpack": ("A padded sleeve fits a laptop.", "With two pockets for bottles.", "Light on the shoulders."),
    "umbrella": ("Opens with one hand.", "Stands up to gusts.", "Wide enough for two good friends."),
    "kite": ("Flies in the lightest breeze.", "Ready to launch in a minute.", "Comes with thirty meters of line."),
    "notebook": ("Lies flat when opened.", "With 160 ruled pages.", "Paper that ink does not bleed through."),
    "rocket": ("Ready for the living-room moon.", "Small parts safely fixed.", "For astronauts from age three."),
}
_MATERIALS: dict[str, Sequence[str]] = {
    "ceramic": ("ceramic", "glazed ceramic", "stoneware ceramic"),
    "glass": ("glass", "blown glass", "recycled glass"),
    "oak": ("oak", "solid oak", "oak wood"),
    "bamboo": ("bamboo", "fine bamboo", "natural bamboo"),
    "steel": ("steel", "brushed steel", "stainless steel"),
    "cotton": ("cotton", "organic cotton", "woven cotton"),
    "linen": ("linen", "washed linen", "pure linen"),
    "wool": ("wool", "merino wool", "soft wool"),
    "leather": ("leather", "grained leather", "vegetable-tanned leather"),
    "cork": ("cork", "Portuguese cork", "natural cork"),
}
_MATERIAL_SENTENCES: Sequence[str] = (
    "Made of {material}.",
    "Crafted in {material} by people who take their time.",
    "We chose {material} because it ages well.",
    "Carefully finished, with details in {material}.",
    "The {material} makes it last for years.",
    "Honest {material}, nothing else.",
    "Worked in {material} in a small workshop.",
)
_BRAND_SENTENCES: Sequence[str] = (
    "From the {brand} workshop.",
    "A classic by {brand}.",
    "Designed by {brand}.",
    "Part of the {brand} family.",
    "{brand} makes it in small batches.",
)
_SEASONS: dict[str, Sequence[str]] = {
    "spring": (
        "Made for the first mild days of spring.",
        "From the spring collection.",
        "As fresh as April in blossom.",
        "Good company when spring arrives.",
        "Think of Easter, open windows and spring light.",
    ),
    "summer": (
        "Made for long summer evenings.",
        "From the summer collection.",
        "At home on the beach and in the August sun.",
        "Best in summer, when days are hot.",
        "Brings holiday sun to every summer day.",
    ),
    "autumn": (
        "Made for crisp autumn afternoons.",
        "From the autumn collection.",
        "For October rain and falling leaves.",
        "A friend for windy autumn days.",
        "It goes well with harvest time and autumn fog.",
    ),
    "winter": (
        "Made for cold winter nights.",
        "From the winter collection.",
        "Cozy when snow and frost are at the window.",
        "A warm thought for the winter holidays.",
        "For December, when winter is at the door.",
    ),
    "all year": (
        "Made for every month of the year.",
        "From our permanent range.",
        "Good all year round.",
        "At its best whatever the month.",
        "A permanent favorite, all year long.",
    ),
}
_COLORS: dict[str, Sequence[str]] = {
    "red": ("red", "scarlet", "cherry red"),
    "orange": ("orange", "tangerine", "warm orange"),
    "yellow": ("yellow", "sunny yellow", "lemon yellow"),
    "green": ("green", "leaf green", "meadow green"),
    "teal": ("teal", "turquoise", "deep teal"),
    "sky blue": ("sky blue", "light blue", "pale blue"),
    "navy": ("navy", "navy blue", "midnight blue"),
    "purple": ("purple", "violet", "plum purple"),
    "pink": ("pink", "rose pink", "candy pink"),
    "brown": ("brown", "chocolate brown", "chestnut brown"),
    "gray": ("gray", "slate gray", "stone gray"),
    "cream": ("cream", "ivory", "cream white"),
}
_PATTERNS: dict[str, Sequence[str]] = {  # as they stand before a noun
    "plain": ("plain", "unpatterned", "solid-color"),
    "stripes": ("striped", "stripy", "banded"),
    "dots": ("dotted", "polka-dot", "spotted"),
    "checks": ("checked", "checkered", "chessboard"),
    "zigzag": ("zigzag", "chevron", "zigzag-patterned"),
    "stars": ("starry", "star-patterned", "star-print"),
    "ombre": ("ombre", "gradient", "dip-dyed"),
    "flowers": ("floral", "flowery", "flower-print"),
}
_LOOK_SENTENCES: Sequence[str] = (
    "Its {look} look catches the eye.",
    "The {look} design suits every room.",
    "Shown here is the {look} version.",
    "This {look} one is our favorite.",
)
_ADJECTIVES: Sequence[str] = ("lovely", "simple", "cheerful", "handy", "sturdy", "charming", "small-batch", "well-made")
_TITLES: Sequence[str] = (
    "{line} {look}{material} {noun}",
    "{line} {adjective} {look}{noun}",
    "{adjective} {look}{material} {noun} {line}",
    "{look}{noun} {line}, {material}",
    "{look}{noun} {line} in {material}",
)


@dataclass(frozen=True)
class ItemText:
    """The text of an item; both are empty where it has none."""

    title: str = ""
    description: str = ""


def describe(
    values: Mapping[str, str], *, lines: Sequence[str], mention_looks: bool, rng: np.random.Generator
) -> ItemText:
    """A title and a description that name category, material, brand and season of an item, and a product line.

    `values` are those of the item's attributes; with `mention_looks` color, pattern or both are named as well.
    """
    material, brand = values["material"], values["brand"]
    sentences = [
        _pick(rng, _MATERIAL_SENTENCES).format(material=_pick(rng, _MATERIALS[material])),
        _pick(rng, _SEASONS[values["season"]]),
    ]
    if rng.random() < 0.75:
        sentences.append(_pick(rng, _USES[values["category"]]))
    look = _look(values, rng) if mention_looks else ""
    if look and rng.random() < 0.5:
        sentences.append(_pick(rng, _LOOK_SENTENCES).format(look=look))
        look = ""
    title = _pick(rng, _TITLES).format(
        line=_pick(rng, lines),
        adjective=_pick(rng, _ADJECTIVES),
        look=look and f"{look} ",
        material=material,
        noun=_pick(rng, _NOUNS[values["category"]]),
    )
    if rng.random() < 0.7:
        title = f"{brand} {title}" if rng.random() < 0.6 else f"{title} by {brand}"
    else:
        sentences.append(_pick(rng, _BRAND_SENTENCES).format(brand=brand))
    rng.shuffle(sentences)
    return ItemText(title[0].upper() + title[1:], " ".join(sentences))


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _look(values: Mapping[str, str], rng: np.random.Generator) -> str:
    """The color, the pattern or both, as they stand before a noun."""
    color, pattern = _pick(rng, _COLORS[values["color"]]), _pick(rng, _PATTERNS[values["pattern"]])
    chance = rng.random()
    if chance < 0.6:
        return f"{pattern} {color}"
    return color if chance < 0.8 else pattern
