"""The designs of a figure, and their division into rows, series and subplots."""

from __future__ import annotations

from collections.abc import Sequence

from lmm4rec.experiments.report.figure_style import COLORS, WIDE
from lmm4rec.experiments.report.finished_runs import Design, RunCollection
from lmm4rec.experiments.study.axis_presets import HIDDEN, SEED

SERIES_AXES = ("paradigm", "encoder", "modalities")


def main_designs(designs: Sequence[Design], collection: RunCollection, keep: Sequence[str] = ()) -> list[Design]:
    """The designs to compare: ablations (modalities, hidden shares) at their first value, but for those in `keep`."""
    ablations = [axis for axis in collection.axes if axis == "modalities" or HIDDEN.fullmatch(axis)]
    firsts = {axis: collection.axes[axis][0] for axis in ablations if axis not in keep}
    return [d for d in designs if all(d.axes.get(axis, first) == first for axis, first in firsts.items())]


def axis_values(designs: Sequence[Design], axis: str, collection: RunCollection) -> list[str]:
    """The values of an axis that the designs have, in the study's order."""
    present = {design.axes.get(axis) for design in designs}
    return [value for value in collection.axes.get(axis, ()) if value in present]


def row_axis(designs: Sequence[Design], collection: RunCollection) -> str:
    """The axis by which designs are named: the recommender where there is such an axis, else the first."""
    return "recommender" if "recommender" in collection.axes else next(iter(designs[0].axes))


def other_values(design: Design, axis: str) -> str:
    """The values of a design on the other axes, joined; empty where there are none."""
    return " · ".join(v for a, v in design.axes.items() if a not in (axis, "data", "protocol"))


def kinds_by_label(designs: Sequence[Design], axis: str, collection: RunCollection) -> dict[str, str]:
    """The `other_values` of each design by its label; of one axis alone where there are more kinds than colors."""
    kinds = {design.label: other_values(design, axis) for design in designs}
    few = [a for a in SERIES_AXES if a != axis and 1 < len(axis_values(designs, a, collection)) <= len(COLORS)]
    if len(set(kinds.values())) > len(COLORS) and few:
        return {design.label: design.axes.get(few[0], "") for design in designs}
    return kinds


def subplots_of(designs: Sequence[Design], used: Sequence[str], collection: RunCollection) -> dict[str, list[Design]]:
    """The designs by their values on the axes that are not `used`; those without such values stand in every subplot."""
    others = [a for a in collection.axes if a not in (*used, SEED, "data", "protocol")]
    others = [
        axis for axis in others if len(axis_values(designs, axis, collection)) > 1 and not _follows(designs, axis, used)
    ]
    names = [" · ".join(d.axes[axis] for axis in others if axis in d.axes) for d in designs]
    subplots: dict[str, list[Design]] = {name: [] for name in dict.fromkeys(names) if name or not any(names)}
    for design, name in zip(designs, names, strict=True):
        for subplot in [name] if name in subplots else subplots:
            subplots[subplot].append(design)
    return subplots


def _follows(designs: Sequence[Design], axis: str, used: Sequence[str]) -> bool:
    """Whether the values on the axes that are `used` determine that on another, which then divides nothing."""
    values: dict[tuple[str | None, ...], set[str | None]] = {}
    for design in designs:
        values.setdefault(tuple(design.axes.get(one) for one in used), set()).add(design.axes.get(axis))
    return all(len(found) == 1 for found in values.values())


def subplot_layout(subplots: int, width: float) -> tuple[int, int]:
    """The numbers of rows and columns for a number of subplots in a figure of this width."""
    columns = 1 if width < WIDE else 2 if subplots == 4 else min(3, subplots)
    return -(-subplots // columns), columns
