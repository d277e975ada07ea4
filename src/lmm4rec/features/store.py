"""The feature store: vectors on disk under a key of all that determines them, each entry whole or absent."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import atomic, cache_folder, read_json, write_json
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.types import Features, Modality

_ENTRY = "entry.json"
_CONTENT, _BROKEN = "item.content", "item.broken"  # tensors beside those of the modalities
_DIGITS = 32  # of a fingerprint
_NOTE = "lmm4rec"  # a single key: several are written in any order, and the same vectors are to be the same bytes
_ABANDONED_S = 24 * 3600.0  # a half-written file of this age is no longer being written


@dataclass(frozen=True)
class StoredRows:
    """The vectors of some items, and of each item a digest (`fingerprint`) of the content that was encoded."""

    digests: UInt8[Tensor, "items 16"]
    features: Features
    broken: Bool[Tensor, " items"]  # the item names an image or a sound file that cannot be read

    @classmethod
    def of(cls, contents: Sequence[str], features: Features, broken: Bool[Tensor, " items"]) -> StoredRows:
        """The rows whose digests are given as text."""
        digests = np.frombuffer(bytearray.fromhex("".join(contents)), dtype=np.uint8)
        return cls(torch.from_numpy(digests).reshape(len(contents), _DIGITS // 2), features, broken)

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """The digests as text; computed on first use, since a large catalog has many."""
        digits = self.digests.numpy().tobytes().hex()
        return tuple(digits[start : start + _DIGITS] for start in range(0, len(digits), _DIGITS))


@dataclass(frozen=True)
class EncoderIdentity:
    """The encoder, precision and modalities of an entry: all that determines its vectors beside the items."""

    encoder: str  # its class
    encoder_fingerprint: str
    precision: str
    dims: Mapping[Modality, int]


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
    """

    def __init__(self, root: Path | None = None) -> None:
        """`root` is `features` in the cache folder unless given."""
        self.root = cache_folder() / "features" if root is None else root

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.root)!r})"

    def entries(self) -> list[StoredFeatures]:
        """All whole entries, by key; an unreadable one is logged and left out."""
        entries = []
        for path in sorted(self.root.glob(f"*/{_ENTRY}")):
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
        entry = _read_entry(self.root / key / _ENTRY)
        _check(self._rows(entry), entry.checksum, self._vectors(key, entry.checksum))

    def read(self, key: str) -> StoredRows | None:
        """The vectors of an entry; None where it is absent, or (with a logged warning) is damaged."""
        path = self.root / key / _ENTRY
        if not path.exists():
            return None
        try:
            return self._rows(_read_entry(path))
        except CheckpointError as error:
            _warn(error)
            return None

    def known(self, key: str, identity: EncoderIdentity) -> Iterator[StoredRows]:
        """Rows from which a missing entry can be filled: its finished parts, then other catalogs' entries.

        All are of the same encoder and precision. Damaged ones are logged and left out.
        """
        for path in sorted((self.root / key).glob("part-*.safetensors")):
            try:
                yield self.read_part(key, path.name)
            except CheckpointError as error:
                _warn(error)
        for entry in self.entries():
            if entry.is_by(identity) and entry.key != key:
                try:
                    yield self._rows(entry)
                except CheckpointError as error:
                    _warn(error)

    def parts(self, key: str) -> list[tuple[EncoderIdentity, int]]:
        """The finished parts of an entry that is under way: of each its encoder and the number of its items."""
        parts = []
        for path in sorted((self.root / key).glob("part-*.safetensors")):
            # a damaged one is left out here and encoded anew by the next run
            with suppress(SafetensorError, OSError, KeyError, TypeError), safe_open(path, framework="pt") as file:
                (items,) = file.get_slice(_BROKEN).get_shape()
                parts.append((EncoderIdentity(**json.loads(file.metadata()[_NOTE])), items))
        return parts

    def write_part(self, key: str, rows: StoredRows, identity: EncoderIdentity) -> str:
        """Write a finished part of an entry that is under way; returns the name of its file."""
        name = f"part-{_checksum(rows)}.safetensors"
        _save(self.root / key / name, rows, identity)
        return name

    def read_part(self, key: str, name: str) -> StoredRows:
        """The vectors of a finished part.

        Raises:
            CheckpointError: it is missing, or altered.
        """
        path = self.root / key / name
        rows = _load(path)
        _check(rows, path.stem.removeprefix("part-"), path)
        return rows

    def seconds(self, key: str) -> float:
        """The seconds of encoding an entry, whenever that was; 0 where it is absent or they were not recorded."""
        path = self.root / key / _ENTRY
        return _read_entry(path).seconds if path.exists() else 0.0

    def write(
        self, key: str, rows: StoredRows, identity: EncoderIdentity, *, broken: list[str], seconds: float = 0.0
    ) -> None:
        """Write a whole entry (`broken`: item ids; `seconds`: see `StoredFeatures`), then remove its parts."""
        checksum = _checksum(rows)
        path = self._vectors(key, checksum)
        _save(path, rows, identity)
        status = path.stat()
        entry = StoredFeatures(
            **_plain(identity),
            key=key,
            items=len(rows.digests),
            broken=broken,
            checksum=checksum,
            size=status.st_size,
            modified_ns=status.st_mtime_ns,
            seconds=round(seconds, 3),
        )
        write_json(self.root / key / _ENTRY, asdict(entry))
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
        rows = _load(path)
        if status.st_mtime_ns != entry.modified_ns:
            _check(rows, entry.checksum, path)
            with suppress(OSError):  # a store that may only be read is checked each time
                write_json(self.root / entry.key / _ENTRY, asdict(replace(entry, modified_ns=status.st_mtime_ns)))
        return StoredRows(rows.digests, {modality: rows.features[modality] for modality in entry.dims}, rows.broken)


def _read_entry(path: Path) -> StoredFeatures:
    try:
        entry = StoredFeatures(**read_json(path))
    except TypeError as error:
        raise CheckpointError(f"{path} is not an entry of the feature store: {error}") from None
    if entry.key != path.parent.name:
        raise CheckpointError(f"{path} describes another entry, {entry.key}")
    return entry


def _plain(identity: EncoderIdentity) -> dict[str, Any]:
    return {field.name: getattr(identity, field.name) for field in fields(EncoderIdentity)} | {
        "dims": dict(identity.dims)
    }


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _tensors(rows: StoredRows) -> dict[str, Tensor]:
    return {**rows.features, _CONTENT: rows.digests, _BROKEN: rows.broken}


def _save(path: Path, rows: StoredRows, identity: EncoderIdentity) -> None:
    with atomic(path) as beside:
        save_file(_tensors(rows), beside, metadata={_NOTE: json.dumps(_plain(identity))})


def _load(path: Path) -> StoredRows:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        digests, broken = tensors.pop(_CONTENT), tensors.pop(_BROKEN)
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    return StoredRows(digests, tensors, broken)


def _checksum(rows: StoredRows) -> str:
    return fingerprint(_tensors(rows))


def _check(rows: StoredRows, checksum: str, path: Path) -> None:
    if _checksum(rows) != checksum:
        raise CheckpointError(f"{path} was altered: its checksum is not {checksum}")


def _warn(error: CheckpointError) -> None:
    logging.getLogger(__name__).warning("%s; its vectors are not used and are encoded anew where needed", error)
