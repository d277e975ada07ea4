"""A feature store in an object store (LMM4REC_STORE), behind the one on this machine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.core.files import atomic
from lmm4rec.data.buckets import WORKERS
from lmm4rec.data.remote_folder import RemoteFolder

VARIABLE = "LMM4REC_STORE"
ENTRY = "entry.json"
_CHECKSUM = re.compile("[0-9a-f]+")
_PART = re.compile(r"part-[0-9a-f]+\.safetensors")


class RemoteStore:
    """The same files under the same names as in a `FeatureStore`; an entry's `entry.json` is written last."""

    def __init__(self, address: str, root: Path) -> None:
        """`root` is the folder of the store on this machine."""
        self.address, self.root, self._folder = address, root, RemoteFolder(address)

    def check(self) -> None:
        """Raise a StorageError where an object cannot be written, read and removed."""
        self._folder.check()

    def fetch_entry(self, key: str) -> bool:
        """Copy an entry to this machine, its vectors first; False where there is none. Checksums are not compared.

        Raises:
            CheckpointError: it is damaged.
        """
        content = self._folder.read(f"{key}/{ENTRY}")
        if content is None:
            return False
        vectors = f"{key}/{_checksum(_facts(content, key), key)}.safetensors"
        if not self._folder.download(vectors, self.root / vectors):
            raise CheckpointError(f"{self._folder}/{vectors} is missing")
        with atomic(self.root / key / ENTRY) as beside:
            beside.write_bytes(content)
        return True

    def upload_entry(self, key: str, checksum: str) -> None:
        """Write a whole entry of this machine, `entry.json` last, then remove the parts."""
        for name in (f"{key}/{checksum}.safetensors", f"{key}/{ENTRY}"):
            self._folder.upload(self.root / name, name)
        self._folder.remove([f"{key}/{name}" for name in self._parts(key)])

    def upload_missing_entry(self, key: str, checksum: str) -> None:
        """Write an entry of this machine where it is not there, such as after a failed upload."""
        if self._folder.read(f"{key}/{ENTRY}") is None:
            self.upload_entry(key, checksum)

    def upload_part(self, key: str, name: str) -> None:
        """Write a finished part of an entry that is under way."""
        self._folder.upload(self.root / key / name, f"{key}/{name}")

    def fetch_part(self, key: str, name: str) -> None:
        """Copy a finished part to this machine where it is there."""
        self._folder.download(f"{key}/{name}", self.root / key / name)

    def exchange_parts(self, key: str) -> None:
        """Copy finished parts that are missing on this machine, and those that are missing there."""
        there, here = self._parts(key), {path.name for path in (self.root / key).glob("part-*.safetensors")}
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="object") as pool:
            list(pool.map(lambda name: self.fetch_part(key, name), sorted(there - here)))
            list(pool.map(lambda name: self.upload_part(key, name), sorted(here - there)))

    def entries(self, known: Collection[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Key and content of `entry.json` of every entry with another key than these, the latest first."""
        found = {name.removesuffix(f"/{ENTRY}"): facts for name, facts in self._folder.files().items()
                 if name.count("/") == 1 and name.endswith(f"/{ENTRY}")}  # fmt: skip
        keys = sorted(found.keys() - set(known), key=lambda key: (found[key]["last_modified"], key), reverse=True)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="object") as pool:
            for key, content in zip(keys, pool.map(lambda key: self._folder.read(f"{key}/{ENTRY}"), keys), strict=True):
                if content is not None:  # removed meanwhile
                    yield key, _facts(content, key)

    def digests(self, key: str, checksum: str, tensor: str) -> bytes:
        """The bytes of one tensor of an entry's vectors; the others are not fetched.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        name = f"{key}/{_checksum({'checksum': checksum}, key)}.safetensors"
        try:
            start = 8 + int.from_bytes(self._folder.read(name, 0, 8) or b"", "little")
            begin, end = json.loads(self._folder.read(name, 8, start) or b"")[tensor]["data_offsets"]
            return self._folder.read(name, start + begin, start + end) or b""
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self._folder}/{name} is missing or damaged ({error})") from None

    def _parts(self, key: str) -> set[str]:
        return {name for name in self._folder.files(key) if _PART.fullmatch(name)}


def named_store() -> str:
    """The address in LMM4REC_STORE; empty where there is none.

    Raises:
        ConfigError: it is no address of an object store.
    """
    address = os.environ.get(VARIABLE, "")
    if address:
        try:
            RemoteFolder(address)
        except ConfigError as error:
            raise ConfigError(f"{VARIABLE}: {error}") from None
    return address


def _facts(content: bytes, key: str) -> Mapping[str, Any]:
    try:
        facts = json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{ENTRY} of {key} is damaged in the object store ({error})") from None
    return facts if isinstance(facts, dict) else {}


def _checksum(facts: Mapping[str, Any], key: str) -> str:
    """The checksum, which is part of a path."""
    checksum = str(facts.get("checksum"))
    if not _CHECKSUM.fullmatch(checksum):
        raise CheckpointError(f"{ENTRY} of {key} in the object store names no checksum")
    return checksum
