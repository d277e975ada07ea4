"""What can be said: every design against a reference, values of an axis against its first one, seeds against users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.evaluation.significance import (
    Comparison,
    VarianceParts,
    compare,
    holm,
    mean_over_seeds,
    variance_parts,
)
from lmm4rec.experiments.report.collect import Collection, Design, Panel
from lmm4rec.experiments.study.cells import cell_name
from lmm4rec.experiments.study.ready import SEED

STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclass(frozen=True)
class Finding:
    """One design against another, with p-values adjusted for the family that it was asked in."""

    family: str
    first: Design
    second: Design
    comparison: Comparison  # first - second
    t_holm: float
    wilcoxon_holm: float

    @property
    def stars(self) -> str:
        """*** below 0.001, ** below 0.01, * below 0.05 of the adjusted t-test; nothing else."""
        return next((stars for level, stars in STARS if self.t_holm < level), "")


def reference(panel: Panel, collection: Collection) -> Design:
    """The design that others are compared with: the one that was asked for, else the best by validation.

    Raises:
        ConfigError: there is no such design.
    """
    if not collection.reference:
        return by_validation(panel, collection.metric)[0]
    names = {name: design for design in panel.designs for name in (design.label, cell_name(design.axes))}
    if collection.reference not in names:
        raise ConfigError(
            f"the reference '{collection.reference}' is no design of {panel.title}."
            f"{did_you_mean(collection.reference, names)} There are: {', '.join(d.label for d in panel.designs)}"
        )
    return names[collection.reference]


def by_validation(panel: Panel, metric: str) -> list[Design]:
    """The designs, best first by the validation part."""
    return sorted(panel.designs, key=lambda design: design.mean(f"valid.{metric}"), reverse=True)


def against_reference(panel: Panel, collection: Collection) -> list[Finding]:
    """Every other design against the reference: one family."""
    base = reference(panel, collection)
    pairs = [(design, base) for design in panel.designs if design is not base]
    return _family(f"{panel.title}: against {base.label}", pairs, collection.metric)


def along_axes(panel: Panel, collection: Collection) -> list[Finding]:
    """Every value of an axis against its first one that there is, all else equal: a family for each axis."""
    found = []
    for axis, values in collection.axes.items():
        pairs = _pairs(panel.designs, axis, values) if axis != SEED else []
        found += _family(f"{panel.title}: {axis}", pairs, collection.metric)
    return found


def _pairs(designs: Sequence[Design], axis: str, values: Sequence[str]) -> list[tuple[Design, Design]]:
    alike: dict[tuple[tuple[str, str], ...], list[Design]] = {}
    for design in (design for design in designs if axis in design.axes):
        rest = tuple(item for item in design.axes.items() if item[0] != axis)
        alike.setdefault(rest, []).append(design)
    ordered = [sorted(group, key=lambda design: values.index(design.axes[axis])) for group in alike.values()]
    return [(design, base) for base, *others in ordered for design in others]


def _family(name: str, pairs: Sequence[tuple[Design, Design]], metric: str) -> list[Finding]:
    compared = [compare(*(mean_over_seeds(design.per_user(metric)) for design in pair), level=0.95) for pair in pairs]
    t, wilcoxon = (holm([getattr(one, key) for one in compared]) for key in ("t_p", "wilcoxon_p"))
    return [
        Finding(name, first, second, one, t_p, wilcoxon_p)
        for (first, second), one, t_p, wilcoxon_p in zip(pairs, compared, t, wilcoxon, strict=True)
    ]


def scatter(panel: Panel, metric: str) -> list[tuple[Design, VarianceParts]]:
    """Seed variance and user variance of every design with two seeds or more."""
    return [(design, variance_parts(design.per_user(metric))) for design in panel.designs if len(design.cells) > 1]
