"""False stars and power of the comparison of two designs, on simulated users and training seeds.

    python benchmarks/significance.py            # all of it, minutes on one core
    python benchmarks/significance.py --quick    # a tenth of the simulations

Every simulation draws users anew: one to several held-out items each, found with a probability of their own that all
designs share, so that recall is sparse and users are alike hard for both. A training seed shifts all users of a design
(its standard deviation is the spread), and each user's found items vary from seed to seed besides. "before": the paired
t-test over users, values averaged over seeds. "satterthwaite": the same standard error as "after", with one number of
degrees of freedom for the whole of it, which is not used because of what stands here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from _results import write
from lmm4rec.evaluation.significance import compare, holm
from lmm4rec.evaluation.standard_error import StandardError, pooled_error, standard_error

SPREADS = (0.0, 0.0005, 0.003, 0.006)
SEEDS = (3, 5, 10)
KINDS = ("identical", "equally good", "trained against deterministic")
Values = np.ndarray[Any, np.dtype[np.float64]]


class Users:
    """A sample of users: their numbers of held-out items, and the chance that one of them is found."""

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.items = 1 + rng.poisson(1.0, count)
        self.chance = rng.beta(0.3, 1.2, count)  # mean 0.2; most users are hopeless, some easy
        room = self.chance * (1 - self.chance)
        self.room = room / (0.2 * 0.8 * 1.5 / 2.5)  # of mean 1, so that a shift of all users shifts the mean by as much

    def design(self, seeds: int, spread: float, *, taste: float = 0.0, gain: float = 0.0) -> Values:
        """Recall of every user under every seed; `taste`: spread of its own deviations."""
        own = taste * self.rng.standard_normal(len(self.items)) + gain
        shift = own + spread * self.rng.standard_normal((seeds, 1))
        chance = np.clip(self.chance + shift * self.room, 0.0, 1.0)
        hits: Values = self.rng.binomial(self.items, chance) / self.items
        return hits


def p_values(first: Values, second: Values) -> dict[str, float]:
    """The p-value of each method."""
    d = first.mean(0) - second.mean(0)
    error = standard_error(d, [first, second])
    df = (error.users + error.seeds) ** 2 / (error.users**2 / error.users_df + error.seeds**2 / error.seeds_df)
    t = abs(float(d.mean())) / error.total
    return {
        "before": float(stats.ttest_rel(first.mean(0), second.mean(0)).pvalue),
        "satterthwaite": float(2 * stats.t.sf(t, df)),
        "after": error.p_value(float(d.mean())),
    }


def star_rates(pair: Callable[[Users], tuple[Values, Values]], users: int, times: int, seed: int) -> dict[str, float]:
    """The share of simulations in which each method gives a star."""
    rng = np.random.default_rng(seed)
    found = [p_values(*pair(Users(users, rng))) for _ in range(times)]
    return {name: round(float(np.mean([one[name] < 0.05 for one in found])), 4) for name in found[0]}


def pairs(kind: str, spread: float, seeds: int) -> Callable[[Users], tuple[Values, Values]]:
    """How two designs without a true difference are drawn."""
    taste = 0.0 if kind == "identical" else 0.1
    if kind == "trained against deterministic":  # whose values no seed changes
        return lambda users: (users.design(seeds, spread, taste=taste), users.design(1, 0.0, taste=taste))
    return lambda users: (users.design(seeds, spread, taste=taste), users.design(seeds, spread, taste=taste))


def false_stars(users: int, times: int, *kinds: str) -> list[dict[str, Any]]:
    """Stars for two designs that do not differ, by kind of pair, spread and number of seeds."""
    return [
        {"kind": kind, "users": users, "spread": spread, "seeds": seeds,
         **star_rates(pairs(kind, spread, seeds), users, times, seed=seeds)}
        for kind in kinds
        for spread in SPREADS
        for seeds in SEEDS
    ]  # fmt: skip


def false_families(users: int, designs: int, times: int) -> list[dict[str, Any]]:
    """How often a family of equally good designs against a deterministic one, adjusted by Holm, has any star."""
    rows = []
    for spread in SPREADS[1:]:
        rng = np.random.default_rng(1)
        stars = dict.fromkeys(("before", "satterthwaite", "after"), 0)
        for _ in range(times):
            sample = Users(users, rng)
            base = sample.design(1, 0.0, taste=0.1)
            found = [p_values(sample.design(3, spread, taste=0.1), base) for _ in range(designs)]
            for name in stars:
                stars[name] += min(holm([one[name] for one in found])) < 0.05
        rows.append({"users": users, "designs": designs, "spread": spread, "seeds": 3,
                     **{name: round(count / times, 4) for name, count in stars.items()}})  # fmt: skip
    return rows


def power(users: int, times: int) -> list[dict[str, Any]]:
    """How often a true difference is found that is expected to be found in 80% of cases, and how large it is."""
    rows = []
    for spread in (0.0005, 0.003, 0.006):
        for seeds in SEEDS:
            rng = np.random.default_rng(2)
            error = _expected_error(users, spread, seeds, rng)
            gain = error.visible() / _realized(users=200_000)
            stars = [
                p_values(sample.design(seeds, spread, taste=0.1, gain=gain), sample.design(seeds, spread, taste=0.1))
                for sample in (Users(users, rng) for _ in range(times))
            ]
            rows.append({"users": users, "spread": spread, "seeds": seeds, "difference": round(error.visible(), 5),
                         "found": round(float(np.mean([one["after"] < 0.05 for one in stars])), 4),
                         "seeds_for_0.6_of_it": error.seeds_to_see(0.6 * error.visible())})  # fmt: skip
    return rows


def _realized(users: int) -> float:
    """The share of a gain that reaches the mean: a chance cannot exceed 1."""
    sample = Users(users, np.random.default_rng(4))
    return float((sample.design(1, 0.0, taste=0.1, gain=0.03).mean() - sample.design(1, 0.0, taste=0.1).mean()) / 0.03)


def _expected_error(users: int, spread: float, seeds: int, rng: np.random.Generator) -> StandardError:
    """The standard error that simulations have on average."""
    errors = []
    for _ in range(200):
        sample = Users(users, rng)
        first, second = (sample.design(seeds, spread, taste=0.1) for _ in range(2))
        errors.append(standard_error(first.mean(0) - second.mean(0), [first, second]))
    return pooled_error(errors)


def seconds_for(users: int, seeds: int, designs: int) -> float:
    """Seconds for the comparisons of all designs with the first."""
    sample = Users(users, np.random.default_rng(3))
    drawn = [sample.design(seeds, 0.003, taste=0.1) for _ in range(designs)]
    start = time.perf_counter()
    for values in drawn[1:]:
        compare(values, drawn[0])
    return round(time.perf_counter() - start, 3)


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a Markdown table."""
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulations")
    times = 200 if parser.parse_args().quick else 2000
    values: dict[str, Any] = {
        "simulations": times,
        "false_stars": false_stars(600, times, *KINDS) + false_stars(9000, times // 2, KINDS[0]),
        "false_families": false_families(9000, 9, times // 5),
        "power": power(600, times),
        "seconds_40k_users_10_seeds_20_designs": seconds_for(40_000, 10, 20),
    }
    for name in ("false_stars", "false_families", "power"):
        show(values[name])
    write("significance", values)


if __name__ == "__main__":
    main()
