"""Extraction: the vectors of a whole catalog, each content encoded only once in all runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch

from lmm4rec.core.errors import DataError
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Features, Inputs, Item, NonNegativeInt, PositiveInt
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding import sizing
from lmm4rec.encoding.loop import Manner, computing, encode_blocks
from lmm4rec.encoding.sizing import Precision, Resolved
from lmm4rec.features.content_rows import Table
from lmm4rec.features.store import FeatureStore, Made, Rows

__all__ = ["Extracted", "contents_of", "encode", "extract"]

_READERS = 8  # threads that read images for their digests
_CHUNK = 64  # items that one of them takes at a time


@dataclass(frozen=True)
class Extracted:
    """The vectors of a catalog (memory-mapped float32) and what it took to get them."""

    features: Features
    broken: tuple[str, ...]  # ids of items whose image cannot be read
    encoded: int  # items that went through the encoder, or through a part of it
    reused: int  # items whose vectors were in the store, or are those of another item with the same content
    seconds: float  # of this call
    made_seconds: float  # that the vectors took to make, now or in an earlier run: what a study counts
    precision: Resolved


@dataclass(frozen=True)
class _Options:
    """What `extract` was asked for."""

    batch_size: int | Literal["auto"]
    memory_mb: int
    workers: int | Literal["auto"]
    device: torch.device
    precision: Resolved
    strict: bool
    block_size: int


def encode(
    encoder: Encoder,
    catalog: Catalog,
    *,
    store: FeatureStore | None = None,
    batch_size: PositiveInt | Literal["auto"] = "auto",
    memory_mb: PositiveInt = 1024,
    workers: NonNegativeInt | Literal["auto"] = "auto",
    device: str = "cpu",
    precision: Precision = "auto",
    strict: bool = False,
) -> Features:
    """The vectors of a catalog, row i for item i; from the feature store where they are there already.

    Images that cannot be read are logged, and such an item counts as having none; with `strict` they are an error.
    The other options are those of `extract`.
    """
    extracted = extract(
        encoder,
        catalog,
        store=FeatureStore() if store is None else store,
        batch_size=batch_size,
        memory_mb=memory_mb,
        workers=workers,
        device=device,
        precision=precision,
        strict=strict,
    )
    if extracted.broken:
        logging.getLogger(__name__).warning(
            "%d of %d items have an image that cannot be read and count as having none: %s",
            len(extracted.broken),
            len(catalog),
            _some(extracted.broken),
        )
    return extracted.features


def extract(
    encoder: Encoder,
    catalog: Catalog,
    *,
    store: FeatureStore,
    batch_size: PositiveInt | Literal["auto"] = "auto",
    memory_mb: PositiveInt = 1024,
    workers: NonNegativeInt | Literal["auto"] = "auto",
    device: str = "cpu",
    precision: Precision = "auto",
    strict: bool = False,
    block_size: PositiveInt = 512,
) -> Extracted:
    """The vectors of a catalog, and how many items had to be encoded.

    They are taken from the store where the same encoder has encoded the same catalog in this precision. Else rows of
    contents that it has encoded in another catalog are copied, and the others are encoded, identical ones once: for an
    encoder in `parts`, images apart from words. Long texts come first, so that a batch has texts of about one length.
    Every `block_size` items are stored when they are done: after a kill, the same call goes on there and ends with the
    same bytes. The encoder learns the catalog and is left on `device`.

    Args:
        encoder: gives the vectors; its weights and settings are part of what an entry of the store is found by.
        catalog: the items.
        store: where vectors are kept.
        batch_size: items in a pass; "auto" takes what fits `memory_mb`.
        memory_mb: how much the activations of an "auto" batch may need, in MiB, weights not counted.
        workers: processes that prepare batches ahead; "auto" takes all cores but one, and none for few items.
        device: where the encoder computes.
        precision: "auto" takes bfloat16 where the device computes it natively and the encoder has weights.
        strict: stop at the first block that holds an image that cannot be read, instead of masking it.
        block_size: items between two writes to the store.

    Raises:
        DataError: the encoder gives a vector that is not finite, or with `strict`, an image cannot be read.
    """
    started, items, where = time.perf_counter(), catalog[:], torch.device(device)
    encoder.learn_catalog(items)
    encoder.to(where)
    resolved = sizing.precision(precision, encoder, where)
    options = _Options(batch_size, memory_mb, workers, where, resolved, strict, block_size)
    features: dict[str, torch.Tensor] = {}
    broken, encoded, made_seconds = set[int](), set[str](), 0.0
    for part in encoder.parts():
        rows, ids, seconds = _extract_part(part, items, store, options)
        features |= rows.features
        broken |= set(rows.broken.nonzero().flatten().tolist())
        encoded |= ids
        made_seconds += seconds
    return Extracted(
        features={modality: features[modality] for modality in encoder.dims},
        broken=tuple(items[row].id for row in sorted(broken)),
        encoded=len(encoded),
        reused=len(items) - len(encoded),
        seconds=time.perf_counter() - started,
        made_seconds=made_seconds,
        precision=resolved,
    )


def _extract_part(
    encoder: Encoder, items: Sequence[Item], store: FeatureStore, options: _Options
) -> tuple[Rows, set[str], float]:
    """The vectors of one part of an encoder, the ids of the items that went through it, and what they took to make."""
    contents = contents_of(encoder, items)
    made = Made(type(encoder).__name__, encoder.fingerprint(), options.precision, dict(encoder.dims))
    identity = [made.encoder_fingerprint, made.precision, list(made.dims.items())]
    key = fingerprint("features", identity, [item.id for item in items], contents)
    rows = store.read(key)
    if rows is not None:
        if options.strict:
            _refuse_broken(items, rows.broken.nonzero().flatten().tolist())
        return rows, set(), store.seconds(key)
    table = Table(items, contents, encoder.dims)
    for known in store.known(key, made):
        table.fill(known)
        if not table.missing:
            break
    encoded = {table.first[content].id for content in table.missing}
    seconds = _encode_missing(encoder, items, table, store, key, made, options)
    rows = table.rows()
    store.write(key, rows, made, broken=[items[row].id for row in table.broken()], seconds=seconds)
    return store.read(key) or rows, encoded, seconds  # memory-mapped from here on


def _encode_missing(
    encoder: Encoder,
    items: Sequence[Item],
    table: Table,
    store: FeatureStore,
    key: str,
    made: Made,
    options: _Options,
) -> float:
    """Fill the table from the encoder, and the store with the parts that are done.

    Returns the seconds that all of the table's contents take at the pace of those that were missing.
    """
    if options.strict:
        _refuse_broken(items, table.broken())
    if not table.missing:
        return 0.0
    lengths = {
        content: len(encoder.read(item)) if encoder.reads("text") else 0 for content, item in table.first.items()
    }
    by_length = sorted(table.first, key=lambda content: -lengths[content])  # stable: the same in every sitting
    missing = {content: table.first[content] for content in by_length if content in table.missing}
    manner = _manner(encoder, table.first[by_length[0]], len(missing), options)
    started, name = time.perf_counter(), "+".join(encoder.dims)
    bar = progress(total=len(missing), description=f"encoding {name}", unit="item")
    with bar, computing(encoder, manner):
        for rows in encode_blocks(encoder, missing, manner, bar):
            store.write_part(key, rows, made)
            table.fill(rows)
            if options.strict:
                _refuse_broken(items, table.broken())
    seconds = time.perf_counter() - started
    _tell(name, len(missing), len(items), manner, seconds)
    return seconds * len(table.first) / len(missing)


def _manner(encoder: Encoder, longest: Item, missing: int, options: _Options) -> Manner:
    """How to encode; what is "auto" is found by trying one item, which must not depend on what is still missing."""
    size, workers = options.batch_size, options.workers
    if size != "auto" and workers != "auto":
        return Manner(options.device, options.precision, size, workers, options.block_size)
    encoder.prepare([longest])  # the first time is slower
    began = time.perf_counter()
    inputs = encoder.prepare([longest])
    preparing_s = missing * (time.perf_counter() - began)
    if size == "auto":
        there = Inputs(*(None if values is None else values.to(options.device) for values in inputs))
        with computing(encoder, Manner(options.device, "float32", 1, 0, 1)):
            size = sizing.batch_size(encoder, there, options.memory_mb)
    if workers == "auto":
        workers = sizing.workers(preparing_s, size * sizing.input_bytes(inputs))
    return Manner(options.device, options.precision, size, workers, options.block_size)


def contents_of(encoder: Encoder, items: Sequence[Item]) -> list[str]:
    """What each item's vectors are found by; images are read by several threads."""
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    contents: list[str] = []
    bar = progress(total=len(items), description="reading items", unit="item", after_s=2.0)
    with bar, ThreadPoolExecutor(_READERS if encoder.reads("image") else 1) as readers:
        for some in readers.map(lambda chunk: [encoder.content(item) for item in chunk], chunks):
            contents += some
            bar.update(len(some))
    return contents


def _refuse_broken(items: Sequence[Item], rows: Sequence[int]) -> None:
    if rows:
        raise DataError(
            f"{len(rows)} of the items that were looked at so far have an image that cannot be read: "
            f"{_some([items[row].id for row in rows])}; mend these files (`lmm4rec doctor` lists all of a catalog), or "
            "without `strict` let such items count as having no image"
        )


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else "")


def _tell(name: str, encoded: int, items: int, manner: Manner, seconds: float) -> None:
    logging.getLogger(__name__).info(
        "%s: encoded %s of %s items in %.1f s, %.1f items/s (%s on %s, batches of %d, %d worker%s)",
        name,
        f"{encoded:,}",
        f"{items:,}",
        seconds,
        encoded / max(seconds, 1e-9),
        manner.precision,
        manner.device,
        manner.batch_size,
        manner.workers,
        "" if manner.workers == 1 else "s",
    )
