"""Extraction: the vectors of a whole catalog, each item encoded only once in all runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import DataLoader

from lmm4rec.core.errors import DataError
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Features, Inputs, Item, Modality, NonNegativeInt, PositiveInt
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.features.store import FeatureStore, Rows

__all__ = ["Extracted", "encode", "extract"]

Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Extracted:
    """The vectors of a catalog (memory-mapped float32) and what it took to get them."""

    features: Features
    broken: tuple[str, ...]  # ids of items whose picture cannot be read
    encoded: int  # items that went through the encoder
    reused: int  # items whose vectors were in the store, or are those of an identical item
    seconds: float


def encode(
    encoder: Encoder,
    catalog: Catalog,
    *,
    store: FeatureStore | None = None,
    batch_size: PositiveInt = 64,
    workers: NonNegativeInt = 0,
    device: str = "cpu",
    precision: Precision = "float32",
    shown: bool = True,
) -> Features:
    """The vectors of a catalog, row i for item i; from the feature store where they are there already.

    Pictures that cannot be read are logged; such an item counts as having none.
    """
    extracted = extract(
        encoder,
        catalog,
        store=FeatureStore() if store is None else store,
        batch_size=batch_size,
        workers=workers,
        device=device,
        precision=precision,
        shown=shown,
    )
    if extracted.broken:
        logging.getLogger(__name__).warning(
            "%d of %d items have a picture that cannot be read and count as having none: %s%s",
            len(extracted.broken),
            len(catalog),
            ", ".join(extracted.broken[:10]),
            ", ..." if len(extracted.broken) > 10 else "",
        )
    return extracted.features


def extract(
    encoder: Encoder,
    catalog: Catalog,
    *,
    store: FeatureStore,
    batch_size: PositiveInt = 64,
    workers: NonNegativeInt = 0,
    device: str = "cpu",
    precision: Precision = "float32",
    block_size: PositiveInt = 512,
    shown: bool = True,
) -> Extracted:
    """The vectors of a catalog, and how many items had to be encoded.

    They are taken from the store where the same encoder has encoded the same catalog in this precision. Else rows of
    items that it has encoded in another catalog are copied, and the others are encoded, identical ones once. Every
    `block_size` items are stored when they are done: after a kill, the same call goes on there and ends with the same
    bytes. Device, batch size and workers are not part of what a stored entry is found by.

    The encoder learns the catalog and is left on `device`. `workers` prepare batches in processes of their own.

    Raises:
        DataError: the encoder gives a vector that is not finite.
    """
    started = time.perf_counter()
    items = catalog[:]
    encoder.learn_catalog(items)
    contents = [fingerprint(encoder.content(item)) for item in items]
    made_by = {"encoder_fingerprint": encoder.fingerprint(), "precision": precision}
    key = fingerprint("features", made_by, [item.id for item in items], contents)
    rows, encoded = store.read(key), 0
    if rows is None:
        table = _Table(items, contents, encoder.dims)
        for known in store.known(key, **made_by):
            table.fill(known)
        missing = table.missing_items()
        encoded = len(missing)
        bar = progress(total=encoded, description="encoding", unit="item", shown=shown)
        with bar, _evaluating(encoder.to(device)):
            parts = _encode(
                encoder,
                missing,
                block_size=block_size,
                batch_size=batch_size,
                workers=workers,
                device=device,
                precision=precision,
                bar=bar,
            )
            for part in parts:
                store.write_part(key, part)
                table.fill(part)
        rows = table.rows(contents)
        store.write(key, rows, encoder=type(encoder).__name__, broken=_broken(items, rows), **made_by)
        rows = store.read(key) or rows  # memory-mapped from here on
    return Extracted(
        features=rows.features,
        broken=tuple(_broken(items, rows)),
        encoded=encoded,
        reused=len(items) - encoded,
        seconds=time.perf_counter() - started,
    )


class _Table:
    """The vectors of a catalog's distinct contents while they are gathered."""

    def __init__(self, items: Sequence[Item], contents: Sequence[str], dims: Mapping[Modality, int]) -> None:
        self.items: dict[str, Item] = {}  # the first item of each content
        for item, content in zip(items, contents, strict=True):
            self.items.setdefault(content, item)
        self.row_of = {content: row for row, content in enumerate(self.items)}
        self.missing = dict(self.row_of)
        self.features = {modality: torch.zeros(len(self.items), dim) for modality, dim in dims.items()}
        self.broken = torch.zeros(len(self.items), dtype=torch.bool)

    def missing_items(self) -> dict[str, Item]:
        """The items that have no vectors yet, by content."""
        return {content: self.items[content] for content in self.missing}

    def fill(self, known: Rows) -> None:
        """Copy the rows that are missing here."""
        found = {content: row for row, content in enumerate(known.contents) if content in self.missing}
        source = torch.tensor(list(found.values()), dtype=torch.int64)
        target = torch.tensor([self.missing.pop(content) for content in found], dtype=torch.int64)
        for modality, vectors in self.features.items():
            vectors[target] = known.features[modality][source]
        self.broken[target] = known.broken[source]

    def rows(self, contents: Sequence[str]) -> Rows:
        """The vectors of the given contents, in their order."""
        if len(contents) == len(self.row_of):
            return Rows(tuple(contents), self.features, self.broken)
        rows = torch.tensor([self.row_of[content] for content in contents], dtype=torch.int64)
        features = {modality: vectors[rows] for modality, vectors in self.features.items()}
        return Rows(tuple(contents), features, self.broken[rows])


def _encode(
    encoder: Encoder,
    missing: Mapping[str, Item],
    *,
    block_size: int,
    batch_size: int,
    workers: int,
    device: str,
    precision: Precision,
    bar: Any,
) -> Iterator[Rows]:
    """The vectors of the items (by content), block by block.

    No batch reaches over the end of a block, so that a restart after any block makes the same batches.
    """
    if not missing:
        return
    contents, items = tuple(missing), list(missing.values())
    blocks = [_cut(block, batch_size) for block in _cut(range(len(items)), block_size)]
    loader: DataLoader[Any] = DataLoader(
        cast(Any, items),
        batch_sampler=cast(Any, [batch for block in blocks for batch in block]),
        collate_fn=encoder.prepare,
        num_workers=workers,
        generator=torch.Generator(),  # else it draws from the global one
    )
    prepared = iter(loader)
    for block in blocks:
        encoded = []
        for batch in block:
            chosen = items[batch.start : batch.stop]
            encoded.append(_encode_batch(encoder, chosen, next(prepared), device=device, precision=precision))
            bar.update(len(batch))
        yield Rows(
            contents[block[0].start : block[-1].stop],
            {modality: torch.cat([features[modality] for features, _ in encoded]) for modality in encoder.dims},
            torch.cat([broken for _, broken in encoded]),
        )


def _cut(rows: range, size: int) -> list[range]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@torch.inference_mode()
def _encode_batch(
    encoder: Encoder, items: Sequence[Item], inputs: Inputs, *, device: str, precision: Precision
) -> tuple[dict[Modality, Tensor], Bool[Tensor, " items"]]:
    """The vectors of a batch on the CPU, zeros where the modality is missing, and which pictures cannot be read."""
    there = Inputs(*(None if values is None else values.to(device) for values in inputs))
    kind = torch.device(device).type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        vectors = encoder(there)
    present = encoder.present(there)
    features = {
        modality: torch.where(present[modality][:, None], vectors[modality].float(), 0.0).cpu()
        for modality in encoder.dims
    }
    for modality, rows in features.items():
        wrong = (~rows.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if wrong:
            raise DataError(
                f"{type(encoder).__name__} gives item '{items[wrong[0]].id}' a {modality} vector that is not finite "
                f"({precision} on {device}); look at its weights"
            )
    named = torch.tensor([item.picture is not None for item in items], dtype=torch.bool)
    unreadable = torch.zeros_like(named) if inputs.has_image is None else ~inputs.has_image
    return features, named & unreadable


@contextmanager
def _evaluating(encoder: Encoder) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in the mode in which it was."""
    training = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        yield
    finally:
        for module, was_training in training.items():
            module.training = was_training


def _broken(items: Sequence[Item], rows: Rows) -> list[str]:
    return [items[row].id for row in rows.broken.nonzero().flatten().tolist()]
