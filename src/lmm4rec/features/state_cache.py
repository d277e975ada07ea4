"""The cache of the states of an encoder's blocks for a whole catalog, each content computed once in all runs."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.progress import is_quiet, progress
from lmm4rec.core.types import Inputs, Item, Modality, NonNegativeInt, PositiveInt
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.batches import EncodingOptions, cut, prepared_batches
from lmm4rec.encoding.runner import evaluating
from lmm4rec.encoding.sizing import Precision, ResolvedPrecision, resolve_precision
from lmm4rec.features.extract import contents_of, longest_text_first
from lmm4rec.features.state_files import (
    IDS,
    LENGTHS,
    SHAPE,
    SOUND,
    STATES,
    VECTORS,
    WORDS,
    Shards,
    StoredStates,
    states_folder,
)
from lmm4rec.nn.transformers.towers import Tower

_SAMPLE = 8  # items on which size and time are measured
_MARGIN = 1.1
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class CacheEstimate:
    """The size and time of filling a cache, estimated before it is filled."""

    items: int  # distinct contents of the whole catalog
    missing: int  # contents that are not cached yet
    bytes: int  # on disk, of the missing ones
    free: int  # bytes on that disk
    seconds: float  # of encoding the missing ones
    items_per_s: float  # measured on a few
    folder: Path

    def check(self) -> None:
        """Raises DataError, with the numbers, where the disk has too little room."""
        if self.bytes > self.free:
            raise DataError(
                f"the cache of states of {self.missing:,} items needs about {self.bytes / 1e9:.2f} GB in "
                f"{self.folder}, where {self.free / 1e9:.2f} GB are free: make room, name another disk in "
                'LMM4REC_CACHE, keep states in bfloat16 (half of float32), or take adapter = "side", whose cache is '
                "about ten times smaller"
            )


class StatesCache:
    """The states of one catalog below the `top` blocks of an encoder, or one vector of each state for a side network.

    Its key is of all that determines its bytes: the encoder's weights and settings, the number of blocks, both
    precisions, and the encoded content of each item. Items of the same content share one row. Every `block_size` items
    are on disk when they are done: after a kill, the same call goes on there and ends with the same bytes.
    """

    def __init__(
        self,
        encoder: Encoder,
        catalog: Catalog,
        *,
        top: PositiveInt | None,
        root: Path | None = None,
        stored: ResolvedPrecision = "bfloat16",
        batch_size: PositiveInt | Literal["auto"] = "auto",
        memory_mb: PositiveInt = 1024,
        workers: NonNegativeInt | Literal["auto"] = "auto",
        device: str = "cpu",
        precision: Precision = "auto",
        block_size: PositiveInt = 256,
        modalities: Sequence[Modality] = (),
    ) -> None:
        """`top` None keeps one vector of each state, and the encoder's own; `stored` is the precision on disk.

        The other options are those of `extract`. The encoder is left on `device`; `self.encoder` is the one that is
        limited to the `modalities`.

        Raises:
            ConfigError: the encoder has no stack of `top` blocks for each of the modalities.
        """
        items, where = catalog[:], torch.device(device)
        encoder.learn_catalog(items)
        encoder.to(where)
        encoder = encoder.with_modalities(modalities)
        self.encoder, self.top, self.stored = encoder, top, stored
        self.towers = towers_of(encoder, top or 0)
        self.precision = resolve_precision(precision, encoder, where)
        self._requested = EncodingOptions(where, self.precision, batch_size, memory_mb, workers, block_size)
        self._contents = contents_of(encoder, items)
        first: dict[str, Item] = {}
        for item, content in zip(items, self._contents, strict=True):
            first.setdefault(content, item)
        self._order = longest_text_first(encoder, first)
        self._items = [first[content] for content in self._order]
        identity = (type(encoder).__name__, encoder.fingerprint(), list(encoder.dims.items()))
        self.key = fingerprint("states", identity, top, stored, self.precision, block_size, self._order)
        folder = (states_folder() if root is None else root) / self.key
        self._blocks = cut(range(len(self._items)), block_size)
        self._shards = Shards(folder, len(self._blocks))

    def estimate(self) -> CacheEstimate:
        """The missing items and the size and time of encoding them, measured on a few."""
        missing = [] if self._shards.read() is not None else self._shards.missing()
        count = sum(len(self._blocks[number]) for number in missing)
        folder, size, rate = self._shards.folder, 0.0, float("inf")
        if count:
            size, rate = self._measure(self._spread(_SAMPLE))
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        needs = int(_MARGIN * size * count)
        return CacheEstimate(len(self._items), count, needs, free, count / rate, rate, folder)

    def fill(self) -> StoredStates:
        """The states of the whole catalog, computed where they are not cached yet.

        Raises:
            DataError: the disk has too little room (raised before anything is computed), or a state is not finite.
        """
        shards = self._shards.read()
        if shards is None:
            estimate = self.estimate()
            estimate.check()
            self._compute(self._shards.missing())
            kind = {"encoder": type(self.encoder).__name__, "top": self.top, "widths": self._widths()}
            facts = {"items": len(self._items), "stored": self.stored, "precision": self.precision}
            self._shards.finish({"key": self.key, **kind, **facts})
            shards = self._shards.read()
        if shards is None:
            raise DataError(f"the cache of states in {self._shards.folder} was altered while it was written; run again")
        row = {content: number for number, content in enumerate(self._order)}
        row_of = torch.tensor([row[content] for content in self._contents], dtype=torch.int64)
        return StoredStates(shards, row_of, tuple(self.towers))

    def sample(self, items: int) -> Inputs:
        """The inputs of a number of items, spread over short and long texts, on the encoder's device."""
        return self._prepare(self._spread(items))

    def _spread(self, items: int) -> list[Item]:
        return self._items[:: max(1, len(self._items) // items)][:items]

    def _compute(self, missing: list[int]) -> None:
        options = self._requested.resolve(self.encoder, self._items[0], len(self._items))
        batches = {number: cut(self._blocks[number], options.batch_size) for number in missing}
        inputs = prepared_batches(
            self.encoder, self._items, [batch for one in batches.values() for batch in one], options
        )
        started = time.perf_counter()
        count = sum(len(self._blocks[number]) for number in missing)
        bar = progress(total=count, description="encoding states", unit="item")
        with bar, self._evaluating():
            for number, some in batches.items():
                parts = []
                for batch in some:
                    parts.append(self._tensors(next(inputs).to(options.device, non_blocking=True)))
                    bar.update(len(batch))
                whole = {name: torch.cat([one[name] for one in parts]).contiguous() for name in parts[0]}
                self._check_finite(whole, number)
                self._shards.write(number, whole)
        if is_quiet():
            return
        logging.getLogger(__name__).info(
            "states: encoded %s items in %.1f s, %s MB on disk",
            f"{count:,}",
            time.perf_counter() - started,
            self._shards.size() // 10**6,
        )

    def _tensors(self, inputs: Inputs) -> dict[str, Tensor]:
        """The tensors that are stored of a batch."""
        present, tensors = self.encoder.present(inputs), dict[str, Tensor]()
        for modality, tower in self.towers.items():
            rows = present[modality]
            # not all models take a batch of no items: an empty item passes, and nothing of it is kept
            chosen = inputs.rows(rows) if rows.any() else inputs.slice(0, 1)
            some = (
                summaries(self.encoder, tower, chosen, self.stored)
                if self.top is None
                else self._below(tower, chosen, self.top)
            )
            if not rows.any():
                some = {name: values[:0] for name, values in some.items()}
            lengths = torch.zeros(len(rows), dtype=torch.int32)
            lengths[rows.cpu()] = some.pop(LENGTHS).int().cpu()
            tensors[f"{modality}.{LENGTHS}"] = lengths
            tensors |= {f"{modality}.{name}": values.cpu() for name, values in some.items()}
        if inputs.text_ids is not None and inputs.text_mask is not None and self.top is not None:
            mask = inputs.text_mask.bool()
            _check_layout(self.encoder, mask)
            tensors[f"{WORDS}.{IDS}"] = inputs.text_ids[mask].int().cpu()
            tensors[f"{WORDS}.{LENGTHS}"] = mask.sum(dim=1).int().cpu()
        if inputs.sound_mask is not None and self.top is not None:
            tensors[f"{SOUND}.{LENGTHS}"] = inputs.sound_mask.sum(dim=1).int().cpu()
        if inputs.image_shape is not None and self.top is not None:
            tensors[f"{SHAPE}.{SHAPE}"] = inputs.image_shape.int().cpu()
            tensors[f"{SHAPE}.{LENGTHS}"] = torch.ones(len(inputs.image_shape), dtype=torch.int32)
        return tensors

    def _below(self, tower: Tower, inputs: Inputs, top: int) -> dict[str, Tensor]:
        number = tower.depth - top
        states = tower.observe(inputs, [number])[0][number]
        kept = tower.kept(inputs)
        return {STATES: states[kept].to(_DTYPES[self.stored]), LENGTHS: kept.sum(dim=1)}

    def _measure(self, items: list[Item]) -> tuple[float, float]:
        """Bytes an item and items a second."""
        with self._evaluating():
            self._tensors(self._prepare(items))  # the first time is slower
            began = time.perf_counter()
            tensors = self._tensors(self._prepare(items))
            seconds = time.perf_counter() - began
        return sum(values.nbytes for values in tensors.values()) / len(items), len(items) / seconds

    def _prepare(self, items: list[Item]) -> Inputs:
        return self.encoder.prepare(items).to(self._requested.device)

    def _evaluating(self) -> AbstractContextManager[None]:
        return evaluating(self.encoder, self._requested.device, self.precision)

    def _widths(self) -> dict[str, int]:
        """The width of the states of each modality, by a readable description."""
        inputs, widths = self.sample(1), {}
        with self._evaluating():
            for modality, tower in self.towers.items():
                number = 0 if self.top is None else tower.depth - self.top
                kind = "all states of" if self.top is None else f"states below {self.top} blocks of"
                widths[f"{kind} {modality}"] = tower.observe(inputs, [number])[0][number].shape[2]
        return widths

    def _check_finite(self, tensors: Mapping[str, Tensor], number: int) -> None:
        for name, values in tensors.items():
            if values.is_floating_point() and not values.isfinite().all():
                first, last = (self._items[row].id for row in (self._blocks[number][0], self._blocks[number][-1]))
                raise DataError(
                    f"{type(self.encoder).__name__} gives {name} that are not finite, in {self.precision}, for an item "
                    f"between '{first}' and '{last}' by text length; look at its weights"
                )


def summaries(encoder: Encoder, tower: Tower, inputs: Inputs, stored: ResolvedPrecision) -> dict[str, Tensor]:
    """The input of a side network for items that all have the modality: one vector a state, and the encoder's own.

    Raises:
        ConfigError: the states are of several widths.
    """
    states, vectors = tower.observe(inputs, range(tower.depth + 1))
    read = [tower.read(states[number], inputs) for number in range(tower.depth + 1)]
    if len({one.shape[1] for one in read}) > 1:
        widths = ", ".join(str(one.shape[1]) for one in read)
        raise ConfigError(
            f'adapter = "side" needs blocks of one width; those of {type(encoder).__name__} have {widths}'
        )
    kept = torch.stack(read, dim=1).to(_DTYPES[stored])
    return {STATES: kept, VECTORS: vectors.float(), LENGTHS: torch.ones(len(kept))}


def towers_of(encoder: Encoder, top: int) -> Mapping[Modality, Tower]:
    """The towers of an encoder's modalities.

    Raises:
        ConfigError: a modality has none, or one with fewer blocks than `top`.
    """
    towers = encoder.towers()
    without = [modality for modality in encoder.dims if modality not in towers]
    if without:
        raise ConfigError(
            f"{type(encoder).__name__} gives {', '.join(without)} by no stack of blocks (0 layers), so none can be "
            'cached or trained alone; take another encoder, or adapter = "none" or "lora"'
        )
    for modality, tower in towers.items():
        if top > tower.depth:
            raise ConfigError(
                f"the top {top} blocks are to train, but the {modality} tower of {type(encoder).__name__} has "
                f"{tower.depth}"
            )
    return {modality: towers[modality] for modality in encoder.dims}


def _check_layout(encoder: Encoder, mask: Tensor) -> None:
    behind = torch.arange(mask.shape[1], device=mask.device) < mask.sum(dim=1, keepdim=True)
    if not torch.equal(mask, behind):
        raise ConfigError(f"the tokenizer of {type(encoder).__name__} pads on the left; set its padding_side to right")
