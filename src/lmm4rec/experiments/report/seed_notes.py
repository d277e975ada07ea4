"""Sentences of a report on training seeds: which designs lack them, and how small a difference they can detect."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lmm4rec.evaluation.standard_error import StandardError, pooled_error
from lmm4rec.experiments.report.design_comparisons import DesignComparison
from lmm4rec.experiments.report.finished_runs import Design
from lmm4rec.experiments.report.number_formats import first_names, metric_value

_LEVEL = 0.05
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def one_seed_note(seeds: Sequence[int]) -> str:
    """The reason why no difference between models that ran once each is called significant."""
    ran = f"One seed ({seeds[0]})" if len(seeds) == 1 else f"One seed a model ({', '.join(map(str, seeds))})"
    return (
        f"{ran}: another could change the order of trained models, so no difference is called significant. "
        "`lmm4rec study` runs several seeds and tests."
    )


def seed_notes(designs: Sequence[Design]) -> list[str]:
    """Notes on how the designs of a study are tested, and on those without a star or without need of a second seed."""
    lacking = [design.label for design in designs if design.lacks_seeds]
    same = [design.label for design in designs if design.is_deterministic]
    notes = []
    if any(len(design.runs) > 1 for design in designs):
        notes.append(
            "Stars and intervals cover other users and other training seeds: the standard errors include both. They "
            "do not cover another split, encoder or search, which all seeds share."
        )
    if lacking:
        notes.append(
            f"No star, because of one seed: {first_names(lacking)}. Another seed could change the order; three seeds "
            "are the least to test, five are better. Until then the intervals cover users alone."
        )
    if same:
        notes.append(f"The same result under every seed, so that one run is enough: {first_names(same)}.")
    return notes


def power_statement(comparisons: Sequence[DesignComparison]) -> str:
    """The smallest difference that a family of comparisons can detect, and the seeds that half of it takes.

    Detected means a star in 80% of cases, also where it is the smallest p-value of the family. Empty where no
    comparison has enough seeds.
    """
    tested = [one.comparison.error for one in comparisons if one.comparison.sees_seeds]
    if not tested:
        return ""
    error, level = pooled_error(tested), _LEVEL / len(tested)
    visible = error.visible(level)
    if not error.n_seeds:
        return (
            f"These users can detect a difference of {metric_value(visible)} here (in 80% of cases); "
            "seeds change nothing."
        )
    seen = f"{_in_words(error.n_seeds).capitalize()} seeds can detect a difference of {metric_value(visible)} here"
    return f"{seen} (in 80% of cases); {seeds_needed(error, visible / 2, len(tested))}."


def seeds_needed(error: StandardError, difference: float, tests: int) -> str:
    """The number of seeds that detect a true difference of this size in a family of `tests` tests, as a phrase."""
    level = _LEVEL / tests
    count = error.seeds_to_see(difference, level)
    if math.isfinite(count):
        return f"for {metric_value(difference)} run {count:.0f} seeds"
    ten, least = (metric_value(error.with_seeds(many).visible(level)) for many in (10, 1000))
    more = f"ten seeds can detect {ten}, and " if error.n_seeds < 10 else ""
    return f"{more}less than {least} takes more users, not more seeds"


def _in_words(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)
