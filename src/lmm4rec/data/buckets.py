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
_ENDPOINTS = {  # variables that name another server than the provider's
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT",),
}
_ACCESS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or for a public bucket AWS_SKIP_SIGNATURE=true",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT (a file each), or for a public bucket "
    "GOOGLE_SKIP_SIGNATURE=true",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or, for a public "
    "container, AZURE_SKIP_SIGNATURE=true",
}
_DENIED = re.compile("401 Unauthorized|403 Forbidden|credential error|token request|must be specified", re.IGNORECASE)
_OF_MACHINES = re.compile(r"169\.254\.169\.254|metadata\.google\.internal")  # asked where there are no credentials
_FULL = re.compile("507 Insufficient Storage|StorageFull|QuotaExceeded|quotaExceeded")
_UNREACHABLE = re.compile("error sending request|dns error|timed out", re.IGNORECASE)


class Address(NamedTuple):
    """The place of an object, or of a folder of objects."""

    scheme: str
    bucket: str
    key: str  # without a slash at its end; empty: the whole bucket

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def provider(self) -> str:
        """The scheme of its kind of store, `s3`, `gs` or `az`."""
        return self.scheme if self.scheme in ("gs", "az") else "az" if self.scheme.startswith("abfs") else "s3"

    @property
    def endpoint(self) -> str:
        """The address of the server that the environment names; empty: the provider's own."""
        return next(filter(None, map(os.environ.get, _ENDPOINTS[self.provider])), "")

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
    more: dict[str, Any] = {"client_options": {"allow_http": True}} if place.endpoint.startswith("http://") else {}
    if place.endpoint and place.provider == "s3":  # of the other stores obstore reads it
        more["endpoint"] = place.endpoint
    with bucket_errors(place):
        return opened(f"{place.scheme}://{place.bucket}", retry_config=dict(RETRIES), **more)


def is_bucket_absent(error: Exception) -> bool:
    """Whether the store says that there is no such bucket."""
    return any(code in str(error) for code in ("NoSuchBucket", "ContainerNotFound"))


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
        raise _named(place, error) from None


def _named(place: Address, error: Exception) -> DataError:
    """What the store says, in one sentence."""
    text = str(error).partition("\n\nDebug source")[0]
    code = re.search(r"<Code>(\w+)</Code>", text)
    bucket, at = f"{place.scheme}://{place.bucket}", f" at {place.endpoint}" if place.endpoint else ""
    if is_bucket_absent(error):
        return DataError(f"there is no bucket {bucket}{at}")
    lacks_credentials = _OF_MACHINES.search(text) is not None
    if _UNREACHABLE.search(text) and not lacks_credentials:
        named = f" ({_ENDPOINTS[place.provider][-1]} names another address)"
        return DataError(f"the object store of {bucket}{at} cannot be reached{named}")
    is_denied = isinstance(error, PermissionError) or type(error).__name__ == "UnauthenticatedError"
    if lacks_credentials or is_denied or _DENIED.search(text):
        why = "no credentials" if lacks_credentials else code[1] if code else _refusal(text)
        return DataError(
            f"no access to {place}{at} ({why}): the environment holds the credentials, {_ACCESS[place.provider]}"
        )
    if isinstance(error, FileNotFoundError) or "404 Not Found" in text:
        return DataError(f"there is nothing at {place}{at}")
    if _FULL.search(text):
        return DataError(f"{place}{at} cannot be written: the object store is full, or the quota is used up")
    return DataError(f"{place}{at} cannot be read or written: {' '.join(text.split())[:500]}")


def _refusal(text: str) -> str:
    """Why there is no access, where the store names no code: its status, or what the client misses before it asks."""
    found = re.search(r"Unable to open.*|\w+ must be specified|4\d\d [A-Z]\w+", text)
    return found[0].strip() if found else " ".join(text.split())[:200]
