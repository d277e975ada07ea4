"""Metrics of the service for Prometheus; each app has its own registry."""

from __future__ import annotations

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable of the folder by which several processes share their metrics; set before the import."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        if SHARED not in os.environ:
            ProcessCollector(registry=self.registry)  # of one process
        self.requests = Counter(
            "lmm4rec_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "lmm4rec_request_seconds", "Time from request to response.", ("route",), buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.batches = Histogram(
            "lmm4rec_batch_users", "Users whose recommendations are computed together.", buckets=_SIZES,
            registry=self.registry,
        )  # fmt: skip
        self.items = Gauge(
            "lmm4rec_items", "Items of a bundle.", ("bundle", "kind"), registry=self.registry,
            multiprocess_mode="mostrecent",
        )  # fmt: skip
        self.interactions = Counter(
            "lmm4rec_interactions", "Interactions posted.", ("bundle", "kind", "outcome"), registry=self.registry
        )
        self.retractions = Counter(
            "lmm4rec_retractions", "Interactions retracted.", ("bundle",), registry=self.registry
        )
        self.reloads = Counter("lmm4rec_reloads", "Bundles reloaded.", ("outcome",), registry=self.registry)

    def page(self) -> bytes:
        """The metrics of all processes of the service, as the text that Prometheus reads."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
