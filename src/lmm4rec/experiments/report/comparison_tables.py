"""The tables of comparisons: each family of tests, and the variance of seeds beside that of users."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lmm4rec.evaluation.significance import Comparison
from lmm4rec.evaluation.standard_error import variance_parts
from lmm4rec.experiments.report.design_comparisons import DesignComparison
from lmm4rec.experiments.report.finished_runs import DesignGroup
from lmm4rec.experiments.report.number_formats import metric_name, metric_value, p_value
from lmm4rec.experiments.report.seed_notes import power_statement
from lmm4rec.experiments.report.tables import ReportTable, TableCell


def comparison_table(title: str, comparisons: Sequence[DesignComparison], metric: str) -> ReportTable:
    """Every comparison of a family: difference, interval, adjusted p-values, errors, effect, users better and worse."""
    heads = ["", "Difference", "95% interval", "p", "Error by users", "Error by seeds", "d_z"]
    heads += ["p (Wilcoxon, users only)", "Better : worse"]
    one_base = len({comparison.second.label for comparison in comparisons}) < 2  # then the caption names it
    rows = []
    for compared in comparisons:
        numbers = compared.comparison
        by_users, by_seeds = (math.sqrt(part) for part in (numbers.error.users, numbers.error.seeds))
        rows.append(
            [
                TableCell(compared.first.label),
                *([] if one_base else [TableCell(compared.second.label)]),
                TableCell(f"{numbers.difference:+.4f}", numbers.difference, stars=compared.stars),
                TableCell(f"[{numbers.low:+.4f}, {numbers.high:+.4f}]", numbers.low),
                _if_tested(numbers, compared.t_holm, p_value),
                TableCell(metric_value(by_users), by_users),
                _if_tested(numbers, by_seeds, metric_value),
                TableCell(f"{numbers.effect:+.2f}", numbers.effect),
                TableCell(p_value(compared.wilcoxon_holm), compared.wilcoxon_holm),
                TableCell(f"{numbers.better} : {numbers.worse}", numbers.better - numbers.worse),
            ]
        )
    caption = _comparison_caption(comparisons, metric, one_base)
    return ReportTable(title, caption, heads if one_base else [heads[0], "against", *heads[1:]], rows)


def _if_tested(comparison: Comparison, value: float, written: Callable[[float], str]) -> TableCell:
    return TableCell(written(value), value) if comparison.sees_seeds else TableCell("–")


def _comparison_caption(comparisons: Sequence[DesignComparison], metric: str, one_base: bool) -> str:
    users = comparisons[0].comparison.users if comparisons else 0
    tested = sum(compared.comparison.sees_seeds for compared in comparisons)
    base = f", all against {comparisons[0].second.label}" if one_base and comparisons else ""
    sentences = [f"{metric_name(metric)} of {users:,} users{base}."]
    if tested:
        family = f", adjusted by Holm over {tested} comparisons" if tested > 1 else ""
        sentences.append(f"p: t-test over users and seeds{family}.")
    if tested < len(comparisons):
        sentences.append(
            "No p: a design ran under one seed, and another could change the order; its interval covers users only."
        )
    return " ".join([*sentences, power_statement(comparisons)]).strip()


def variance_table(group: DesignGroup, metric: str) -> ReportTable:
    """The uncertainty of each mean by seeds and by users: standard errors and standard deviations."""
    rows = []
    for design in (design for design in group.designs if len(design.runs) > 1):
        mean, parts = design.mean(f"test.{metric}"), variance_parts(design.per_user(metric))
        numbers = mean, parts.seed_error, parts.user_error, math.sqrt(parts.seed), math.sqrt(parts.user)
        rows.append([TableCell(design.label), *(TableCell(metric_value(value), value) for value in numbers)])
    heads = ["", "Mean", "Error by seeds", "Error by users", "SD of seeds", "SD of users"]
    caption = (
        "Standard errors of the mean if only the seeds, or only the users, were drawn anew (crossed random effects)."
    )
    return ReportTable(f"Seeds and users, {group.title}", caption, heads, rows)
