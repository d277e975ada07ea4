"""The race in docs/results.md: a verdict in sentences, a figure, and a table for each data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _tables import table
from _toolbox_results import TOLD, toolbox_values
from lmm4rec.core.files import atomic
from lmm4rec.experiments.report.figure_style import COLORS, GRAY, ReportFigure, figure_settings

BASE = "EASE"
Models = Mapping[str, Mapping[str, Any]]


def verdicts(values: Mapping[str, Any]) -> str:
    """Each data set in sentences."""
    waiting = {name: _missing_runs(values["missing"], name) for name in values["data"]}
    return "\n\n".join(verdict(name, world, waiting[name]) for name, world in values["data"].items())


def _missing_runs(cells: Sequence[str], name: str) -> int:
    """The runs of a data set that are still to be made; a cell's name begins with that of its data."""
    return sum(cell.startswith(f"{name.lower().replace(' ', '-')}_") for cell in cells)


def race(values: Mapping[str, Any]) -> str:
    """The budget and the tables."""
    budget = values["budget"]["budget"]
    told = (
        f"Every model had at most {budget} settings to try, on the validation part and under one seed; a setting that "
        "fell below the median of those before it was stopped. The chosen one ran under three seeds; closed forms have "
        "no seed. ELSA's batches of 256 users, on Clothing of 1,024, were fixed. Differences to EASE are tested over "
        "users and seeds, corrected by Holm over the models of a data set: \\* below .05, \\*\\* below .01, "
        "\\*\\*\\* below .001 ([how](guide/studies.md)). Settings are in `benchmarks/results/race.json` (`lmm4rec "
        f"study conf/studies/race.conf`, `python benchmarks/race.py`). {TOLD}"
    )
    if missing := len(values["missing"]):
        told += f" The race goes on: {missing} of {missing + values['finished']} runs are still to be made."
    tables = [world_table(name, world) for name, world in values["data"].items()]
    return "\n\n".join([told, *tables])


def graph_models(values: Mapping[str, Any]) -> str:
    """What the study of graph models found."""
    told = (
        "The graph models of 2021 to 2025 in their default settings, all modalities weighing the same, in batches of "
        "8,192 at a grown rate; only LightGCN's l2_weight is the race's. Significance is as in the race (`lmm4rec "
        "study conf/studies/graphs.conf`, `python benchmarks/race.py runs/graphs graphs`)."
    )
    return untuned(told, values, {name: _missing_runs(values["missing"], name) for name in values["data"]})


def untuned(told: str, values: Mapping[str, Any], waiting: Mapping[str, int]) -> str:
    """A study without a search: how many runs are missing, and of each data set the verdict and the table."""
    if missing := len(values["missing"]):
        told += f" {missing} of {missing + values['finished']} runs are still to be made."
    parts = [told]
    for name, world in values["data"].items():
        parts += [verdict(name, world, waiting[name]), world_table(name, world)]
    return "\n\n".join(parts)


def verdict(name: str, world: Mapping[str, Any], missing: int = 0) -> str:
    """A data set in sentences: who is best, who beats EASE and who loses to it, and whether content helps."""
    models: Models = world["models"]
    ranked = sorted(models, key=lambda label: models[label]["recall@20"]["mean"], reverse=True)
    best = ranked[0]
    so_far = f", {missing} runs still to be made" if missing else ""
    sentences = [f"**{name}**{so_far}: {best} ranks best (Recall@20 {_short(models[best])})."]
    if BASE in models:
        others = [label for label in ranked if label != BASE]
        better = [label for label in others if _significant(models[label], 1)]
        worse = [label for label in others if _significant(models[label], -1)]
        sentences.append(
            f"{_listed(better)} {'beats' if len(better) == 1 else 'beat'} EASE ({_short(models[BASE])}) significantly."
            if better
            else f"No model beats EASE ({_short(models[BASE])}) significantly."
            if best != BASE
            else "No model beats it."
        )
        if worse:
            sentences.append(f"Significantly worse than EASE: {_listed(worse)}.")
    content = [label for label in ranked if models[label]["content"]]
    plain = [label for label in ranked if not models[label]["content"]]
    if content and plain:
        high, low = (models[label]["recall@20"]["mean"] for label in (content[0], plain[0]))
        sentences.append(
            f"The best model with content ({content[0]}) has {abs(high / low - 1):.1%} "
            f"{'more' if high >= low else 'less'} than the best without ({plain[0]})."
        )
    return " ".join(sentences)


def _significant(row: Mapping[str, Any], sign: int) -> bool:
    recall = row["recall@20"]
    return bool(recall.get("stars")) and recall["difference"] * sign > 0


def _short(row: Mapping[str, Any]) -> str:
    return f"{row['recall@20']['mean']:.4f}".lstrip("0")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def world_table(name: str, world: Mapping[str, Any]) -> str:
    """A data set: every model's values, its difference to EASE, and the setting where there was a search."""
    beside, searched = toolbox_values(name, world["models"]), any("setting" in row for row in world["models"].values())
    head = ["model", "content", "Recall@20", "NDCG@20", "to EASE", "seeds"]
    head += ["chosen by validation"] * searched + ["MMRec toolbox"] * bool(beside)
    rows = []
    for label, row in world["models"].items():
        recall, ndcg = row["recall@20"], row["ndcg@20"]
        to_base = f"{recall['difference']:+.4f}" if "difference" in recall else "–"
        setting = ", ".join(
            f"{key.rpartition('.')[2]} {_plain(value)}" for key, value in row.get("setting", {}).items()
        )
        cells = [label, "yes" if row["content"] else "–", _value(recall), _value(ndcg), to_base]
        cells += ["any" if row["deterministic"] else str(row["seeds"])] + [setting or "–"] * searched
        cells += [beside.get(label, "–")] * bool(beside)
        rows.append(cells)
    facts = f"{world['users']:,} users, {world['items']:,} items, {world['interactions']:,} interactions"
    return f"### {name}\n\n{facts}; split {world['split']}, protocol `{world['protocol']}`.\n\n{table(head, rows)}"


def _value(measured: Mapping[str, Any]) -> str:
    spread = f" ± {measured['spread']:.4f}" if "spread" in measured else ""
    stars = "".join("\\*" for _ in measured.get("stars", ""))
    return f"{measured['mean']:.4f}{spread}{stars}"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def draw_race(worlds: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write a PNG: a line for each model, and for each data set its recall as a share of EASE's, with the interval."""
    names = {label for world in worlds.values() for label in world["models"]}
    shares = {label: _mean_share(label, worlds) for label in names}
    order = sorted(names, key=shares.__getitem__)
    content = {label for world in worlds.values() for label, row in world["models"].items() if row["content"]}
    with figure_settings():
        import matplotlib.figure

        figure = matplotlib.figure.Figure(
            figsize=(1.6 + 1.5 * len(worlds), 0.24 * len(order) + 1.0), layout="constrained"
        )
        fields = figure.subplots(1, len(worlds), sharey=True, squeeze=False)[0]
        for axes, (title, world) in zip(fields, worlds.items(), strict=True):
            base = world["models"][BASE]["recall@20"]["mean"]
            axes.axvline(100, color=GRAY, linewidth=1)
            for line, label in enumerate(order):
                if label in world["models"]:
                    _dot(axes, line, world["models"][label]["recall@20"], base, COLORS[0] if label in content else GRAY)
            axes.set(title=title, xlabel="% of EASE")
        fields[0].set_yticks(range(len(order)), order)
    with atomic(path) as beside:
        beside.write_bytes(ReportFigure("race", "", "", figure).content("png"))


def _dot(axes: Any, line: int, recall: Mapping[str, Any], base: float, color: str) -> None:
    axes.plot(100 * recall["mean"] / base, line, "o", color=color, markersize=4)
    if "low" in recall:
        ends = [100 * (base + recall[end]) / base for end in ("low", "high")]
        axes.plot(ends, [line, line], color=color, linewidth=1)


def _mean_share(label: str, worlds: Mapping[str, Mapping[str, Any]]) -> float:
    """The model's recall as a share of EASE's, averaged over the data sets where it ran."""
    shares = [
        world["models"][label]["recall@20"]["mean"] / world["models"][BASE]["recall@20"]["mean"]
        for world in worlds.values()
        if label in world["models"]
    ]
    return float(sum(shares) / len(shares))
