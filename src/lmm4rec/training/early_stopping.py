"""Early stopping by a validation metric."""

from __future__ import annotations

from dataclasses import dataclass

from lmm4rec.core.errors import TrainingError
from lmm4rec.training.history import Row


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
