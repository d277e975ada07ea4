"""Where a bundle is read from: a folder, a repository of the hub, or an object store."""

from __future__ import annotations

from pathlib import Path

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.hub import local_folder
from lmm4rec.data.buckets import is_remote
from lmm4rec.data.object_store import local_copy
from lmm4rec.serving.bundle_files import FACTS, bundle_folder

_NOT_SERVED = ("checkpoint/", "tensorboard/", "encoder/")  # of a run folder; a bundle names its encoder's place


def source_folder(source: str | Path) -> Path:
    """The folder of a bundle, or of a run with one; of the hub and of object stores a copy, of the newest state.

    Raises:
        CheckpointError: there is none.
        DataError: there is nothing at the address in an object store, or it cannot be read.
    """
    if not is_remote(source):
        return local_folder(source)
    # what a service of the copy has stored beside the bundle is neither fetched nor removed
    folder = local_copy(str(source), lambda name: not name.startswith(_NOT_SERVED) and ".sqlite" not in name)
    if not (bundle_folder(folder) / FACTS).exists():
        raise CheckpointError(f"there is no bundle at {source}: name a finished run, or a bundle")
    return folder
