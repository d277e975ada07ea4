"""The summary as one HTML file: no server, no other files, nothing from a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lmm4rec.experiments.report import number_formats as words
from lmm4rec.experiments.report.figure_style import Drawn
from lmm4rec.experiments.report.study_tables import Grid
from lmm4rec.experiments.report.thumbnails import album, tint
from lmm4rec.experiments.report.view import Card, Person

_PACKAGE = "lmm4rec.experiments.report"


@dataclass(frozen=True)
class Shown:
    """A figure as the page holds it."""

    title: str
    caption: str
    url: str


@dataclass(frozen=True)
class Page:
    """What the page shows, as plain values."""

    title: str
    subtitle: str
    headlines: Sequence[str]
    results: Sequence[Grid]
    figures: Sequence[Shown]
    tests: Sequence[Grid]
    failures: Mapping[str, Mapping[str, Any]]
    card: Mapping[str, str]
    files: Sequence[str]
    people: Sequence[Person] = ()
    sides: Sequence[str] = ()
    hit_label: str = "liked, held out"


def shown(figure: Drawn) -> Shown:
    """The figure as an image inside the page."""
    svg = base64.b64encode(figure.bytes("svg")).decode("ascii")
    return Shown(figure.title, figure.caption, f"data:image/svg+xml;base64,{svg}")


def render(page: Page) -> str:
    """The HTML."""
    environment = Environment(
        loader=PackageLoader(_PACKAGE, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(with_code=words.with_code, initials=words.initials, tint=tint)
    script = _text("sort_tables.js")
    return environment.get_template("study.html.jinja").render(
        page=page,
        view={"hit_label": page.hit_label},
        album=album(_cards(page.people)),
        style=Markup(_text("page.css") + _text("study.css")),
        script=Markup(script),
        # the page may run this one script and load nothing: so no hostile title can do harm, whatever it says
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _text(name: str) -> str:
    return resources.files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _cards(people: Sequence[Person]) -> Iterator[Card]:
    for person in people:
        yield from person.history
        for cards in person.recommendations.values():
            yield from cards
