"""Standard error of a mean over users and training seeds, both random: variances, p-values, intervals, power.

The model is that of crossed random effects: a design's value for user u under seed s is
y[s, u] = mean + a_s + b_u + e_su. The seeds of two designs are independent draws, whatever their numbers; the users are
the same, so their effects are paired. With s seeds and n users the difference of two designs' means has the variance

    users:  Var(b_u - b'_u) / n = (Var_u(d_u) - MS_e / s - MS'_e / s') / n,   d_u: differences averaged over seeds
    seeds:  Var_s(mean of seed s) / s + Var_s(mean' of seed s) / s'

The interaction e_su is in the seeds' means, and is therefore subtracted from the users' part, which is set to 0 where
that leaves less (Searle, Casella and McCulloch 1992, ch. 4). A single design's mean has the same two parts.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from scipy import optimize, special

from lmm4rec.core.errors import DataError

PerUser = Float64[np.ndarray, " users"]
PerSeed = Float64[np.ndarray, "_ users"]  # a row for each training seed

_MOST_SEEDS = 1000
_PARTS = ("users", "seeds", "seeds_df")
_SMALLEST_P = 1e-100  # smaller p-values count as 0: quantiles are exact down to here


@dataclass(frozen=True)
class StandardError:
    """Standard error of a mean or of a difference of means, in its two parts.

    Each part has degrees of freedom of its own: n - 1 for the users, Satterthwaite's for the seeds. Quantiles are those
    of Cochran and Cox (1950): the two t quantiles, averaged with the parts as weights. So the test is the paired t-test
    over users where seeds make no difference, Welch's t-test over the seeds' means where users make none, and
    conservative in between. Satterthwaite's degrees of freedom of the whole sum would not (decision 25).
    """

    users: float  # variance of the mean due to users
    users_df: int
    seeds: float = 0.0  # variance of the mean due to seeds
    seeds_df: float = math.inf
    n_seeds: int = 0  # the smallest number of seeds among the designs that vary with the seed; 0: none does

    @property
    def total(self) -> float:
        """The standard error itself."""
        return math.sqrt(self.users + self.seeds)

    def quantile(self, tail: float) -> float:
        """The value that mean / standard error exceeds with probability `tail` where the true mean is 0."""
        parts = [(part, df) for part, df in ((self.users, self.users_df), (self.seeds, self.seeds_df)) if part > 0]
        total = sum(part for part, _ in parts)
        return sum(part / total * -float(special.stdtrit(df, tail)) for part, df in parts)

    def p_value(self, difference: float) -> float:
        """The two-sided p-value of a difference; without any error 1 for no difference, and 0 for any other."""
        if self.total <= 1e-12 * max(1.0, abs(difference)):
            return float(abs(difference) < 1e-12)
        t = abs(difference) / self.total
        if self.seeds == 0 or self.users == 0:
            return float(2 * special.stdtr(self.users_df if self.seeds == 0 else self.seeds_df, -t))
        if t == 0 or self.quantile(_SMALLEST_P / 2) <= t:
            return float(t == 0)
        log_p = optimize.brentq(lambda x: self.quantile(math.exp(x) / 2) - t, math.log(_SMALLEST_P), 0.0, xtol=1e-9)
        return math.exp(log_p)

    def interval(self, mean: float, level: float = 0.95) -> tuple[float, float]:
        """The confidence interval of the mean."""
        half = self.total * self.quantile((1 - level) / 2) if self.total > 0 else 0.0
        return mean - half, mean + half

    def visible(self, level: float = 0.05, power: float = 0.8) -> float:
        """The smallest true difference that a test at this level detects with this power."""
        if self.total == 0:
            return 0.0
        return self.total * (self.quantile(level / 2) + self.quantile(1 - power))

    def with_seeds(self, count: int) -> StandardError:
        """The expected error with another number of seeds in each design that varies with the seed."""
        if not self.n_seeds:
            return self
        df = self.seeds_df * (count - 1) / (self.n_seeds - 1)
        return replace(self, seeds=self.seeds * self.n_seeds / count, seeds_df=df, n_seeds=count)

    def seeds_to_see(self, difference: float, level: float = 0.05, power: float = 0.8) -> float:
        """The number of seeds with which a true difference is detected; infinite where 1,000 are too few."""
        counts = range(2, _MOST_SEEDS + 1)
        seen = bisect.bisect_left(counts, True, key=lambda n: self.with_seeds(n).visible(level, power) <= difference)
        return float(counts[seen]) if seen < len(counts) else math.inf


def standard_error(per_user: PerUser, designs: Sequence[PerSeed]) -> StandardError:
    """The standard error of the mean of `per_user`: a design's values or two designs' differences, averaged over seeds.

    `designs` are the values under each seed. One with a single row adds nothing: the error is then that of other users
    with the same trained model.
    """
    n = len(per_user)
    parts: list[tuple[float, int]] = []
    interaction = 0.0
    for values in designs:
        seeds = len(values)
        if seeds > 1:
            interaction += variance_parts(values).rest / seeds
            parts.append((float(values.mean(1).var(ddof=1)) / seeds, seeds))
    parts = [(part, seeds) for part, seeds in parts if part > 1e-24]  # else all seeds are the same but for rounding
    users_part = max(0.0, float(per_user.var(ddof=1)) - interaction) / n
    if not parts:
        return StandardError(users_part, n - 1)
    total = sum(part for part, _ in parts)
    df = total**2 / sum(part**2 / (seeds - 1) for part, seeds in parts)
    return StandardError(users_part, n - 1, total, df, min(seeds for _, seeds in parts))


def pooled_error(errors: Sequence[StandardError]) -> StandardError:
    """The mean error of a family of comparisons over the same users; of those with seeds, where there are any."""
    seeded = [error for error in errors if error.n_seeds] or errors
    users, seeds, seeds_df = (float(np.mean([getattr(e, name) for e in seeded])) for name in _PARTS)
    return StandardError(users, errors[0].users_df, seeds, seeds_df, min(error.n_seeds for error in seeded))


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


def variance_parts(values: PerSeed) -> VarianceParts:
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
