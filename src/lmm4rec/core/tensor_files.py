"""Tensor files: safetensors, written whole and with a checksum, which is compared when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import atomic
from lmm4rec.core.fingerprint import fingerprint

_CHECKSUM = "checksum"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors and metadata with their checksum; a kill leaves the previous file or the new one."""
    own, storages, notes = dict[str, Tensor](), set[int](), dict(metadata or {})
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        storage = whole.untyped_storage().data_ptr()
        own[name] = whole.clone() if storage in storages else whole  # the format refuses shared storage
        storages.add(storage)
    with atomic(path) as beside:
        save_file(own, beside, {**notes, _CHECKSUM: fingerprint(own, notes)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata.

    Raises:
        CheckpointError: the file is missing or damaged, or its checksum, where it has one, is that of other content.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    checksum = metadata.pop(_CHECKSUM, None)
    if checksum is not None and checksum != fingerprint(tensors, metadata):
        raise CheckpointError(f"{path} was altered: its checksum is that of other content")
    return tensors, metadata
