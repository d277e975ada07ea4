"""What a study's report makes of numbers, by hand-made cells and tables."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from lmm4rec.experiments.report.collect import Cell, Design, Panel
from lmm4rec.experiments.report.study_page import Page, render
from lmm4rec.experiments.report.study_tables import Entry, Grid, alignment_table


def test_what_is_missing_among_numbers_sorts_as_missing() -> None:
    """The script takes a column for numbers where each value is one or empty; a dash would make it sort by letters."""
    grid = Grid("t", "", ["model", "seconds"], [[Entry("A"), Entry("–")], [Entry("B"), Entry("9 s", 9.0)]])
    html = render(Page("t", "", [], [grid], [], [], {}, {}, []))
    assert re.findall(r'<td data-value="(.*?)"(.*?)>', html) == [("", ""), ("9.0", "")]


def test_the_cost_of_a_run_counts_its_features_whoever_made_them() -> None:
    """60 seconds of encoding: done in the run itself they are in its time already, else they come on top of it."""

    def total(**cost: float) -> float:
        result: Any = SimpleNamespace(metrics={"cost": cost})
        return Cell("x", {}, result).numbers()["cost.total_seconds"]

    assert total(seconds=70.0) == 70.0
    assert total(seconds=70.0, encode_seconds=61.0, features_seconds=60.0) == 70.0
    assert total(seconds=11.0, encode_seconds=1.0, features_seconds=60.0) == 70.0


def test_alignment_stands_beside_quality_once_for_all_recommenders() -> None:
    """Frozen features have one measure, tuned ones that after tuning and in brackets that before."""

    def design(recommender: str, paradigm: str, measured: dict[str, Any]) -> Design:
        result: Any = SimpleNamespace(metrics={"cost": {"seconds": 1.0}, "alignment": measured})
        axes = {"recommender": recommender, "paradigm": paradigm}
        return Design(" · ".join(axes.values()), axes, [Cell("x", axes, result)])

    frozen, tuned = (
        {"modality_gap": 0.5, "pairs": 9},
        {"before": {"modality_gap": 0.5}, "after": {"modality_gap": 0.25}},
    )
    designs = [design("BPR", "frozen", {}), design("VBPR", "frozen", frozen), design("VBPR", "finetuned", tuned)]
    grid = alignment_table(Panel("shop", [*designs, design("LATTICE", "finetuned", tuned)]))
    assert grid.heads == ["", "Modality gap"]
    assert [[entry.text for entry in row] for row in grid.rows] == [["frozen", "0.500"], ["finetuned", "0.250 (0.500)"]]
