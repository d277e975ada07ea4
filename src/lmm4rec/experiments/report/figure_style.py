"""How every figure looks: colors that any kind of color vision tells apart, sizes that print well."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import optional
from lmm4rec.core.files import atomic

# Okabe and Ito 2008, the pale yellow last
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442")
MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")
GRAY = "#767676"
WIDTH = 7.2  # inches, a page of text

_SETTINGS = {
    "font.family": "DejaVu Sans",
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
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the same everywhere, whatever fonts there are
    "svg.hashsalt": "lmm4rec",
}


@dataclass(frozen=True)
class Drawn:
    """A finished figure."""

    name: str  # its files'
    title: str
    caption: str
    figure: Any

    def save(self, folder: Path) -> None:
        """Write it as PNG and SVG."""
        for kind in ("png", "svg"):
            with atomic(folder / f"{self.name}.{kind}") as beside:
                beside.write_bytes(self.bytes(kind))

    def bytes(self, kind: str) -> bytes:
        """The file's content; the same figure gives the same bytes."""
        file = io.BytesIO()
        with settings():
            self.figure.savefig(file, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
        return file.getvalue()


@contextmanager
def settings() -> Iterator[Any]:
    """matplotlib with the house's settings, and without a window.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = optional("matplotlib", extra="report", purpose="figures")
    with matplotlib.rc_context(_SETTINGS):
        yield matplotlib


def canvas(matplotlib: Any, height: float, *, rows: int = 1, columns: int = 1, width: float = WIDTH) -> tuple[Any, Any]:
    """A figure and its axes [rows, columns], which share their scales."""
    figure = matplotlib.figure.Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)


def legend(figure: Any, handles: Sequence[Any], labels: Sequence[str], *, columns: int = 6) -> None:
    """One legend above all axes, outside of them, in as many columns as its words leave room for."""
    if len(labels) < 2:
        return
    longest = max(len(label) for label in labels)
    fitting = max(1, int(WIDTH * 13 / (longest + 7)))
    figure.legend(handles, labels, loc="outside upper left", ncols=min(columns, fitting, len(labels)))


def color(index: int) -> str:
    """The color of a series."""
    return COLORS[index % len(COLORS)]


def mark(index: int) -> str:
    """The mark of a series: no two of the first eight are told apart by color alone."""
    return MARKS[index % len(MARKS)]


def shortened(text: str, longest: int = 34) -> str:
    """A label that fits, whole where it can be."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
