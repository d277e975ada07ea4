"""Standard errors over users and seeds, against SciPy and statsmodels where one part is nil, and by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from lmm4rec.core.errors import DataError
from lmm4rec.evaluation.significance import compare
from lmm4rec.evaluation.standard_error import StandardError, pooled_error, standard_error, variance_parts

RNG = np.random.default_rng
Array = np.ndarray


def of_seeds(means: list[float], users: int = 40) -> Array:
    """Values that differ between seeds only."""
    return np.repeat(np.array(means)[:, None], users, axis=1)


def test_without_noise_of_seeds_it_is_the_paired_t_test_of_scipy() -> None:
    rng = RNG(0)
    first, second = rng.random(50), rng.random(50)
    peer = stats.ttest_rel(first, second)
    for seeds in (1, 3):  # a deterministic design under one seed, or the same values under three
        found = compare(np.tile(first, (seeds, 1)), np.tile(second, (seeds, 1)), deterministic=(True, True))
        assert (found.t, found.t_p) == pytest.approx((peer.statistic, peer.pvalue))
        assert (found.low, found.high) == pytest.approx(tuple(peer.confidence_interval(0.95)))


def test_without_noise_of_users_it_is_the_test_of_welch_over_seeds() -> None:
    first, second = [0.31, 0.34, 0.30], [0.27, 0.30, 0.29, 0.22]
    found = compare(of_seeds(first), of_seeds(second))
    peer = stats.ttest_ind(first, second, equal_var=False)
    assert (found.t, found.t_p) == pytest.approx((peer.statistic, peer.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(peer.confidence_interval(0.95)))
    assert found.error.seeds_df == pytest.approx(peer.df)
    assert found.error.users == 0
    one = compare(of_seeds(first), of_seeds([0.25]), deterministic=(False, True))
    assert one.t_p == pytest.approx(stats.ttest_1samp(first, 0.25).pvalue)


@pytest.mark.long
def test_the_error_of_a_difference_is_that_of_the_mixed_model_of_statsmodels() -> None:
    """y ~ design, with random seeds within designs, users, and users within designs, by REML."""
    pandas = pytest.importorskip("pandas")
    formula = pytest.importorskip("statsmodels.formula.api")
    rng = RNG(4)
    seeds, users = 4, 24
    common = rng.normal(0, 1.0, users)
    first, second = (
        common + rng.normal(0, 0.8, users) + rng.normal(0, 0.5, (seeds, 1)) + rng.normal(0, 0.6, (seeds, users))
        for _ in range(2)
    )
    design, seed, user = (index.ravel() for index in np.indices((2, seeds, users)))
    frame = pandas.DataFrame({"y": np.stack([first, second]).ravel(), "design": design, "user": user, "all": 0})
    frame["run"], frame["pair"] = design * seeds + seed, design * users + user
    parts = {"run": "0 + C(run)", "user": "0 + C(user)", "pair": "0 + C(pair)"}
    fit = formula.mixedlm("y ~ design", frame, groups="all", re_formula="0", vc_formula=parts).fit(method="powell")
    error = standard_error(first.mean(0) - second.mean(0), [first, second])
    assert error.users > 0
    assert error.total == pytest.approx(fit.bse["design"], rel=1e-3)


def test_an_error_by_hand() -> None:
    """d = 1, 3 of two users, seeds' means 0, 2 and 1, 1, no interaction: Var(d)/n = 2/2, Var(means)/s = 2/2."""
    first = np.array([[0.0, 0.0], [2.0, 2.0]]) + np.array([1.0, 3.0])
    error = standard_error(first.mean(0) - np.array([1.0, 1.0]), [first, np.ones((2, 2))])
    assert (error.users, error.users_df, error.seeds, error.seeds_df, error.n_seeds) == (1.0, 1, 1.0, 1.0, 2)
    assert error.total == pytest.approx(math.sqrt(2))
    assert error.quantile(0.025) == pytest.approx(stats.t.isf(0.025, 1))


def test_an_interaction_is_not_counted_twice() -> None:
    """Values that are nothing but interaction: both designs' seeds' means have the whole of it, the users none."""
    errors = []
    for seed in range(300):
        first, second = RNG(seed).normal(0, 1, (2, 4, 1000))
        errors.append(standard_error(first.mean(0) - second.mean(0), [first, second]).total ** 2)
    assert np.mean(errors) == pytest.approx(2 / (4 * 1000), rel=0.1)


def test_quantiles_are_averaged_with_the_parts_as_weights_and_p_inverts_them() -> None:
    error = StandardError(3.0, 500, 1.0, 2.5, 3)
    expected = 0.75 * stats.t.isf(0.01, 500) + 0.25 * stats.t.isf(0.01, 2.5)
    assert error.quantile(0.01) == pytest.approx(expected)
    for p in (0.9, 0.05, 1e-4, 1e-12):
        assert error.p_value(-error.quantile(p / 2) * 2.0) == pytest.approx(p, rel=1e-6)
    assert (error.p_value(0.0), error.p_value(1e60)) == (1.0, 0.0)
    low, high = error.interval(5.0)
    assert error.p_value(5.0 - low) == pytest.approx(0.05)
    assert high - 5.0 == pytest.approx(5.0 - low)


def test_one_seed_of_a_trained_design_gives_no_p_value() -> None:
    rng = RNG(1)
    first, second = rng.random((1, 30)), rng.random((3, 30))
    found = compare(first, second)
    assert not found.sees_seeds
    assert math.isnan(found.t)
    assert math.isnan(found.t_p)
    d = first[0] - second.mean(0)
    interval = stats.ttest_1samp(d, 0).confidence_interval(0.95)  # of users alone
    assert (found.low, found.high) == pytest.approx(tuple(interval))
    assert compare(first, second, deterministic=(True, False)).sees_seeds


def sparse_recall(rng: np.random.Generator, users: int, seeds: int, spread: float) -> Array:
    """Recall of two designs that are the same: users' own difficulty, a shift of each run, and what a run finds."""
    items, chance = 1 + rng.poisson(1.0, users), rng.beta(0.3, 1.2, users)
    room = chance * (1 - chance) / 0.096  # its mean is 0.096
    shift = spread * rng.standard_normal((2, seeds, 1))
    values: Array = rng.binomial(items, np.clip(chance + shift * room, 0, 1)) / items
    return values


def star_rate(draw: Callable[[np.random.Generator], Array], times: int) -> tuple[float, float]:
    """The share of simulations with p < .05: of the paired t-test over users, and of ours."""
    rng, before, after = RNG(7), 0, 0
    for _ in range(times):
        first, second = draw(rng)
        d = first.mean(0) - second.mean(0)
        before += bool(stats.ttest_1samp(d, 0).pvalue < 0.05)
        after += standard_error(d, [first, second]).p_value(float(d.mean())) < 0.05
    return before / times, after / times


@pytest.mark.long
def test_designs_that_are_the_same_seldom_get_a_star() -> None:
    before, after = star_rate(lambda rng: sparse_recall(rng, 300, 5, 0.04), 500)
    assert before > 0.3  # what a test over users alone says
    assert 0.03 <= after <= 0.07


def test_the_tail_in_which_holm_looks_is_held() -> None:
    """Three seeds against a deterministic design: one number of degrees of freedom gives eight times too many stars."""
    rng, level, draws = RNG(5), 0.0025, 8_000
    differences = np.abs(rng.normal(0, math.sqrt(1.1), draws))
    errors = [StandardError(0.1, 9000, float(part), 2.0, 3) for part in rng.chisquare(2, draws) / 2]
    total = np.array([error.total for error in errors])
    df = 2 * (total**2 / (total**2 - 0.1)) ** 2  # Satterthwaite's, of the sum
    textbook = np.mean(2 * stats.t.sf(differences / total, df) < level)
    found = np.mean(differences > total * np.array([error.quantile(level / 2) for error in errors]))
    assert textbook > 0.018
    assert found < 0.005


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("spread", [0.0, 0.0005, 0.003, 0.006])
def test_false_stars_at_any_spread_and_number_of_seeds(spread: float, seeds: int) -> None:
    _, few_users = star_rate(lambda rng: sparse_recall(rng, 600, seeds, spread), 3000)
    assert 0.02 <= few_users <= 0.07  # Welch's test alone gives 0.035 at three seeds: it errs to the safe side
    before, after = star_rate(lambda rng: sparse_recall(rng, 9000, seeds, spread), 600)
    assert 0.02 <= after <= 0.08  # of fewer simulations: a standard error more
    assert spread < 0.003 or before > 0.15


def test_a_difference_is_found_as_often_as_the_statement_of_power_says() -> None:
    """Normal values with known parts; 80% of the true differences that are said to be visible get a star."""
    rng, users, seeds = RNG(3), 300, 6

    def errors(gain: float) -> tuple[StandardError, float]:
        first, second = (
            rng.normal(0, 0.03, users) + rng.normal(0, 0.004, (seeds, 1)) + rng.normal(0, 0.02, (seeds, users))
            for _ in range(2)
        )
        d = first.mean(0) + gain - second.mean(0)
        return standard_error(d, [first, second]), float(d.mean())

    expected = pooled_error([errors(0.0)[0] for _ in range(100)])
    gain = expected.visible()
    found = np.mean([error.p_value(mean) < 0.05 for error, mean in (errors(gain) for _ in range(500))])
    assert 0.74 <= found <= 0.86


def test_seeds_that_a_difference_takes() -> None:
    error = StandardError(1e-6, 5000, 9e-6, 4.0, 3)
    more = error.with_seeds(12)
    assert (more.users, more.seeds, more.seeds_df, more.n_seeds) == (1e-6, pytest.approx(2.25e-6), 22.0, 12)
    count = error.seeds_to_see(error.visible() / 2)
    assert error.with_seeds(int(count)).visible() <= error.visible() / 2 < error.with_seeds(int(count) - 1).visible()
    floor = 1e-3 * (stats.norm.isf(0.025) + stats.norm.isf(0.2))  # of these users under endlessly many seeds
    assert error.seeds_to_see(0.99 * floor) == math.inf
    by_users = StandardError(4e-6, 5000)
    assert by_users.with_seeds(9) == by_users
    assert by_users.visible() == pytest.approx(2 * floor, rel=1e-3)


def test_errors_of_a_family_are_averaged() -> None:
    one, other, fixed = StandardError(1.0, 9, 2.0, 2.0, 3), StandardError(3.0, 9, 4.0, 4.0, 5), StandardError(2.0, 9)
    assert pooled_error([one, other, fixed]) == StandardError(2.0, 9, 3.0, 3.0, 3)
    assert pooled_error([fixed]) == fixed


def test_variances_by_hand() -> None:
    """Two seeds, two users: y = 0, 2 under one, 4, 4 under the other; MS are 9, 1 and 1."""
    parts = variance_parts(np.array([[0.0, 2.0], [4.0, 4.0]]))
    assert (parts.seed, parts.user, parts.rest) == pytest.approx((4.0, 0.0, 1.0))
    assert parts.seed_error == pytest.approx(math.sqrt(4 / 2 + 1 / 4))
    assert parts.user_error == pytest.approx(0.5)
    with pytest.raises(DataError, match="two seeds and two users or more, got 1 and 5"):
        variance_parts(np.zeros((1, 5)))


def test_variances_are_those_of_the_anova_of_statsmodels() -> None:
    pandas = pytest.importorskip("pandas")
    formula = pytest.importorskip("statsmodels.formula.api")
    anova = pytest.importorskip("statsmodels.stats.anova")
    rng = RNG(1)
    values = rng.normal(0, 0.5, (4, 1)) + rng.normal(0, 2.0, (1, 30)) + rng.normal(0, 1.0, (4, 30))
    seeds, users = (index.ravel() for index in np.indices(values.shape))
    frame = pandas.DataFrame({"y": values.ravel(), "seed": seeds.astype(str), "user": users.astype(str)})
    table = anova.anova_lm(formula.ols("y ~ C(seed) + C(user)", frame).fit())
    square = table["sum_sq"] / table["df"]
    parts = variance_parts(values)
    assert parts.rest == pytest.approx(square["Residual"])
    assert parts.seed == pytest.approx((square["C(seed)"] - square["Residual"]) / 30)
    assert parts.user == pytest.approx((square["C(user)"] - square["Residual"]) / 4)
