"""The summary as one HTML file: no server, no other files, nothing from a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lmm4rec.experiments.report import words
from lmm4rec.experiments.report.images import album, tint
from lmm4rec.experiments.report.view import Card, Person
from lmm4rec.experiments.summary.look import Drawn
from lmm4rec.experiments.summary.tables import Grid

_REPORT, _SUMMARY = "lmm4rec.experiments.report", "lmm4rec.experiments.summary"


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
        loader=ChoiceLoader([PackageLoader(_SUMMARY, ""), PackageLoader(_REPORT, "")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(with_code=words.with_code, initials=words.initials, tint=tint)
    script = _text(_SUMMARY, "summary.js")
    return environment.get_template("summary.html.jinja").render(
        page=page,
        view={"hit_label": page.hit_label},
        album=album(_cards(page.people)),
        style=Markup(_text(_REPORT, "page.css") + _text(_SUMMARY, "summary.css")),
        script=Markup(script),
        # the page may run this one script and load nothing: so no hostile title can do harm, whatever it says
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _cards(people: Sequence[Person]) -> Iterator[Card]:
    for person in people:
        yield from person.history
        for cards in person.recommendations.values():
            yield from cards
