"""The atomic files of RecBole (arXiv 2011.01731): `NAME.inter`, `NAME.item` and `NAME.user` with typed headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from typing_extensions import Doc

from lmm4rec.core.errors import DataError
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.sources._catalog import catalog_of_ids, read_catalog
from lmm4rec.data.sources._ids import distinct_ids, meet
from lmm4rec.data.sources._log import clean_log, join
from lmm4rec.data.table import Table
from lmm4rec.data.table_files import read_table

__all__ = ["load"]

_TYPES = ("token", "token_seq", "float", "float_seq")
_PARTS = {"train": 0, "valid": 1, "val": 1, "test": 2}


def load(
    *,
    path: Annotated[str | Path, Doc("The folder, or the .inter file where a folder holds several.")],
    user_field: Annotated[str, Doc("Column of user ids, without its type.")] = "user_id",
    item_field: Annotated[str, Doc("Column of item ids in both files.")] = "item_id",
    rating_field: Annotated[str, Doc("Column of ratings in the log, where there is one.")] = "rating",
    time_field: Annotated[str, Doc("Column of timestamps in the log, where there is one.")] = "timestamp",
    text_fields: Annotated[list[str] | None, Doc("The items' text columns; left out: all that hold text.")] = None,
    image_field: Annotated[str, Doc("The items' column of image paths, where there is one.")] = "image",
    image_folder: Annotated[str | None, Doc("Folder of the images; left out: the folder of the files.")] = None,
) -> Dataset:
    """The data set in a folder of RecBole's atomic files, tab-separated, a header such as `user_id:token`.

    `NAME.inter` is the log; `NAME.train.inter`, `NAME.valid.inter` and `NAME.test.inter` in its place are the file's
    own split (`[split] method = "labels"`). `NAME.item` holds the text of items; the columns of `NAME.user` are
    not used, and a finding says so.

    Raises:
        DataError: a file or column is missing or unreadable, or a header has no type.
    """
    logs = _find_logs(Path(path))
    folder, name = logs[0].parent, logs[0].name.split(".inter")[0]
    if _part(logs[0]) is not None:
        name = name.rpartition(".")[0]
    log = _concatenate([_read_log(file, user_field, item_field, rating_field, time_field) for file in logs])
    listed = folder / f"{name}.item"
    if listed.is_file():
        table, types = _read(listed)
        textual = [column for column, type_ in types.items() if type_.startswith("token")]
        wanted = {item_field, image_field, *textual, *(text_fields or [])}
        catalog, findings = read_catalog(
            replace(table, frame=table.frame.select(column for column in table.frame.columns if column in wanted)),
            item_column=item_field,
            image_column=image_field if image_field in types else None,
            image_folder=folder if image_folder is None else folder / image_folder,
            text_columns=text_fields,
            list_separator="",
        )
    else:
        catalog, findings = catalog_of_ids(log.frame["item"])
    return join(name, log, catalog, (*findings, *_unused_user_columns(folder / f"{name}.user", user_field)))


def _find_logs(path: Path) -> list[Path]:
    """The log, or the three parts of it in the order of their labels."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"data.path = '{path}' does not exist; it must be a folder with a .inter file, or that file")
    found = sorted(path.glob("*.inter"))
    parts = {_part(file): file for file in found if _part(file) is not None}
    whole = [file for file in found if _part(file) is None]
    if len(whole) == 1 and not parts:
        return whole
    stems = {file.name.removesuffix(".inter").rpartition(".")[0] for file in parts.values()}
    if not whole and len(stems) == 1 and len(found) == len(parts) and {0, 2} <= set(parts):
        return [parts[label] for label in sorted(label for label in parts if label is not None)]
    inside = ", ".join(file.name for file in found) or "none"
    raise DataError(
        f"{path} must have one .inter file, or NAME.train.inter, NAME.valid.inter and NAME.test.inter; "
        f"it has {inside}. Give the path of one"
    )


def _part(file: Path) -> int | None:
    return _PARTS.get(file.name.removesuffix(".inter").rpartition(".")[2]) if file.name.count(".") > 1 else None


def _read(file: Path) -> tuple[Table, dict[str, str]]:
    """A file's table with plain names of columns, and the type of each."""
    table = read_table(file, file.name)
    types: dict[str, str] = {}
    for column in table.frame.columns:
        name, _, type_ = column.rpartition(":")
        if type_ not in _TYPES or not name:
            raise DataError(
                f"{file}: the header '{column}' must be NAME:TYPE with one of the types {', '.join(_TYPES)}"
            )
        types[name] = type_
    return replace(table, frame=table.frame.rename(lambda column: column.rpartition(":")[0])), types


def _read_log(file: Path, user: str, item: str, rating: str, time: str) -> Table:
    table, types = _read(file)
    log = clean_log(table, user, item, rating if rating in types else None, time if time in types else None)
    label = _part(file)
    return log if label is None else log.with_column("label", pl.Series(np.full(len(log), label, dtype=np.int8)))


def _concatenate(parts: Sequence[Table]) -> Table:
    """The parts of a log as one table of the columns that all have; positions are those in the file of each part."""
    if len(parts) == 1:
        return replace(parts[0], frame=parts[0].frame.drop("label", strict=False))
    found = dict.fromkeys(column for part in parts for column in part.frame.columns)
    common = [column for column in found if all(column in part.frame.columns for part in parts)]
    log = Table(
        label=", ".join(part.label for part in parts),
        frame=pl.concat([part.frame.select(common) for part in parts]),
        rows=np.concatenate([part.rows for part in parts]),
        records=np.concatenate([part.records for part in parts]),
        size=sum(part.size for part in parts),
        findings=tuple(finding for part in parts for finding in part.findings),
    )
    lacks = tuple(f"{part.label} has no readable {column}" for part in parts for column in found
                  if column not in part.frame.columns)  # fmt: skip
    if lacks:
        unused = [column for column in found if column not in common]
        message = f"{counted(len(unused), 'column')} of the log not used ({', '.join(unused)}): not every part has it"
        log = replace(log, findings=(*log.findings, Finding("differing-parts", "warning", len(unused), message, lacks)))
    return meet(log, "user", distinct_ids(log.frame["user"].unique()))


def _unused_user_columns(file: Path, user_field: str) -> tuple[Finding, ...]:
    if not file.is_file():
        return ()
    _, types = _read(file)
    unused = [column for column in types if column != user_field]
    message = f"{counted(len(unused), 'column')} of {file.name} not used: users are known by their interactions alone"
    return (Finding("unused-column", "note", len(unused), message, tuple(unused[:10])),) if unused else ()
