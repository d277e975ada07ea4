"""A report's page as one HTML file: no server, no other files, nothing from a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lmm4rec.experiments.report.figure_style import ReportFigure
from lmm4rec.experiments.report.number_formats import initials, with_code
from lmm4rec.experiments.report.page_svg import themed
from lmm4rec.experiments.report.tables import ReportTable
from lmm4rec.experiments.report.thumbnails import page_images, placeholder_hue
from lmm4rec.experiments.report.user_examples import UserExample

_PACKAGE = "lmm4rec.experiments.report"


@dataclass(frozen=True, kw_only=True)
class Page:
    """The common content of all pages, as plain values; subclasses add their sections."""

    template: ClassVar[str]

    title: str
    subtitle: str
    headlines: Sequence[str]
    results: Sequence[ReportTable]
    notes: Sequence[str]  # on the results
    details: Sequence[ReportTable] = ()  # folded up below the results
    figures: Sequence[ReportFigure] = ()
    users: Sequence[UserExample] = ()
    models: Sequence[str] = ()  # whose recommendations to the users are shown

    def html(self) -> str:
        """The page, with all that it shows: images, figures, style and script."""
        script = _text("sort_tables.js")
        tops = [card for user in self.users for model in self.models for card in user.recommendations.get(model, ())]
        others = [card for user in self.users for card in (*user.history, *user.held_out)]
        return (
            _environment()
            .get_template(self.template)
            .render(
                page=self,
                images=page_images(small=others, large=tops),
                style=Markup(_text("page.css")),
                script=Markup(script),
                # the page may run this one script and load nothing: a hostile title can do no harm
                script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
            )
        )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(with_code=with_code, initials=initials, hue=placeholder_hue, svg_url=_svg_url)
    return environment


def _svg_url(figure: ReportFigure, *, for_phones: bool = False) -> str:
    svg = themed(figure.text_svg(for_phones=for_phones))
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


@cache
def _text(name: str) -> str:
    return resources.files(_PACKAGE).joinpath("templates", name).read_text(encoding="utf-8")
