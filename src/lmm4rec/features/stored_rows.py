"""Vectors of some items as a file: written whole, memory-mapped where they are read, and compared with a checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
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
from lmm4rec.core.files import atomic
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.types import Features, Modality

CONTENT, _BROKEN = "item.content", "item.broken"  # tensors beside those of the modalities
_DIGITS = 32  # of a fingerprint
_NOTE = "lmm4rec"  # a single key: several are written in any order, and the same vectors are to be the same bytes


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
        return as_text(self.digests.numpy().tobytes())


@dataclass(frozen=True)
class EncoderIdentity:
    """The encoder, precision and modalities of an entry: all that determines its vectors beside the items."""

    encoder: str  # its class
    encoder_fingerprint: str
    precision: str
    dims: Mapping[Modality, int]


def as_text(digests: bytes) -> tuple[str, ...]:
    """Digests as text, in the order in which they lie."""
    digits = digests.hex()
    return tuple(digits[start : start + _DIGITS] for start in range(0, len(digits), _DIGITS))


def plain(identity: EncoderIdentity) -> dict[str, Any]:
    """The identity alone, of a value that has more fields, for JSON."""
    return {field.name: getattr(identity, field.name) for field in fields(EncoderIdentity)} | {
        "dims": dict(identity.dims)
    }


def described(path: Path) -> tuple[EncoderIdentity, int] | None:
    """The encoder of a file's vectors and the number of items; None where it is damaged."""
    with suppress(SafetensorError, OSError, KeyError, TypeError), safe_open(path, framework="pt") as file:
        (items,) = file.get_slice(_BROKEN).get_shape()
        return EncoderIdentity(**json.loads(file.metadata()[_NOTE])), items
    return None


def _tensors(rows: StoredRows) -> dict[str, Tensor]:
    return {**rows.features, CONTENT: rows.digests, _BROKEN: rows.broken}


def save_rows(path: Path, rows: StoredRows, identity: EncoderIdentity) -> None:
    """Write a file of vectors whole; the same rows give the same bytes."""
    with atomic(path) as beside:
        save_file(_tensors(rows), beside, metadata={_NOTE: json.dumps(plain(identity))})


def load_rows(path: Path) -> StoredRows:
    """The rows of a file, memory-mapped; the checksum is not compared.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        digests, broken = tensors.pop(CONTENT), tensors.pop(_BROKEN)
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    return StoredRows(digests, tensors, broken)


def checksum_of(rows: StoredRows) -> str:
    """The checksum of vectors, digests and marks of broken files."""
    return fingerprint(_tensors(rows))


def compare(rows: StoredRows, checksum: str, path: Path) -> None:
    """Raise a CheckpointError that names the path where the rows have another checksum."""
    if checksum_of(rows) != checksum:
        raise CheckpointError(f"{path} was altered: its checksum is not {checksum}")
