"""Paired comparisons of designs: each with the reference, and each value of an axis with the first value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.evaluation.significance import Comparison, compare, holm
from lmm4rec.experiments.report.finished_runs import Design, DesignGroup, RunCollection
from lmm4rec.experiments.study.axis_presets import SEED
from lmm4rec.experiments.study.cells import cell_name

_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclass(frozen=True)
class DesignComparison:
    """One design compared with another; the p-values are adjusted over the family of comparisons.

    Where a design lacks seeds, its t-test has no p-value (NaN) and does not count in the family.
    """

    family: str
    first: Design
    second: Design
    comparison: Comparison  # first - second
    t_holm: float
    wilcoxon_holm: float

    @property
    def stars(self) -> str:
        """*** below 0.001, ** below 0.01, * below 0.05 of the adjusted t-test; empty above, and without a p-value."""
        return next((stars for level, stars in _STARS if self.t_holm < level), "")


def reference_design(group: DesignGroup, collection: RunCollection) -> Design:
    """The design with which others are compared: the requested one, else the best by validation, if any, or the first.

    Raises:
        ConfigError: there is no such design.
    """
    if not collection.reference:
        return group.best_first(f"valid.{collection.metric}")[0]
    names = names_of_designs(group)
    if collection.reference not in names:
        raise ConfigError(
            f"the reference '{collection.reference}' is no design of {group.title}."
            f"{did_you_mean(collection.reference, names)} There are: {', '.join(d.label for d in group.designs)}"
        )
    return names[collection.reference]


def names_of_designs(group: DesignGroup) -> dict[str, Design]:
    """The designs of a group by the names that a reference can have: their labels and the names of their folders."""
    return {name: design for design in group.designs for name in (design.label, cell_name(design.axes))}


def compare_with_reference(group: DesignGroup, collection: RunCollection) -> list[DesignComparison]:
    """Every other design against the reference: one family; empty where nothing can be tested."""
    base = reference_design(group, collection)
    pairs = [(design, base) for design in group.designs if design is not base and group.has_errors]
    return _family(f"{group.title}: against {base.label}", pairs, collection.metric)


def compare_along_axes(group: DesignGroup, collection: RunCollection) -> list[DesignComparison]:
    """Every value of an axis against the first value there is, all else equal: a family for each axis.

    Empty where nothing can be tested.
    """
    comparisons = []
    for axis, values in collection.axes.items():
        pairs = _pairs(group.designs, axis, values) if axis != SEED and group.has_errors else []
        comparisons += _family(f"{group.title}: {axis}", pairs, collection.metric)
    return comparisons


def _pairs(designs: Sequence[Design], axis: str, values: Sequence[str]) -> list[tuple[Design, Design]]:
    by_other_axes: dict[tuple[tuple[str, str], ...], list[Design]] = {}
    for design in (design for design in designs if axis in design.axes):
        other_axes = tuple(pair for pair in design.axes.items() if pair[0] != axis)
        by_other_axes.setdefault(other_axes, []).append(design)
    ordered = [sorted(same, key=lambda design: values.index(design.axes[axis])) for same in by_other_axes.values()]
    return [(design, base) for base, *others in ordered for design in others]


def _family(name: str, pairs: Sequence[tuple[Design, Design]], metric: str) -> list[DesignComparison]:
    compared = [
        compare(
            first.per_user(metric),
            second.per_user(metric),
            deterministic=(first.is_deterministic, second.is_deterministic),
        )
        for first, second in pairs
    ]
    t = iter(holm([one.t_p for one in compared if one.sees_seeds]))
    wilcoxon = holm([one.wilcoxon_p for one in compared])
    return [
        DesignComparison(name, first, second, one, next(t) if one.sees_seeds else math.nan, wilcoxon_p)
        for (first, second), one, wilcoxon_p in zip(pairs, compared, wilcoxon, strict=True)
    ]
