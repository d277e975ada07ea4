"""Tables of interactions and items in CSV, TSV, JSON, Parquet or Excel, or in pandas or polars frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.types import PositiveFloat
from lmm4rec.data.buckets import is_remote
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.download.folders import DownloadOptions
from lmm4rec.data.filters import date_range, keep_ratings
from lmm4rec.data.image_urls import UrlImages
from lmm4rec.data.negative_signals import NEGATIVE_KINDS, POSITIVE_KINDS
from lmm4rec.data.object_store import address_of, copy_of, local_copy
from lmm4rec.data.recent_parts import RecentParts
from lmm4rec.data.sources._catalog import catalog_of_ids, read_catalog, with_shipped
from lmm4rec.data.sources._log import Kinds, clean_log, join, usual_id_column
from lmm4rec.data.table import Table, TableLike
from lmm4rec.data.table_files import KINDS, read_table, table_files

__all__ = ["load"]


def load(
    *,
    path: Annotated[
        str | Path | None,
        Doc("Folder (or s3:// address) of interactions.* and items.*; other paths are relative to it."),
    ] = None,
    interactions: Annotated[TableLike | None, Doc("Log, a file or a frame; left out: the one in path.")] = None,
    items: Annotated[TableLike | None, Doc("Table of items, a file or a frame; left out: the one in path.")] = None,
    user_column: Annotated[str | None, Doc("Column of user ids in the log; left out: user_id, else user.")] = None,
    item_column: Annotated[str | None, Doc("Column of item ids in both tables; left out: item_id, else item.")] = None,
    rating_column: Annotated[str | None, Doc('Column of ratings; left out: "rating" where there is one.')] = None,
    timestamp_column: Annotated[str | None, Doc('Column of times; left out: "timestamp" if there is one.')] = None,
    weight_column: Annotated[
        str | None, Doc('Column of the strengths of interactions, above 0; left out: "weight" where there is one.')
    ] = None,
    kind_column: Annotated[str | None, Doc('Column of kinds; left out: "kind" where there is one, "": none.')] = None,
    positive_kinds: Annotated[Sequence[str], Doc("Kinds that are positive interactions.")] = POSITIVE_KINDS,
    negative_kinds: Annotated[Sequence[str], Doc("Kinds that are negative signals.")] = NEGATIVE_KINDS,
    image_column: Annotated[str | None, Doc('Column of image paths; left out: "image" where there is one.')] = None,
    image_folder: Annotated[str | Path | None, Doc("Folder of the images; left out: that of the items' table.")] = None,
    fetch_images: Annotated[bool, Doc("Fetch images whose column holds URLs (needs the extra `download`).")] = False,
    fetched_images: Annotated[str, Doc("Folder of fetched images, relative to that of the images.")] = "fetched-images",
    fetch_per_second: Annotated[PositiveFloat, Doc("Most requests for images in a second.")] = 10.0,
    allow_private: Annotated[
        list[str] | None, Doc('Private addresses to fetch images from, such as "10.0.0.0/8"; left out: none.')
    ] = None,
    text_columns: Annotated[list[str] | None, Doc("The items' text columns; left out: all that hold text.")] = None,
    list_separator: Annotated[str, Doc('Separator of lists in texts ("A|B" becomes "A, B"); empty: none.')] = "|",
    separator: Annotated[
        str | None, Doc('Separator of cells, such as ";"; left out: by the ending of the file.')
    ] = None,
    encoding: Annotated[
        str | None, Doc('Encoding, such as "cp1252"; left out: UTF-8, or as the first bytes say.')
    ] = None,
    rating_at_least: Annotated[float | None, Doc("Lowest rating of a positive interaction.")] = None,
    since: Annotated[
        str | int | None, Doc("Keep interactions from this ISO time (UTC) or unix second on; older parts stay unread.")
    ] = None,
    title: Annotated[str | None, Doc("Name of the data set; left out: that of the folder or file.")] = None,
) -> Dataset:
    """The data set in the user's own tables. Ids may be of any type; they become text.

    Without a table of items the catalog consists of the log's ids. Feature files `<modality>_feat.npy` in `path` (or
    `path/features`) belong to the data set; their rows are the rows of the table of items.

    Raises:
        ConfigError: neither `path` nor `interactions` is given.
        DataError: a file or column is missing or unreadable, nothing is left, or images cannot be written.
    """
    recent = RecentParts(since)
    folder = None if path is None else _folder(path, recent)
    log_table = _read_log(interactions, folder, separator, encoding, recent)
    log = clean_log(
        log_table, user_column or usual_id_column(log_table, "user"), item_column or usual_id_column(log_table, "item"),
        rating_column, timestamp_column, weight_column,
        Kinds(kind_column, positive_kinds, negative_kinds),
    )  # fmt: skip
    item_table = _named(items, folder, "items", RecentParts(None))
    if item_table is None:
        catalog, findings = catalog_of_ids(log.frame["item"])
    else:
        beside = Path(item_table).parent if isinstance(item_table, str | Path) else folder or Path()
        images = beside if image_folder is None else _path_in(folder, image_folder)
        fetching = DownloadOptions(per_second=fetch_per_second, allow_private=tuple(allow_private or ()))
        catalog_table = read_table(item_table, "items", separator=separator, encoding=encoding)
        catalog, findings = read_catalog(
            catalog_table,
            item_column=item_column or usual_id_column(catalog_table, "item"),
            image_column=image_column,
            image_folder=images,
            text_columns=text_columns,
            list_separator=list_separator,
            urls=UrlImages(images / fetched_images, fetch_images, fetching),
        )
        catalog = catalog if folder is None else with_shipped(catalog, folder / "features", folder)
    dataset = join(title or _title(folder, interactions), log, catalog, (*recent.finding(), *findings))
    dataset = dataset if since is None else date_range(dataset, since)
    return dataset if rating_at_least is None else keep_ratings(dataset, rating_at_least)


def _place(folder: Path | None, given: str | Path, recent: RecentParts) -> Path:
    """The path of a table, relative to `folder`; of a remote one its copy, with its recent parts."""
    place = _path_in(folder, given)
    remote = address_of(place)
    return place if remote is None else local_copy(remote, recent)


def _path_in(folder: Path | None, given: str | Path) -> Path:
    """A path relative to `folder`; of an object store the place of its copy, which may not be there yet."""
    return copy_of(str(given)) if is_remote(given) else (folder or Path()) / given


def _belongs(name: str) -> bool:
    """Whether a file of a remote folder is one of its tables or feature files."""
    first, _, rest = name.partition("/")
    is_table = first.lower().partition(".")[0] in ("interactions", "items") and (not rest or rest.endswith(".parquet"))
    return is_table or name.removeprefix("features/").endswith("_feat.npy")


def _folder(path: str | Path, recent: RecentParts) -> Path:
    if is_remote(path):
        return local_copy(
            str(path), lambda name: _belongs(name) and (not name.startswith("interactions") or recent(name))
        )
    path = Path(path)
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise DataError(f"data.path = '{path}' {problem}; it must be the folder that holds interactions.* and items.*")
    return path


def _title(folder: Path | None, interactions: TableLike | None) -> str:
    if folder is not None:
        return folder.resolve().name
    return Path(interactions).stem if isinstance(interactions, str | Path) else "table"


def _read_log(
    given: TableLike | None, folder: Path | None, separator: str | None, encoding: str | None, recent: RecentParts
) -> Table:
    source = _named(given, folder, "interactions", recent)
    recent.require_some()
    if source is None:
        if folder is None:
            raise ConfigError("a table needs 'path' (a folder) or 'interactions' (a file or a frame)")
        inside = ", ".join(sorted(file.name for file in folder.iterdir())[:20]) or "nothing"
        raise DataError(f"{folder} has no interactions{{{','.join(KINDS)}}}; it holds {inside}")
    try:
        return read_table(source, "interactions", separator=separator, encoding=encoding, wanted=recent)
    except DataError:
        recent.require_some()
        raise


def _named(given: TableLike | None, folder: Path | None, stem: str, recent: RecentParts) -> TableLike | None:
    """The file or frame that was given, else the one file of that name in the folder, else None."""
    if isinstance(given, str | Path):
        return _place(folder, given, recent)
    if given is not None or folder is None:
        return given
    found = table_files(folder, stem)
    if len(found) > 1:
        raise DataError(f'{folder} has {", ".join(file.name for file in found)}; say which with {stem} = "…"')
    return found[0] if found else None
