"""The tables of recommenders and encoders in the guide, from the classes: a new one appears by itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lmm4rec.cli.components import ListedComponent
from lmm4rec.cli.models import entries

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

MARKER = re.compile(r"<!-- table of (recommender|encoder)s -->")  # where a page has a table
_LINKS = (
    (r"arXiv (\d{4}\.\d{4,5})", r"[\g<0>](https://arxiv.org/abs/\1)"),
    (r"doi (10\.\S+\w)", r"[\g<0>](https://doi.org/\1)"),
)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The page with its tables."""
    return MARKER.sub(lambda found: table(found[1]), markdown)


def table(kind: str) -> str:
    """The table of all recommenders by year, or of all encoders."""
    known = [entry for entry in entries() if entry.kind == kind and not entry.plugin]
    if kind == "recommender":
        known.sort(key=_year)
        return _rows(("name", "model", "source"), ((e.name, e.what, _linked(e.citation)) for e in known))
    rows = ((e.name, e.what, e.about.get("gives", ""), e.about.get("weights", "")) for e in known)
    return _rows(("name", "encoder", "vectors", "weights"), rows)


def _year(entry: ListedComponent) -> int:
    years = re.findall(r"\b(?:19|20)\d\d\b(?!\.)", entry.citation)
    return int(years[0]) if years else 0


def _linked(citation: str) -> str:
    for identifier, link in _LINKS:
        citation = re.sub(identifier, link, citation)
    return citation


def _rows(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header)]
    lines += [(f"`{name}`", *(cell.replace("|", r"\|") for cell in cells)) for name, *cells in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
