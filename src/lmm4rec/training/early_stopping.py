"""When to stop: no better value of a validation metric for a while."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Keeps the best value seen and counts evaluations since; higher is better, strictly."""

    metric: str
    patience: int  # evaluations in a row without improvement; 0: never stop early
    best: float = float("-inf")
    best_epoch: int = 0
    waited: int = 0

    def update(self, epoch: int, value: float) -> bool:
        """Whether `value` is a new best."""
        better = value > self.best
        if better:
            self.best, self.best_epoch, self.waited = value, epoch, 0
        else:
            self.waited += 1
        return better

    @property
    def exhausted(self) -> bool:
        """Whether the patience is used up."""
        return 0 < self.patience <= self.waited
