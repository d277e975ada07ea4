"""Significance of differences between designs, corrected for multiple comparisons.

The standard error covers the variation over users and over training seeds (`standard_error`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats

from lmm4rec.core.errors import DataError
from lmm4rec.evaluation.standard_error import PerSeed, PerUser, StandardError, standard_error

_DECIMALS = 12  # beyond these the same values differ, in another order of the seeds or at another size


@dataclass(frozen=True)
class Comparison:
    """One design against another, over the same users."""

    users: int
    mean: float  # of the first design
    other: float  # of the second
    difference: float  # mean - other
    low: float  # ends of the confidence interval of the difference
    high: float
    effect: float  # Cohen's d_z: mean over standard deviation of the users' differences; 0 where none differs
    better: int  # users for whom the first is better
    worse: int
    t: float  # difference over its standard error; NaN without `sees_seeds`
    t_p: float  # two-sided; NaN without `sees_seeds`
    wilcoxon_p: float  # of the signed-rank test over users, two-sided, ties by Wilcoxon's rule; 1 where none differs
    error: StandardError
    sees_seeds: bool  # whether the error covers seeds; False: a design that varies with the seed has one seed


def compare(
    first: PerSeed,
    second: Float64[np.ndarray, "others columns"],
    *,
    deterministic: tuple[bool, bool] = (False, False),
    level: float = 0.95,
) -> Comparison:
    """The comparison of two designs' values for the same users, in the same order, a row for each training seed.

    `deterministic` says which design has the same values under every seed, so that one row is enough. Where another
    has one row only, the spread over seeds is unknown: there is no p-value, and the interval covers users alone.
    d_z = mean(d) / sd(d) of the users' differences, averaged over seeds, with n - 1 in sd (Cohen 1988). Wilcoxon's test
    is over users alone: its result is for these trained models, not for other seeds. Its ranks, and the counts of users
    for whom a design is better or worse, are those of d to twelve decimals.

    Raises:
        DataError: the columns differ in length, or there are fewer than two users.
    """
    users = first.shape[1]
    if users != second.shape[1]:
        raise DataError(f"a paired comparison needs the same users: {users} values here, {second.shape[1]} there")
    if users < 2:
        raise DataError(f"a paired comparison needs two users or more, got {users}")
    designs = first, second
    sees_seeds = all(len(values) > 1 or same for values, same in zip(designs, deterministic, strict=True))
    d = first.mean(0) - second.mean(0)
    rounded = d.round(_DECIMALS)
    difference, spread = float(d.mean()), float(d.std(ddof=1))
    error = standard_error(d, designs if sees_seeds else ())
    low, high = error.interval(difference, level)
    return Comparison(
        users=users,
        mean=float(first.mean()),
        other=float(second.mean()),
        difference=difference,
        low=low,
        high=high,
        effect=_ratio(difference, spread),
        better=int((rounded > 0).sum()),
        worse=int((rounded < 0).sum()),
        t=_ratio(difference, error.total) if sees_seeds else math.nan,
        t_p=error.p_value(difference) if sees_seeds else math.nan,
        wilcoxon_p=_wilcoxon(rounded),
        error=error,
        sees_seeds=sees_seeds,
    )


def _ratio(mean: float, spread: float) -> float:
    """mean / spread: 0 where both vanish, infinite where the spread alone does."""
    if spread > 1e-12 * max(1.0, abs(mean)):
        return mean / spread
    return 0.0 if abs(mean) < 1e-12 else math.copysign(math.inf, mean)


def _wilcoxon(d: PerUser) -> float:
    if not np.any(d):
        return 1.0
    return float(stats.wilcoxon(d, zero_method="wilcox", method="auto").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of a family, adjusted so that the chance of any false finding stays below the level (Holm 1979).

    Ascending, the i-th of m is multiplied by m - i + 1; none is smaller than one before it, none above 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(p) else scaled
    return [float(value) for value in adjusted]
