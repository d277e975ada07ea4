"""The card of a study: data, selection, protocol, cost, and what its numbers do not show."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from lmm4rec.core.files import read_json
from lmm4rec.experiments.report.finished_runs import RunCollection
from lmm4rec.experiments.report.number_formats import first_names, megabytes, metric_name, seconds
from lmm4rec.experiments.result import DataFacts
from lmm4rec.experiments.study.axis_presets import SEED


def card_entries(collection: RunCollection) -> dict[str, str]:
    """The entries of the card by name."""
    runs, metric = collection.runs, collection.metric
    environments = [read_json(run.result.folder.environment) for run in runs]
    times = [run.measured.cost["seconds"] for run in runs]
    memory = max(run.measured.cost["peak_memory_mb"] for run in runs)
    best = [f"{group.best_first(f'valid.{metric}')[0].label} ({group.title})" for group in collection.groups]
    protocols = sorted({f"{run.group.protocol} over {run.group.candidates} items" for run in runs})
    seeds = sorted({run.seed for run in runs}) if SEED in collection.axes else [runs[0].seed]
    return {
        "What": f"{len(runs)} finished runs of {len(collection.designs)} designs along {', '.join(collection.axes)}",
        "Seeds": ", ".join(map(str, seeds)),
        **{f"Data: {group.title}": _data(group.designs[0].runs[0].measured.data) for group in collection.groups},
        "Chosen by": f"validation {metric_name(metric)}: the epoch in every run, settings {_search(collection)}",
        "Best by validation": "; ".join(best),
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
