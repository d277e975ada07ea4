"""The figure of MMR in the guide: diversity against recall, a curve for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lmm4rec.core.files import atomic
from lmm4rec.experiments.report.figure_style import COLORS, MARKERS, ReportFigure, figure_settings

BY = "diversity by genres"
NAMED = (0.5, 0.7, 0.9)  # values of λ that are written at their points


def draw_diversity(curves: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Write a PNG: recall and coverage over the diversity within lists, from λ = 0 on."""
    with figure_settings():
        import matplotlib.figure

        figure = matplotlib.figure.Figure(figsize=(7.2, 3.0), layout="constrained")
        fields = figure.subplots(1, 2)
        for axes, metric, title in zip(
            fields, ("recall@20", "coverage"), ("Test Recall@20", "Share of the films in some list"), strict=True
        ):
            for (label, points), color, marker in zip(curves.items(), COLORS, MARKERS, strict=False):
                x, y = ([point[name] for point in points] for name in (BY, metric))
                axes.plot(x, y, color=color, marker=marker, markersize=4, label=label)
                for point in points:
                    if point["lambda"] in NAMED:
                        at, text = (point[BY], point[metric]), f"{point['lambda']:g}"
                        axes.annotate(text, at, (3, 5), textcoords="offset points", fontsize=7.5, color=color)
            axes.set(title=title, xlabel="mean distance of two films of a list, by genres")
            axes.margins(x=0.12, y=0.12)
            axes.set_ylim(bottom=0)
        fields[0].legend(loc="lower left")
    with atomic(path) as beside:
        beside.write_bytes(ReportFigure("mmr", "", "", figure).content("png"))
