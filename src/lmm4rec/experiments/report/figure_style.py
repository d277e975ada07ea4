"""The look of every figure: colors that any kind of color vision tells apart, sizes that read well on a page."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmm4rec.core.files import atomic

FONT = "DejaVu Sans"
COLORS = ("#003A86", "#EB701F", "#2DA489", "#AD82CF", "#5E3F00", "#796FFF", "#000015")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
GRAY = "#767676"
WIDE, NARROW = 7.2, 3.6  # inches: a page of text, and half a page

_SETTINGS = {
    "font.family": FONT,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the same everywhere, whatever fonts there are
    "svg.hashsalt": "lmm4rec",
}


@dataclass(frozen=True)
class ReportFigure:
    """A finished figure: its file name, title and caption, and its numbers as a text alternative."""

    name: str
    title: str
    caption: str
    figure: Any  # of matplotlib
    numbers: str = ""
    for_phones: Any = None  # the same of a wide figure, drawn for narrow screens

    @property
    def is_narrow(self) -> bool:
        """Whether two such figures fit beside each other."""
        return bool(self.figure.get_figwidth() < WIDE)

    def save(self, folder: Path) -> None:
        """Write it as PNG and SVG."""
        for kind in ("png", "svg"):
            with atomic(folder / f"{self.name}.{kind}") as beside:
                beside.write_bytes(self.content(kind))

    def content(self, kind: str) -> bytes:
        """The file's content; the same figure gives the same bytes."""
        return _written(self.figure, kind)

    def text_svg(self, *, for_phones: bool = False) -> str:
        """An SVG whose texts are text, for a page, which sets them in a typeface of its own."""
        figure = self.for_phones if for_phones else self.figure
        return _written(figure, "svg", **{"svg.fonttype": "none"}).decode("utf-8")


def _written(figure: Any, kind: str, **settings: str) -> bytes:
    file = io.BytesIO()
    with figure_settings(**settings):
        figure.savefig(file, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


@contextmanager
def figure_settings(**others: str) -> Iterator[None]:
    """matplotlib with the settings of all figures, and with others; no window is opened."""
    import matplotlib

    with matplotlib.rc_context({**_SETTINGS, **others}):
        yield


def canvas(height: float, *, rows: int = 1, columns: int = 1, width: float = WIDE) -> tuple[Any, Any]:
    """A figure, as wide as the page by default, and its axes [rows, columns], which share their scales."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)


def single_canvas(labels: Sequence[str], width: float) -> tuple[Any, Any]:
    """A figure with a single pair of axes and room for a legend of the labels above them."""
    from matplotlib.figure import Figure

    legend_height = 0.1 + (0.18 * -(-len(labels) // _legend_columns(labels, width)) if len(labels) > 1 else 0.0)
    height = 2.1 + 0.11 * width + legend_height
    figure = Figure(figsize=(width, height))  # fixed margins: several times as quick as a constrained layout
    margins = {"left": 0.76 / width, "right": 0.97, "bottom": 0.42 / height, "top": 1 - legend_height / height}
    return figure, figure.subplots(gridspec_kw=margins)


def legend(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend above all axes, in as many columns as the labels leave room for; none for a single label."""
    if len(labels) < 2:
        return
    place = "outside upper left" if figure.get_layout_engine() else "upper left"
    columns = _legend_columns(labels, figure.get_figwidth())
    figure.legend(handles, labels, loc=place, ncols=columns, borderaxespad=0.2, labelspacing=0.3)


def _legend_columns(labels: Sequence[str], width: float) -> int:
    longest = max(len(label) for label in labels)
    return min(6, len(labels), max(1, int(width * 13 / (longest + 7))))


def color(index: int) -> str:
    """The color of a series."""
    return COLORS[index % len(COLORS)]


def marker(index: int) -> str:
    """The marker of a series; the first 56 series differ in color or marker."""
    return MARKERS[index % len(MARKERS)]


def marker_edge(sign: str) -> dict[str, Any]:
    """The edge of a marker: white where it has room for one; thin signs would be all edge."""
    return {"markeredgecolor": "white", "markeredgewidth": 0.5} if sign in "osD^v" else {"markeredgewidth": 0.0}


def shortened(text: str, longest: int = 34) -> str:
    """The text, cut where it is longer than `longest` letters."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
