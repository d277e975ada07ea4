"""Encoders of [encoder] tables, and the checkpoints that lmm4rec creates itself in the cache."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from lmm4rec.core.device import choose_device
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import cache_folder, read_json, storage_errors, write_json
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.progress import is_quiet
from lmm4rec.core.registry import ENCODERS, hyper_parameters
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.sources.toyshop import pretraining_catalog
from lmm4rec.distributed import process_group
from lmm4rec.encoders.base import DEFAULT_TEXT, Encoder, is_encoder
from lmm4rec.encoding.sizing import resolve_precision
from lmm4rec.nn.text import render
from lmm4rec.training.finetuning import fit_pairs, recipe_of
from lmm4rec.training.recipes import recipe_record


def make_encoder(table: Mapping[str, Any], catalog: Catalog | None) -> Encoder:
    """The encoder of an [encoder] table, the encoders inside it included.

    The catalog gives the vocabulary of a checkpoint that lmm4rec creates itself.
    """
    return _constructed(with_checkpoints(table, catalog))


def with_checkpoints(table: Mapping[str, Any], catalog: Catalog | None) -> dict[str, Any]:
    """An [encoder] table with the folders of the checkpoints that lmm4rec creates itself, now where there are none."""
    component, found = ENCODERS.get(table["name"]), dict(table)
    found |= {key: with_checkpoints(table[key], catalog) for key in _encoders_in(table)}
    return found | local_checkpoint(component, found, catalog)


def _constructed(table: Mapping[str, Any]) -> Encoder:
    arguments = {key: value for key, value in table.items() if key != "name"}
    arguments |= {key: _constructed(table[key]) for key in _encoders_in(table)}
    return cast(Encoder, ENCODERS.get(table["name"])(**arguments))


def _encoders_in(table: Mapping[str, Any]) -> list[str]:
    """The keys under which an [encoder] table has those of other encoders."""
    parameters = hyper_parameters(ENCODERS.get(table["name"])).items()
    return [key for key, one in parameters if is_encoder(one.annotation) and isinstance(table.get(key), Mapping)]


TINY, TOYSHOP = "tiny", "toyshop"
SHIPPED = Path(str(files("lmm4rec.toyshop"))) / "encoders"
TRAINING = "training.json"  # beside a fine-tuned encoder: options, history, held-out retrieval before and after
_TOYSHOP_ITEMS = 4000
_TOYSHOP_TRAINING = {
    "epochs": 6, "batch_size": 64, "learning_rate": 5e-4, "weight_decay": 0.05, "patience": 0,
    "precision": "float32", "vl_weight": 0.0, "matching_weight": 0.0,
}  # fmt: skip


def local_checkpoint(component: type[Encoder], arguments: Mapping[str, Any], catalog: Catalog | None) -> dict[str, str]:
    """The argument `checkpoint` of an encoder whose checkpoint lmm4rec creates itself; empty for any other.

    "tiny": a small untrained model whose vocabulary is learned from the catalog, to be fine-tuned on it.
    "toyshop": the same, pre-trained on the toy shop's second catalog, which shares no item with the shop's.

    Raises:
        ConfigError: the encoder has no tiny version, or there is no catalog to learn a vocabulary from.
    """
    name = arguments.get("checkpoint")
    if name not in (TINY, TOYSHOP):
        return {}
    if not component.has_tiny():
        raise ConfigError(f"{component.__name__} has no checkpoint '{name}': name a folder, a file or a hub name")
    if name == TOYSHOP:
        return {"checkpoint": str(toyshop_encoder(component))}
    if catalog is None:
        raise ConfigError("the vocabulary of checkpoint 'tiny' is learned from a catalog: pass catalog=dataset.catalog")
    default = DEFAULT_TEXT if "text" in hyper_parameters(component) else ""  # what the vocabulary is learned from
    return {"checkpoint": str(tiny_encoder(component, catalog, text=arguments.get("text", default)))}


def tiny_encoder(component: type[Encoder], catalog: Catalog, *, text: str, seed: int = 0) -> Path:
    """The folder of a small untrained encoder with the catalog's vocabulary."""
    texts = [render(text, item.fields) for item in catalog]
    folder = _folder(f"tiny-{component.__name__.lower()}", texts, seed)
    return _created(folder, lambda beside: component.write_tiny(beside, texts, seed=seed))


def toyshop_encoder(component: type[Encoder]) -> Path:
    """The folder of the small encoder that is pre-trained on the toy shop's second catalog.

    Where one comes with the package (made by `benchmarks/toyshop_encoder.py`), it is that one.
    """
    shipped = SHIPPED / component.__name__.lower()
    if shipped.is_dir():
        return shipped
    catalog = pretraining_catalog(seed=1, items=_TOYSHOP_ITEMS)
    folder = tiny_encoder(component, catalog, text=DEFAULT_TEXT)
    encoder = component(checkpoint=str(folder))
    return finetune(encoder, catalog, _TOYSHOP_TRAINING)


def finetuned(encoder: Encoder, catalog: Catalog, options: Mapping[str, Any]) -> tuple[Encoder, float]:
    """The encoder after fine-tuning on the catalog's pairs of image and text (see `fit_pairs`).

    Beside it the seconds that fine-tuning took, now or in an earlier run.
    """
    folder = finetune(encoder, catalog, options)
    return type(encoder).from_pretrained(folder), read_json(folder / TRAINING).get("seconds", 0.0)


def finetune(encoder: Encoder, catalog: Catalog, options: Mapping[str, Any]) -> Path:
    """The folder of the encoder after fine-tuning; an interrupted one is continued, a finished one not repeated.

    Raises:
        ConfigError: the encoder cannot be saved, so its fine-tuned weights would be lost.
    """
    folder, numbers = finetuned_folder(encoder, catalog, options), finetuning_record(encoder, options)
    options = _resolved(encoder, options)

    def create(beside: Path) -> None:
        state = folder.with_suffix(".state.safetensors")
        tuned = fit_pairs(encoder, catalog[:], state, **options)
        if not process_group.is_first():
            return
        encoder.save_pretrained(beside)  # type: ignore[operator]
        record = {"options": options, "before": tuned.before, "after": tuned.after, "best_epoch": tuned.best_epoch}
        record |= {
            "fine_tuning": numbers,
            "seconds": round(tuned.seconds, 3),
            "epochs": [dict(row) for row in tuned.rows],
        }
        write_json(beside / TRAINING, record)
        state.unlink(missing_ok=True)

    with process_group.initialized():
        folder = _created(folder, create, keep=process_group.is_first())
        process_group.barrier()
    if not is_quiet():
        logging.getLogger(__name__).info("the fine-tuned encoder is in %s", folder)
    return folder


def finetuned_folder(encoder: Encoder, catalog: Catalog, options: Mapping[str, Any]) -> Path:
    """The folder of the encoder after fine-tuning with these arguments of `fit_pairs`; it may not be there yet.

    Raises:
        ConfigError: the encoder cannot be saved, so its fine-tuned weights would be lost.
    """
    if not hasattr(encoder, "save_pretrained"):
        raise ConfigError(
            f"{type(encoder).__name__} cannot be fine-tuned; take an encoder that can, such as 'clip'"
            + (", and name its fine-tuned folder as the checkpoint of both sides" if encoder.sub_encoders() else "")
        )
    contents = [encoder.item_digest(item) for item in catalog]
    return _folder(
        "tuned", encoder.fingerprint(), contents, _resolved(encoder, options), finetuning_record(encoder, options)
    )


def finetuning_record(encoder: Encoder, options: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of fine-tuning with these arguments of `fit_pairs`, as the recipe and the options together say."""
    return {"recipe": options.get("recipe", "plain"), **recipe_record(recipe_of(encoder, options))}


def _resolved(encoder: Encoder, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the precision that "auto" means here: the fine-tuned weights depend on it."""
    device = choose_device(options.get("device", "auto"))
    return {**options, "precision": resolve_precision(options.get("precision", "auto"), encoder, device)}


def _folder(kind: str, *parts: object) -> Path:
    return cache_folder() / "encoders" / f"{kind}-{fingerprint(*parts)}"


def _created(folder: Path, create: Callable[[Path], None], *, keep: bool = True) -> Path:
    """The folder, created beside and renamed where it is not there yet: it is complete or absent.

    Without `keep` it is thrown away: another process creates it too.
    """
    if folder.exists():
        return folder
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    with storage_errors(folder):
        beside.mkdir(parents=True, exist_ok=True)
        try:
            create(beside)
            if keep and not folder.exists():  # another process may have been faster
                beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder
