"""Tables as columns: what each cell says, what it sorts by, and which values are the best two."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmm4rec.experiments.report import number_formats as words
from lmm4rec.experiments.report.view import Figures, RunView


@dataclass(frozen=True)
class Cell:
    """A cell: its words, the number it sorts by (NaN: none), its rank if it is one of the best two, its bar."""

    text: str
    value: float
    rank: int = 0  # 1 the best, 2 the second best, 0 any other
    share: float = 0.0  # length of the bar, 0 to 1


@dataclass(frozen=True)
class Column:
    """A column: its head, a word under the head, and a cell for each run."""

    head: str
    under: str
    cells: Sequence[Cell]


def results(runs: Sequence[RunView], metric: str) -> list[Column]:
    """The main table: test and validation quality, then what it cost."""
    other, name = words.companion(metric), words.metric_name
    test, cost = [run.test for run in runs], [run.cost for run in runs]
    return [
        _column(name(metric), "test", test, metric, words.metric_value, ranked=True, bar=True),
        _column(name(other), "test", test, other, words.metric_value, ranked=True),
        _column(name(metric), "validation", [run.valid for run in runs], metric, words.metric_value, ranked=True),
        _column("Time", "total", cost, "seconds", words.seconds),
        _column("Parameters", "total", cost, "parameters", words.count),
        _column("Memory", "peak", cost, "peak_memory_mb", words.megabytes),
    ]


def slices(runs: Sequence[RunView], metric: str) -> list[Column]:
    """The test metric on each slice of the items."""
    parts = {name: [run.slices.get(name, {}) for run in runs] for owner in runs for name in owner.slices}
    return [
        _column(name.capitalize(), "", part, metric, words.metric_value, ranked=True) for name, part in parts.items()
    ]


def beyond(runs: Sequence[RunView]) -> list[Column]:
    """What is not accuracy: coverage, Gini, novelty."""
    names = dict.fromkeys(name for run in runs for name in run.beyond)
    return [_column(words.metric_name(name), "", [run.beyond for run in runs], name, words.number) for name in names]


def costs(runs: Sequence[RunView]) -> list[Column]:
    """The cost by phase."""
    shown: tuple[tuple[str, str, str, Callable[[float], str]], ...] = (
        ("Training", "time", "train_seconds", words.seconds),
        ("Features", "time", "features_seconds", words.seconds),
        ("Epochs", "", "epochs", words.count),
        ("Trainable", "parameters", "trainable_parameters", words.count),
        ("Encoded", "items", "items_encoded", words.count),
        ("Encodings", "in training", "encodings", words.count),
        ("Encodings", "an epoch", "encodings_per_epoch", words.count),
        ("Trainable", "in the encoder", "trainable_encoder_parameters", words.count),
    )
    cost = [run.cost for run in runs]
    return [
        _column(head, under, cost, key, show) for head, under, key, show in shown if any(key in row for row in cost)
    ]


def alignment(runs: Sequence[RunView]) -> list[Column]:
    """How images and words agree in the features; beside it how they did before the encoder was trained."""
    shown: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("Retrieval", "retrieval_recall@5", words.metric_value),
        ("Alignment", "alignment", words.number),
        ("Uniformity, images", "uniformity_image", words.number),
        ("Uniformity, words", "uniformity_text", words.number),
        ("Modality gap", "modality_gap", words.number),
    )
    now, before = [run.alignment for run in runs], [run.alignment_before for run in runs]
    columns = []
    for head, key, show in shown:
        if any(key in row for row in now):
            columns.append(_column(head, "recall@5" if key.startswith("retrieval") else "", now, key, show))
        if any(key in row for row in before):
            columns.append(_column("", "before training", before, key, show))
    return columns


def metrics(runs: Sequence[RunView]) -> list[Column]:
    """Every test metric that any run has."""
    names = dict.fromkeys(name for run in runs for name in run.test)
    tests = [run.test for run in runs]
    return [_column(words.metric_name(name), "", tests, name, words.metric_value, ranked=True) for name in names]


def _column(
    head: str,
    under: str,
    rows: Sequence[Figures],
    key: str,
    show: Callable[[float], str],
    *,
    ranked: bool = False,
    bar: bool = False,
) -> Column:
    values = [float(row.get(key, math.nan)) for row in rows]
    texts = [show(value) if math.isfinite(value) else "–" for value in values]
    finite = {text: value for text, value in zip(texts, values, strict=True) if math.isfinite(value)}
    # Values that read alike share a rank: a difference that nobody can see is no difference.
    places = {text: place for place, text in enumerate(sorted(finite, key=finite.__getitem__, reverse=True), start=1)}
    ranks = [places.get(text, 0) if ranked and len(finite) > 1 else 0 for text in texts]
    top = max(finite.values(), default=0.0)
    shares = [value / top if bar and top > 0 and math.isfinite(value) else 0.0 for value in values]
    cells = [
        Cell(text, value, rank if rank <= 2 else 0, share)
        for text, value, rank, share in zip(texts, values, ranks, shares, strict=True)
    ]
    return Column(head, under, cells)
