"""What was noticed about a data set: counted, with examples, so that nothing is dropped in silence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One kind of thing noticed: how often, what was done about it, and a few examples.

    `level` is "note" (a filter did what it was asked to), "warning" (something is odd or was set aside) or
    "error" (the data cannot be used as it is).
    """

    kind: str  # a short stable name: "duplicate-interactions", "broken-image", ...
    level: str
    count: int
    message: str  # one sentence: what it is and what was done
    examples: tuple[str, ...] = ()  # at most ten, each naming its row, file or id

    def __str__(self) -> str:
        shown = "; ".join(self.examples[:3])
        more = f" (e.g. {shown})" if shown else ""
        return f"{self.level}: {self.message}{more}"


def counted(count: int, noun: str) -> str:
    """The number with its noun: "1 item", "1,234 items"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
