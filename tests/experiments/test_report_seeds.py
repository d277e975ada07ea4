"""What a report says about seeds: stars, one seed, models that need none, and the statement of power."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from lmm4rec.evaluation.standard_error import pooled_error
from lmm4rec.experiments.report.design_comparisons import DesignComparison, compare_with_reference
from lmm4rec.experiments.report.figure_style import NARROW, WIDE
from lmm4rec.experiments.report.figures import study_figures
from lmm4rec.experiments.report.finished_runs import Design, DesignGroup, FinishedRun, RunCollection
from lmm4rec.experiments.report.sentences import group_headline, one_seed_note, power_statement, seed_notes
from lmm4rec.experiments.report.slice_tables import study_details
from lmm4rec.experiments.report.study_report import StudyPage
from lmm4rec.experiments.report.table_files import write_data
from lmm4rec.experiments.report.tables import comparison_table, study_results
from lmm4rec.experiments.result import ChosenModel, DataFacts, RunMetrics

METRIC, USERS = "recall@20", 400
RNG = np.random.default_rng(0)
COMMON = RNG.random(USERS)


def make_design(folder: Path, label: str, means: Sequence[float], *, deterministic: bool = False) -> Design:
    """A design with a run for each mean; users differ a little from design to design."""
    runs, own = [], COMMON + 0.005 * RNG.standard_normal(USERS)
    plan = SimpleNamespace(encoder=None, recommender=SimpleNamespace(is_deterministic=deterministic))
    for seed, mean in enumerate(means):
        values = own - own.mean() + mean
        path = folder / f"{label}-{seed}.parquet"
        users = [f"u{i:03d}" for i in range(USERS)]
        pl.DataFrame({"user": users, "part": "test", METRIC: values}).write_parquet(path)
        data = DataFacts("shop", 800, 500, 12_000, 9_000, 1_500, 1_500, "random", "0123", [])
        measured = RunMetrics(
            data=data, features={}, chosen=ChosenModel(METRIC, epoch=1, epochs=1), valid={METRIC: mean},
            test={METRIC: mean}, slices={}, beyond={}, cost={},
        )  # fmt: skip
        folder_of_run: Any = SimpleNamespace(per_user=path, scan_per_user=partial(pl.scan_parquet, path))
        result: Any = SimpleNamespace(plan=plan, measured=measured, folder=folder_of_run, history=[])
        runs.append(FinishedRun(f"{label}-{seed}", {"model": label}, result))
    return Design(label, {"model": label}, runs)


def compared(designs: Sequence[Design]) -> tuple[DesignGroup, RunCollection, list[DesignComparison]]:
    """The designs in one group, compared with the best of them."""
    group = DesignGroup("shop", designs)
    collection = RunCollection("t", {"model": [design.label for design in designs]}, [group], METRIC)
    return group, collection, compare_with_reference(group, collection)


@pytest.fixture
def mixed(tmp_path: Path) -> list[Design]:
    """Three seeds, one seed, and a closed form that needs none."""
    return [
        make_design(tmp_path, "A", [0.500, 0.502, 0.498]),
        make_design(tmp_path, "B", [0.400, 0.401, 0.402]),
        make_design(tmp_path, "C", [0.300]),
        make_design(tmp_path, "E", [0.350], deterministic=True),
    ]


def test_a_trained_design_with_one_seed_has_no_star_and_a_deterministic_one_may(mixed: list[Design]) -> None:
    group, _, comparisons = compared(mixed)
    found = {one.first.label: one for one in comparisons}
    assert {label: one.stars for label, one in found.items()} == {"B": "***", "C": "", "E": "***"}
    assert math.isnan(found["C"].t_holm)
    assert found["C"].comparison.wilcoxon_p < 1e-9  # whatever users alone say
    assert found["B"].t_holm == pytest.approx(2 * found["B"].comparison.t_p)  # the third is not a test of the family
    table = study_results(group, comparisons, METRIC)
    assert [row[-1].text for row in table.rows] == ["3", "3", "any", "1"]
    assert "any: the same under every seed; one seed: no star, since another could change the order" in table.caption
    tests = comparison_table("t", comparisons, METRIC)
    assert [row[3].text for row in tests.rows] == ["< 0.001", "–", "< 0.001"]
    assert "adjusted by Holm over 2 comparisons. No p: a design ran under one seed" in tests.caption


def test_the_notes_name_designs_without_a_star_and_those_that_need_no_seeds(mixed: list[Design]) -> None:
    both, lacking, same = seed_notes(mixed)
    assert "other users and other training seeds" in both
    assert lacking.startswith("No star, because of one seed: C. Another seed could change the order")
    assert same.endswith("one run is enough: E.")
    assert seed_notes(mixed[2:3]) == [lacking]
    assert seed_notes(mixed[:2]) == [both]
    assert one_seed_note([0]).startswith("One seed (0): another could change the order")
    assert one_seed_note([0, 1]).startswith("One seed a model (0, 1): another")


def test_users_alone_would_give_a_star_where_seeds_do_not(tmp_path: Path) -> None:
    """Two designs whose seeds lie among each other: every user agrees, and the next seed would not."""
    group, collection, comparisons = compared(
        [make_design(tmp_path, "A", [0.50, 0.53, 0.47]), make_design(tmp_path, "B", [0.49, 0.52, 0.46])]
    )
    (one,) = comparisons
    assert one.comparison.wilcoxon_p < 1e-9
    assert (one.stars, one.t_holm > 0.3) == ("", True)
    sentence = group_headline(group, comparisons, collection)
    needed = pooled_error([one.comparison.error]).seeds_to_see(one.comparison.difference * -1)
    assert sentence.endswith(f"corrected; for 0.0100 run {needed:.0f} seeds).")
    assert 40 < needed < 400


def test_the_seeds_that_a_headline_names_are_those_of_the_level_of_the_study(tmp_path: Path) -> None:
    """At 0.05 the two designs differ; at 0.001 they do not, and the seeds that there are would be too few advice."""
    group, collection, comparisons = compared(
        [make_design(tmp_path, "A", [0.500, 0.502, 0.498]), make_design(tmp_path, "B", [0.492, 0.490, 0.494])]
    )
    (one,) = comparisons
    assert 0.001 < one.t_holm < 0.05
    sentence = group_headline(group, comparisons, replace(collection, level=0.001))
    needed = one.comparison.error.seeds_to_see(-one.comparison.difference, 0.001)
    assert sentence.endswith(f"corrected; for 0.0080 run {needed:.0f} seeds).")
    assert needed > 3


def test_the_headline_says_what_one_seed_leaves_open(tmp_path: Path) -> None:
    designs = [make_design(tmp_path, "A", [0.5, 0.51]), make_design(tmp_path, "C", [0.4])]
    group, collection, comparisons = compared(designs)
    sentence = group_headline(group, comparisons, collection)
    assert sentence.endswith("C (0.4000), and whether they differ is not known: C ran under one seed.")


def test_power_is_stated_with_the_seeds_that_half_of_it_takes(mixed: list[Design], tmp_path: Path) -> None:
    _, _, comparisons = compared(mixed)
    errors = [one.comparison.error for one in comparisons if one.comparison.sees_seeds]
    visible = pooled_error(errors).visible(0.05 / 2)
    statement = power_statement(comparisons)
    match = re.fullmatch(
        r"Three seeds can detect a difference of (\S+) here \(in 80% of cases\); for (\S+) run (\d+) seeds\.", statement
    )
    assert match, statement
    assert match[1] == f"{visible:.4f}"
    assert float(match[2]) == pytest.approx(visible / 2, abs=1e-4)
    assert int(match[3]) == pooled_error(errors).seeds_to_see(visible / 2, 0.05 / 2) > 3
    fixed = [make_design(tmp_path, name, [mean], deterministic=True) for name, mean in (("P", 0.1), ("Q", 0.2))]
    assert "seeds change nothing" in power_statement(compared(fixed)[2])
    assert power_statement(compared([mixed[0], mixed[2]])[2]) == ""


def test_where_users_hide_a_difference_more_seeds_are_no_advice(tmp_path: Path) -> None:
    means = [0.5, 0.5001, 0.5002]
    _, _, comparisons = compared([make_design(tmp_path, name, means) for name in ("A", "B")])
    error = comparisons[0].comparison.error
    ten, least = (f"{error.with_seeds(count).visible():.4f}" for count in (10, 1000))
    expected = f"; ten seeds can detect {ten}, and less than {least} takes more users, not more seeds."
    assert power_statement(comparisons).endswith(expected)


def test_intervals_and_data_files_hold_the_seeds(mixed: list[Design], tmp_path: Path) -> None:
    mean, low, high = mixed[0].mean_and_interval(METRIC)
    assert mean == pytest.approx(0.5)
    of_users = 1.96 * COMMON.std() / math.sqrt(USERS)
    assert high - mean == pytest.approx(mean - low)
    assert high - mean > of_users > 0
    _, collection, comparisons = compared(mixed)
    write_data(tmp_path / "data", collection, comparisons)
    rows = {row["first"]: row for row in pl.read_csv(tmp_path / "data" / "comparisons.csv").iter_rows(named=True)}
    for one in comparisons:
        row = rows[one.first.label]
        assert row["error_users"] == pytest.approx(math.sqrt(one.comparison.error.users))
        assert row["sees_seeds"] is (one.first.label != "C")
        assert math.isnan(row["t_p"]) is math.isnan(row["error_seeds"]) is (one.first.label == "C")


@pytest.mark.long
def test_figures_of_a_study_are_drawn_for_phones_too(mixed: list[Design]) -> None:
    """On a narrow screen the same intervals and points stand in a narrow figure, with the same names of the rows."""
    figures = {one.name: one for one in study_figures(compared(mixed)[1])}
    assert {"quality_by_model", "seeds"} <= set(figures)
    for one in figures.values():
        assert (one.figure.get_figwidth(), one.for_phones.get_figwidth()) == (WIDE, NARROW)
        for wide, narrow in zip(one.figure.axes, one.for_phones.axes, strict=True):
            assert [line.get_xydata().tolist() for line in wide.lines] == [
                line.get_xydata().tolist() for line in narrow.lines
            ]
            names = [[label.get_text() for label in ax.get_yticklabels()] for ax in (wide, narrow)]
            assert names[0] == names[1]
        assert "<text" in one.text_svg(for_phones=True)
    page = StudyPage(
        title="t", subtitle="", headlines=[], results=[], notes=[], figures=list(figures.values()), failures={}, card={}
    )
    assert page.html().count('<source media="(max-width: 40rem)" srcset="data:image/svg+xml;base64,') == len(figures)


def test_slices_and_measures_beyond_accuracy_have_means_and_standard_errors(
    mixed: list[Design], tmp_path: Path
) -> None:
    """Three seeds with x - d, x, x + d have the standard error d / √3; one seed has none."""
    for design in mixed:
        for step, run in enumerate(design.runs, start=-1):
            run.result.measured = replace(
                run.measured,
                slices={"cold": {METRIC: 0.1 + 0.03 * step}, "brand: Acme": {METRIC: 0.5 + 0.06 * step}},
                beyond={"coverage@20": 0.25 + 0.09 * step, "coverage@5": 0.1},
                exposure={"brand": {"Acme": {"catalog": 0.5, "interactions": 0.6, "lists": 0.7 + 0.03 * step}}},
            )
    group, collection, _ = compared(mixed)
    tables = {table.title: table for table in study_details(group, METRIC, named=False)}
    assert set(tables) == {"Beyond accuracy", "Warm and cold items", "By brand", "Exposure by brand"}
    assert all(table.caption.endswith("mean ± standard error over seeds") for table in tables.values())
    by_name = {row[0].text: row[1].text for row in tables["Warm and cold items"].rows}
    assert by_name == {"A": "0.1000 ± 0.0173", "B": "0.1000 ± 0.0173", "C": "0.0700", "E": "0.0700"}
    assert tables["Beyond accuracy"].heads == ["Model", "Coverage@20"]
    assert tables["Beyond accuracy"].rows[0][1].text == "0.250 ± 0.052"
    assert tables["By brand"].rows[0][1].text == "0.5000 ± 0.0346"
    assert [cell.text for cell in tables["Exposure by brand"].rows[0]] == ["Acme", "50%", "60%", "70% ± 1.7%",
                                                                          "70% ± 1.7%", "67%", "67%"]  # fmt: skip
    write_data(tmp_path, collection, [])
    frame = pl.read_csv(tmp_path / "designs.csv").filter(number="beyond.coverage@20")
    assert frame["design"].to_list() == ["A", "B", "C", "E"]
    assert frame["error"].to_list() == [pytest.approx(0.09 / math.sqrt(3))] * 2 + [None, None]
    assert frame["mean"].to_list() == pytest.approx([0.25, 0.25, 0.16, 0.16])
