"""Comparison of several runs on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import ConfigError
from lmm4rec.data.splits import PARTS
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.conf.spec import Table, load_spec
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.experiments.report.run_report import write_run_report
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.run import run


@dataclass(frozen=True)
class ComparedRun:
    """One line of a comparison: a label and what to run for it."""

    label: str
    conf: str | Path | Table
    overrides: Mapping[str, Any]


def compare(entries: Sequence[ComparedRun], out: Path, *, title: str, next_steps: Sequence[str] = ()) -> list[Result]:
    """The results of all entries, each run in a folder of its own under `out`, with one `report.html` about them.

    Finished runs are read, and interrupted ones resumed.

    Raises:
        ConfigError: before any work, where a conf is wrong or holds nothing out for validation or test, where two have
            other data, another split or another protocol, or would share a folder.
    """
    plans = [make_plan(load_spec(entry.conf, entry.overrides)) for entry in entries]
    for plan in plans:
        for part in PARTS:
            plan.require_share(part, "a comparison measures on it")
    labels = [entry.label for entry in entries]
    _require_own_folders(labels, out)
    for label, plan in zip(labels[1:], plans[1:], strict=True):
        _require_same_test(plans[0], plan, (labels[0], label))
    data = DataCache()
    results = []
    for entry in entries:
        folder = out / _slug(entry.label)
        begun = RunFolder(folder).experiment.exists()
        results.append(run(entry.conf, entry.overrides, out=folder, resume=begun, data=data))
    split = data.split(results[0].plan)
    write_run_report(out / "report.html", results, labels, split, title=title, next_steps=next_steps)
    return results


def _require_own_folders(labels: Sequence[str], out: Path) -> None:
    """Raise ConfigError where the runs of two labels would have one folder."""
    taken: dict[str, str] = {}
    for label in labels:
        slug = _slug(label)
        if slug in taken:
            raise ConfigError(
                f"'{taken[slug]}' and '{label}' would both run in {out / slug}, which is named after the conf file: "
                "give the conf files names that differ in letters or digits"
            )
        taken[slug] = label


def _require_same_test(first: Plan, plan: Plan, labels: tuple[str, str]) -> None:
    """Raise ConfigError where two plans are not measured on the same interactions in the same way; it names the key."""
    before, now = _keys_of_test(first), _keys_of_test(plan)
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            values = [f"{keys[key]!r}" if key in keys else "no value" for keys in (before, now)]
            raise ConfigError(
                f"a comparison needs the same data, split and protocol in all confs, but {key} is {values[0]} in "
                f"'{labels[0]}' and {values[1]} in '{labels[1]}': give it one value in all, in the files or with -s"
            )


def _keys_of_test(plan: Plan) -> dict[str, Any]:
    """The keys that say on which interactions a plan is trained and measured, and among which items."""
    tables = {"data": plan.data.table, "split": plan.split.table}
    keys = {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}
    return keys | {"evaluate.protocol": plan.evaluate.protocol, "evaluate.candidates": plan.evaluate.candidates}


def _slug(label: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in label.lower()).split())
