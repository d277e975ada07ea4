"""Findings about a data set: counted, with examples, so that nothing is dropped silently."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One kind of problem or change: how often it occurs, what was done about it, and a few examples.

    `level` is "note" (nothing is wrong, such as the effect of a filter), "warning" (something is unusual or was set
    aside) or "error" (the data cannot be used as it is).
    """

    kind: str  # a short stable name: "duplicate-interactions", "broken-image", ...
    level: str
    count: int
    message: str  # one sentence: what was found and what was done about it
    examples: tuple[str, ...] = ()  # at most ten, each naming its row, file or id

    def __str__(self) -> str:
        shown = "; ".join(self.examples[:3])
        more = f" (e.g. {shown})" if shown else ""
        return f"{self.level}: {self.message}{more}"


_SINGULAR = {"have": "has", "are": "is", "were": "was"}


def agreeing(count: int, verb: str) -> str:
    """A verb as it follows a count: "have" after 2 items, "has" after 1."""
    return verb if count != 1 else _SINGULAR.get(verb, f"{verb}s")


def counted(count: int, noun: str) -> str:
    """The number with its noun: "1 item", "1,234 items"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
