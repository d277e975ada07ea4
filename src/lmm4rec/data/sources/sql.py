"""Queries of a database: interactions and items as the tables that two SELECT statements give."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, DataError, MissingExtraError, optional
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.negative_signals import NEGATIVE_KINDS, POSITIVE_KINDS
from lmm4rec.data.object_columns import from_objects, may_lack_digits
from lmm4rec.data.sources import table

__all__ = ["load"]

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SINCE = re.compile(r"(?<!:):since\b")
_IDS = ("user_id", "user", "item_id", "item")


def load(
    *,
    uri: Annotated[
        str, Doc('Address of the database, such as "sqlite:///shop.db"; ${NAME} is read from the environment.')
    ],
    interactions: Annotated[str, Doc("Query of the log: columns user_id, item_id; timestamp, rating, kind if any.")],
    items: Annotated[str | None, Doc("Query of the items: item_id, texts and image; left out: the log's ids.")] = None,
    since: Annotated[str | None, Doc("Value of :since in the queries, such as a date; left out: none.")] = None,
    positive_kinds: Annotated[Sequence[str], Doc("Kinds that are positive interactions.")] = POSITIVE_KINDS,
    negative_kinds: Annotated[Sequence[str], Doc("Kinds that are negative signals.")] = NEGATIVE_KINDS,
    image_folder: Annotated[str | Path | None, Doc("Folder of the images whose paths are relative.")] = None,
    fetch_images: Annotated[bool, Doc("Fetch images whose column holds URLs (needs the extra `download`).")] = False,
    rating_at_least: Annotated[float | None, Doc("Lowest rating of a positive interaction.")] = None,
    title: Annotated[str | None, Doc("Name of the data set; left out: that of the database.")] = None,
) -> Dataset:
    """The data set in a database that SQLAlchemy reaches: SQLite as it is, others by their driver.

    `postgresql+psycopg://`, `mysql+pymysql://` and `duckdb://` need the package of that driver. The columns have the
    default names of the source `table`; queries name them by AS.

    Raises:
        ConfigError: an address, a variable or a parameter is missing or wrong.
        DataError: the database cannot be reached, goes away, or refuses a query; what `table` finds wrong.
        MissingExtraError: SQLAlchemy is not installed.
    """
    with _connection(uri) as (connection, name):
        log = _rows(connection, name, "interactions", interactions, since)
        catalog = None if items is None else _rows(connection, name, "items", items, since)
    return table.load(
        interactions=log,
        items=catalog,
        positive_kinds=positive_kinds,
        negative_kinds=negative_kinds,
        image_folder=image_folder,
        fetch_images=fetch_images,
        rating_at_least=rating_at_least,
        title=title or name,
    )


@contextmanager
def _connection(uri: str) -> Iterator[tuple[Any, str]]:
    """A connection that is closed at the end, and the name of the database."""
    sqlalchemy = optional("sqlalchemy", extra="sql", purpose='data.name = "sql"')
    try:
        address = sqlalchemy.engine.make_url(_VARIABLE.sub(_environment, uri))
        engine = sqlalchemy.create_engine(address)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"data.uri = '{_hidden(uri)}' needs the driver '{error.name}': pip install it"
        ) from None
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise ConfigError(
            f"data.uri = '{_hidden(uri)}' is no address of a database ({_short(error)}); expected such as "
            "'sqlite:///shop.db' or 'postgresql+psycopg://user:${PASSWORD}@host/shop'"
        ) from None
    if address.drivername.startswith("sqlite") and address.database and not Path(address.database).is_file():
        raise DataError(f"there is no database {address.database}")  # connecting would create an empty one
    try:
        with engine.connect() as connection:
            yield connection, Path(address.database or address.drivername).stem
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise DataError(f"the database {address!r} cannot be read ({_short(error)})") from None
    finally:
        engine.dispose()


def _hidden(uri: str) -> str:
    """The address without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", uri)


def _environment(found: re.Match[str]) -> str:
    name = found[1]
    if name not in os.environ:
        raise ConfigError(f"data.uri names the environment variable {name}, which is not set")
    return os.environ[name]


def _rows(connection: Any, database: str, what: str, query: str, since: str | None) -> pl.DataFrame:
    """The rows of a query.

    Raises:
        ConfigError: `since` and the query do not go together.
        DataError: the database refuses the query, two columns have one name, it gives no row, or an id lacks digits.
    """
    import sqlalchemy

    wanted = bool(_SINCE.search(query))
    if wanted and since is None:
        raise ConfigError(f"the query of the {what} has :since, and data.since has no value")
    try:
        result = connection.execute(sqlalchemy.text(query), {"since": since} if wanted else {})
        columns = list(result.keys())
        if twice := sorted({name for name in columns if columns.count(name) > 1}):
            raise DataError(
                f"the query of the {what} gives more than one column '{twice[0]}' in '{database}': leave the others "
                "out, or give them other names by AS"
            )
        rows = result.fetchall()
    except sqlalchemy.exc.SQLAlchemyError as error:
        if getattr(error, "connection_invalidated", False):
            raise DataError(
                f"the database '{database}' went away while the {what} were read ({_short(error)}); nothing has been "
                "written: the same command works when it is back"
            ) from None
        raise DataError(f"the query of the {what} fails in '{database}': {_short(error)}") from None
    if not rows:
        newer = f" since {since}" if wanted else ""
        raise DataError(f"the query of the {what} gives no row in '{database}'{newer}")
    return _frame(rows, columns, f"the query of the {what} in '{database}'")


def _frame(rows: Sequence[Sequence[Any]], columns: Sequence[str], query: str) -> pl.DataFrame:
    """The rows as a frame; whole numbers keep all their digits also where SQLite has fractions among them.

    Raises:
        DataError: an id is a floating-point number so large that it may be another id rounded, or a column has binary
            values among others.
    """
    try:
        frame = pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)
    except pl.exceptions.SchemaError as error:
        for at, name in enumerate(columns):
            binary = [isinstance(values[at], bytes) for values in rows]
            if any(binary) and not all(isinstance(values[at], bytes | None) for values in rows):
                raise DataError(
                    f"{query} gives {name} as a binary value in row {binary.index(True) + 1} and as other values "
                    f"elsewhere: select it as CAST(... AS TEXT) AS {name}, or leave the column out"
                ) from None
        raise DataError(f"{query} gives a column of values that do not go together: {error}") from None
    for at, name in enumerate(columns):
        if not may_lack_digits(frame[name]):
            continue
        values = [row[at] for row in rows]
        lacks = (i for i, value in enumerate(values) if isinstance(value, float) and abs(value) >= 2**53)
        if name in _IDS and (row := next(lacks, None)) is not None:
            raise DataError(
                f"{query} gives {name} as a floating-point number in row {row + 1} ({values[row]!r}), which does not "
                "hold all digits of ids from 2^53 on, so that several may be one now: write the ids anew to a column "
                "of whole numbers (INTEGER) or text"
            )
        frame = frame.with_columns(from_objects(values).alias(name))
    return frame


def _short(error: Exception) -> str:
    """The database's own words, without the statement and a link to the library's pages."""
    return " ".join(str(getattr(error, "orig", None) or error).split())
