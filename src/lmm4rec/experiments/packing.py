"""From a finished run to its bundle: what search and new items need comes along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lmm4rec.core.registry import hyper_parameters
from lmm4rec.core.types import Neighbors, Scorer
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.splits import Split
from lmm4rec.encoders.base import Encoder
from lmm4rec.experiments.plan import ENCODERS, PRECOMPUTED, Plan, make_encoder
from lmm4rec.experiments.pretrained import HasTiny, local_checkpoint, tuned_folder
from lmm4rec.experiments.workbench import Content
from lmm4rec.recommenders.base import Recommender
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.encoding import EncoderRecord
from lmm4rec.serving.newcomers_fit import fit_newcomers
from lmm4rec.serving.thumbnails import catalog_thumbnails


def pack(
    plan: Plan, recommender: Recommender, scorer: Scorer, split: Split, content: Content, card: Mapping[str, Any]
) -> Bundle:
    """The bundle of a trained model.

    It holds features only where something looks at them: a search, which takes an encoder, or new items of a model
    without vectors.
    """
    dataset, features = split.dataset, content.features
    encoder = encoder_record(plan, dataset.catalog)
    newcomers = fit_newcomers(scorer, features, split.train, recommender.content_paths()) if features else None
    popular_first = np.argsort(-dataset.interactions.item_counts(dataset.n_items), kind="stable")
    return Bundle.of(
        scorer,
        dataset,
        card,
        thumbnails=catalog_thumbnails(dataset.catalog, popular_first.tolist()),
        features=features if encoder or isinstance(scorer, Neighbors) else {},
        newcomers=newcomers,
        encoder=encoder,
    )


def encoder_record(plan: Plan, catalog: Catalog) -> EncoderRecord | None:
    """How the plan's encoder is found again; None where the features came from files or there are none."""
    table = plan.tables.get("encoder")
    if table is None or table["name"] == PRECOMPUTED:
        return None
    features = plan.tables["features"]
    if features["train"] == "finetuned":
        encoder = make_encoder(table, catalog, shown=False)
        return EncoderRecord(table["name"], {}, tuned_folder(encoder, catalog, features["finetune"], shown=False))
    return _record(table, catalog)


def _record(table: Mapping[str, Any], catalog: Catalog) -> EncoderRecord:
    component = ENCODERS.get(table["name"])
    arguments = {key: value for key, value in table.items() if key != "name" and value is not None}
    for key, parameter in hyper_parameters(component).items():
        if parameter.annotation is Encoder:
            arguments[key] = _record(table[key], catalog)
    if isinstance(component, HasTiny):
        arguments["checkpoint"] = local_checkpoint(
            component, arguments["checkpoint"], catalog, text=arguments["text"], shown=False
        )
    return EncoderRecord(table["name"], arguments)
