"""The files of a bundle: safetensors, Parquet and JSON in one folder, whole or not there.

Every file but two carries a digest of its content in its name. `bundle.json` lists them and is replaced last, so a kill
leaves the old bundle or the new one; files that are no longer listed are removed then. `README.md` is the model card.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmm4rec.coldstart.content_to_vectors import ContentToVectors, ModalityShares
from lmm4rec.core.errors import CheckpointError, LMM4RecError
from lmm4rec.core.files import read_json, storage_errors, write_json, write_text
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.types import Embeddings, Features, Modality, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.negative_signals import NegativeSignals
from lmm4rec.features.side_files import SavedSide
from lmm4rec.serving.catalog_view import CatalogEntry, CatalogView
from lmm4rec.serving.encoder_record import EncoderRecord
from lmm4rec.serving.model_card import model_card
from lmm4rec.serving.scorer_tensors import read_scorer, scorer_tensors

VERSION = 2
FACTS = "bundle.json"
_GROUPS = ("vectors", "features", "newcomers", "lost", "origins", "side")
_FRAMES = ("users", "items", "texts", "attributes", "seen", "disliked", "thumbnails")
_VERSION_1 = ("vectors.safetensors", "users.parquet", "items.parquet", "seen.parquet")
_WRITTEN = re.compile(
    r"(vectors|features|newcomers|lost|origins|side|users|items|texts|attributes|seen|disliked|thumbnails|encoder)-[0-9a-f]{16}(\.\w+)?"
)


@dataclass(frozen=True)
class BundleContents:
    """All that the files of a bundle hold."""

    scorer: Scorer
    users: Vocabulary
    catalog: CatalogView
    seen: Interactions
    facts: Mapping[str, Any]
    features: Features
    content_to_vectors: ContentToVectors | None
    encoder: EncoderRecord | None
    lost: Mapping[Modality, Tensor]
    modality_shares: ModalityShares  # a row for each of the last items
    disliked: NegativeSignals


def write(contents: BundleContents, folder: Path, *, copy_encoder: bool = False) -> None:
    """Write a bundle into a folder; it replaces the one that is there.

    With `copy_encoder`, the encoder's weights are copied; else they stay where they are, unless a bundle holds them.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _write(contents, folder, copy_encoder=copy_encoder)
        except BaseException:
            with suppress(LMM4RecError, OSError):  # the first error counts
                _remove_unlisted(folder, keep={*_listed_files(folder), *_VERSION_1})  # what was written of the new one
            raise


def _listed_files(folder: Path) -> set[str]:
    """The files and folders of the bundle that is there."""
    listed = read_json(folder / FACTS) if (folder / FACTS).exists() else {}
    return {Path(name).parts[0] for name in listed.get("files", {})}


def _write(contents: BundleContents, folder: Path, *, copy_encoder: bool) -> None:
    tensors, kind = scorer_tensors(contents.scorer)
    listed: dict[str, Any] = {"version": VERSION, "kind": kind, "catalog_items": len(contents.catalog.catalog)}
    halves = {"features": contents.features, "lost": contents.lost}
    groups = {name: {m: x.half().contiguous() for m, x in group.items()} for name, group in halves.items()}
    groups |= {"vectors": tensors, "origins": {m: x.contiguous() for m, x in contents.modality_shares.items()}}
    if isinstance(contents.scorer, Embeddings):
        listed["parts"] = {part: [s.start, s.stop] for part, s in contents.scorer.parts.items()}
    if contents.content_to_vectors is not None:
        listed["newcomers"], groups["newcomers"] = contents.content_to_vectors.serialize()
    if contents.encoder is not None and contents.encoder.side is not None:
        groups["side"] = dict(contents.encoder.side.weights)
    names = {stem: _placed(folder, stem, ".parquet", x.write_parquet) for stem, x in _frames(contents).items()}
    names |= {
        stem: _placed(folder, stem, ".safetensors", partial(save_file, group))
        for stem, group in groups.items()
        if group
    }
    files = [folder / name for name in names.values()]
    if contents.encoder is not None:
        encoder = _placed_encoder(contents.encoder, folder, copy_encoder)
        listed["encoder"] = encoder | ({"side": contents.encoder.side.facts} if contents.encoder.side else {})
        files += _files_in(folder / encoder["copy"]) if "copy" in encoder else []
    listed |= {"stems": names, "files": {str(path.relative_to(folder)): _digest(path) for path in files}}
    listed["card"] = dict(contents.facts)
    write_text(folder / "README.md", model_card(listed, _sizes(contents)))
    write_json(folder / FACTS, listed)
    _remove_unlisted(folder, keep={path.relative_to(folder).parts[0] for path in files})


def _sizes(contents: BundleContents) -> dict[str, int]:
    catalog = contents.catalog
    counts = {"users": len(contents.users), "items": len(catalog.ids), "interactions": len(contents.seen)}
    return counts | {"thumbnails": len(catalog.thumbnails)}


def bundle_folder(folder: Path) -> Path:
    """The folder of the bundle of a run folder, or of a folder that is the bundle itself."""
    return folder / "bundle" if (folder / "bundle").is_dir() else folder


def vectors_file(folder: Path) -> Path:
    """The file with the scorer's tensors of a bundle that `read` has read."""
    folder = bundle_folder(folder)
    return folder / str(read_json(folder / FACTS)["stems"]["vectors"])


def read(folder: Path) -> BundleContents:
    """The bundle in a folder, or in the `bundle/` of a run folder.

    Raises:
        CheckpointError: there is no bundle, it is damaged, or of another version.
    """
    folder = bundle_folder(folder)
    if not (folder / FACTS).exists():
        if (conf := folder / "experiment.toml").exists():
            command = f"lmm4rec run {conf} -o {folder} --resume"
            raise CheckpointError(f"the run in {folder} is not finished: continue it with `{command}`")
        raise CheckpointError(f"there is no bundle in {folder}: give the folder of a finished run")
    try:
        listed = read_json(folder / FACTS)
    except CheckpointError as error:
        why = f"{FACTS} is not readable JSON"
        raise CheckpointError(f"the bundle in {folder} is damaged ({why}); run the experiment again") from error
    if (version := listed.get("version")) != VERSION:
        older = isinstance(version, int) and version < VERSION
        hint = "run the experiment again" if older else "install a newer lmm4rec"
        raise CheckpointError(f"{folder} has bundle version {version}, this release reads {VERSION}: {hint}")
    try:
        _check_files(folder, listed["files"])
        return _contents(folder, listed)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        if read_json(folder / FACTS) != listed:  # replaced meanwhile, which has removed its files
            return read(folder)
        raise CheckpointError(f"the bundle in {folder} is damaged ({error}); run the experiment again") from error


def _contents(folder: Path, listed: Mapping[str, Any]) -> BundleContents:
    names: Mapping[str, str] = listed["stems"]
    frames = {stem: pl.read_parquet(folder / names[stem], glob=False) for stem in _FRAMES if stem in names}
    groups = {stem: load_file(folder / names[stem]) for stem in _GROUPS if stem in names}
    users, items = Vocabulary(frames["users"]["id"], kind="user"), frames["items"]
    parts = {part: slice(*ends) for part, ends in listed.get("parts", {}).items()}
    seen = frames["seen"]
    times = seen["timestamp"].to_numpy() if "timestamp" in seen.columns else None
    encoder = listed.get("encoder")
    return BundleContents(
        read_scorer(groups["vectors"], listed["kind"], parts, (len(users), items.height, listed["catalog_items"])),
        users,
        replace(
            _catalog(items, frames["texts"], frames["thumbnails"], listed["catalog_items"]),
            attributes=frames.get("attributes", pl.DataFrame()),
        ),
        Interactions(seen["user"].to_numpy().astype(np.int32), seen["item"].to_numpy().astype(np.int32), None, times),
        listed["card"],
        groups.get("features", {}),
        ContentToVectors.deserialize(listed["newcomers"], groups["newcomers"]) if "newcomers" in listed else None,
        _encoder(encoder, folder, groups) if encoder else None,
        groups.get("lost", {}),
        groups.get("origins", {}),
        NegativeSignals.from_frame(frames["disliked"]) if "disliked" in frames else NegativeSignals(),
    )


def _encoder(values: Mapping[str, Any], folder: Path, groups: Mapping[str, Mapping[str, Tensor]]) -> EncoderRecord:
    record = EncoderRecord.from_json(values, inside=folder / values.get("copy", "."))
    side = SavedSide(values["side"], groups["side"]) if "side" in values else None
    return replace(record, held="copy" in values, side=side)


def _frames(contents: BundleContents) -> dict[str, pl.DataFrame]:
    catalog, seen = contents.catalog, contents.seen
    items = {
        "id": pl.Series([*catalog.catalog, *(entry.id for entry in catalog.added)], dtype=pl.String),
        "title": pl.Series([*catalog.titles, *(entry.title for entry in catalog.added)], dtype=pl.String),
        "removed": pl.Series([row in catalog.removed for row in range(len(catalog))], dtype=pl.Boolean),
    }
    first = len(catalog.catalog)
    added = {first + i: entry.thumbnail for i, entry in enumerate(catalog.added) if entry.thumbnail}
    images = {**catalog.thumbnails, **added}
    log = pl.DataFrame({"user": seen.users, "item": seen.items})
    attributes = {"attributes": catalog.attributes} if catalog.attributes.width else {}
    disliked = {"disliked": contents.disliked.to_frame()} if len(contents.disliked) else {}
    return (
        attributes
        | disliked
        | {
            "users": pl.DataFrame({"id": pl.Series(list(contents.users), dtype=pl.String)}),
            "items": pl.DataFrame(items),
            "texts": _texts(catalog),
            "seen": log if seen.timestamps is None else log.with_columns(timestamp=pl.Series(seen.timestamps)),
            "thumbnails": pl.DataFrame(
                {"row": list(images), "webp": list(images.values())}, schema={"row": pl.Int64, "webp": pl.Binary}
            ),
        }
    )


def _texts(catalog: CatalogView) -> pl.DataFrame:
    """The texts of all rows; a catalog without texts gets the columns of the added items."""
    new = list(dict.fromkeys(key for entry in catalog.added for key in entry.fields))
    columns = catalog.fields.columns or new
    schema = dict.fromkeys(columns, pl.String)
    empty = pl.DataFrame({key: [""] * len(catalog.catalog) for key in columns})
    known = catalog.fields if catalog.fields.width else empty
    added = {key: [entry.fields.get(key, "") for entry in catalog.added] for key in columns}
    return pl.concat([known.cast(pl.Schema(schema)), pl.DataFrame(added, schema=schema)]) if columns else pl.DataFrame()


def _catalog(items: pl.DataFrame, texts: pl.DataFrame, thumbnails: pl.DataFrame, n_catalog: int) -> CatalogView:
    images = dict(zip(thumbnails["row"].to_list(), thumbnails["webp"].to_list(), strict=True))
    ids, titles = items["id"].to_list(), items["title"].to_list()
    removed = frozenset(items["removed"].arg_true().to_list())
    rows = range(n_catalog, items.height)
    new_texts = texts[n_catalog:].to_dicts() if texts.width else [{} for _ in rows]
    added = tuple(CatalogEntry(ids[row], titles[row], new_texts[row - n_catalog], images.get(row)) for row in rows)
    rows_of_added = {ids[row]: row for row in rows if row not in removed}
    catalog, first = Vocabulary(ids[:n_catalog]), {row: x for row, x in images.items() if row < n_catalog}
    return CatalogView(catalog, titles[:n_catalog], texts[:n_catalog], first, added, removed, rows_of_added)


def _placed(folder: Path, stem: str, suffix: str, save: Callable[[Path], object]) -> str:
    """The name of a file that `save` wrote: its stem and a digest of its content."""
    beside = folder / f".{stem}.{os.getpid()}.part"
    try:
        save(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        name = f"{stem}-{_digest(beside)[:16]}{suffix}"
        beside.replace(folder / name)
    finally:
        beside.unlink(missing_ok=True)
    return name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{name} is missing")
        if _digest(path) != digest:
            raise ValueError(f"{name} is not what was written: its checksum differs")


def _remove_unlisted(folder: Path, keep: set[str]) -> None:
    """Remove the files of earlier bundles in the folder."""
    for path in folder.iterdir():
        if path.name in keep or not (_WRITTEN.fullmatch(path.name) or path.name in _VERSION_1):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _placed_encoder(encoder: EncoderRecord, folder: Path, copy: bool) -> dict[str, Any]:
    """The encoder's record as JSON can hold it; "copy" is the name of the folder with the copied weights."""
    if not (copy or encoder.held):
        return encoder.to_json(folder)
    beside = folder / f".encoder.{os.getpid()}.part"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        copied = encoder.copied(beside)
        if not beside.exists():  # no part of it has weights
            return copied.to_json(folder)
        name = f"encoder-{fingerprint([_digest(path) for path in _files_in(beside)])[:16]}"
        values = copied.to_json(beside)
        if not (folder / name).exists():
            beside.rename(folder / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return values | {"copy": name}


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
