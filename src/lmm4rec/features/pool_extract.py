"""Encoding by a pool of workers: each block of items is a job, and its vectors a part of the feature store."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from lmm4rec.core.device import choose_device
from lmm4rec.core.errors import CheckpointError, DataError
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Item, Modality
from lmm4rec.distributed.pool import Job, Pool
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.batches import ResolvedOptions, cut, encode_blocks
from lmm4rec.encoding.packed_inputs import PackedInputs
from lmm4rec.encoding.pixel_levels import Levels
from lmm4rec.encoding.runner import evaluating
from lmm4rec.features.store import FeatureStore
from lmm4rec.features.stored_rows import EncoderIdentity, StoredRows


@dataclass(frozen=True)
class EncodingWorkers:
    """A pool, and how each of its workers loads the encoder: once, by a module's function that learns the catalog."""

    pool: Pool
    load: Callable[..., Encoder]
    arguments: tuple[Any, ...]  # hashable
    device: str = "auto"  # of each worker


@dataclass(frozen=True)
class _Block:
    """The work of one job."""

    load: Callable[..., Encoder]
    arguments: tuple[Any, ...]
    device: str
    modalities: tuple[Modality, ...]
    part: int  # of the encoder's `by_modality`
    items: Sequence[Item]
    contents: Sequence[str]
    store: Path
    remote: str  # address of a remote store, through which machines without a shared folder exchange parts
    key: str
    identity: EncoderIdentity
    options: ResolvedOptions


def encode_on_pool(
    workers: EncodingWorkers,
    part: int,
    modalities: Sequence[Modality],
    missing: Mapping[str, Item],
    store: FeatureStore,
    key: str,
    identity: EncoderIdentity,
    options: ResolvedOptions,
) -> Generator[tuple[StoredRows, float]]:
    """The stored parts of all missing contents and the seconds that each took, in any order.

    Blocks and batches are those of one process, and so are the bytes. A worker that dies loses its block alone. Where
    workers have GPUs, others prepare the batches (read and decode images) for them.

    Raises:
        LMM4RecError: a block cannot be encoded; what others have stored stays.
    """
    contents = list(missing)
    bar = progress(total=len(contents), description=f"encoding {'+'.join(identity.dims)}", unit="item")

    def job(rows: range) -> Job:
        block = _Block(
            workers.load, workers.arguments, workers.device, tuple(modalities), part,
            [missing[content] for content in contents[rows.start : rows.stop]], contents[rows.start : rows.stop],
            store.root.resolve(), store.remote.address if store.remote else "", key, identity, options,
        )  # fmt: skip
        name = f"items {rows.start:,} to {rows.stop:,}"
        return Job(name, _encode_block, (block,), _inputs_of(block, name) if workers.pool.does_inputs_apart else ())

    with bar:
        for outcome in workers.pool.run(job(rows) for rows in cut(range(len(contents)), options.block_size)):
            name, seconds = outcome.result()
            rows = store.read_part(key, name)
            bar.update(len(rows.digests))
            yield rows, seconds


def _inputs_of(block: _Block, name: str) -> tuple[Job, ...]:
    """Jobs that prepare the batches of a block."""
    batches = [slice(one.start, one.stop) for one in cut(range(len(block.items)), block.options.batch_size)]
    pieces = [replace(block, items=block.items[batch], contents=block.contents[batch]) for batch in batches]
    return tuple(Job(f"inputs of {name}", _prepare_batch, (piece,)) for piece in pieces)


def _encode_block(block: _Block, *prepared: PackedInputs) -> tuple[str, float]:
    """Store the vectors of a block, whose batches other workers may have prepared; the part's name, and the seconds."""
    began = time.perf_counter()
    device = choose_device(block.device)
    part = _loaded_part(block.load, block.arguments, block.modalities, block.part, device)
    _require_same_encoder(part.fingerprint(), block)
    if block.remote and not prepared:
        _require_same_contents(part, block)
    # processes of their own prepare items only where a GPU would wait for them
    options = replace(
        block.options, device=device, workers=block.options.workers if device.type == "cuda" else 0,
        block_size=len(block.items),
    )  # fmt: skip
    given = (one.unpack(device) for one in prepared) if prepared else None
    with evaluating(part, device, options.precision):
        (encoded,) = encode_blocks(
            part, block.items, options, progress(total=None, description="", unit="item"), prepared=given
        )
    rows = StoredRows.of(block.contents, encoded.features, encoded.broken)
    store = FeatureStore(None if block.remote else block.store, remote=block.remote)
    return store.write_part(block.key, rows, block.identity), time.perf_counter() - began


def _prepare_batch(batch: _Block) -> PackedInputs:
    """The inputs of the items of a batch, for the worker that encodes its block."""
    part, found, levels = _loaded_preparer(batch.load, batch.arguments, batch.modalities, batch.part)
    _require_same_encoder(found, batch)
    if batch.remote:
        _require_same_contents(part, batch)
    return PackedInputs.of(part.prepare(batch.items), levels)


def _require_same_encoder(found: str, block: _Block) -> None:
    """Raises CheckpointError where the fingerprint of this machine's encoder is another than where the work began."""
    if found != block.identity.encoder_fingerprint:
        raise CheckpointError(
            "the encoder has other weights or files on this machine than where the work began: give all machines the "
            "same checkpoint, or a shared folder"
        )


def _require_same_contents(encoder: Encoder, block: _Block) -> None:
    """Refuse items whose files are not those that were read where the work began: their vectors would be others.

    Raises:
        DataError: it names the first item.
    """
    for item, content in zip(block.items, block.contents, strict=True):
        if encoder.item_digest(item) != content:
            raise DataError(
                f"the image, sound or text of {item.id} is another on this machine than where the work began: give all "
                "machines the same files under the same paths; of tables in an object store, the same LMM4REC_CACHE"
            )


@lru_cache(maxsize=1)
def _loaded_part(
    load: Callable[..., Encoder], arguments: tuple[Any, ...], modalities: tuple[Modality, ...], part: int,
    device: torch.device,
) -> Encoder:  # fmt: skip
    """A part of the encoder, loaded once by a worker for all blocks that it encodes."""
    return load(*arguments).to(device).with_modalities(modalities).by_modality()[part]


@lru_cache(maxsize=1)
def _loaded_preparer(
    load: Callable[..., Encoder], arguments: tuple[Any, ...], modalities: tuple[Modality, ...], part: int
) -> tuple[Encoder, str, Levels]:
    """A part of the encoder without the memory of its weights, its fingerprint, and the levels of pixels so far."""
    loaded = load(*arguments).with_modalities(modalities).by_modality()[part]
    found = loaded.fingerprint()
    return loaded.to("meta"), found, Levels()
