"""The figures of a report: each is drawn where the runs have the numbers for it, and left out where they have not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from lmm4rec.experiments.report.figure_style import NARROW, WIDE, ReportFigure, figure_settings
from lmm4rec.experiments.report.finished_runs import DesignGroup, RunCollection
from lmm4rec.experiments.report.quality_figures import (
    hidden_content,
    quality_and_cost,
    quality_by_axis,
    slices,
    spread_over_seeds,
)
from lmm4rec.experiments.report.training_figures import learning_curves, training_losses


class _FigureFunction(Protocol):
    def __call__(self, group: DesignGroup, collection: RunCollection, *, width: float) -> Iterator[ReportFigure]: ...


_STUDY: Sequence[_FigureFunction] = (
    quality_by_axis, quality_and_cost, slices, hidden_content, learning_curves, spread_over_seeds,
)  # fmt: skip
_RUNS: Sequence[_FigureFunction] = (quality_and_cost, learning_curves, training_losses)


def study_figures(collection: RunCollection) -> list[ReportFigure]:
    """The figures of a study, group by group."""
    if len(collection.groups) == 1:
        return _of_group(collection.groups[0], collection)
    return [
        replace(figure, name=f"{figure.name}_{number}", title=f"{figure.title}, {group.title}")
        for number, group in enumerate(collection.groups, start=1)
        for figure in _of_group(group, collection)
    ]


def _of_group(group: DesignGroup, collection: RunCollection) -> list[ReportFigure]:
    """The figures of a group, each for wide and for narrow screens."""
    both = (_figures(_STUDY, group, collection, width) for width in (WIDE, NARROW))
    return [replace(wide, for_phones=narrow.figure) for wide, narrow in zip(*both, strict=True)]


def run_figures(collection: RunCollection) -> list[ReportFigure]:
    """The figures of single runs on the same split."""
    return _figures(_RUNS, collection.groups[0], collection, NARROW)


def _figures(
    functions: Sequence[_FigureFunction], group: DesignGroup, collection: RunCollection, width: float
) -> list[ReportFigure]:
    with figure_settings():
        return [figure for function in functions for figure in function(group, collection, width=width)]
