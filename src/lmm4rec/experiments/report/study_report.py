"""The whole report, written: page, tables, figures, data, card."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from lmm4rec.core.errors import DataError
from lmm4rec.core.files import atomic, write_text
from lmm4rec.experiments.build.workbench import Workbench
from lmm4rec.experiments.report import number_formats as words
from lmm4rec.experiments.report.collect import Collection, Design, Panel, collect
from lmm4rec.experiments.report.design_comparisons import Finding, against_reference, along_axes, by_validation
from lmm4rec.experiments.report.figures import figures
from lmm4rec.experiments.report.study_card import as_markdown, card
from lmm4rec.experiments.report.study_page import Page, render, shown
from lmm4rec.experiments.report.study_tables import (
    Grid,
    alignment_table,
    cells_frame,
    findings_frame,
    findings_table,
    histories_frame,
    latex,
    main_table,
    markdown,
    scatter_table,
    users_frame,
)
from lmm4rec.experiments.report.user_examples import people
from lmm4rec.experiments.report.view import Person

_MOST_CSV_ROWS = 1_000_000


def write_study_report(folders: Sequence[Path], out: Path, *, reference: str = "") -> Path:
    """Write the report on a study or on runs into a folder; returns the page.

    Raises:
        CheckpointError: there is no finished run.
        ConfigError: the reference is no design.
        MissingExtraError: matplotlib is not installed.
    """
    collection = collect(folders)
    if reference:
        collection = replace(collection, reference=reference)
    against = [against_reference(panel, collection) for panel in collection.panels]
    along = [along_axes(panel, collection) for panel in collection.panels]
    results = [main_table(*pair, collection) for pair in zip(collection.panels, against, strict=True)]
    tests = _tests(collection, [*against, *along])
    drawn, said = figures(collection), card(collection)
    _write_tables(out / "tables", results, tests)
    _write_data(out / "data", collection, [finding for findings in (*against, *along) for finding in findings])
    for figure in drawn:
        figure.save(out / "figures")
    write_text(out / "card.md", as_markdown(collection.title, said))
    persons, sides = _gallery(collection)
    page = Page(
        title=collection.title,
        subtitle=f"{len(collection.cells)} runs of {len(collection.designs)} designs",
        headlines=[_headline(*pair, collection) for pair in zip(collection.panels, against, strict=True)],
        results=results,
        figures=[shown(figure) for figure in drawn],
        tests=tests,
        failures=collection.failures,
        card=said,
        files=sorted(str(path.relative_to(out)) for path in out.rglob("*.*") if path.suffix != ".html"),
        people=persons,
        sides=sides,
    )
    write_text(out / "report.html", render(page))
    return out / "report.html"


def _tests(collection: Collection, findings: Sequence[Sequence[Finding]]) -> list[Grid]:
    """A table for each family of comparisons, then seeds and users, then alignment."""
    families: dict[str, list[Finding]] = {}
    for finding in (finding for part in findings for finding in part):
        families.setdefault(finding.family, []).append(finding)
    compared = [findings_table(name, family, collection.metric) for name, family in families.items()]
    others = [scatter_table(panel, collection.metric) for panel in collection.panels]
    others += [alignment_table(panel) for panel in collection.panels]
    return [*compared, *(grid for grid in others if grid.rows)]


def _headline(panel: Panel, findings: Sequence[Finding], collection: Collection) -> str:
    """The result in a sentence: the best by validation, and whether the runner-up differs from it."""
    best, *others = by_validation(panel, collection.metric)
    reached = f"{words.metric_name(collection.metric)} {best.mean(f'test.{collection.metric}'):.4f}"
    said = f"{panel.title}: {best.label}, the best by validation, reaches {reached} on the test part"
    if not others:
        return f"{said}."
    rival = others[0]
    value = f"{rival.label} ({rival.mean(f'test.{collection.metric}'):.4f})"
    found = next((f for f in findings if {f.first.label, f.second.label} == {best.label, rival.label}), None)
    if found is None:
        return f"{said}; the second best there is {value}."
    differs = found.t_holm < collection.level
    word = "which differs from it significantly" if differs else "which does not differ from it significantly"
    return f"{said}; the second best by validation is {value}, {word} (p = {found.t_holm:.2g}, corrected)."


def _write_tables(out: Path, results: Sequence[Grid], tests: Sequence[Grid]) -> None:
    for kind, grids in (("results", results), ("tests", tests)):
        write_text(out / f"{kind}.md", "\n".join(markdown(grid) for grid in grids))
        write_text(out / f"{kind}.tex", "\n".join(latex(grid, f"{kind}-{i}") for i, grid in enumerate(grids, start=1)))


def _write_data(out: Path, collection: Collection, findings: Sequence[Finding]) -> None:
    frames = {
        "cells": cells_frame(collection),
        "comparisons": findings_frame(findings),
        "epochs": histories_frame(collection),
    }
    for name, frame in frames.items():
        _write_frame(frame, out / f"{name}.csv")
        _write_frame(frame, out / f"{name}.parquet")
    _write_users(out, collection)


def _write_users(out: Path, collection: Collection) -> None:
    """All users' values as Parquet, and as CSV where that is no giant."""
    frame = users_frame(collection)
    rows = int(frame.select(pl.len()).collect().item())
    with atomic(out / "users.parquet") as beside:
        frame.sink_parquet(beside)
    if rows <= _MOST_CSV_ROWS:
        with atomic(out / "users.csv") as beside:
            frame.sink_csv(beside)


def _write_frame(frame: pl.DataFrame, path: Path) -> None:
    with atomic(path) as beside:
        if path.suffix == ".csv":
            frame.write_csv(beside)
        else:
            frame.write_parquet(beside)


def _gallery(collection: Collection) -> tuple[list[Person], list[str]]:
    """A few people under two designs of the first panel: the best by validation, and the best of another kind."""
    panel = collection.panels[0]
    if len(panel.designs) < 2:
        return [], []
    best, *others = by_validation(panel, collection.metric)
    pair = best, next((design for design in others if _uses_content(design) != _uses_content(best)), others[0])
    labels = [design.label for design in pair]
    cells = [design.cells[0].result for design in pair]
    try:
        split = Workbench().split(cells[0].plan)
    except DataError as error:  # the report is made where the data is not: a page without images, and a word about it
        logging.getLogger(__name__).warning("no gallery of people: %s", error)
        return [], []
    return people(cells, labels, split), labels


def _uses_content(design: Design) -> bool:
    return design.cells[0].result.plan.encoder != "none"
