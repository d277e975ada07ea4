"""Object stores (`s3://`, `gs://`, `az://`): tables and images in them are copied to this machine and read from there.

A copy lies below the cache folder under the same names, so that its address follows from its path. What has the size
and the time of its object is not fetched again; what is gone from the store is removed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lmm4rec.core.errors import ConfigError, DataError, LMM4RecError, optional
from lmm4rec.core.files import atomic, cache_folder, storage_error
from lmm4rec.core.progress import progress

_ADDRESS = re.compile(r"(s3|s3a|gs|az|abfs|abfss)://([^/]+)/?(.*)", re.DOTALL)
_WORKERS = 16  # objects at a time
_RETRIES: Mapping[str, Any] = {"max_retries": 3}


class _Address(NamedTuple):
    scheme: str
    bucket: str
    key: str  # without a slash at its end; empty: the whole bucket

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def copy(self) -> Path:
        """The place of its copy."""
        return _root() / self.scheme / self.bucket / self.key


def is_remote(path: object) -> bool:
    """Whether a path is the address of an object or a folder in an object store."""
    return isinstance(path, str) and _ADDRESS.fullmatch(path) is not None


def copy_of(address: str) -> Path:
    """The place of the copy of an address.

    Raises:
        ConfigError: it is no address, or leads out of its bucket.
    """
    return _parsed(address).copy


def address_of(copy: Path) -> str | None:
    """The address whose copy lies at a path; None where the path is no copy."""
    try:
        scheme, bucket, *parts = copy.relative_to(_root()).parts
    except ValueError:
        return None
    return str(_Address(scheme, bucket, "/".join(parts)))


def local_copy(address: str, keep: Callable[[str], bool] = lambda name: True) -> Path:
    """The copy of an object, or of those objects in a folder whose names in it `keep` selects.

    Raises:
        DataError: there is no such bucket or object, access is denied, or the store cannot be reached.
        MissingExtraError: the extra `cloud` is not installed.
    """
    place = _parsed(address)
    with _store(place) as store:
        one = _object(store, place.key) if place.key else None
        if one is not None:
            _fetch(store, {place.key: (one, place.copy)})
            return place.copy
        found = {str(entry["path"]): entry for batch in _listed(store, place.key) for entry in batch}
        start = len(place.key) + 1 if place.key else 0
        names = {key[start:]: entry for key, entry in found.items() if _is_safe(key[start:]) and not key.endswith("/")}
        if not names:
            raise DataError(f"there is nothing at {place}")
        kept = {name: entry for name, entry in names.items() if keep(name)}
        _remove_gone(place.copy, set(kept), keep)
        _fetch(store, {str(entry["path"]): (entry, place.copy / name) for name, entry in kept.items()})
    place.copy.mkdir(parents=True, exist_ok=True)
    return place.copy


def fetch_objects(targets: Mapping[str, Path]) -> dict[str, str]:
    """Copy the object of each address to its path; the errors of those for which that fails."""

    def fetch(target: tuple[str, Path]) -> str:
        try:
            place = _parsed(target[0])
            with _store(place) as store:
                _copy(store, place.key, None, target[1])
        except (ConfigError, DataError) as error:
            return str(error)
        return ""

    bar = progress(total=len(targets), description="fetching images", unit="image", after_s=0.5)
    errors: dict[str, str] = {}
    with bar, ThreadPoolExecutor(_WORKERS, thread_name_prefix="object") as pool:
        for address, error in zip(targets, pool.map(fetch, targets.items()), strict=True):
            bar.update()
            if error:
                errors[address] = error
    return errors


def _root() -> Path:
    return cache_folder() / "objects"


def _parsed(address: str) -> _Address:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigError(f"'{address}' is no address of an object store; expected such as s3://bucket/folder")
    key = re.sub("/+", "/", found[3]).strip("/")
    if key and not _is_safe(key):
        raise ConfigError(f"'{address}' has a part '.' or '..'")
    return _Address(found[1], found[2], key)


def _is_safe(name: str) -> bool:
    """Whether a name stays in its folder on this machine."""
    parts = name.rstrip("/").split("/")
    return not any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts)


@contextmanager
def _store(place: _Address) -> Iterator[Any]:
    """The bucket of an address, by the credentials of the environment; its errors name what is wrong.

    Raises:
        DataError: there is no such bucket or object, access is denied, or the store cannot be reached.
    """
    optional("obstore", extra="cloud", purpose=f"reading {place.scheme}://")
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    open_bucket: Any = from_url  # whose overloads are one for each kind of store
    more: dict[str, Any] = {}
    if place.scheme in ("s3", "s3a"):
        more = {"client_options": {"allow_http": True}} if endpoint.startswith("http://") else {}
        more |= {"endpoint": endpoint} if endpoint else {}
    try:
        yield open_bucket(f"{place.scheme}://{place.bucket}", retry_config=dict(_RETRIES), **more)
    except LMM4RecError:
        raise
    except (BaseError, OSError) as error:
        if (storage := storage_error(error)) is not None:
            raise storage from error
        raise _named(place, error, endpoint) from None


def _named(place: _Address, error: Exception, endpoint: str) -> DataError:
    """What the store says, in one sentence."""
    text = str(error).partition("\n\nDebug source")[0]
    code = re.search(r"<Code>(\w+)</Code>", text)
    bucket, at = f"{place.scheme}://{place.bucket}", f" at {endpoint}" if endpoint else ""
    if "NoSuchBucket" in text:
        return DataError(f"there is no bucket {bucket}{at}")
    denied = "403 Forbidden" in text or "401 Unauthorized" in text or "169.254.169.254" in text
    if isinstance(error, PermissionError) or type(error).__name__ == "UnauthenticatedError" or denied:
        return DataError(
            f"no access to {place}{at} ({code[1] if code else 'no credentials'}): the environment holds the "
            "credentials, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or for a public bucket "
            "AWS_SKIP_SIGNATURE=true"
        )
    if isinstance(error, FileNotFoundError) or "404 Not Found" in text:
        return DataError(f"there is nothing at {place}{at}")
    if "error sending request" in text or "dns error" in text or "timed out" in text.lower():
        return DataError(f"the object store of {bucket}{at} cannot be reached (AWS_ENDPOINT_URL names another address)")
    return DataError(f"{place}{at} cannot be read: {' '.join(text.split())[:500]}")


def _object(store: Any, key: str) -> Mapping[str, Any] | None:
    """The facts of an object; None where there is none of this name, which may be a folder's."""
    import obstore

    try:
        return dict(obstore.head(store, key))
    except FileNotFoundError:
        return None


def _listed(store: Any, key: str) -> Iterator[Any]:
    import obstore

    return iter(obstore.list(store, prefix=key or None))


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
    with bar, ThreadPoolExecutor(_WORKERS, thread_name_prefix="object") as pool:
        jobs = [pool.submit(_copy, store, key, entry, path) for key, (entry, path) in changed.items()]
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


def _copy(store: Any, key: str, entry: Mapping[str, Any] | None, path: Path) -> None:
    """Write an object to a path, with the time of the object."""
    import obstore

    answer = obstore.get(store, key)
    with atomic(path) as beside:
        with beside.open("wb") as file:
            for block in answer.stream(min_chunk_size=8 * 2**20):
                file.write(block)
        if entry is not None:
            time = entry["last_modified"].timestamp()
            os.utime(beside, (time, time))
