"""What the commands do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lmm4rec.cli.models import show_models
from lmm4rec.data.doctor import describe, examine
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.compare import Entry, compare
from lmm4rec.experiments.conf.spec import load_spec, parse_override
from lmm4rec.experiments.demo import demo, next_steps, program
from lmm4rec.experiments.estimate.run import estimate_run
from lmm4rec.experiments.example_shop import write_example
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.run import run

# a log file is no 80 columns wide
console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=120)


def run_conf(conf: Path, settings: Sequence[str], out: Path | None, resume: bool) -> None:
    """`lmm4rec run`."""
    result = run(conf, overrides(settings), out=out, resume=resume)
    if os.environ.get("RANK", "0") != "0":  # one of several processes; the first one talks
        return
    console.print(results_table([result], [result.plan.recommender.label], result.plan.title))
    console.print(f"report   {result.folder.path / 'report.html'}")
    console.print(f"try      {program()} recommend {result.folder.path} {result.bundle().users[0]}", soft_wrap=True)
    console.print(f"look     {program()} serve {result.folder.path}", soft_wrap=True)


def estimate_conf(conf: Path, settings: Sequence[str]) -> None:
    """`lmm4rec run --dry-run`."""
    estimate = estimate_run(conf, overrides(settings))
    table = Table(title=f"{estimate.what}: what it takes at most", show_header=False, title_justify="left")
    for name, fact in estimate.facts().items():
        table.add_row(name, fact)
    console.print(table)


def compare_confs(confs: Sequence[Path], settings: Sequence[str], out: Path) -> None:
    """`lmm4rec compare`."""
    entries = [Entry(conf.stem, conf, overrides(settings)) for conf in confs]
    results = compare(entries, out, title="Comparison")
    console.print(results_table(results, [entry.label for entry in entries], "Comparison"))
    console.print(f"report   {out / 'report.html'}")


def run_demo(out: Path) -> None:
    """`lmm4rec demo`."""
    entries, results = demo(out)
    console.print(results_table(results, [entry.label for entry in entries], "The toy shop, test part"))
    console.print(f"\nLook at   [bold]{out / 'report.html'}[/]\n\nNext:")
    for command in next_steps(out):
        console.print(f"  {command}", soft_wrap=True)


def examine_data(conf: Path, settings: Sequence[str]) -> None:
    """`lmm4rec doctor`."""
    plan = make_plan(load_spec(conf, overrides(settings)))
    data = DataCache()
    dataset = data.dataset(plan)
    facts = Table(title=f"{dataset.name}", show_header=False, title_justify="left")
    for name, value in describe(dataset).items():
        facts.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.print(facts)
    findings = (*examine(dataset), *data.split(plan).findings)
    colors = {"error": "red", "warning": "yellow", "note": "dim"}
    for finding in sorted(findings, key=lambda finding: list(colors).index(finding.level)):
        console.print(f"[{colors[finding.level]}]{finding.level:8}[/]{finding.message.replace('[', chr(92) + '[')}")
        for example in finding.examples[:5]:
            console.print(f"          {example}", markup=False, soft_wrap=True)


def write_shop(folder: Path) -> None:
    """`lmm4rec example`."""
    conf = write_example(folder)
    console.print(f"wrote {folder}/items.csv, interactions.csv and images/, and {conf}")
    console.print(f"look     {program()} doctor {conf}", soft_wrap=True)
    console.print(f"run      {program()} run {conf}", soft_wrap=True)


def list_models(name: str | None) -> None:
    """`lmm4rec models`."""
    show_models(console, name)


def overrides(settings: Sequence[str]) -> dict[str, Any]:
    """The -s options as dotted keys and values."""
    return dict(parse_override(setting) for setting in settings)


def results_table(results: Sequence[Result], labels: Sequence[str], title: str) -> Table:
    """The table that a run ends in; the best of each metric is bold."""
    table = Table("model", "features", title=title, title_justify="left")
    for column in ("Recall@20", "NDCG@20", "valid Recall@20", "epochs", "seconds", "peak MB", "parameters"):
        table.add_column(column, justify="right")
    best = {name: max(result.measured.test[name] for result in results) for name in ("recall@20", "ndcg@20")}
    for label, result in zip(labels, results, strict=True):
        metrics = result.measured
        quality = [
            _bold(metrics.test[name], best[name] if len(results) > 1 else -1) for name in ("recall@20", "ndcg@20")
        ]
        table.add_row(
            label,
            result.plan.encoder_label,
            *quality,
            f"{metrics.valid['recall@20']:.4f}",
            str(metrics.chosen.epochs),
            f"{metrics.cost['seconds']:.1f}",
            f"{metrics.cost['peak_memory_mb']:,.0f}",
            f"{metrics.cost['parameters']:,}",
        )
    return table


def _bold(value: float, best: float) -> str:
    return f"[bold]{value:.4f}[/]" if value == best else f"{value:.4f}"
