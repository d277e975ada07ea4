"""The figure of docs/results.md: how well each model ranks on real data beside what its training costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmm4rec.core.files import atomic
from lmm4rec.experiments.report.figure_style import COLORS, GRAY, ReportFigure, figure_settings

PLAIN = ("Popular", "ItemKNN", "BPR", "LightGCN")  # they use no content


def draw(worlds: Mapping[str, Mapping[str, Any]], milliseconds: Mapping[str, float], path: Path) -> None:
    """Write a PNG: a line for each model, a field of test recall for each world, and one of milliseconds a batch."""
    first = next(iter(worlds.values()))
    every = {name for rows in worlds.values() for name in rows if "," not in name}  # variants stay in the tables
    names = sorted(every, key=lambda name: first[name]["recall@20"]["mean"] if name in first else 0.0)
    with figure_settings():
        import matplotlib.figure
        import matplotlib.ticker

        figure = matplotlib.figure.Figure(figsize=(8.4, 0.24 * len(names) + 1.1), layout="constrained")
        *fields, cost = figure.subplots(1, len(worlds) + 1, sharey=True)
        for axes, (title, rows) in zip(fields, worlds.items(), strict=True):
            axes.set(title=title, xlabel="test Recall@20, three seeds")
            for line, name in enumerate(names):
                if name in rows:
                    recall = rows[name]["recall@20"]
                    axes.errorbar(recall["mean"], line, xerr=recall.get("spread", 0), fmt="o", color=_color(name))
        for line, name in enumerate(names):
            if name.lower() in milliseconds:
                cost.plot(milliseconds[name.lower()], line, "o", color=_color(name))
        cost.set(title="Cost", xscale="log", xlabel="ms a batch (Baby, two cores)")
        cost.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        cost.set_yticks(range(len(names)), names)
    with atomic(path) as beside:
        beside.write_bytes(ReportFigure("quality", "", "", figure).content("png"))


def _color(name: str) -> str:
    return GRAY if name in PLAIN else COLORS[0]
