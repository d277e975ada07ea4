"""Sentences of a report: its result, how its numbers were measured, and what its seeds can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lmm4rec.evaluation.standard_error import StandardError, pooled_error
from lmm4rec.experiments.report.design_comparisons import DesignComparison
from lmm4rec.experiments.report.finished_runs import Design, DesignGroup, RunCollection
from lmm4rec.experiments.report.number_formats import first_names, metric_name, metric_value, percent

_SAME = 0.01  # a relative difference up to this is called none
_UNSELECTED = "Nothing was held out for validation: all epochs were trained, and the last weights were kept"


def run_headline(group: DesignGroup, metric: str) -> str:
    """A sentence that compares the best model with content with the best one without, whichever is better.

    Validation selects the two models that are compared; the numbers are those of the test set.
    """
    if not group.designs[0].keys("test."):
        return "Nothing was held out for a test, so this page says nothing about quality."
    ranked = group.best_first(f"valid.{metric}")
    content = [design for design in ranked if design.uses_content]
    plain = [design for design in ranked if not design.uses_content]
    if content and plain:
        return _content_gain(content[0], plain[0], metric)
    kind = ", the best of these models on validation," if len(ranked) > 1 else ""
    return f"{ranked[0].label}{kind} reaches {_test_value(ranked[0], metric)} on the test set."


def _content_gain(content: Design, plain: Design, metric: str) -> str:
    high, low = content.mean(f"test.{metric}"), plain.mean(f"test.{metric}")
    gain = high - low
    relative = percent(abs(gain) / low) if low > 0 else metric_value(abs(gain))
    reached = f"{content.label} reaches {_test_value(content, metric)} on the test set"
    rival = f"{plain.label} ({metric_value(low)}), the best model without content"
    if abs(gain) <= _SAME * low:
        sentence = f"Content makes no difference here: {reached}, practically the same as {rival}."
    elif gain > 0:
        sentence = f"{reached}, {relative} more than {rival}."
    else:
        sentence = f"Content brings no gain here: {reached}, {relative} less than {rival}."
    if gain * (content.mean(f"valid.{metric}") - plain.mean(f"valid.{metric}")) < 0:
        sentence += " On validation it is the other way round, so take the difference with care."
    return sentence


def group_headline(group: DesignGroup, comparisons: Sequence[DesignComparison], collection: RunCollection) -> str:
    """A sentence on the best design by validation, and on whether the second best differs significantly."""
    best, *others = group.best_first(f"valid.{collection.metric}")
    reached = _test_value(best, collection.metric)
    if not group.is_validated(collection.metric):
        unchosen = "nothing was held out for validation, so none is chosen"
        return f"{group.title}: {best.label}, the first design, reaches {reached} on the test part; {unchosen}."
    sentence = f"{group.title}: {best.label}, the best by validation, reaches {reached} on the test part"
    if not others:
        return f"{sentence}."
    second = others[0]
    value = f"{second.label} ({metric_value(second.mean(f'test.{collection.metric}'))})"
    pair = {best.label, second.label}
    compared = next((one for one in comparisons if {one.first.label, one.second.label} == pair), None)
    if compared is None:
        return f"{sentence}; the second best there is {value}."
    return f"{sentence}; the second best by validation is {value}, {_significance(compared, comparisons, collection)}."


def _significance(
    compared: DesignComparison, comparisons: Sequence[DesignComparison], collection: RunCollection
) -> str:
    """A clause on whether the two designs of a comparison differ, or on the seeds that it would take to tell."""
    lacking = [design.label for design in (compared.first, compared.second) if design.lacks_seeds]
    if lacking:
        return f"and whether they differ is not known: {' and '.join(lacking)} ran under one seed"
    p = f"significantly (p = {compared.t_holm:.2g}, corrected"
    if compared.t_holm < collection.level:
        return f"which differs from it {p})"
    error, difference = compared.comparison.error, abs(compared.comparison.difference)
    tests = sum(one.comparison.sees_seeds for one in comparisons)
    more = f"; {seeds_needed(error, difference, tests, collection.level)}" if error.n_seeds and difference else ""
    return f"which does not differ from it {p}{more})"


def _test_value(design: Design, metric: str) -> str:
    return f"{metric_name(metric)} {metric_value(design.mean(f'test.{metric}'))}"


def run_notes(collection: RunCollection, masked: str) -> list[str]:
    """Notes on how the numbers of single runs were measured: selection, ranking, masked items, seeds."""
    measured = {key.partition(".")[0] for design in collection.designs for key in design.keys("")}
    selected = f"Models, epochs and settings were selected on validation {metric_name(collection.metric)}"
    if "valid" not in measured:
        selected = _UNSELECTED
    if "test" not in measured:
        return [f"{selected}."]
    return [
        f"{selected}; the test set was read once, after the {'selection' if 'valid' in measured else 'training'}.",
        "Full ranking: every item of the catalog competes for every user; no negatives are sampled.",
        f"Left out of the test ranking: {masked}.",
        one_seed_note(sorted({run.seed for run in collection.runs})),
    ]


def study_notes(collection: RunCollection) -> list[str]:
    """Notes on how the numbers of a study were measured: selection and ranking."""
    selected = "Epochs, and settings where they were searched, were selected on the validation part"
    if not any(group.is_validated(collection.metric) for group in collection.groups):
        selected = _UNSELECTED
    return [
        f"{selected}; the test part was read once in each run, after that.",
        "Full ranking: every item competes for every user.",
    ]


_LEVEL = 0.05
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def one_seed_note(seeds: Sequence[int]) -> str:
    """The reason why no difference between models that ran once each is called significant."""
    ran = f"One seed ({seeds[0]})" if len(seeds) == 1 else f"One seed a model ({', '.join(map(str, seeds))})"
    return (
        f"{ran}: another could change the order of trained models, so no difference is called significant. "
        "`lmm4rec study` runs several seeds and tests."
    )


def one_user_notes(groups: Sequence[DesignGroup]) -> list[str]:
    """A note on each group in which nothing can be tested."""
    return [
        f"{group.title}: only one user has interactions in the test part, so there are means, but no intervals, stars "
        "or p-values. A larger split.test tests more users."
        for group in groups
        if not group.has_errors
    ]


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


def seeds_needed(error: StandardError, difference: float, tests: int, level: float = _LEVEL) -> str:
    """The seeds that detect a true difference of this size in a family of `tests` tests at a level, as a phrase."""
    level = level / tests
    count = error.seeds_to_see(difference, level)
    if math.isfinite(count):
        return f"for {metric_value(difference)} run {count:.0f} seeds"
    ten, least = (metric_value(error.with_seeds(many).visible(level)) for many in (10, 1000))
    more = f"ten seeds can detect {ten}, and " if error.n_seeds < 10 else ""
    return f"{more}less than {least} takes more users, not more seeds"


def _in_words(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)
