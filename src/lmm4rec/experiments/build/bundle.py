"""From a finished run to its bundle: what search and new items need comes along."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmm4rec.coldstart.fit_content_to_vectors import fit_content_to_vectors
from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.core.progress import quiet
from lmm4rec.core.registry import ENCODERS, hyper_parameters
from lmm4rec.core.types import Embeddings, Features, Modality, Neighbors, NonNegativeInt, Scorer
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.splits import Split
from lmm4rec.encoders.base import Encoder
from lmm4rec.experiments.build.own_encoders import HasTiny, local_checkpoint, tuned_folder
from lmm4rec.experiments.build.workbench import Content, Workbench, popular_thumbnails
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import PRECOMPUTED, Plan, make_encoder, make_plan
from lmm4rec.features.side_files import SavedSide
from lmm4rec.recommenders.base import Recommender
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.bundle_files import FACTS
from lmm4rec.serving.encoder_record import EncoderRecord

_ABLATED_ITEMS = 20_000  # up to which vectors are made once more for each modality: item graphs take a while
_FILES = {"checkpoint", "tokenizer"}  # arguments of encoders that may be paths, which are found from elsewhere too


def pack(
    plan: Plan,
    recommender: Recommender,
    scorer: Scorer,
    split: Split,
    content: Content,
    thumbnails: Mapping[int, bytes],
    card: Mapping[str, Any],
    trained: Path,
) -> Bundle:
    """The bundle of a trained model; `trained` is where an encoder lies that was in training with it.

    It holds features only where something looks at them: a search, which takes an encoder, or new items of a model
    without vectors.
    """
    dataset, features = split.dataset, content.features
    encoder = encoder_record(plan, dataset.catalog, trained)
    content_to_vectors = (
        fit_content_to_vectors(scorer, features, split.train, recommender.content_projections()) if features else None
    )
    return Bundle.of(
        scorer,
        dataset,
        card,
        thumbnails=thumbnails,
        features=features if encoder or isinstance(scorer, Neighbors) else {},
        content_to_vectors=content_to_vectors,
        encoder=encoder,
        lost=lost_without(recommender, scorer, features),
    )


def lost_without(recommender: Recommender, scorer: Scorer, features: Features) -> dict[Modality, Tensor]:
    """For a model that mixes its parts in all columns: what the item vectors lose without each modality.

    The model makes its vectors once more while all items lack the modality. Empty where the columns tell the parts
    apart, where there is one modality or none, for large catalogs, and for a model that cannot do without it.
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
    """Write the bundle of a finished run to a folder of its own; the most liked items get `thumbnails`.

    These are read from the run's data, which must still be there; a bundle without its run keeps what it has. With
    `copy_encoder` the encoder's weights come along, so that nothing else is needed to search and to add items.

    Raises:
        CheckpointError: there is no bundle, or it is damaged.
        ConfigError: `out` holds something else than a bundle.
    """
    if out.exists() and any(out.iterdir()) and not (out / FACTS).exists():
        raise ConfigError(f"{out} is not empty and holds no bundle; name another folder")
    bundle = Bundle.load(run)
    conf = run / "experiment.toml"
    if conf.exists():
        tables = {key: value for key, value in tomllib.loads(conf.read_text(encoding="utf-8")).items() if key != "name"}
        plan = make_plan(load_spec(tables))
        dataset = Workbench().dataset(plan)
        if list(dataset.items) != list(bundle.items):
            raise CheckpointError(f"the data of {run} has other items than when it ran; run it again")
        bundle.set_thumbnails(popular_thumbnails(dataset, limit=thumbnails))
    bundle.save_pretrained(out, copy_encoder=copy_encoder)
    return bundle


def encoder_record(plan: Plan, catalog: Catalog, trained: Path) -> EncoderRecord | None:
    """How the plan's encoder is found again; None where there is none, or none that gives the features by itself."""
    table = plan.tables.get("encoder")
    if table is None or table["name"] == PRECOMPUTED:
        return None
    features = plan.tables["features"]
    if features["train"] == "finetuned":
        with quiet():
            encoder = make_encoder(table, catalog)
            return EncoderRecord(table["name"], {}, tuned_folder(encoder, catalog, features["finetune"]))
    if features["train"] == "end2end":
        if features["adapter"] == "side":  # the encoder is as it was
            return replace(_record(table, catalog), side=SavedSide.read(trained))
        return _record(table, catalog, trained)
    return _record(table, catalog)


def _record(table: Mapping[str, Any], catalog: Catalog, trained: Path | None = None) -> EncoderRecord:
    """The record of an [encoder] table; what of it was in training is in `trained`, its sides by their names."""
    component = ENCODERS.get(table["name"])
    sides = [key for key, parameter in hyper_parameters(component).items() if parameter.annotation is Encoder]
    if trained and not sides and trained.is_dir():
        return EncoderRecord(table["name"], {}, trained)
    arguments = {key: value for key, value in table.items() if key != "name" and value is not None}
    for key in sides:
        arguments[key] = _record(table[key], catalog, trained / key if trained else None)
    if isinstance(component, HasTiny):
        with quiet():
            arguments["checkpoint"] = local_checkpoint(
                component, arguments["checkpoint"], catalog, text=arguments["text"]
            )
    for key in _FILES & arguments.keys():  # a hub name stays as it is
        path = Path(arguments[key])
        arguments[key] = str(path.absolute()) if path.exists() else arguments[key]
    return EncoderRecord(table["name"], arguments)
