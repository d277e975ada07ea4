"""Adapters: what trains of an encoder, or beside it, end to end, and how it is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

from typing_extensions import Doc

from lmm4rec.core.device import choose_device
from lmm4rec.core.types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from lmm4rec.data.catalog import Catalog
from lmm4rec.distributed import process_group
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.sizing import ResolvedPrecision
from lmm4rec.features.cached import SideVectors, TopBlocks
from lmm4rec.features.item_vectors import EncodedItems, ItemVectors
from lmm4rec.features.state_cache import StatesCache
from lmm4rec.nn.adapters.lora import add_lora, lora_weights, merged, save_lora

Adapter = Literal["none", "lora", "last", "side"]

Encoding = Mapping[str, Any]
"""Options of encoding: the arguments that [features] shares with `StatesCache`."""


def whole(
    encoder: Encoder,
    catalog: Catalog,
    encoding: Encoding,
    *,
    inputs_mb: Annotated[PositiveInt, Doc("Prepared images of more MiB than this lie in a temporary file.")] = 4096,
) -> ItemVectors:
    """All weights of the encoder train."""
    return EncodedItems(encoder, catalog[:], inputs_mb=inputs_mb, modalities=encoding.get("modalities", ()))


def lora(
    encoder: Encoder,
    catalog: Catalog,
    encoding: Encoding,
    *,
    rank: Annotated[PositiveInt, Doc("Rank of the updates.")] = 8,
    alpha: Annotated[PositiveFloat, Doc("Scale of the updates, divided by the rank.")] = 16.0,
    dropout: Annotated[Fraction, Doc("Dropout before the updates.")] = 0.0,
    targets: Annotated[Sequence[str], Doc("Parts of the names of the linear layers to update; empty: all.")] = (),
    adapter_seed: Annotated[NonNegativeInt, Doc("Seed of the adapter's first weights.")] = 0,
    inputs_mb: Annotated[PositiveInt, Doc("Prepared images of more MiB than this lie in a temporary file.")] = 4096,
) -> ItemVectors:
    """Low-rank updates of the encoder's linear layers train (see `add_lora`)."""
    add_lora(encoder, rank=rank, alpha=alpha, dropout=dropout, targets=targets, seed=adapter_seed)
    return EncodedItems(encoder, catalog[:], inputs_mb=inputs_mb, modalities=encoding.get("modalities", ()))


def last(
    encoder: Encoder,
    catalog: Catalog,
    encoding: Encoding,
    *,
    blocks: Annotated[PositiveInt, Doc("Blocks of each tower that train.")] = 2,
    stored: Annotated[ResolvedPrecision, Doc("Precision in which the states of the blocks are stored.")] = "bfloat16",
) -> ItemVectors:
    """The top `blocks` of each tower and the layers above them train, on states cached in `stored` precision."""
    return TopBlocks(encoder, _filled(make_cache(encoder, catalog, encoding, blocks, stored)))


def side(
    encoder: Encoder,
    catalog: Catalog,
    encoding: Encoding,
    *,
    dim: Annotated[PositiveInt, Doc("Width of the side network.")] = 64,
    stride: Annotated[PositiveInt, Doc("Distance between the blocks whose states it reads.")] = 2,
    stored: Annotated[ResolvedPrecision, Doc("Precision in which the states of the blocks are stored.")] = "bfloat16",
    adapter_seed: Annotated[NonNegativeInt, Doc("Seed of the adapter's first weights.")] = 0,
) -> ItemVectors:
    """A side network trains (see `SideNetwork`); one vector of each state is kept in `stored` precision."""
    cache = make_cache(encoder, catalog, encoding, None, stored)
    return SideVectors(_filled(cache), dim=dim, stride=stride, seed=adapter_seed)


ADAPTERS: Mapping[Adapter, Callable[..., ItemVectors]] = {"none": whole, "lora": lora, "last": last, "side": side}
"""The adapters by name; the keyword-only arguments of each are its keys in [features.end2end]."""


def make_item_vectors(
    encoder: Encoder, catalog: Catalog, adapter: Adapter = "none", encoding: Encoding | None = None, **options: Any
) -> ItemVectors:
    """The trainable vectors of a catalog's items; the options are those of the adapter."""
    encoder.learn_catalog(catalog[:])
    return ADAPTERS[adapter](encoder, catalog, encoding or {}, **options)


def save_adapter(vectors: ItemVectors, folder: Path) -> None:
    """Write what an adapter has trained beside the encoder: LoRA's updates, or the side network."""
    if isinstance(vectors, SideVectors):
        vectors.save(folder)
    elif isinstance(vectors, EncodedItems) and lora_weights(vectors.encoder):
        save_lora(vectors.encoder, folder / "lora.safetensors")


def as_plain(vectors: ItemVectors) -> AbstractContextManager[None]:
    """Within the context LoRA's updates are part of the encoder's weights, so that it can be saved."""
    if isinstance(vectors, EncodedItems) and lora_weights(vectors.encoder):
        return merged(vectors.encoder)
    return nullcontext()


def make_cache(
    encoder: Encoder, catalog: Catalog, encoding: Encoding, top: int | None, stored: ResolvedPrecision
) -> StatesCache:
    """The cache of states of an adapter, not filled yet; `top` as in `cached_top`."""
    options = {**encoding, "device": str(choose_device(encoding.get("device", "auto")))}
    return StatesCache(encoder, catalog, top=top, stored=stored, **options)


def cached_top(adapter: Adapter, options: Mapping[str, Any]) -> int | None:
    """The number of top blocks above an adapter's cache; None for one vector of every state."""
    return options["blocks"] if adapter == "last" else None


def _filled(cache: StatesCache) -> StatesCache:
    with process_group.first_process_first():  # the other processes then find it filled
        cache.fill()
    return cache
