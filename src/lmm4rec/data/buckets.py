"""Buckets of object stores (`s3://`, `gs://`, `az://`): addresses, access, and errors that name what is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from lmm4rec.core.errors import ConfigError, DataError, LMM4RecError, optional
from lmm4rec.core.files import storage_error

RETRIES: Mapping[str, Any] = {"max_retries": 3}
WORKERS = 16  # objects at a time
_ADDRESS = re.compile(r"(s3|s3a|gs|az|abfs|abfss)://([^/]+)/?(.*)", re.DOTALL)
_FULL = re.compile("507 Insufficient Storage|StorageFull|QuotaExceeded|quotaExceeded")
_UNREACHABLE = re.compile("error sending request|dns error|timed out", re.IGNORECASE)


class Address(NamedTuple):
    """The place of an object, or of a folder of objects."""

    scheme: str
    bucket: str
    key: str  # without a slash at its end; empty: the whole bucket

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> Address:
        return self._replace(key=f"{self.key}/{name}" if self.key else name)


def is_remote(path: object) -> bool:
    """Whether a path is the address of an object or a folder in an object store."""
    return isinstance(path, str) and _ADDRESS.fullmatch(path) is not None


def parsed(address: str) -> Address:
    """The parts of an address.

    Raises:
        ConfigError: it is no address, or leads out of its bucket.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigError(f"'{address}' is no address of an object store; expected such as s3://bucket/folder")
    key = re.sub("/+", "/", found[3]).strip("/")
    if key and not is_safe(key):
        raise ConfigError(f"'{address}' has a part '.' or '..'")
    return Address(found[1], found[2], key)


def is_safe(name: str) -> bool:
    """Whether a name stays in its folder on this machine."""
    parts = name.rstrip("/").split("/")
    return not any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts)


def open_bucket(place: Address) -> Any:
    """The bucket of an address, by the credentials of the environment.

    Raises:
        MissingExtraError: the extra `cloud` is not installed.
    """
    optional("obstore", extra="cloud", purpose=f"access to {place.scheme}://")
    from obstore.store import from_url

    opened: Any = from_url  # whose overloads are one for each kind of store
    endpoint, more = _endpoint(), dict[str, Any]()
    if place.scheme in ("s3", "s3a"):
        more = {"client_options": {"allow_http": True}} if endpoint.startswith("http://") else {}
        more |= {"endpoint": endpoint} if endpoint else {}
    with bucket_errors(place):
        return opened(f"{place.scheme}://{place.bucket}", retry_config=dict(RETRIES), **more)


@contextmanager
def bucket_errors(place: Address) -> Iterator[None]:
    """A context whose errors of the object store name the place and the cause.

    Raises:
        DataError: there is no such bucket or object, access is denied, or the store is full or cannot be reached.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except LMM4RecError:
        raise
    except (BaseError, OSError) as error:
        if (storage := storage_error(error)) is not None:
            raise storage from error
        raise _named(place, error, _endpoint()) from None


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _named(place: Address, error: Exception, endpoint: str) -> DataError:
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
    if _FULL.search(text):
        return DataError(f"{place}{at} cannot be written: the object store is full, or the quota is used up")
    if _UNREACHABLE.search(text):
        return DataError(f"the object store of {bucket}{at} cannot be reached (AWS_ENDPOINT_URL names another address)")
    return DataError(f"{place}{at} cannot be read or written: {' '.join(text.split())[:500]}")
