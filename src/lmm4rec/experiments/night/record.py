"""Record of a night: what the job read, trained and measured, what it decided, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Literal

Decision = Literal["first", "swapped", "kept", "failed", "interrupted"]


@dataclass
class NightRecord:
    """A line of `nights.jsonl`; what is None or empty is left out there."""

    night: str  # the name of its folder in nights/
    started: str  # ISO times, in UTC
    conf: str
    finished: str = ""
    decision: Decision = "interrupted"
    why: str = ""
    error: str = ""  # the name of the error, such as "DataError", where the night failed
    model: str = ""
    yesterday: str = ""  # the night whose bundle was served before
    serving: str = ""  # the night whose bundle is served afterwards
    epochs: int | None = None  # of the final training
    rows: dict[str, dict[str, int]] = field(default_factory=dict)  # "users" -> "kept", "new", "gone", ...
    left_out: dict[str, int] = field(default_factory=dict)  # posted interactions by unknown item, of the first few
    seconds: dict[str, float] = field(default_factory=dict)  # by step
    recent: Mapping[str, Any] | None = None  # see `serving.comparison_results.RecentQuality`
    comparison: Mapping[str, Any] | None = None  # of the served bundle with yesterday's; see `BundleComparison`

    @classmethod
    def begin(cls, night: str, conf: str) -> NightRecord:
        """The record of a night that begins now."""
        return cls(night, now(), conf)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step of the night, whose seconds are recorded."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(perf_counter() - start, 2)

    def decide(self, decision: Decision, why: str) -> None:
        """Record the decision and its reason."""
        self.decision, self.why, self.finished = decision, why, now()

    def to_json(self) -> dict[str, Any]:
        """The line of the log."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, "", {}, [])}


def now() -> str:
    """The time in UTC, in ISO form to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
