"""Templates leave no stray punctuation."""

from __future__ import annotations

import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.nn.text import render


@pytest.mark.parametrize(
    ("template", "fields", "expected"),
    [
        ("{title}. {description}", {"title": "Toy Story", "description": "A film"}, "Toy Story. A film"),
        ("{title}. {description}", {"title": "Toy Story", "description": ""}, "Toy Story"),
        ("{title}. {description}", {"title": "", "description": "A film"}, "A film"),
        ("{title}. {description}", {"title": " ", "description": ""}, ""),
        ("{a}. {b}. {c}. {d}", {"a": "A", "b": "", "c": "", "d": "D"}, "A. D"),
        ("{a}. {b}. {c}", {"a": "", "b": "B", "c": ""}, "B"),
        ("{title} ({brand}), {color}", {"title": "Mug", "brand": "", "color": "red"}, "Mug, red"),
        ("{title} ({brand}), {color}", {"title": "Mug", "brand": "Oak", "color": ""}, "Mug (Oak)"),
        ("{title} ({brand})", {"title": "Mug", "brand": ""}, "Mug"),
        ("a photo of {title}.", {"title": "a mug"}, "a photo of a mug."),
        ("a photo of {title}.", {"title": ""}, ""),
        ("{title}. Brand: {brand}. Color: {color}", {"title": "Mug", "brand": "", "color": "red"}, "Mug. Color: red"),
        ("{title}", {"title": "two\n  lines\t here"}, "two lines here"),
        ("{title}. {description}", {"title": "Wait...", "description": "What?!"}, "Wait.... What?!"),
        ("{title}", {"title": "مصباح أزرق 🪔"}, "مصباح أزرق 🪔"),
    ],
)
def test_render(template: str, fields: dict[str, str], expected: str) -> None:
    assert render(template, fields) == expected


def test_a_template_without_a_field_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no field"):
        render("title", {"title": "x"})


def test_a_broken_template_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        render("{title", {"title": "x"})
