"""The text of an item, by a template over its fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter

from lmm4rec.core.errors import ConfigError, did_you_mean

_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]|\{\s*\}")
_SEPARATORS = re.compile(r"[.,;:|/·–—-]")
_EDGES = " .,;:|/·–—-()[]"


def render(template: str, fields: Mapping[str, str]) -> str:
    """The template with the fields filled in, such as "{title}. {description}".

    An empty field is removed together with what surrounds it, so that no stray punctuation is left: "Toy Story" and not
    "Toy Story. ".

    Raises:
        ConfigError: the template names a field that the catalog lacks, or is no template.
    """
    parts = _parse(template)
    for name in (name for _, name in parts if name):
        if name not in fields:
            known = ", ".join(fields) or "no text at all"
            raise ConfigError(
                f"the text template '{template}' names '{name}', the catalog has: {known}.{did_you_mean(name, fields)}"
            )
    text, gap, skipped = "", "", False
    for literal, name in parts:
        gap = _merge(gap, literal) if skipped else gap + literal
        value = " ".join(fields[name].split()) if name else ""
        if value:
            text += (gap if text or not skipped else gap.lstrip(_EDGES)) + value
            gap, skipped = "", False
        elif name:
            closing = "" if skipped else gap[: len(gap) - len(gap.lstrip(")]}"))]
            text, gap, skipped = text + (closing if text else ""), gap.removeprefix(closing), True
    return text if skipped or not text else text + gap


def _parse(template: str) -> list[tuple[str, str]]:
    """Pairs of literal text and the name of the field behind it; the last name is empty."""
    try:
        parts = [(literal, name or "") for literal, name, _, _ in Formatter().parse(template)]
    except ValueError as error:
        raise ConfigError(f"the text template '{template}' cannot be read: {error}") from None
    if not any(name for _, name in parts):
        raise ConfigError(f"the text template '{template}' names no field; write for example '{{title}}'")
    return [*parts, ("", "")]


def _merge(left: str, right: str) -> str:
    """One gap from the literals on both sides of an empty field."""
    if any(letter.isalnum() for letter in left):  # text that introduced the empty field
        return right
    merged = _BRACKETS.sub("", left + right)
    separator = _SEPARATORS.search(merged)
    if any(letter.isalnum() for letter in merged):
        return right
    return f"{separator.group()} " if separator else (" " if merged else "")
