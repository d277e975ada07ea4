"""Callbacks for tests of `Trainer.fit`."""

from __future__ import annotations

from lmm4rec.training.callbacks import Callback
from lmm4rec.training.history import History, Row


class KilledError(Exception):
    pass


class KillAfter(Callback):
    """Ends a training as a kill in the epoch after the given one would: before its state is saved."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, row: Row) -> None:
        if row["epoch"] == self.epoch + 1:
            raise KilledError


class Recorder(Callback):
    """Keeps the rows, those of earlier sittings first."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def on_train_begin(self, history: History) -> None:
        self.rows += history.rows

    def on_epoch_end(self, row: Row) -> None:
        self.rows.append(row)
