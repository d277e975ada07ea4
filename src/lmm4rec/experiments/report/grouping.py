"""Finished runs in groups that can be compared, with titles and labels that name only the differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmm4rec.experiments.report.finished_runs import Axes, Design, DesignGroup, FinishedRun, GroupKey
from lmm4rec.experiments.study.axis_presets import SEED


def comparable_groups(runs: Sequence[FinishedRun]) -> list[DesignGroup]:
    """The runs in groups of the same split, protocol and candidates, each group by its designs."""
    by_key: dict[GroupKey, list[FinishedRun]] = {}
    for run in runs:
        by_key.setdefault(run.group, []).append(run)
    group_axes = _axes_between_groups(list(by_key.values()))
    titles = _titles(by_key, group_axes)
    return [DesignGroup(titles[key], _designs(members, group_axes)) for key, members in by_key.items()]


def _axes_between_groups(groups: Sequence[Sequence[FinishedRun]]) -> list[str]:
    """The axes that have one value in each group, and not the same in all; a group's title names them."""
    values = [{axis: {run.axes.get(axis) for run in runs} for axis in runs[0].axes} for runs in groups]
    first, *others = values
    return [
        axis
        for axis, of_first in first.items()
        if axis not in (SEED, "data", "protocol")
        and all(len(group.get(axis, ())) == 1 for group in values)
        and any(group[axis] != of_first for group in others)
    ]


def _titles(groups: Mapping[GroupKey, Sequence[FinishedRun]], group_axes: Sequence[str]) -> dict[GroupKey, str]:
    """The name of the data, and what else distinguishes the groups."""
    titles: dict[GroupKey, str] = {}
    for key, (run, *_) in groups.items():
        parts = [run.axes.get("data", run.measured.data.name)]
        parts += [f"{run.axes[axis]} {axis}" if axis.isalpha() else f"{axis} {run.axes[axis]}" for axis in group_axes]
        parts += [f"protocol {key.protocol}"] if len({other.protocol for other in groups}) > 1 else []
        parts += [f"ranked among {key.candidates} items"] if len({other.candidates for other in groups}) > 1 else []
        title = ", ".join(parts)
        titles[key] = title if title not in titles.values() else f"{title}, split {key.split[:6]}"
    return titles


def _designs(runs: Sequence[FinishedRun], group_axes: Sequence[str]) -> list[Design]:
    """The runs by their axes, except the seed and the axes that the group's title names."""
    by_axes: dict[tuple[tuple[str, str], ...], list[FinishedRun]] = {}
    for run in runs:
        axes = tuple((axis, value) for axis, value in run.axes.items() if axis not in (SEED, *group_axes))
        by_axes.setdefault(axes, []).append(run)
    varying = varying_axes([dict(axes) for axes in by_axes])
    return [Design(_label(dict(axes), varying), dict(axes), members) for axes, members in by_axes.items()]


def varying_axes(designs: Sequence[Axes]) -> list[str]:
    """The axes in which designs differ; the first axis where they differ in none."""
    axes = list(dict.fromkeys(axis for design in designs for axis in design))
    return [axis for axis in axes if len({design.get(axis) for design in designs}) > 1] or axes[:1]


def _label(axes: Axes, varying: Sequence[str]) -> str:
    values = [_with_axis(axis, axes[axis]) for axis in varying if axis in axes] or list(axes.values())
    return " · ".join(values) or "run"


def _with_axis(axis: str, value: str) -> str:
    """The value, a number with the name of its axis before it."""
    return f"{axis} {value}" if value.replace(".", "", 1).isdigit() else value
