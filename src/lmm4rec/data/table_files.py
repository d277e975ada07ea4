"""Readers of table files: delimited text and JSON, compressed too, Parquet and Excel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl

from lmm4rec.core.errors import DataError
from lmm4rec.data.delimited_tables import read_delimited
from lmm4rec.data.delimited_text import DAMAGED
from lmm4rec.data.excel_tables import read_excel
from lmm4rec.data.findings import Finding
from lmm4rec.data.json_tables import read_json
from lmm4rec.data.object_columns import from_pandas
from lmm4rec.data.table import PandasFrame, Table, TableLike, first_line, numbered


def read_table(
    source: TableLike,
    label: str,
    *,
    separator: str | None = None,
    encoding: str | None = None,
    wanted: Callable[[str], bool] = lambda part: True,
) -> Table:
    """The table in a file or a frame; `label` is the name of a frame in messages, and of a sheet of an Excel file.

    `separator` and `encoding` are those of delimited files; left out: by the file's ending, and by its first bytes.
    `wanted` selects the parts of a folder in Parquet by their names in it.
    The text cells of CSV, TSV, JSON and Excel stay text, so that ids keep their leading zeros.

    Raises:
        DataError: the file is missing, empty, of an unknown kind or unreadable as a whole.
        MissingExtraError: it is an Excel file, and the extra `excel` is not installed.
    """
    if isinstance(source, pl.DataFrame):
        return numbered(source, label)
    if isinstance(source, PandasFrame):
        return numbered(from_pandas(source, label), label)
    path = Path(source)
    try:
        if path.is_dir() and (kind_of(path) == ".parquet" or any(path.rglob("*.parquet"))):  # Spark writes such folders
            return _read_parquet(path, wanted)
        if not path.is_file():
            raise DataError(f"{path} is {_what_else(path)}; expected the file of the {label}")
        return _with_bare_names(_read_file(path, label, separator, encoding))
    except DAMAGED as error:
        raise DataError(f"{path} is damaged: {first_line(error) or type(error).__name__}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or first_line(error)}") from None


def _what_else(path: Path) -> str:
    """What a path is that is no regular file."""
    if path.is_dir():
        return "a folder"
    if path.exists():
        return "no regular file"
    return "a link to nothing" if path.is_symlink() else "missing"


def _with_bare_names(table: Table) -> Table:
    """The table without spaces and marks around the names of its columns, where these stay distinct."""
    bare = [name.strip(" \t\r\n\u00a0\ufeff") for name in table.frame.columns]
    if not any(bare):
        raise DataError(f"{table.label} is empty: its header has no names")
    if bare == table.frame.columns or len(set(bare)) < len(bare):
        return table
    return replace(table, frame=table.frame.rename(dict(zip(table.frame.columns, bare, strict=True))))


def _read_file(path: Path, label: str, separator: str | None, encoding: str | None) -> Table:
    suffix = kind_of(path)
    if suffix in DELIMITED:
        return DELIMITED[suffix](path, separator, encoding)
    if suffix in EXCEL:
        return read_excel(path, label)
    if suffix in JSON:
        return read_json(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    ending = "".join(path.suffixes[-2:]).lower()
    raise DataError(
        f"{path} is of an unknown kind ({ending or 'its name has no ending'}); expected one of {', '.join(KINDS)}, of "
        f"which text and JSON may be compressed ({', '.join(COMPRESSED)})"
    )


def kind_of(path: Path) -> str:
    """The file's ending in lower case, of text and JSON without that of its compression: ".csv" of "a.CSV.gz"."""
    ending = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    return inner if ending in COMPRESSED and (inner in DELIMITED or inner in JSON) else ending


def table_files(folder: Path, stem: str) -> list[Path]:
    """The files of a folder that are tables of that name; one in `.json` only where there is no other.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None
    found = [file for file in files if file.name.lower().partition(".")[0] == stem and _is_table(file, stem)]
    return [file for file in found if kind_of(file) != ".json"] or found


def _is_table(file: Path, stem: str) -> bool:
    kind, ending = kind_of(file), file.suffix.lower()
    return kind in KINDS and file.name.lower() == stem + (kind if kind == ending else kind + ending)


def _read_parquet(path: Path, wanted: Callable[[str], bool] = lambda part: True) -> Table:
    try:
        if path.is_dir():
            parts = sorted(part for part in path.rglob("*.parquet") if part.is_file())
            parts = [part for part in parts if wanted(part.relative_to(path).as_posix())]
            if not parts:
                raise DataError(f"{path} is a folder without parts in Parquet")
            return _read_parts(parts, path.name)
        return numbered(pl.read_parquet(path, glob=False), path.name)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} is not readable Parquet: {first_line(error)}") from None


def _read_parts(parts: list[Path], label: str) -> Table:
    """The rows of all parts; where their columns or types differ, cells that a part lacks are empty."""
    try:
        return numbered(pl.read_parquet(parts, glob=False), label)
    except pl.exceptions.SchemaError:
        frames = [pl.read_parquet(part, glob=False) for part in parts]
    table = numbered(pl.concat(frames, how="diagonal_relaxed"), label)
    schemas = list(dict.fromkeys(tuple(frame.schema.items()) for frame in frames))
    changed = dict.fromkeys(column for schema in schemas for column in set(schema) ^ set(schemas[0]))
    names = ", ".join(sorted({f"'{name}'" for name, _ in changed}))
    message = f"the parts of {label} differ in columns or types ({names}); cells that a part lacks are empty"
    return replace(table, findings=(*table.findings, Finding("differing-parts", "note", len(schemas), message)))


_CSV = partial(read_delimited, usual=",", quotes=True)
_TSV = partial(read_delimited, usual="\t", quotes=None)
_ATOMIC = partial(read_delimited, usual="\t", quotes=False)  # RecBole writes quotes as letters
DELIMITED: Mapping[str, Callable[..., Table]] = {
    ".csv": _CSV, ".tsv": _TSV, ".txt": _TSV, ".inter": _ATOMIC, ".item": _ATOMIC, ".user": _ATOMIC,
}  # fmt: skip
"""Readers of delimited files, which take `separator` and `encoding`."""
JSON = (".jsonl", ".ndjson", ".json")
EXCEL = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
KINDS = (*DELIMITED, *JSON, ".parquet", *EXCEL)
"""Endings of table files."""
