"""Object stores (`s3://`, `gs://`, `az://`): tables and images in them are copied to this machine and read from there.

A copy lies below the cache folder under the same names, so that its address follows from its path. What has the size
and the time of its object is not fetched again; what is gone from the store is removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.files import atomic, cache_folder
from lmm4rec.core.progress import progress
from lmm4rec.data.buckets import WORKERS, Address, bucket_errors, is_safe, open_bucket, parsed


def copy_of(address: str) -> Path:
    """The place of the copy of an address.

    Raises:
        ConfigError: it is no address, or leads out of its bucket.
    """
    return _copy_path(parsed(address))


def address_of(copy: Path) -> str | None:
    """The address whose copy lies at a path; None where the path is no copy."""
    try:
        scheme, bucket, *parts = copy.relative_to(_root()).parts
    except ValueError:
        return None
    return str(Address(scheme, bucket, "/".join(parts)))


def local_copy(address: str, keep: Callable[[str], bool] = lambda name: True) -> Path:
    """The copy of an object, or of those objects in a folder whose names in it `keep` selects.

    Raises:
        DataError: there is no such bucket or object, access is denied, or the store cannot be reached.
        MissingExtraError: the extra `cloud` is not installed.
    """
    place = parsed(address)
    copy, store = _copy_path(place), open_bucket(place)
    with bucket_errors(place):
        one = _object(store, place.key) if place.key else None
        if one is not None:
            _fetch(store, {place.key: (one, copy)})
            return copy
        names = {name: entry for name, entry in listed(store, place).items() if is_safe(name)}
        if not names:
            raise DataError(f"there is nothing at {place}")
        kept = {name: entry for name, entry in names.items() if keep(name)}
        _remove_gone(copy, set(kept), keep)
        _fetch(store, {str(entry["path"]): (entry, copy / name) for name, entry in kept.items()})
    copy.mkdir(parents=True, exist_ok=True)
    return copy


def fetch_objects(targets: Mapping[str, Path]) -> dict[str, str]:
    """Copy the object of each address to its path; the errors of those for which that fails."""

    def fetch(target: tuple[str, Path]) -> str:
        try:
            place = parsed(target[0])
            store = open_bucket(place)
            with bucket_errors(place):
                download(store, place.key, target[1])
        except (ConfigError, DataError) as error:
            return str(error)
        return ""

    bar = progress(total=len(targets), description="fetching images", unit="image", after_s=0.5)
    errors: dict[str, str] = {}
    with bar, ThreadPoolExecutor(WORKERS, thread_name_prefix="object") as pool:
        for address, error in zip(targets, pool.map(fetch, targets.items()), strict=True):
            bar.update()
            if error:
                errors[address] = error
    return errors


def _root() -> Path:
    return cache_folder() / "objects"


def _copy_path(place: Address) -> Path:
    return _root() / place.scheme / place.bucket / place.key


def _object(store: Any, key: str) -> Mapping[str, Any] | None:
    """The facts of an object; None where there is none of this name, which may be a folder's."""
    import obstore

    try:
        return dict(obstore.head(store, key))
    except FileNotFoundError:
        return None


def listed(store: Any, place: Address) -> dict[str, Mapping[str, Any]]:
    """The objects in a folder: name in it -> facts (`path`, `size`, `last_modified`)."""
    import obstore

    start = len(place.key) + 1 if place.key else 0
    found = (entry for batch in obstore.list(store, prefix=place.key or None) for entry in batch)
    return {str(entry["path"])[start:]: entry for entry in found if not str(entry["path"]).endswith("/")}


def _remove_gone(folder: Path, names: set[str], keep: Callable[[str], bool]) -> None:
    """Remove the copies of objects that are there no more."""
    for path in folder.rglob("*") if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in names and keep(name):
            path.unlink()


def _fetch(store: Any, wanted: Mapping[str, tuple[Mapping[str, Any], Path]]) -> None:
    """Copy the objects that have changed, several at a time."""
    changed = {key: (entry, path) for key, (entry, path) in wanted.items() if not _is_current(path, entry)}
    bar = progress(total=len(changed), description="fetching objects", unit="object", after_s=0.5)
    with bar, ThreadPoolExecutor(WORKERS, thread_name_prefix="object") as pool:
        jobs = [pool.submit(download, store, key, path, entry) for key, (entry, path) in changed.items()]
        try:
            for job in jobs:
                job.result()
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _is_current(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False
    return stat.st_size == entry["size"] and int(stat.st_mtime) == int(entry["last_modified"].timestamp())


def download(store: Any, key: str, path: Path, entry: Mapping[str, Any] | None = None) -> None:
    """Write an object to a path, with the time of the object where its facts are passed."""
    import obstore

    answer = obstore.get(store, key)
    with atomic(path) as beside:
        with beside.open("wb") as file:
            for block in answer.stream(min_chunk_size=8 * 2**20):
                file.write(block)
        if entry is not None:
            time = entry["last_modified"].timestamp()
            os.utime(beside, (time, time))
