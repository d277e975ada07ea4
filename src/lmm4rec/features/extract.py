"""Extraction: the vectors of a whole catalog, each content encoded only once in all runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch

from lmm4rec.core.errors import DataError
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Features, Item, Modality, NonNegativeInt, PositiveInt
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.batches import EncodingOptions, ResolvedOptions, encode_blocks
from lmm4rec.encoding.runner import evaluating
from lmm4rec.encoding.sizing import Precision, ResolvedPrecision, resolve_precision
from lmm4rec.features.pool_extract import EncodingWorkers, encode_on_pool
from lmm4rec.features.store import FeatureStore
from lmm4rec.features.stored_rows import EncoderIdentity, StoredRows

EncodeOnPool: TypeAlias = Callable[
    [Mapping[str, Item], FeatureStore, str, EncoderIdentity, ResolvedOptions],
    Generator[tuple[StoredRows, float]],
]
_READERS = 8  # threads that read images for their digests
_CHUNK = 64  # items that a thread reads at a time


@dataclass(frozen=True)
class Extracted:
    """The vectors of a catalog (memory-mapped float32) and the cost of encoding it."""

    features: Features
    broken: tuple[str, ...]  # ids of items whose image or sound file cannot be read
    encoded: int  # items that passed through the encoder, or through a part of it
    reused: int  # items whose vectors were in the store, or are those of another item with the same content
    seconds: float  # of this call
    encoding_seconds: float  # of encoding all items, now or in an earlier run; counted as the cost of the features
    precision: ResolvedPrecision


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
    """The vectors of a catalog, row i for item i; read from the feature store where they are already in it.

    Images and sounds that cannot be read are logged, and such an item counts as having none; with `strict` they are an
    error. The other options are those of `extract`.
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
            "an image or sound file of %d of %d items cannot be read; such items count as having none: %s",
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
    modalities: Sequence[Modality] = (),
    pool: EncodingWorkers | None = None,
) -> Extracted:
    """The vectors of a catalog, and how many items had to be encoded.

    They are read from the store where the same encoder has encoded the same catalog in this precision. Else rows of
    contents that it has encoded in another catalog are copied, and the others are encoded, identical ones once: for a
    `separable` encoder, images apart from texts. Long texts come first, so that a batch has texts of about one length.
    Every `block_size` items are stored when they are done: after a kill, the same call goes on there and ends with the
    same bytes. The encoder learns the catalog and is left on `device`.

    Args:
        batch_size: items in a pass; "auto": as many as fit `memory_mb`, MiB of activations without weights.
        workers: processes that prepare batches ahead; "auto": all cores but one, and none for few items.
        precision: "auto": bfloat16 where the device computes it natively and the encoder has weights.
        strict: stop at the first block that holds an image or sound that cannot be read, instead of masking it.
        modalities: those to encode, all where none is named; see `Encoder.with_modalities`.
        pool: workers that encode the blocks; none: this process does, and it gives the same bytes.

    Raises:
        ConfigError: the encoder has no vectors of a modality.
        DataError: the encoder gives a vector that is not finite, or with `strict`, an image cannot be read.
        StorageError: a remote store cannot be written or read; before any work, or in its middle.
    """
    store.check()
    started, items, where = time.perf_counter(), catalog[:], torch.device(device)
    encoder.learn_catalog(items)
    encoder.to(where)
    encoder = encoder.with_modalities(modalities)
    resolved = resolve_precision(precision, encoder, where)
    requested = EncodingOptions(where, resolved, batch_size, memory_mb, workers, block_size)
    features: dict[str, torch.Tensor] = {}
    broken, encoded, encoding_seconds = set[int](), set[str](), 0.0
    for number, part in enumerate(encoder.by_modality()):
        on_pool = None if pool is None else partial(encode_on_pool, pool, number, modalities)
        rows, ids, seconds = _extract_part(part, items, store, requested, strict=strict, on_pool=on_pool)
        features |= rows.features
        broken |= set(rows.broken.nonzero().flatten().tolist())
        encoded |= ids
        encoding_seconds += seconds
    return Extracted(
        features={modality: features[modality] for modality in modalities or encoder.dims},
        broken=tuple(items[row].id for row in sorted(broken)),
        encoded=len(encoded),
        reused=len(items) - len(encoded),
        seconds=time.perf_counter() - started,
        encoding_seconds=encoding_seconds,
        precision=resolved,
    )


def _extract_part(
    encoder: Encoder,
    items: Sequence[Item],
    store: FeatureStore,
    requested: EncodingOptions,
    *,
    strict: bool,
    on_pool: EncodeOnPool | None,
) -> tuple[StoredRows, set[str], float]:
    """The vectors of one part of an encoder, the ids of the items that passed through it, and the seconds for all."""
    contents = contents_of(encoder, items)
    identity = EncoderIdentity(type(encoder).__name__, encoder.fingerprint(), requested.precision, dict(encoder.dims))
    determines = [identity.encoder_fingerprint, identity.precision, list(identity.dims.items())]
    key = fingerprint("features", determines, [item.id for item in items], contents)
    stored = store.read(key)
    if stored is not None:
        if strict:
            _refuse_broken(items, stored.broken.nonzero().flatten().tolist())
        return stored, set(), store.seconds(key)
    rows = ContentRows(items, contents, encoder.dims)
    for known in store.known(key, identity, rows.missing):
        rows.fill(known)
        if not rows.missing:
            break
    encoded = {rows.first[content].id for content in rows.missing}
    seconds = _encode_missing(encoder, items, rows, store, key, identity, requested, strict=strict, on_pool=on_pool)
    whole = rows.whole()
    store.write(key, whole, identity, broken=[items[row].id for row in rows.broken()], seconds=seconds)
    return store.read(key) or whole, encoded, seconds  # memory-mapped from here on


def _encode_missing(
    encoder: Encoder,
    items: Sequence[Item],
    rows: ContentRows,
    store: FeatureStore,
    key: str,
    identity: EncoderIdentity,
    requested: EncodingOptions,
    *,
    strict: bool,
    on_pool: EncodeOnPool | None,
) -> float:
    """Fill the rows from the encoder, and the store with the finished parts.

    Returns the seconds for all distinct contents, at the pace of those that were missing.
    """
    if strict:
        _refuse_broken(items, rows.broken())
    if not rows.missing:
        return 0.0
    by_length = longest_text_first(encoder, rows.first)
    missing = [content for content in by_length if content in rows.missing]
    options = requested.resolve(encoder, rows.first[by_length[0]], len(missing))
    if on_pool is None:
        parts = _encode_here(encoder, [(content, rows.first[content]) for content in missing], options)
    else:
        parts = on_pool({content: rows.first[content] for content in missing}, store, key, identity, options)
    seconds = 0.0
    with closing(parts):  # an error here ends what the encoder was set to
        for some, took in parts:
            if on_pool is None:
                store.write_part(key, some, identity)
            rows.fill(some)
            seconds += took
            if strict:
                _refuse_broken(items, rows.broken())
    _log_summary("+".join(encoder.dims), len(missing), len(items), options, seconds)
    return seconds * len(rows.first) / len(missing)


def _encode_here(
    encoder: Encoder, missing: Sequence[tuple[str, Item]], options: ResolvedOptions
) -> Generator[tuple[StoredRows, float]]:
    """The vectors of the missing contents in blocks, and the seconds that each took, in this process."""
    began = time.perf_counter()
    bar = progress(total=len(missing), description=f"encoding {'+'.join(encoder.dims)}", unit="item")
    contents = [content for content, _ in missing]
    with bar, evaluating(encoder, options.device, options.precision):
        for block in encode_blocks(encoder, [item for _, item in missing], options, bar):
            some = StoredRows.of(contents[block.rows.start : block.rows.stop], block.features, block.broken)
            yield some, time.perf_counter() - began
            began = time.perf_counter()


def longest_text_first(encoder: Encoder, first: Mapping[str, Item]) -> list[str]:
    """The contents by the length of their text, so that a batch has texts of about one length; always in one order."""
    lengths = {content: len(encoder.item_text(item)) if encoder.uses("text") else 0 for content, item in first.items()}
    return sorted(first, key=lambda content: -lengths[content])  # stable


def contents_of(encoder: Encoder, items: Sequence[Item]) -> list[str]:
    """The digests of what the encoder reads of each item; files are read by several threads."""
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    contents: list[str] = []
    bar = progress(total=len(items), description="reading items", unit="item", after_s=2.0)
    reads_files = encoder.uses("image") or encoder.uses("audio")
    with bar, ThreadPoolExecutor(_READERS if reads_files else 1) as readers:
        for some in readers.map(lambda chunk: [encoder.item_digest(item) for item in chunk], chunks):
            contents += some
            bar.update(len(some))
    return contents


def _refuse_broken(items: Sequence[Item], rows: Sequence[int]) -> None:
    if rows:
        raise DataError(
            f"{len(rows)} of the items that were read so far have an image or sound file that cannot be read: "
            f"{_some([items[row].id for row in rows])}; mend these files (`lmm4rec doctor` lists all of a catalog), or "
            "without `strict` let such items count as having none"
        )


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else "")


def _log_summary(name: str, encoded: int, items: int, options: ResolvedOptions, seconds: float) -> None:
    logging.getLogger(__name__).info(
        "%s: encoded %s of %s items in %.1f s, %.1f items/s (%s on %s, batches of %d, %d worker%s)",
        name,
        f"{encoded:,}",
        f"{items:,}",
        seconds,
        encoded / max(seconds, 1e-9),
        options.precision,
        options.device,
        options.batch_size,
        options.workers,
        "" if options.workers == 1 else "s",
    )


class ContentRows:
    """The rows of a catalog's distinct contents, filled from the store and from the encoder until none is missing."""

    def __init__(self, items: Sequence[Item], contents: Sequence[str], dims: Mapping[Modality, int]) -> None:
        """`contents` are the digests of what the encoder reads of each item."""
        self.contents = contents
        self.first: dict[str, Item] = {}  # the first item of each content
        for item, content in zip(items, contents, strict=True):
            self.first.setdefault(content, item)
        self.missing = {content: row for row, content in enumerate(self.first)}
        self._row_of = dict(self.missing)
        self._features = {modality: torch.zeros(len(self.first), dim) for modality, dim in dims.items()}
        self._broken = torch.zeros(len(self.first), dtype=torch.bool)

    def fill(self, known: StoredRows) -> None:
        """Copy the rows that are missing here."""
        copied = {content: row for row, content in enumerate(known.contents) if content in self.missing}
        source = torch.tensor(list(copied.values()), dtype=torch.int64)
        target = torch.tensor([self.missing.pop(content) for content in copied], dtype=torch.int64)
        for modality, vectors in self._features.items():
            vectors[target] = known.features[modality][source]
        self._broken[target] = known.broken[source]

    def whole(self) -> StoredRows:
        """The vectors of all items, in the catalog's order."""
        if len(self.contents) == len(self._row_of):
            return StoredRows.of(self.contents, self._features, self._broken)
        rows = self._content_rows()
        features = {modality: vectors[rows] for modality, vectors in self._features.items()}
        return StoredRows.of(self.contents, features, self._broken[rows])

    def broken(self) -> list[int]:
        """The catalog rows of items whose image could not be read."""
        if not self._broken.any():
            return []
        return self._broken[self._content_rows()].nonzero().flatten().tolist()

    def _content_rows(self) -> torch.Tensor:
        return torch.tensor([self._row_of[content] for content in self.contents], dtype=torch.int64)
