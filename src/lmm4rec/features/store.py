"""The feature store: vectors on disk under a key of all that determines them, each entry whole or absent."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import cache_folder, read_json, write_json
from lmm4rec.features.remote_store import ENTRY, RemoteStore, named_store
from lmm4rec.features.stored_rows import (
    CONTENT,
    EncoderIdentity,
    StoredRows,
    as_text,
    checksum_of,
    compare,
    described,
    load_rows,
    plain,
    save_rows,
)

_ABANDONED_S = 24 * 3600.0  # a half-written file of this age is no longer being written


@dataclass(frozen=True)
class StoredFeatures(EncoderIdentity):
    """One catalog's vectors, as `entry.json` describes them."""

    key: str
    items: int
    broken: list[str]  # ids
    checksum: str  # of the vectors; the name of their file
    size: int  # bytes
    modified_ns: int
    seconds: float = 0.0  # of encoding all of its items, at the measured pace; 0: all were copied

    def is_by(self, identity: EncoderIdentity) -> bool:
        """Whether the vectors are of the same encoder, modalities and precision."""
        ours, theirs = ((one.encoder_fingerprint, one.precision, list(one.dims.items())) for one in (self, identity))
        return ours == theirs


class FeatureStore:
    """A folder with one folder per catalog, encoder, modalities and precision, shared by all runs and processes.

    `<key>/<checksum>.safetensors` holds the vectors, `<key>/entry.json` describes them and is written last: a folder
    that has it is whole. `<key>/part-*.safetensors` are the finished parts of an extraction that is under way.

    Vectors are memory-mapped. On every read the file's size and time of change are compared with those recorded when
    it was written; only where the time differs (altered, or copied from elsewhere) the whole checksum is computed.
    Damage to the disk that changes neither is found by `verify` alone, which reads everything.

    Behind it may be a store at a `remote` address: what is missing here is copied from there, with checksums compared,
    and what is written here is copied there.
    """

    def __init__(self, root: Path | None = None, *, remote: str = "") -> None:
        """`root` is `features` in the cache folder unless given, and then LMM4REC_STORE names the remote store."""
        self.root = cache_folder() / "features" if root is None else root
        remote = remote or (named_store() if root is None else "")
        self.remote = RemoteStore(remote, self.root) if remote else None

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.root)!r})"

    @property
    def shared(self) -> tuple[Path, ...]:
        """The folders that machines which encode together must share: none where there is a remote store."""
        return () if self.remote else (self.root,)

    def check(self) -> None:
        """Check the remote store, where there is one, before work.

        Raises:
            StorageError: it cannot be written or read; it says why.
        """
        if self.remote:
            self.remote.check()

    def entries(self) -> list[StoredFeatures]:
        """All whole entries, by key; an unreadable one is logged and left out."""
        entries = []
        for path in sorted(self.root.glob(f"*/{ENTRY}")):
            try:
                entries.append(_read_entry(path))
            except CheckpointError as error:
                _warn(error)
        return entries

    def prune(self, keys: Iterable[str]) -> None:
        """Remove the entries of these keys, finished or not; unknown keys are none."""
        known = {path.name: path for path in self.root.glob("*") if path.is_dir()}
        for key in keys:
            if key in known:
                shutil.rmtree(known[key], ignore_errors=True)  # another process may be pruning, or writing, the same

    def verify(self, key: str) -> None:
        """Compare all vectors of an entry with their checksum.

        Raises:
            CheckpointError: a file is missing, unreadable, truncated or altered; it says which.
        """
        entry = _read_entry(self.root / key / ENTRY)
        compare(self._rows(entry), entry.checksum, self._vectors(key, entry.checksum))

    def read(self, key: str) -> StoredRows | None:
        """The vectors of an entry; None where it is absent, or (with a logged warning) is damaged."""
        path = self.root / key / ENTRY
        try:
            if path.exists():
                entry = _read_entry(path)
                rows = self._rows(entry)
                if self.remote:
                    self.remote.upload_missing_entry(key, entry.checksum)
                return rows
        except CheckpointError as error:
            _warn(error)
        try:
            return self._rows(_read_entry(path)) if self.remote and self.remote.fetch_entry(key) else None
        except CheckpointError as error:
            _warn(error)
            return None

    def known(self, key: str, identity: EncoderIdentity, missing: Collection[str]) -> Iterator[StoredRows]:
        """Rows from which a missing entry can be filled: its finished parts, then other catalogs' entries.

        All are of the same encoder and precision. Damaged ones are logged and left out. Remote entries are copied only
        where they have one of the contents that are `missing` when it is their turn.
        """
        if self.remote:
            self.remote.exchange_parts(key)
        for path in sorted((self.root / key).glob("part-*.safetensors")):
            try:
                yield self.read_part(key, path.name)
            except CheckpointError as error:
                _warn(error)
        entries = self.entries()
        for entry in entries:
            if entry.is_by(identity) and entry.key != key:
                try:
                    yield self._rows(entry)
                except CheckpointError as error:
                    _warn(error)
        if self.remote:
            yield from self._remotely_known(self.remote, {key, *(entry.key for entry in entries)}, identity, missing)

    def _remotely_known(
        self, remote: RemoteStore, keys: Collection[str], identity: EncoderIdentity, missing: Collection[str]
    ) -> Iterator[StoredRows]:
        for key, facts in remote.entries(keys):
            try:
                entry = _as_entry(facts, Path(remote.address, key, ENTRY))
                if not entry.is_by(identity):
                    continue
                contents = as_text(remote.digests(key, entry.checksum, CONTENT))
                if any(content in missing for content in contents) and remote.fetch_entry(key):
                    yield self._rows(_read_entry(self.root / key / ENTRY))
            except CheckpointError as error:
                _warn(error)

    def parts(self, key: str) -> list[tuple[EncoderIdentity, int]]:
        """The finished parts of an entry that is under way: of each its encoder and the number of its items."""
        parts = (described(path) for path in sorted((self.root / key).glob("part-*.safetensors")))
        return [part for part in parts if part is not None]  # a damaged one is encoded anew by the next run

    def write_part(self, key: str, rows: StoredRows, identity: EncoderIdentity) -> str:
        """Write a finished part of an entry that is under way; returns the name of its file."""
        name = f"part-{checksum_of(rows)}.safetensors"
        save_rows(self.root / key / name, rows, identity)
        if self.remote:
            self.remote.upload_part(key, name)
        return name

    def read_part(self, key: str, name: str) -> StoredRows:
        """The vectors of a finished part.

        Raises:
            CheckpointError: it is missing, or altered.
        """
        path = self.root / key / name
        if self.remote and not path.exists():
            self.remote.fetch_part(key, name)
        rows = load_rows(path)
        compare(rows, path.stem.removeprefix("part-"), path)
        return rows

    def seconds(self, key: str) -> float:
        """The seconds of encoding an entry, whenever that was; 0 where it is absent or they were not recorded."""
        path = self.root / key / ENTRY
        return _read_entry(path).seconds if path.exists() else 0.0

    def write(
        self, key: str, rows: StoredRows, identity: EncoderIdentity, *, broken: list[str], seconds: float = 0.0
    ) -> None:
        """Write a whole entry (`broken`: item ids; `seconds`: see `StoredFeatures`), then remove its parts."""
        checksum = checksum_of(rows)
        path = self._vectors(key, checksum)
        save_rows(path, rows, identity)
        status = path.stat()
        entry = StoredFeatures(
            **plain(identity),
            key=key,
            items=len(rows.digests),
            broken=broken,
            checksum=checksum,
            size=status.st_size,
            modified_ns=status.st_mtime_ns,
            seconds=round(seconds, 3),
        )
        write_json(self.root / key / ENTRY, asdict(entry))
        if self.remote:
            self.remote.upload_entry(key, checksum)
        self.remove_parts(key)

    def remove_parts(self, key: str) -> None:
        """Remove the parts of a whole entry, and files that a killed process left half-written."""
        folder = self.root / key
        for part in folder.glob("part-*.safetensors"):
            part.unlink(missing_ok=True)  # another process may be faster
        for beside in folder.glob(".*.part"):
            if _age_s(beside) > _ABANDONED_S:
                beside.unlink(missing_ok=True)

    def _vectors(self, key: str, checksum: str) -> Path:
        return self.root / key / f"{checksum}.safetensors"

    def _rows(self, entry: StoredFeatures) -> StoredRows:
        path = self._vectors(entry.key, entry.checksum)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing") from None
        if status.st_size != entry.size:
            raise CheckpointError(f"{path} has {status.st_size:,} bytes, {entry.size:,} were written")
        rows = load_rows(path)
        if status.st_mtime_ns != entry.modified_ns:
            compare(rows, entry.checksum, path)
            with suppress(OSError):  # a store that may only be read is checked each time
                write_json(self.root / entry.key / ENTRY, asdict(replace(entry, modified_ns=status.st_mtime_ns)))
        return StoredRows(rows.digests, {modality: rows.features[modality] for modality in entry.dims}, rows.broken)


def _read_entry(path: Path) -> StoredFeatures:
    return _as_entry(read_json(path), path)


def _as_entry(facts: Mapping[str, Any], path: Path) -> StoredFeatures:
    try:
        entry = StoredFeatures(**facts)
    except TypeError as error:
        raise CheckpointError(f"{path} is not an entry of the feature store: {error}") from None
    if entry.key != path.parent.name:
        raise CheckpointError(f"{path} describes another entry, {entry.key}")
    return entry


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _warn(error: CheckpointError) -> None:
    logging.getLogger(__name__).warning("%s; its vectors are not used and are encoded anew where needed", error)
