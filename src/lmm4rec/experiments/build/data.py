"""Data of plans: data sets, splits and thumbnails, each loaded once for all plans that have it in common."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.filters import prepare
from lmm4rec.data.findings import Finding
from lmm4rec.data.splits import Split, split
from lmm4rec.experiments.plan import Plan
from lmm4rec.serving.thumbnails import catalog_thumbnails

_THUMBNAILS = 1000  # in a run's bundle: seconds, whatever the catalog; `lmm4rec export` takes more


class DataCache:
    """The data sets, splits and thumbnails of plans; several runs share one."""

    def __init__(self) -> None:
        self._datasets: dict[str, Dataset] = {}
        self._splits: dict[str, Split] = {}
        self._thumbnails: dict[str, dict[int, bytes]] = {}

    def dataset(self, plan: Plan) -> Dataset:
        """The plan's data set, filtered."""
        data = plan.data
        key = fingerprint(data.table)
        if key not in self._datasets:
            raw = data.source(**data.arguments(data.source))
            self._datasets[key] = prepare(raw, **data.arguments(prepare))
        return self._datasets[key]

    def hold(self, plan: Plan, dataset: Dataset) -> None:
        """Take this data set for the plan's, instead of reading its source."""
        self._datasets[fingerprint(plan.data.table)] = dataset

    def split(self, plan: Plan) -> Split:
        """The plan's data set in its three parts; sizes and findings are logged when it is first loaded."""
        key = fingerprint(plan.data.table, plan.split.table)
        if key not in self._splits:
            divided = split(self.dataset(plan), plan.split.method, **plan.split.arguments(split))
            _log_sizes(divided)
            log_findings((*divided.dataset.findings, *divided.findings))
            self._splits[key] = divided
        return self._splits[key]

    def thumbnails(self, plan: Plan) -> dict[int, bytes]:
        """Small images of the plan's most popular items, by item row."""
        key = fingerprint(plan.data.table)
        if key not in self._thumbnails:
            self._thumbnails[key] = popular_thumbnails(self.dataset(plan), limit=_THUMBNAILS)
        return self._thumbnails[key]


def popular_thumbnails(dataset: Dataset, *, limit: int) -> dict[int, bytes]:
    """The thumbnails of the most popular items that have an image, by item row."""
    popular_first = np.argsort(-dataset.interactions.item_counts(dataset.n_items), kind="stable")
    return catalog_thumbnails(dataset.catalog, popular_first.tolist(), limit=limit)


def log_findings(findings: Iterable[Finding]) -> None:
    """Log what is odd about data."""
    for finding in findings:
        logging.getLogger(__name__).log(logging.INFO if finding.level == "note" else logging.WARNING, "%s", finding)


def _log_sizes(split: Split) -> None:
    data = split.dataset
    parts = ", ".join(f"{len(getattr(split, part)):,} {part}" for part in ("train", "valid", "test"))
    logging.getLogger(__name__).info(
        "%s: %s users, %s items; interactions: %s", data.name, f"{data.n_users:,}", f"{data.n_items:,}", parts
    )
