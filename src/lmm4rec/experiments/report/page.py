"""The report as one HTML file: no server, no other files, nothing from a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lmm4rec.core.files import write_text
from lmm4rec.experiments.report import curves, tables
from lmm4rec.experiments.report import number_formats as words
from lmm4rec.experiments.report.thumbnails import album, tint
from lmm4rec.experiments.report.view import Card, ReportView

_PACKAGE = "lmm4rec.experiments.report"


def write_report(path: Path, view: ReportView) -> None:
    """Write the report as one HTML file that holds all it shows."""
    write_text(path, render(view))


def render(view: ReportView) -> str:
    """The report as an HTML page that holds all it shows: images, figures, style and script."""
    runs = sorted(view.runs, key=lambda run: run.test[view.metric], reverse=True)
    script = _text("sort_tables.js")
    return (
        _environment()
        .get_template("run.html.jinja")
        .render(
            view=view,
            runs=runs,
            metric=words.metric_name(view.metric),
            headline=words.headline(view),
            footnotes=words.footnotes(view),
            results=tables.results(runs, view.metric),
            slices=tables.slices(runs, view.metric),
            beyond=tables.beyond(runs),
            costs=tables.costs(runs),
            alignment=tables.alignment(runs),
            metrics=tables.metrics(runs),
            quality=curves.quality_and_cost(view.runs, view.metric) if len(runs) > 1 else [],  # one point says nothing
            training=curves.training(view.runs, view.metric),
            looks=curves.styles(view.runs),
            canvas=curves,
            switch=[run.label for run in runs if any(run.label in person.recommendations for person in view.people)],
            chosen=words.validation_winner(view.runs, view.metric).label,
            album=album(_cards(view)),
            style=Markup(_text("page.css")),
            script=Markup(script),
            # The page may run this one script and load nothing: so no hostile title can do harm, whatever it says.
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(with_code=words.with_code, initials=words.initials, tint=tint)
    return environment


def _text(name: str) -> str:
    return resources.files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _cards(view: ReportView) -> Iterator[Card]:
    for person in view.people:
        yield from person.history
        yield from person.held_out
        for cards in person.recommendations.values():
            yield from cards
