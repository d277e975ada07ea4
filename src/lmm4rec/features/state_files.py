"""States of an encoder's blocks on disk: a catalog's items as they leave the frozen lower blocks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from safetensors.torch import save_file
from torch import Tensor

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import atomic, cache_folder, read_json, write_json
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.matrices import positions_in_runs
from lmm4rec.core.tensor_files import read_tensors
from lmm4rec.core.types import Inputs, Modality

STATES, LENGTHS, VECTORS = "states", "lengths", "vectors"
"""The tensors of a modality: rows of all items that have it, their number for each item, the encoder's own vectors."""

WORDS, IDS = "words", "ids"
"""Token ids of all texts, one after the other; `LENGTHS` holds their number for each item."""

SOUND, SHAPE = "sound", "shape"
"""Of items with sound or with images of several shapes: frames with sound as `LENGTHS`; rows and columns of patches."""

INDEX = "states.json"
"""The index of a folder of states; where it is present, the folder is whole."""
_NOTE = "lmm4rec"

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class _Shard:
    file: str
    size: int  # bytes
    modified_ns: int


class Shards:
    """A folder of states: `shard-NUMBER-CHECKSUM.safetensors` files, and an index that is written last."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def missing(self) -> list[int]:
        """The numbers of the shards that are absent; damaged ones are logged and removed."""
        present = {number for number, path in self._paths() if self._whole(path)}
        return [number for number in range(self.count) if number not in present]

    def size(self) -> int:
        """The bytes of the shards on disk."""
        return sum(path.stat().st_size for _, path in self._paths())

    def write(self, number: int, tensors: Tensors) -> None:
        """Write one shard, which is then on disk whole or not at all."""
        path = self.folder / f"shard-{number:05d}-{fingerprint(tensors)}.safetensors"
        with atomic(path) as beside:
            save_file(dict(tensors), beside, metadata={_NOTE: str(number)})

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write the index of all shards, which makes the folder whole."""
        # two processes that fill it at once may have written one shard each, with other rounding: it counts once
        paths = dict(sorted(self._paths())).values()
        shards = [_Shard(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        write_json(self.folder / INDEX, {**facts, "shards": [asdict(shard) for shard in shards]})

    def read(self) -> list[Tensors] | None:
        """All shards, memory-mapped; None where the folder is not whole.

        As in the feature store, a file whose size or time of change is not as recorded is read and compared with its
        checksum; a damaged one is logged and removed, and has to be computed anew.
        """
        if not (self.folder / INDEX).exists():
            return None
        recorded = [_Shard(**one) for one in read_json(self.folder / INDEX)["shards"]]
        try:
            return [self._read(shard) for shard in recorded]
        except CheckpointError as error:
            logging.getLogger(__name__).warning("%s; it is computed anew", error)
            (self.folder / INDEX).unlink(missing_ok=True)
            return None

    def _paths(self) -> Iterator[tuple[int, Path]]:
        for path in self.folder.glob("shard-*.safetensors"):
            yield int(path.name.split("-")[1]), path

    def _read(self, shard: _Shard) -> Tensors:
        path = self.folder / shard.file
        try:
            status = path.stat()
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing") from None
        tensors = read_tensors(path)[0]
        same = (status.st_size, status.st_mtime_ns) == (shard.size, shard.modified_ns)
        if not same and fingerprint(tensors) != path.stem.split("-")[2]:
            raise CheckpointError(f"{path} was altered: its checksum is another")
        return tensors

    def _whole(self, path: Path) -> bool:
        try:
            good = fingerprint(read_tensors(path)[0]) == path.stem.split("-")[2]
        except CheckpointError:
            good = False
        if not good:
            logging.getLogger(__name__).warning("%s is damaged; it is computed anew", path)
            path.unlink(missing_ok=True)
        return good


class StoredStates:
    """The states of a catalog's items, memory-mapped: only the rows that are requested are read."""

    def __init__(
        self, shards: Sequence[Tensors], row_of: Int[Tensor, " items"], modalities: Sequence[Modality]
    ) -> None:
        """`row_of` is the row of each item's content, counted over all shards."""
        self.shards, self.row_of, self.modalities = shards, row_of, tuple(modalities)
        names = [*self.modalities, *(name for name in (WORDS, SOUND, SHAPE) if f"{name}.{LENGTHS}" in shards[0])]
        self._lengths = {name: [shard[f"{name}.{LENGTHS}"].long() for shard in shards] for name in names}
        self.lengths = {name: torch.cat(parts) for name, parts in self._lengths.items()}
        self._starts = {name: torch.cat([_starts(part) for part in parts]) for name, parts in self._lengths.items()}
        sizes = torch.tensor([len(part) for part in self._lengths[names[0]]])
        self._shard_of = torch.repeat_interleave(torch.arange(len(shards)), sizes)

    @property
    def n_items(self) -> int:
        """The number of items in the catalog."""
        return len(self.row_of)

    @property
    def text_lengths(self) -> Int[Tensor, " items"] | None:
        """The tokens of each item's text; None where no words are stored."""
        return self.lengths[WORDS][self.row_of] if WORDS in self.lengths else None

    def shape(self, modality: Modality, tensor: str = STATES) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.shards[0][f"{modality}.{tensor}"].shape[1:])

    def present(self, modality: Modality, items: Int[Tensor, " chosen"]) -> Bool[Tensor, " chosen"]:
        """The items, as a mask, that have the modality."""
        return self.lengths[modality][self.row_of[items]] > 0

    def read(self, modality: Modality, items: Int[Tensor, " chosen"], tensor: str = STATES) -> Tensor:
        """All rows of the items, one item after the other."""
        rows = self.row_of[items]
        lengths, starts, shard_of = self.lengths[modality][rows], self._starts[modality][rows], self._shard_of[rows]
        name = f"{modality}.{tensor}"
        states = self.shards[0][name].new_empty(int(lengths.sum()), *self.shards[0][name].shape[1:])
        targets = _starts(lengths)
        for shard in torch.unique(shard_of).tolist():
            inside = (shard_of == shard).nonzero().flatten()
            _, source = positions_in_runs(starts[inside], lengths[inside])
            _, target = positions_in_runs(targets[inside], lengths[inside])
            states[target] = self.shards[shard][name][source]
        return states

    def inputs(self, items: Int[Tensor, " chosen"]) -> Inputs:
        """The inputs that a tower needs beside the states: texts, masks and shapes, no pixels and no spectrograms."""
        inputs = Inputs(has_image=torch.ones(len(items), dtype=torch.bool))
        if WORDS in self.lengths:
            mask = self._mask(WORDS, items)
            ids = torch.zeros(mask.shape, dtype=torch.int64)
            ids[mask] = self.read(WORDS, items, IDS).long()
            inputs = inputs._replace(text_ids=ids, text_mask=mask)
        if SOUND in self.lengths:
            inputs = inputs._replace(sound_mask=self._mask(SOUND, items))
        if SHAPE in self.lengths:
            inputs = inputs._replace(image_shape=self.read(SHAPE, items, SHAPE).long())
        return inputs

    def _mask(self, name: str, items: Int[Tensor, " chosen"]) -> Bool[Tensor, "chosen longest"]:
        lengths = self.lengths[name][self.row_of[items]]
        return torch.arange(max(int(lengths.max()), 1)) < lengths[:, None]


def states_folder() -> Path:
    """The folder of cached states: `states` in the cache folder, beside the feature store."""
    return cache_folder() / "states"


def _starts(lengths: Tensor) -> Tensor:
    return lengths.cumsum(0) - lengths
