"""The report on a study or on any run folders: a page, and tables, figures, data and a card as files."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from lmm4rec.core.errors import DataError
from lmm4rec.core.files import read_json, write_text
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.report.collect import collect
from lmm4rec.experiments.report.design_comparisons import DesignComparison, compare_along_axes, compare_with_reference
from lmm4rec.experiments.report.figures import study_figures
from lmm4rec.experiments.report.finished_runs import RunCollection
from lmm4rec.experiments.report.number_formats import first_names, megabytes, metric_name, seconds
from lmm4rec.experiments.report.page import Page
from lmm4rec.experiments.report.sentences import group_headline, one_user_notes, seed_notes, study_notes
from lmm4rec.experiments.report.slice_tables import study_details
from lmm4rec.experiments.report.table_files import write_data, write_tables
from lmm4rec.experiments.report.tables import (
    ReportTable,
    alignment_table,
    comparison_table,
    study_results,
    variance_table,
)
from lmm4rec.experiments.report.user_examples import UserExample, user_examples
from lmm4rec.experiments.result import DataFacts
from lmm4rec.experiments.study.axis_presets import SEED


def card_entries(collection: RunCollection) -> dict[str, str]:
    """The entries of the card by name."""
    runs, metric = collection.runs, collection.metric
    environments = [read_json(run.result.folder.environment) for run in runs]
    times = [run.measured.cost["seconds"] for run in runs]
    memory = max(run.measured.cost["peak_memory_mb"] for run in runs)
    validated = [group for group in collection.groups if group.is_validated(metric)]
    best = [f"{group.best_first(f'valid.{metric}')[0].label} ({group.title})" for group in validated]
    chosen = {
        "Chosen by": f"validation {metric_name(metric)}: the epoch in every run, settings {_search(collection)}",
        "Best by validation": "; ".join(best),
    }
    protocols = sorted({f"{run.group.protocol} over {run.group.candidates} items" for run in runs})
    seeds = sorted({run.seed for run in runs}) if SEED in collection.axes else [runs[0].seed]
    return {
        "What": f"{len(runs)} finished runs of {len(collection.designs)} designs along {', '.join(collection.axes)}",
        "Seeds": ", ".join(map(str, seeds)),
        **{f"Data: {group.title}": _data(group.designs[0].runs[0].measured.data) for group in collection.groups},
        **(chosen if validated else {"Chosen by": "nothing: no validation part, the last epoch of every run"}),
        "Protocol": f"full ranking, known items masked; {', '.join(protocols)}",
        "Cost": f"{seconds(sum(times))} of runs, a median of {seconds(statistics.median(times))} each; "
        f"at most {megabytes(memory)}",
        "Machines": "; ".join(sorted({_machine(environment) for environment in environments})),
        "Versions": "; ".join(sorted({_versions(environment) for environment in environments})),
        "Not shown here": "what happens on other data, with other budgets, or to users who see recommendations: "
        "measures on held-out interactions reward what was shown and popular before",
        **({"Without a result": first_names(collection.missing)} if collection.missing else {}),
    }


def card_markdown(title: str, entries: Mapping[str, str]) -> str:
    """The card as a Markdown file."""
    return f"# {title}\n\n" + "\n".join(f"- **{name}**: {text}" for name, text in entries.items()) + "\n"


def _data(data: DataFacts) -> str:
    names = ("users", "items", "interactions", "train", "valid", "test")
    counts = ", ".join(f"{getattr(data, name):,} {name}" for name in names)
    return f"{counts}; split {data.split}, fingerprint {data.split_fingerprint[:12]}"


def _search(collection: RunCollection) -> str:
    search = collection.search
    if not search:
        return "as in the conf, none searched"
    return f"by {search['sampler']} search, {search['budget']} trials for each design under its first seed"


def _machine(environment: Mapping[str, dict[str, object]]) -> str:
    machine = environment["machine"]
    return f"{machine['processor']}, {machine['threads']} threads {machine['accelerator']}".strip()


def _versions(environment: Mapping[str, dict[str, object]]) -> str:
    packages = environment["packages"]
    return ", ".join(f"{name} {packages[name]}" for name in ("lmm4rec", "torch", "numpy") if name in packages)


@dataclass(frozen=True, kw_only=True)
class StudyPage(Page):
    """The page on a study."""

    template: ClassVar[str] = "study.html.jinja"

    tests: Sequence[ReportTable] = ()
    failures: Mapping[str, Mapping[str, Any]]
    card: Mapping[str, str]
    files: Sequence[str] = ()


def write_study_report(folders: Sequence[Path], out: Path, *, reference: str = "") -> Path:
    """Write the report on a study or on runs into a folder; returns the path of the page.

    Raises:
        CheckpointError: there is no finished run.
        ConfigError: the reference is no design.
    """
    collection = collect(folders)
    if reference:
        collection = replace(collection, reference=reference)
    groups = collection.groups
    with_reference = [compare_with_reference(group, collection) for group in groups]
    along_axes = [compare_along_axes(group, collection) for group in groups]
    comparisons = [compared for of_group in (*with_reference, *along_axes) for compared in of_group]
    users, models = _users(collection)
    untested = one_user_notes(groups)
    for note in untested:
        logging.getLogger(__name__).warning("%s", note)
    tested = [design for group in groups if group.has_errors for design in group.designs]
    page = StudyPage(
        title=collection.title,
        subtitle=f"{len(collection.runs)} runs of {len(collection.designs)} designs",
        headlines=[group_headline(*pair, collection) for pair in zip(groups, with_reference, strict=True)],
        results=[study_results(*pair, collection.metric) for pair in zip(groups, with_reference, strict=True)],
        details=[table for group in groups for table in study_details(group, collection.metric, named=len(groups) > 1)],
        notes=[*study_notes(collection), *untested, *seed_notes(tested)],
        figures=study_figures(collection),
        tests=_test_tables(collection, comparisons),
        failures=collection.failures,
        card=card_entries(collection),
        users=users,
        models=models,
    )
    write_tables(out / "tables", {"results": page.results, "details": page.details, "tests": page.tests})
    write_data(out / "data", collection, comparisons)
    for figure in page.figures:
        figure.save(out / "figures")
    write_text(out / "card.md", card_markdown(page.title, page.card))
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*.*") if path.suffix != ".html")
    write_text(out / "report.html", replace(page, files=files).html())
    return out / "report.html"


def _test_tables(collection: RunCollection, comparisons: Sequence[DesignComparison]) -> list[ReportTable]:
    """A table for each family of comparisons, then seeds and users, then alignment."""
    families: dict[str, list[DesignComparison]] = {}
    for compared in comparisons:
        families.setdefault(compared.family, []).append(compared)
    tables = [comparison_table(name, family, collection.metric) for name, family in families.items()]
    others = [variance_table(group, collection.metric) for group in collection.groups]
    others += [alignment_table(group) for group in collection.groups]
    return [*tables, *(table for table in others if table.rows)]


def _users(collection: RunCollection) -> tuple[list[UserExample], list[str]]:
    """Example users with two designs of the first group: the best by validation, and the best with or without content.

    The second is with content where the first is without, and without where it is with.
    """
    best, *others = collection.groups[0].best_first(f"valid.{collection.metric}")
    if not others:
        return [], []
    other_kind = (design for design in others if design.uses_content != best.uses_content)
    pair = best, next(other_kind, others[0])
    results, labels = [design.runs[0].result for design in pair], [design.label for design in pair]
    try:
        split = DataCache().split(results[0].plan)
    except DataError as error:  # the report is written on a machine without the data
        logging.getLogger(__name__).warning("no example users: %s", error)
        return [], []
    return user_examples(results, labels, split), labels
