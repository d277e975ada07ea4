"""The record of a training, with losses, learning rates and metrics of each epoch, and early stopping by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmm4rec.core.errors import TrainingError

Row = Mapping[str, float | int]
"""The numbers of one epoch: "epoch", "learning_rate", "loss", "loss.NAME", validation metrics, counters."""


@dataclass
class History:
    """The rows of all epochs, and which of them was best."""

    rows: list[Row] = field(default_factory=list)
    best_epoch: int = 0  # from 1; 0 before the first validation
    best: float = float("nan")  # the metric's value there
    seconds: float = 0.0  # training and validation, including those before training was resumed


@dataclass
class EarlyStopping:
    """The best value of a metric so far, and the number of evaluations since; higher is better, strictly."""

    metric: str
    patience: int  # evaluations in a row without improvement; 0: never stop early
    best: float = float("-inf")
    best_epoch: int = 0
    waited: int = 0  # evaluations since the best

    def update(self, row: Row) -> bool:
        """Whether an evaluated epoch is the best so far.

        Raises:
            TrainingError: the row lacks the metric.
        """
        if self.metric not in row:
            reported = ", ".join(name for name in row if "@" in name) or "none"
            raise TrainingError(f"validation reports no '{self.metric}' for early stopping; it reports: {reported}")
        improved = row[self.metric] > self.best
        if improved:
            self.best, self.best_epoch, self.waited = row[self.metric], int(row["epoch"]), 0
        else:
            self.waited += 1
        return improved

    @property
    def exhausted(self) -> bool:
        """Whether the patience is used up."""
        return 0 < self.patience <= self.waited
