"""User ids from a file: one id a line, or a column of a table."""

from __future__ import annotations

import sys
from collections.abc import Container
from pathlib import Path

import polars as pl

from lmm4rec.core.errors import ConfigError, DataError, did_you_mean
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.delimited_text import encoding_of, read_text
from lmm4rec.data.sources._columns import as_ids
from lmm4rec.data.sources._ids import with_met_ids
from lmm4rec.data.table_files import KINDS, kind_of, read_table

_TABLES = {*KINDS} - {".txt"}  # a .txt file may be a table, but has an id a line more often
_COLUMNS = ("user_id", "user", "userid", "id")  # names of a column of user ids, in upper or lower case


def read_users(path: Path, column: str | None, users: Vocabulary) -> list[str]:
    """The ids in a file, in its order; "-" is standard input.

    A kind of table (.csv, .tsv, .parquet, .jsonl, .xlsx) has them in a column: the one that is named, else the only
    one, else `user_id` or `user`; any other file has one id a line, unless a column is named.

    Raises:
        DataError: the file is missing, unreadable or without ids.
        ConfigError: the column is not there, or has to be named.
    """
    if path == Path("-"):
        ids = _lines(sys.stdin.read())
    elif path.exists() and column is None and kind_of(path) not in _TABLES:
        if not path.is_file():
            raise DataError(f"{path} is a folder; expected a file of user ids")
        ids = _lines(read_text(path, encoding_of(path, None)))
    else:
        ids = _column(path, column, users)
    if not ids:
        raise DataError(f"{'standard input' if path == Path('-') else path} holds no user id")
    return with_met_ids(pl.Series(ids, dtype=pl.String), pl.Series(list(users), dtype=pl.String)).to_list()


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _column(path: Path, column: str | None, users: Container[str]) -> list[str]:
    """The ids in a column of a table."""
    frame = read_table(path, "users").frame
    names = frame.columns
    if column is not None and column not in names:
        raise ConfigError(f"{path} has no column '{column}'.{did_you_mean(column, names)} It has: {', '.join(names)}")
    if column is None:
        usual = [name for name in names if name.lower().replace(" ", "_") in _COLUMNS]
        if len(names) > 1 and not usual:
            raise ConfigError(
                f"{path} has the columns {', '.join(names)}: name the one of the user ids with --users-column"
            )
        column = min(usual, key=lambda name: _COLUMNS.index(name.lower().replace(" ", "_"))) if usual else names[0]
    ids = as_ids(frame[column]).drop_nulls().to_list()
    return [column, *ids] if len(names) == 1 and column in users else ids  # a file without a header
