"""What a report shows, as plain values: whoever fills it in needs no knowledge of pages, figures or markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from lmm4rec.core.errors import DataError, did_you_mean
from lmm4rec.core.types import ItemImage

Figures: TypeAlias = Mapping[str, float | int]
"""Named numbers, such as `{"recall@20": 0.081, "ndcg@20": 0.036}`."""


@dataclass(frozen=True)
class RunView:
    """One run: what was trained, what it reached and what it cost."""

    label: str  # names the run everywhere on the page; no two runs share one
    recommender: str
    encoder: str  # empty (or "none") where the recommender looks at no content
    paradigm: str  # "frozen", "finetuned", "end2end"; empty where there is no encoder
    valid: Figures
    test: Figures
    slices: Mapping[str, Figures] = field(default_factory=dict)  # "cold" -> test metrics on the cold items
    beyond: Figures = field(default_factory=dict)  # coverage, Gini, novelty, ...
    cost: Figures = field(default_factory=dict)  # seconds, parameters, peak_memory_mb, ...
    history: Sequence[Figures] = ()  # a row an epoch: "epoch", "loss", and the validation metric where it was measured
    best_epoch: int = 0
    seed: int = 0
    alignment: Figures = field(default_factory=dict)  # of images and words in the features that were used
    alignment_before: Figures = field(default_factory=dict)  # the same before the encoder was trained, where it was

    @property
    def uses_content(self) -> bool:
        """Whether the recommender looks at images, words or other content of the items."""
        return self.encoder.strip().lower() not in {"", "none"}


@dataclass(frozen=True)
class Card:
    """One item as people see it: its image, its title, and whether it was a hit."""

    id: str
    title: str
    image: ItemImage | None
    note: str = ""
    hit: bool = False


@dataclass(frozen=True)
class Person:
    """One user: what they liked (latest first), what each run recommends, and what was held out to be found."""

    id: str
    facts: str
    history: Sequence[Card]
    recommendations: Mapping[str, Sequence[Card]]  # the label of a run -> its best items, best first
    held_out: Sequence[Card] = ()


@dataclass(frozen=True)
class ReportView:
    """A whole report.

    Raises:
        DataError: there is no run, two runs share a label, a run lacks `metric`, or a person has recommendations by
            a run that is not in the report.
    """

    title: str
    subtitle: str
    facts: Mapping[str, str]
    runs: Sequence[RunView]
    people: Sequence[Person] = ()
    findings: Sequence[str] = ()  # `words between backticks` are set as code, here and in `next_steps`
    metric: str = "recall@20"
    next_steps: Sequence[str] = ()
    masked: str = "each user's training and validation items"  # what was left out of the test ranking
    hit_label: str = "liked later"

    def __post_init__(self) -> None:
        if not self.runs:
            raise DataError("a report needs at least one run, and was given none")
        labels = Counter(run.label for run in self.runs)
        label, times = labels.most_common(1)[0]
        if times > 1:
            raise DataError(f"{times} runs of the report are labelled '{label}'; give each run a label of its own")
        for run in self.runs:
            _require_metric(run, self.metric)
        for person in self.people:
            for by in person.recommendations:
                if by not in labels:
                    known = ", ".join(labels)
                    raise DataError(
                        f"person '{person.id}' has recommendations by '{by}', which is no run of the report."
                        f"{did_you_mean(by, labels)} There are: {known}"
                    )


def _require_metric(run: RunView, metric: str) -> None:
    for part, figures in (("validation", run.valid), ("test", run.test)):
        if metric not in figures:
            known = ", ".join(figures) or "nothing"
            raise DataError(f"run '{run.label}' has no {part} '{metric}', by which the report ranks; it has: {known}")
