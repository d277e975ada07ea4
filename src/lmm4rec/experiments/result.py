"""What a finished run leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan
from lmm4rec.serving.bundle import Bundle


@dataclass(frozen=True)
class Result:
    """A finished run: its folder, its plan and what was measured."""

    folder: RunFolder
    plan: Plan
    metrics: Mapping[str, Any]  # as in metrics.json

    @property
    def history(self) -> list[dict[str, float]]:
        """One row an epoch; empty for a model that only counts."""
        return self.folder.history_rows()

    def bundle(self) -> Bundle:
        """The trained model, ready to recommend."""
        return Bundle.load(self.folder.path)
