"""The report on one run, or on several runs on the same data side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmm4rec.core.files import read_json
from lmm4rec.data.splits import Split
from lmm4rec.experiments.report.page import write_report
from lmm4rec.experiments.report.user_examples import paradigm, people
from lmm4rec.experiments.report.view import ReportView, RunView
from lmm4rec.experiments.result import Result


def write_run_report(
    path: Path,
    results: Sequence[Result],
    labels: Sequence[str],
    split: Split,
    *,
    title: str,
    next_steps: Sequence[str] = (),
) -> None:
    """Write the page on runs that share a split."""
    write_report(path, report_view(results, labels, split, title=title, next_steps=next_steps))


def report_view(
    results: Sequence[Result], labels: Sequence[str], split: Split, *, title: str, next_steps: Sequence[str] = ()
) -> ReportView:
    """The report on runs that share a split."""
    first = results[0]
    mmrec = first.plan.tables["evaluate"]["protocol"] == "mmrec"
    return ReportView(
        title=title,
        subtitle=_subtitle(split),
        facts=_facts(first, split),
        runs=[_run(result, label) for result, label in zip(results, labels, strict=True)],
        people=people(results, labels, split),
        findings=list(dict.fromkeys(found for result in results for found in result.metrics["data"]["findings"])),
        metric=first.metrics["chosen"]["metric"],
        next_steps=next_steps,
        masked="each user's training items (protocol mmrec)" if mmrec else "each user's training and validation items",
        hit_label="liked later"
        if split.method in ("user_time", "global_time", "leave_last_out")
        else "liked, held out",
    )


def _subtitle(split: Split) -> str:
    data = split.dataset
    return f"{data.n_users:,} users, {data.n_items:,} items, {len(data.interactions):,} likes of '{data.name}'"


def _facts(result: Result, split: Split) -> dict[str, str]:
    data, machine = result.metrics["data"], read_json(result.folder.environment)["machine"]
    parts = f"{data['train']:,} train, {data['valid']:,} validation, {data['test']:,} test"
    return {
        "data": data["name"],
        "users": f"{data['users']:,}",
        "items": f"{data['items']:,}",
        "interactions": f"{data['interactions']:,}",
        "split": f"{split.method}: {parts}",
        "split fingerprint": split.fingerprint[:12],
        "machine": f"{machine['processor']}, {machine['threads']} threads",
    }


def _run(result: Result, label: str) -> RunView:
    metrics, features = result.metrics, result.plan.tables.get("features")
    alignment = metrics.get("alignment", {})
    return RunView(
        label=label,
        recommender=result.plan.recommender,
        encoder=result.plan.encoder,
        paradigm=paradigm(features) if features else "",
        valid=metrics["valid"],
        test=metrics["test"],
        slices=metrics["slices"],
        beyond=metrics["beyond"],
        cost=metrics["cost"] | {"epochs": metrics["chosen"]["epochs"]},
        history=result.history,
        best_epoch=metrics["chosen"]["epoch"],
        seed=result.plan.tables["train"]["seed"],
        alignment=alignment.get("after", alignment),
        alignment_before=alignment.get("before", {}),
    )
