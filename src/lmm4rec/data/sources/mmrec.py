"""The layout of the MMRec toolbox (arXiv 2302.03497): a `.inter` log of integer ids and one feature file a modality."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from typing_extensions import Doc

from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Modality
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.feature_files import open_matrix
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.sources._catalog import shipped_features
from lmm4rec.data.sources._columns import as_ids, as_numbers, as_rows, parse_column
from lmm4rec.data.sources._times import parse_times
from lmm4rec.data.table import Table
from lmm4rec.data.table_files import DELIMITED, read_table

__all__ = ["load"]


def load(
    *, path: Annotated[str | Path, Doc("The folder, or the .inter file where a folder holds several.")]
) -> Dataset:
    """The data set in a folder with `NAME.inter` (tab-separated `userID itemID [rating timestamp] x_label`).

    Row i of each `<modality>_feat.npy` is item i; `item_ids.csv` (itemID, item_id) and `user_ids.csv` (userID,
    user_id), where they are, hold the external ids, else MMRec's own `i_id_mapping.csv` (tab-separated asin, itemID)
    and `u_id_mapping.csv` (user_id, userID). The file's own split (x_label: 0 train, 1 validation, 2 test) is read too.

    Raises:
        DataError: a file or column is missing or unreadable, or the files disagree on how many items there are.
    """
    log_file = _find_log(Path(path))
    folder = log_file.parent
    shipped = shipped_features(folder)
    table = _clean(read_table(log_file, "log"))
    columns = {name: table.frame[name].to_numpy() for name in table.frame.columns}
    item_ids = _external_ids(folder, ("item_ids.csv", "item_id"), ("i_id_mapping.csv", "asin"), "itemID")
    user_ids = _external_ids(folder, ("user_ids.csv", "user_id"), ("u_id_mapping.csv", "user_id"), "userID")
    n_items = _count_items(int(columns["itemID"].max()) + 1, len(item_ids), shipped)
    n_users = max(int(columns["userID"].max()) + 1, len(user_ids))
    catalog = Catalog(
        ids=_vocabulary(item_ids, n_items, "item"),
        fields=pl.DataFrame(),
        images=(None,) * n_items,
        source_rows=np.arange(n_items),
        source_size=n_items,
        shipped=shipped,
    )
    return Dataset(
        name=log_file.stem,
        users=_vocabulary(user_ids, n_users, "user"),
        catalog=catalog,
        interactions=Interactions(
            users=columns["userID"].astype(np.int32),
            items=columns["itemID"].astype(np.int32),
            ratings=columns["rating"].astype(np.float32) if "rating" in columns else None,
            timestamps=columns.get("timestamp"),
            labels=columns["x_label"].astype(np.int8) if "x_label" in columns else None,
        ),
        findings=table.findings,
    )


def _find_log(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"data.path = '{path}' does not exist; it must be a folder with a .inter file, or that file")
    logs = sorted(path.glob("*.inter"))
    if not logs:
        inside = ", ".join(sorted(file.name for file in path.iterdir())[:20]) or "nothing"
        raise DataError(f"{path} has no .inter file; it holds {inside}")
    if len(logs) > 1:
        raise DataError(f"{path} has several .inter files, {', '.join(log.name for log in logs)}; give the path of one")
    return logs[0]


def _clean(table: Table) -> Table:
    """The log with its known columns as numbers, its unreadable rows set aside."""
    for column, role in (("userID", "users"), ("itemID", "items")):
        table.require(column, role)
        table = parse_column(table, column, as_rows, f"their {column} is not a whole number from 0 on")
    if "x_label" in table.frame.columns:
        table = parse_column(table, "x_label", _as_labels, "their x_label is not 0 (train), 1 (validation) or 2 (test)")
    if "rating" in table.frame.columns:
        table = parse_column(table, "rating", as_numbers, "their rating is not readable")
    if "timestamp" in table.frame.columns:
        table = parse_times(table, "timestamp")
    return table.filled()


def _as_labels(column: pl.Series) -> pl.Series:
    labels = as_rows(column)
    return labels.set(labels > 2, None)


def _external_ids(folder: Path, ours: tuple[str, str], theirs: tuple[str, str], inner: str) -> list[str]:
    """The external id of each inner one, from 0 on; none where there is no such file (a name and its column)."""
    file, outer = folder / ours[0], ours[1]
    read = DELIMITED[".csv"]
    if not file.exists():
        file, outer = folder / theirs[0], theirs[1]
        read = DELIMITED[".tsv"]  # whatever its name says
    if not file.exists():
        return []
    table = read(file)
    rows, ids = (
        as_rows(table.frame[table.require(inner, "inner ids")]),
        as_ids(table.frame[table.require(outer, "ids")]),
    )
    wanted = pl.Series(range(len(rows)), dtype=pl.Int64)
    if ids.null_count() or not rows.sort().equals(wanted):
        raise DataError(f"{file} must give an id for each {inner} from 0 to {len(rows) - 1:,}, each once; it doesn't")
    return ids.gather(rows.arg_sort()).to_list()


def _count_items(named: int, listed: int, shipped: Mapping[Modality, Path]) -> int:
    """The number of items: one for each row of the feature files, else as many as the log and the ids name."""
    sizes = {path: len(open_matrix(path)) for path in shipped.values()}
    rows = set(sizes.values()) or {max(named, listed)}
    if len(rows) > 1 or min(rows) < max(named, listed):
        found = ", ".join(f"{path} {size:,}" for path, size in sizes.items())
        raise DataError(f"the feature files need one row for each of the {max(named, listed):,} items; rows: {found}")
    return rows.pop()


def _vocabulary(external: list[str], count: int, kind: str) -> Vocabulary:
    if external and len(external) != count:
        raise DataError(f"{kind}_ids.csv gives {len(external):,} ids; expected one for each of the {count:,} {kind}s")
    return Vocabulary(external or range(count), kind=kind)
