"""The feature store: vectors on disk, found by all that determines them, whole or not there."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
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


@dataclass(frozen=True)
class Rows:
    """Vectors of some items, and of each item a digest (`fingerprint`) of what they were made from."""

    contents: tuple[str, ...]
    features: Features
    broken: Bool[Tensor, " items"]  # the item names a picture that cannot be read


@dataclass(frozen=True)
class Entry:
    """What `entry.json` says of one catalog's vectors."""

    key: str
    encoder: str  # its class
    encoder_fingerprint: str
    precision: str
    dims: dict[Modality, int]
    items: int
    broken: list[str]  # ids
    checksum: str  # of the vectors; the name of their file
    size: int  # bytes
    modified_ns: int


class FeatureStore:
    """A folder with one folder per catalog, encoder and precision, shared by all runs and processes.

    `<key>/<checksum>.safetensors` holds the vectors, `<key>/entry.json` describes them and is written last: a folder
    that has it is whole. `<key>/part-*.safetensors` are the finished parts of an extraction that is under way.

    Vectors are memory-mapped. On every read the file's size and time of change are compared with what was noted when
    it was written; only where the time differs (altered, or copied from elsewhere) the whole checksum is computed.
    Damage to the disk that leaves both as they were is not noticed.
    """

    def __init__(self, root: Path | None = None) -> None:
        """`root` is `features` in the cache folder unless given."""
        self.root = cache_folder() / "features" if root is None else root

    def entries(self) -> list[Entry]:
        """All whole entries, by key; an unreadable one is logged and left out."""
        found = []
        for path in sorted(self.root.glob(f"*/{_ENTRY}")):
            try:
                found.append(_read_entry(path))
            except CheckpointError as error:
                _warn(error)
        return found

    def prune(self, keys: Iterable[str]) -> None:
        """Remove the entries of these keys, finished or not; unknown keys are none."""
        known = {path.name: path for path in self.root.glob("*") if path.is_dir()}
        for key in keys:
            if key in known:
                shutil.rmtree(known[key])

    def read(self, key: str) -> Rows | None:
        """The vectors of an entry; None where it is not there, or (with a logged warning) is damaged."""
        path = self.root / key / _ENTRY
        if not path.exists():
            return None
        try:
            return self._rows(_read_entry(path))
        except CheckpointError as error:
            _warn(error)
            return None

    def known(self, key: str, *, encoder_fingerprint: str, precision: str) -> Iterator[Rows]:
        """Rows from which an entry that is not there can be filled: its finished parts, then other catalogs' entries.

        All were made by the same encoder in the same precision. Damaged ones are logged and left out.
        """
        for path in sorted((self.root / key).glob("part-*.safetensors")):
            try:
                rows = _load(path)
                _check(rows, path.stem.removeprefix("part-"), path)
                yield rows
            except CheckpointError as error:
                _warn(error)
        for entry in self.entries():
            if (entry.encoder_fingerprint, entry.precision) == (encoder_fingerprint, precision) and entry.key != key:
                try:
                    yield self._rows(entry)
                except CheckpointError as error:
                    _warn(error)

    def write_part(self, key: str, rows: Rows) -> None:
        """Keep a finished part of an entry that is under way."""
        _save(self.root / key / f"part-{_checksum(rows)}.safetensors", rows)

    def write(
        self, key: str, rows: Rows, *, encoder: str, encoder_fingerprint: str, precision: str, broken: list[str]
    ) -> None:
        """Write a whole entry (`broken`: item ids), then remove its parts."""
        checksum = _checksum(rows)
        path = self._vectors(key, checksum)
        _save(path, rows)
        status = path.stat()
        entry = Entry(
            key=key,
            encoder=encoder,
            encoder_fingerprint=encoder_fingerprint,
            precision=precision,
            dims={modality: vectors.shape[1] for modality, vectors in rows.features.items()},
            items=len(rows.contents),
            broken=broken,
            checksum=checksum,
            size=status.st_size,
            modified_ns=status.st_mtime_ns,
        )
        write_json(self.root / key / _ENTRY, asdict(entry))
        self.remove_parts(key)

    def remove_parts(self, key: str) -> None:
        """Remove the parts of an entry that is whole."""
        for part in (self.root / key).glob("part-*.safetensors"):
            part.unlink(missing_ok=True)  # another process may be faster

    def _vectors(self, key: str, checksum: str) -> Path:
        return self.root / key / f"{checksum}.safetensors"

    def _rows(self, entry: Entry) -> Rows:
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
        return Rows(rows.contents, {modality: rows.features[modality] for modality in entry.dims}, rows.broken)


def _read_entry(path: Path) -> Entry:
    try:
        entry = Entry(**read_json(path))
    except TypeError as error:
        raise CheckpointError(f"{path} is not an entry of the feature store: {error}") from None
    if entry.key != path.parent.name:
        raise CheckpointError(f"{path} describes another entry, {entry.key}")
    return entry


def _tensors(rows: Rows) -> dict[str, Tensor]:
    digests = np.frombuffer(bytearray.fromhex("".join(rows.contents)), dtype=np.uint8)
    contents = torch.from_numpy(digests).reshape(len(rows.contents), _DIGITS // 2)
    return {**rows.features, _CONTENT: contents, _BROKEN: rows.broken}


def _save(path: Path, rows: Rows) -> None:
    with atomic(path) as beside:
        save_file(_tensors(rows), beside)


def _load(path: Path) -> Rows:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        digits = tensors.pop(_CONTENT).numpy().tobytes().hex()
        broken = tensors.pop(_BROKEN)
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    contents = tuple(digits[start : start + _DIGITS] for start in range(0, len(digits), _DIGITS))
    return Rows(contents, tensors, broken)


def _checksum(rows: Rows) -> str:
    return fingerprint(_tensors(rows))


def _check(rows: Rows, checksum: str, path: Path) -> None:
    if _checksum(rows) != checksum:
        raise CheckpointError(f"{path} was altered: its checksum is not {checksum}")


def _warn(error: CheckpointError) -> None:
    logging.getLogger(__name__).warning("%s; its vectors are not used and are encoded anew where needed", error)
