"""Bundles of runs: the trained model with what search and new items need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.coldstart.fit_content_to_vectors import fit_content_to_vectors
from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.core.progress import quiet
from lmm4rec.core.registry import ENCODERS, hyper_parameters
from lmm4rec.core.sequences import SequenceScorer
from lmm4rec.core.types import Embeddings, Features, Modality, Neighbors, NonNegativeInt, Scorer
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.splits import Split
from lmm4rec.encoders.base import is_encoder
from lmm4rec.evaluation.known_sequences import sequences_of
from lmm4rec.experiments.build.data import DataCache, popular_thumbnails
from lmm4rec.experiments.build.encoders import finetune, local_checkpoint, make_encoder
from lmm4rec.experiments.build.features import RunFeatures
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.result import RunMetrics
from lmm4rec.features.side_files import SavedSide
from lmm4rec.recommenders.base import Recommender
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.bundle_files import FACTS
from lmm4rec.serving.encoder_record import EncoderRecord

_ABLATED_ITEMS = 20_000  # up to which vectors are computed once more for each modality: item graphs take a while
_FILES = {"checkpoint", "tokenizer"}  # arguments of encoders that may be paths; they are made absolute


def pack(
    plan: Plan,
    recommender: Recommender,
    scorer: Scorer,
    split: Split,
    run_features: RunFeatures,
    thumbnails: Mapping[int, bytes],
    metrics: RunMetrics,
    test_error: Mapping[str, float],
    trained: Path,
) -> Bundle:
    """The bundle of a trained model; `trained` is the folder of an encoder that was trained with it end to end.

    `test_error` are the standard errors of the test metrics over users, which the page of a service shows.

    It holds features only where something reads them: a search, which takes an encoder, or new items of a model
    without vectors and without maps of its own. They are those of the encoder; the maps from new ones rotate them.
    """
    dataset, features, axes = split.dataset, run_features.of_encoder, run_features.axes
    encoder = encoder_record(plan, dataset.catalog, trained)
    paths = {m: path._replace(axes=axes.get(m)) for m, path in recommender.content_projections().items()}

    def as_new(items: Int[Tensor, " chosen"], _: Features) -> Float[Tensor, "chosen items"]:
        return recommender.similarity_as_new(items, run_features.features)

    content_to_vectors = fit_content_to_vectors(scorer, features, split.train, paths, as_new) if features else None
    if isinstance(scorer, SequenceScorer):  # users are asked about after all that is known
        scorer = scorer.of_sequences(sequences_of([dataset.interactions], dataset.n_users))
    nearest_by_content = isinstance(scorer, Neighbors) and not (content_to_vectors and content_to_vectors.paths)
    return Bundle.of(
        scorer,
        dataset,
        _card(plan, metrics) | {"test_error": dict(test_error)},
        thumbnails=thumbnails,
        features=features if encoder or nearest_by_content else {},
        content_to_vectors=content_to_vectors,
        encoder=encoder,
        lost=lost_without(recommender, scorer, run_features.features),
    )


def lost_without(recommender: Recommender, scorer: Scorer, features: Features) -> dict[Modality, Tensor]:
    """The difference of the item vectors without each modality, for a model that mixes its parts in all columns.

    The vectors are computed once more while all items lack the modality. Empty where each part has its own columns,
    where there is one modality or none, for large catalogs, and for a model that cannot do without it.
    """
    wanted = isinstance(scorer, Embeddings) and not scorer.parts and len(features) > 1
    if not wanted or scorer.n_items > _ABLATED_ITEMS:
        return {}
    assert isinstance(scorer, Embeddings)
    found: dict[Modality, Tensor] = {}
    for modality, x in features.items():
        with torch.inference_mode():
            other = recommender.embed({**features, modality: torch.zeros_like(x)})
        if not isinstance(other, Embeddings) or not other.items.isfinite().all():
            return {}
        found[modality] = (scorer.items - other.items).clone()
    return found


def export(run: Path, out: Path, *, copy_encoder: bool = True, thumbnails: NonNegativeInt = 5000) -> Bundle:
    """Write the bundle of a finished run to a folder of its own; the most popular items get `thumbnails`.

    They are read from the run's data, which must still be there; a bundle without its run keeps those it has. With
    `copy_encoder` the encoder's weights come along, so that nothing else is needed to search and to add items.

    Raises:
        CheckpointError: there is no bundle, or it is damaged.
        ConfigError: `out` holds something else than a bundle.
    """
    if out.exists() and any(out.iterdir()) and not (out / FACTS).exists():
        raise ConfigError(f"{out} is not empty and holds no bundle; name another folder")
    bundle = Bundle.load(run)
    if RunFolder(run).experiment.exists():
        dataset = DataCache().dataset(RunFolder(run).plan())
        if list(dataset.items) != list(bundle.items):
            raise CheckpointError(
                f"the data of {run} has other items than when it ran; run it again (of a night: export the live folder)"
            )
        bundle.set_thumbnails(popular_thumbnails(dataset, limit=thumbnails))
    bundle.save_pretrained(out, copy_encoder=copy_encoder)
    return bundle


def encoder_record(plan: Plan, catalog: Catalog, trained: Path) -> EncoderRecord | None:
    """The record from which a bundle loads the plan's encoder; None where features were read from files or not used."""
    if plan.encoder is None or plan.encoder.is_precomputed:
        return None
    table, features = plan.encoder.table, plan.features
    if features.train == "finetuned":
        with quiet():
            encoder = make_encoder(table, catalog)
            return EncoderRecord(plan.encoder.name, {}, finetune(encoder, catalog, features.finetune_arguments))
    if features.train == "end2end":
        if features.adapter == "side":  # the encoder has not changed
            return replace(_record(table, catalog), side=SavedSide.read(trained))
        return _record(table, catalog, trained)
    return _record(table, catalog)


def _card(plan: Plan, metrics: RunMetrics) -> dict[str, Any]:
    """The facts of the model card."""
    record = metrics.to_json()
    facts = {"model": plan.recommender.label, "encoder": plan.encoder_label, "title": plan.title}
    return facts | {name: record[name] for name in ("data", "test", "cost")}


def _record(table: Mapping[str, Any], catalog: Catalog, trained: Path | None = None) -> EncoderRecord:
    """The record of an [encoder] table; trained weights are in `trained`, those of a paired encoder by their names."""
    component = ENCODERS.get(table["name"])
    sides = [key for key, one in hyper_parameters(component).items() if is_encoder(one.annotation) and table.get(key)]
    if trained and not sides and trained.is_dir():
        return EncoderRecord(table["name"], {}, trained)
    arguments = {key: value for key, value in table.items() if key != "name" and value is not None}
    for key in sides:
        arguments[key] = _record(table[key], catalog, trained / key if trained else None)
    with quiet():
        arguments |= local_checkpoint(component, arguments, catalog)
    for key in _FILES & arguments.keys():  # a hub name stays as it is
        path = Path(arguments[key])
        arguments[key] = str(path.absolute()) if path.exists() else arguments[key]
    return EncoderRecord(table["name"], arguments)
