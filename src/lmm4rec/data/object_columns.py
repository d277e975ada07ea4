"""Columns of Python objects: of pandas frames and of JSON, whose cells may be of several kinds or nested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool

from lmm4rec.core.errors import DataError


def from_records(objects: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The frame of JSON objects, a column for each name in any of them."""
    names = dict.fromkeys(name for object_ in objects for name in object_)
    return pl.DataFrame({name: from_objects([object_.get(name) for object_ in objects]) for name in names})


def from_pandas(frame: Any, label: str) -> pl.DataFrame:
    """The frame of a pandas DataFrame; DataError where two of its columns have one name."""
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise DataError(f"{label} has two columns of one name: {', '.join(names)}")
    missing = frame.isna().to_numpy()
    columns = [_from_pandas_column(frame.iloc[:, at], missing[:, at]) for at in range(len(names))]
    return pl.DataFrame(dict(zip(names, columns, strict=True)))


def _from_pandas_column(column: Any, missing: Bool[np.ndarray, " rows"]) -> pl.Series:
    if isinstance(column.dtype, np.dtype) and column.dtype != object:
        return pl.Series(column.to_numpy())
    values = column.astype(object).to_numpy()  # pandas' own types would lose digits of large ids on the way to floats
    return from_objects([None if lacks else value for value, lacks in zip(values, missing, strict=True)])


def from_objects(values: Sequence[Any]) -> pl.Series:
    """A column of Python objects; a column of their texts (1.0 is "1") where types are mixed or floats lose digits."""
    try:
        column = pl.Series(values, strict=True)
        if may_lack_digits(column) and any(isinstance(value, int | np.integer) for value in values):
            return _texts(values)
        return column
    except UnicodeEncodeError:  # halves of characters, which JSON can spell
        return from_objects([_with_whole_characters(value) for value in values])
    except (TypeError, pl.exceptions.PolarsError):
        return _texts(values)


def may_lack_digits(column: pl.Series) -> bool:
    """Whether a column of floats holds numbers from 2^53 on, where floats are no longer every whole number."""
    return column.dtype == pl.Float64 and bool((column.abs() >= 2**53).any())


def _texts(values: Sequence[Any]) -> pl.Series:
    return pl.Series([None if value is None else _text(value) for value in values], dtype=pl.String)


def _with_whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {_with_whole_characters(name): _with_whole_characters(part) for name, part in value.items()}
    return [_with_whole_characters(part) for part in value] if isinstance(value, list | tuple) else value


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else flat_text(value)


def flat_text(value: Any) -> str:
    """A nested value as text: lists of lists "A, B, C", objects "name: A, size: B"."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {flat_text(part)}" for name, part in value.items() if part not in (None, "", [], {}))
    if isinstance(value, list | tuple | pl.Series):
        return ", ".join(filter(None, map(flat_text, value)))
    return "" if value is None else str(value)
