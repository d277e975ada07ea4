"""What several runs share: data sets, splits and features, made once."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.registry import SOURCES
from lmm4rec.core.types import Features
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.feature_files import read_shipped
from lmm4rec.data.filters import prepare
from lmm4rec.data.findings import Finding
from lmm4rec.data.splits import Split, split
from lmm4rec.encoders.base import Encoder
from lmm4rec.evaluation.alignment import measure_alignment
from lmm4rec.experiments.build.features import broken_images, catalog_features, chosen, untuned
from lmm4rec.experiments.plan import PRECOMPUTED, Plan, make_encoder
from lmm4rec.features.ablation import altered, differs_at_test
from lmm4rec.serving.thumbnails import catalog_thumbnails

_PICTURED = 1000  # small images in a run's bundle: seconds, whatever the catalog; `lmm4rec export` takes more


@dataclass(frozen=True)
class Content:
    """The features of a run, what they cost, and what was odd about them."""

    features: Features
    cost: dict[str, float | int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    made: dict[str, Any] = field(default_factory=dict)  # "precision", "broken_images" (ids); empty if not encoded
    encoder: Encoder | None = None  # to be trained
    tested: Features | None = None  # what the test sees, where that is something else ([features] hide_at)
    alignment: dict[str, Any] = field(default_factory=dict)  # of images and words; "before" and "after" where tuned


class Workbench:
    """Makes the data and the features of plans; what two plans have in common is made once."""

    def __init__(self) -> None:
        self._datasets: dict[str, Dataset] = {}
        self._splits: dict[str, Split] = {}
        self._thumbnails: dict[str, dict[int, bytes]] = {}

    def dataset(self, plan: Plan) -> Dataset:
        """The plan's data set, filtered."""
        key = fingerprint(plan.tables["data"])
        if key not in self._datasets:
            source = SOURCES.get(plan.tables["data"]["name"])
            raw = source(**plan.arguments("data", source))
            self._datasets[key] = prepare(raw, **plan.arguments("data", prepare))
        return self._datasets[key]

    def split(self, plan: Plan) -> Split:
        """The plan's data set in its three parts."""
        key = fingerprint(plan.tables["data"], plan.tables["split"])
        if key not in self._splits:
            method = plan.tables["split"]["method"]
            self._splits[key] = split(self.dataset(plan), method, **plan.arguments("split", split))
            _tell(self._splits[key])
        return self._splits[key]

    def thumbnails(self, plan: Plan) -> dict[int, bytes]:
        """Small images of the plan's most liked items."""
        key = fingerprint(plan.tables["data"])
        if key not in self._thumbnails:
            self._thumbnails[key] = popular_thumbnails(self.dataset(plan), limit=_PICTURED)
        return self._thumbnails[key]

    def content(self, plan: Plan, catalog: Catalog) -> Content:
        """The plan's features; empty for a model without an [encoder] table."""
        if "encoder" not in plan.tables:
            return Content({})
        options: dict[str, Any] = plan.arguments("features", catalog_features)
        modalities = options.pop("modalities")
        if plan.tables["encoder"]["name"] == PRECOMPUTED:
            files = plan.arguments("encoder", read_shipped)
            read = {modality: torch.from_numpy(rows) for modality, rows in read_shipped(catalog, **files).items()}
            read_content = Content(chosen(read, modalities), alignment=measure_alignment(read))
            return _altered(plan, read_content)
        encoder = make_encoder(plan.tables["encoder"], catalog)
        before = untuned(catalog, encoder, **options)
        extracted = catalog_features(catalog, encoder, **options)
        cost: dict[str, float | int] = {"items_encoded": extracted.encoded, "items_reused": extracted.reused}
        cost["features_seconds"] = round(extracted.made_seconds, 3)
        findings = broken_images(extracted, len(catalog))
        _log(findings)
        made = {"precision": extracted.precision, "broken_images": list(extracted.broken)}
        measured = measure_alignment(extracted.features)
        alignment = {"before": measure_alignment(before), "after": measured} if before and measured else measured
        to_train = encoder if options["train"] == "end2end" else None
        features = chosen(extracted.features, modalities)
        return _altered(plan, Content(features, cost, findings, made, encoder=to_train, alignment=alignment))


def _altered(plan: Plan, content: Content) -> Content:
    """The content as `ablate` and `hide` of the plan's [features] want it."""
    options = plan.arguments("features", altered)
    tested = None
    if differs_at_test(options.get("hide"), options["hide_at"]):
        tested = altered(content.features, "test", **options)
    return replace(content, features=altered(content.features, "train", **options), tested=tested)


def popular_thumbnails(dataset: Dataset, *, limit: int) -> dict[int, bytes]:
    """The thumbnails of the most liked items that have an image."""
    popular_first = np.argsort(-dataset.interactions.item_counts(dataset.n_items), kind="stable")
    return catalog_thumbnails(dataset.catalog, popular_first.tolist(), limit=limit)


def _tell(split: Split) -> None:
    """Say what the data is, and what was odd about it."""
    data = split.dataset
    parts = ", ".join(f"{len(getattr(split, part)):,} {part}" for part in ("train", "valid", "test"))
    logging.getLogger(__name__).info(
        "%s: %s users, %s items; interactions: %s", data.name, f"{data.n_users:,}", f"{data.n_items:,}", parts
    )
    _log((*data.findings, *split.findings))


def _log(findings: Iterable[Finding]) -> None:
    for finding in findings:
        logging.getLogger(__name__).log(logging.INFO if finding.level == "note" else logging.WARNING, "%s", finding)
