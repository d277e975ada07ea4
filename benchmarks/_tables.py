"""Markdown: tables, and paragraphs of at most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def wrapped(text: str) -> str:
    """The text with its paragraphs wrapped; tables, headings and images as they are."""
    parts = text.split("\n\n")
    return "\n\n".join(part if part.lstrip()[:1] in "|#!" else _filled(part) for part in parts)


def _filled(paragraph: str) -> str:
    return textwrap.fill(paragraph, width=100, break_long_words=False, break_on_hyphens=False)
