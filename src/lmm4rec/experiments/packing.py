"""From a finished run to its bundle: what search and new items need comes along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lmm4rec.core.registry import hyper_parameters
from lmm4rec.core.types import Scorer
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.splits import Split
from lmm4rec.encoders.base import Encoder
from lmm4rec.experiments.plan import ENCODERS, PRECOMPUTED, Plan, make_encoder
from lmm4rec.experiments.pretrained import HasTiny, local_checkpoint, tuned_folder
from lmm4rec.experiments.workbench import Content
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.encoding import EncoderRecord
from lmm4rec.serving.newcomers import Newcomers
from lmm4rec.serving.thumbnails import catalog_thumbnails


def pack(plan: Plan, scorer: Scorer, split: Split, content: Content, card: Mapping[str, Any]) -> Bundle:
    """The bundle of a trained model."""
    dataset = split.dataset
    popular_first = np.argsort(-dataset.interactions.item_counts(dataset.n_items), kind="stable")
    return Bundle.of(
        scorer,
        dataset,
        card,
        thumbnails=catalog_thumbnails(dataset.catalog, popular_first.tolist()),
        features=content.features,
        newcomers=Newcomers() if content.features else None,
        encoder=encoder_record(plan, dataset.catalog),
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
