"""The model card of a study: what was done with what, how it was chosen, and what it does not say."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from lmm4rec.core.files import read_json
from lmm4rec.experiments.report import number_formats as words
from lmm4rec.experiments.report.collect import Collection
from lmm4rec.experiments.report.design_comparisons import by_validation
from lmm4rec.experiments.report.study_tables import seeds_of


def card(collection: Collection) -> dict[str, str]:
    """The card's entries: a name, and what is to be said."""
    cells = collection.cells
    environments = [read_json(cell.result.folder.environment) for cell in cells]
    seconds = sum(cell.metrics["cost"]["seconds"] for cell in cells)
    return {
        "What": f"{len(cells)} finished runs of {len(collection.designs)} designs along {', '.join(collection.axes)}",
        "Seeds": ", ".join(map(str, seeds_of(collection))) or str(cells[0].seed),
        **{f"Data: {panel.title}": _data(panel.designs[0].cells[0].metrics["data"]) for panel in collection.panels},
        "Chosen by": f"validation {words.metric_name(collection.metric)}: the epoch in every run, settings "
        + _search(collection),
        "Best by validation": "; ".join(
            f"{by_validation(panel, collection.metric)[0].label} ({panel.title})" for panel in collection.panels
        ),
        "Protocol": "full ranking, known items masked; "
        + ", ".join(sorted({f"{cell.panel.protocol} over {cell.panel.candidates} items" for cell in cells})),
        "Cost": f"{words.seconds(seconds)} of runs, a median of "
        f"{words.seconds(statistics.median(cell.metrics['cost']['seconds'] for cell in cells))} each; "
        f"at most {words.megabytes(max(cell.metrics['cost']['peak_memory_mb'] for cell in cells))}",
        "Machines": "; ".join(sorted({_machine(found) for found in environments})),
        "Versions": "; ".join(sorted({_versions(found) for found in environments})),
        "Not shown here": "what happens on other data, with other budgets, or to people who look at recommendations: "
        "measures on held-out likes reward what was seen and liked before",
        **({"Without a result": words.some(collection.missing)} if collection.missing else {}),
    }


def as_markdown(title: str, entries: Mapping[str, str]) -> str:
    """The card as a Markdown file."""
    return f"# {title}\n\n" + "\n".join(f"- **{name}**: {said}" for name, said in entries.items()) + "\n"


def _data(data: Mapping[str, object]) -> str:
    counts = ", ".join(
        f"{data[name]:,} {name}" for name in ("users", "items", "interactions", "train", "valid", "test")
    )
    return f"{counts}; split {data['split']}, fingerprint {str(data['split_fingerprint'])[:12]}"


def _search(collection: Collection) -> str:
    search = collection.search
    if not search:
        return "as the conf says, none searched"
    return f"by {search['sampler']} search, {search['budget']} tried for each design under its first seed"


def _machine(environment: Mapping[str, dict[str, object]]) -> str:
    machine = environment["machine"]
    return f"{machine['processor']}, {machine['threads']} threads {machine['accelerator']}".strip()


def _versions(environment: Mapping[str, dict[str, object]]) -> str:
    packages = environment["packages"]
    return ", ".join(f"{name} {packages[name]}" for name in ("lmm4rec", "torch", "numpy") if name in packages)
