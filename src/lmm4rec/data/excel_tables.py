"""Tables in sheets of Excel and OpenDocument files (needs fastexcel, the extra `excel`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from lmm4rec.core.errors import DataError, optional
from lmm4rec.data.findings import Finding
from lmm4rec.data.table import Table, first_line, numbered, with_first_columns, without_blank


def read_excel(path: Path, label: str) -> Table:
    """The table in the sheet that is named by the label ("items", "interactions"), else in the first one.

    All cells are read as text, as in CSV: numbers without ".0" where they are whole, dates in ISO form. The first row
    that is not empty is the header.

    Raises:
        DataError: the file is damaged, or its sheet is empty.
        MissingExtraError: fastexcel is not installed.
    """
    fastexcel = optional("fastexcel", extra="excel", purpose="reading Excel files")
    try:
        book = fastexcel.read_excel(path)
        names = list(book.sheet_names)
        sheet = next((name for name in names if name.strip().lower() == label), names[0])
        frame = book.load_sheet(sheet, header_row=None, dtypes="string", schema_sample_rows=None).to_polars()
    except fastexcel.FastExcelError as error:
        raise DataError(f"{path} is not a readable Excel file: {first_line(error)}") from None
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series().to_numpy() if frame.width else np.array([])
    if blank.all():
        raise DataError(f"{path} is empty: its sheet '{sheet}' has no rows")
    first = int(np.argmin(blank))
    columns = [column for column in frame.columns if frame[column][first] is not None or frame[column].count() > 0]
    header = [frame[column][first] or f"column {at}" for at, column in enumerate(columns, 1)]
    unique = [name if name not in header[:at] else f"{name} {at + 1}" for at, name in enumerate(header)]
    rows = frame[first + 1 :].select(columns).rename(dict(zip(columns, unique, strict=True)))
    table = without_blank(numbered(rows, path.name, first=first + 2), blank[first + 1 :])
    table = with_first_columns(table.filled(), header)
    others = [name for name in names if name != sheet]
    if not others:
        return table
    message = f"{path.name} has {len(names)} sheets; '{sheet}' is read as the table of the {label}"
    return replace(
        table, findings=(*table.findings, Finding("other-sheets", "note", len(others), message, (*others[:10],)))
    )
