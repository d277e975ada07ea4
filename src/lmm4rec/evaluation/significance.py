"""Significance of differences between models: paired tests over users, with correction for multiple comparisons.

The unit is the user. Where a model has several seeds, each user's value is first averaged over them
(`mean_over_seeds`); `variance_parts` separates the variance of seeds from that of users.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats

from lmm4rec.core.errors import DataError

_BLOCK = 2_000_000  # numbers drawn at once by the bootstrap

PerUser = Float64[np.ndarray, " users"]


@dataclass(frozen=True)
class Comparison:
    """One model against another, over the same users."""

    users: int
    mean: float  # of the first model
    other: float  # of the second
    difference: float  # mean - other
    low: float  # ends of the bootstrap interval of the difference
    high: float
    effect: float  # Cohen's d_z: mean over standard deviation of the users' differences; 0 where none differs
    better: int  # users for whom the first is better
    worse: int
    t: float
    t_p: float  # of the paired t-test, two-sided; 1 where none differs
    wilcoxon_p: float  # of the signed-rank test, two-sided, ties by Wilcoxon's rule; 1 where none differs


def compare(
    first: PerUser, second: Float64[np.ndarray, " others"], *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Comparison:
    """The comparison of two models' values for the same users, in the same order.

    The interval is the percentile interval of the mean difference over users sampled with replacement, both models'
    values of a user together. d_z = mean(d) / sd(d) with n - 1 in the standard deviation (Cohen 1988).

    Raises:
        DataError: the columns differ in length, or there are fewer than two users.
    """
    if len(first) != len(second):
        raise DataError(f"a paired comparison needs the same users: {len(first)} values here, {len(second)} there")
    if len(first) < 2:
        raise DataError(f"a paired comparison needs two users or more, got {len(first)}")
    d = first - second
    low, high = bootstrap_interval(d, resamples=resamples, level=level, seed=seed)
    t, t_p, effect = _t_test(d)
    return Comparison(
        users=len(d),
        mean=float(first.mean()),
        other=float(second.mean()),
        difference=float(d.mean()),
        low=low,
        high=high,
        effect=effect,
        better=int((d > 0).sum()),
        worse=int((d < 0).sum()),
        t=t,
        t_p=t_p,
        wilcoxon_p=_wilcoxon(d),
    )


def _t_test(d: PerUser) -> tuple[float, float, float]:
    """t, its two-sided p and d_z; t is infinite where all users have the same difference."""
    mean, spread = float(d.mean()), float(d.std(ddof=1))
    if spread <= 1e-12 * max(1.0, abs(mean)):
        return (
            (0.0, 1.0, 0.0)
            if abs(mean) < 1e-12
            else (math.copysign(math.inf, mean), 0.0, math.copysign(math.inf, mean))
        )
    t = mean / (spread / math.sqrt(len(d)))
    return t, float(2 * stats.t.sf(abs(t), len(d) - 1)), mean / spread


def _wilcoxon(d: PerUser) -> float:
    if not np.any(d):
        return 1.0
    return float(stats.wilcoxon(d, zero_method="wilcox", method="auto").pvalue)


def bootstrap_interval(
    values: PerUser, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the mean over users sampled with replacement; the same seed gives the same ends."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(values))
    means = np.concatenate(
        [
            values[rng.integers(len(values), size=(min(block, resamples - start), len(values)))].mean(1)
            for start in range(0, resamples, block)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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


def mean_over_seeds(values: Float64[np.ndarray, "seeds users"]) -> PerUser:
    """Each user's value, averaged over the seeds."""
    return values.mean(axis=0)


@dataclass(frozen=True)
class VarianceParts:
    """The parts of the variance of one model's values y[seed, user]."""

    seed: float  # of the seeds' means
    user: float  # of the users' means
    rest: float  # of a user's values between seeds, beyond the seeds' means
    seeds: int
    users: int

    @property
    def seed_error(self) -> float:
        """The standard error of the mean over other seeds with the same users."""
        return math.sqrt(self.seed / self.seeds + self.rest / (self.seeds * self.users))

    @property
    def user_error(self) -> float:
        """The standard error of the mean over other users with the same seeds."""
        return math.sqrt(self.user / self.users + self.rest / (self.seeds * self.users))


def variance_parts(values: Float64[np.ndarray, "seeds users"]) -> VarianceParts:
    """The variances of seeds and of users in the crossed random-effects model with one value per cell.

    y[s, u] = mean + a_s + b_u + e_su. By the expected mean squares of the two-way table (Searle, Casella and McCulloch
    1992): rest = MS_rest, seed = (MS_seed - MS_rest) / users, user = (MS_user - MS_rest) / seeds; negative estimates
    are set to 0.

    Raises:
        DataError: there are fewer than two seeds or users.
    """
    seeds, users = values.shape
    if seeds < 2 or users < 2:
        raise DataError(f"variances need two seeds and two users or more, got {seeds} and {users}")
    grand, of_seed, of_user = values.mean(), values.mean(1, keepdims=True), values.mean(0, keepdims=True)
    ms_seed = users * float(((of_seed - grand) ** 2).sum()) / (seeds - 1)
    ms_user = seeds * float(((of_user - grand) ** 2).sum()) / (users - 1)
    ms_rest = float(((values - of_seed - of_user + grand) ** 2).sum()) / ((seeds - 1) * (users - 1))
    return VarianceParts(
        seed=max(0.0, (ms_seed - ms_rest) / users),
        user=max(0.0, (ms_user - ms_rest) / seeds),
        rest=ms_rest,
        seeds=seeds,
        users=users,
    )
