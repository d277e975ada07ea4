"""The report on one run, or on several runs on the same split side by side: one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from lmm4rec.core.files import read_json, write_text
from lmm4rec.data.splits import Split
from lmm4rec.experiments.report.collect import labeled_runs
from lmm4rec.experiments.report.figures import run_figures
from lmm4rec.experiments.report.finished_runs import RunCollection
from lmm4rec.experiments.report.page import Page
from lmm4rec.experiments.report.sentences import run_headline, run_notes
from lmm4rec.experiments.report.slice_tables import exposure_tables, slice_table, slice_tables
from lmm4rec.experiments.report.tables import alignment_table, detail_tables, run_results
from lmm4rec.experiments.report.user_examples import UserExample, user_examples
from lmm4rec.experiments.result import Result


@dataclass(frozen=True, kw_only=True)
class RunPage(Page):
    """The page on single runs."""

    template: ClassVar[str] = "run.html.jinja"

    preferred: str  # the model that validation prefers; its recommendations are shown first
    facts: Mapping[str, str]
    findings: Sequence[str] = ()  # on the data; `text between backticks` is set as code, here and in `next_steps`
    next_steps: Sequence[str] = ()


def write_run_report(
    path: Path,
    results: Sequence[Result],
    labels: Sequence[str],
    split: Split,
    *,
    title: str,
    next_steps: Sequence[str] = (),
) -> None:
    """Write the page on runs that share a split.

    Raises:
        DataError: two runs share a label, or one lacks the metric of the first.
    """
    data, mmrec = split.dataset, results[0].plan.evaluate.protocol == "mmrec"
    models = f"{len(labels)} models on '{data.name}'" if len(labels) > 1 else f"{labels[0]} on '{data.name}'"
    sizes = f"{data.n_users:,} users, {data.n_items:,} items, {len(data.interactions):,} interactions"
    page = run_page(
        labeled_runs(title, results, labels),
        subtitle=f"{models}: {sizes}",
        facts=_facts(results[0], split),
        users=user_examples(results, labels, split),
        findings=list(dict.fromkeys(text for result in results for text in result.measured.data.findings)),
        next_steps=next_steps,
        masked="each user's training items (protocol mmrec)" if mmrec else "each user's training and validation items",
    )
    write_text(path, page.html())


def run_page(
    collection: RunCollection,
    *,
    subtitle: str,
    facts: Mapping[str, str],
    users: Sequence[UserExample] = (),
    findings: Sequence[str] = (),
    next_steps: Sequence[str] = (),
    masked: str = "each user's training and validation items",  # in the test ranking
) -> RunPage:
    """The page on the runs of a collection of one group."""
    (group,), metric = collection.groups, collection.metric
    tables = [slice_table(group, metric), replace(alignment_table(group), title="Image and text")]
    return RunPage(
        title=collection.title,
        subtitle=subtitle,
        headlines=[run_headline(group, metric)],
        results=[run_results(group, metric), *(table for table in tables if table.rows and len(table.heads) > 1)],
        details=[
            *detail_tables(group, metric),
            *slice_tables(group.best_first(f"test.{metric}"), metric),
            *exposure_tables(group.best_first(f"test.{metric}")),
        ],
        notes=run_notes(collection, masked),
        figures=run_figures(collection),
        users=users,
        models=[design.label for design in group.best_first(f"test.{metric}")],
        preferred=group.best_first(f"valid.{metric}")[0].label,
        facts=facts,
        findings=findings,
        next_steps=next_steps,
    )


def _facts(result: Result, split: Split) -> dict[str, str]:
    data, machine = result.measured.data, read_json(result.folder.environment)["machine"]
    parts = f"{data.train:,} train, {data.valid:,} validation, {data.test:,} test"
    return {
        "Data": data.name,
        "Users": f"{data.users:,}",
        "Items": f"{data.items:,}",
        "Interactions": f"{data.interactions:,}",
        "Split": f"{split.method}: {parts}",
        "Split fingerprint": split.fingerprint[:12],
        "Machine": f"{machine['processor']}, {machine['threads']} threads",
    }
