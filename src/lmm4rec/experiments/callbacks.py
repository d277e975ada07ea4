"""Callbacks of a run: its history file, its cost and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typing_extensions import Doc

from lmm4rec.core.errors import optional
from lmm4rec.core.files import storage_errors, write_text
from lmm4rec.experiments.environment import Cost
from lmm4rec.training.callbacks import Callback
from lmm4rec.training.history import History, Row


class HistoryWriter(Callback):
    """Writes `history.jsonl`, a line for each epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, history: History) -> None:
        """Write the earlier epochs anew: a kill may have cut the last line."""
        write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in history.rows))

    def on_epoch_end(self, row: Row) -> None:
        """Append a line."""
        with storage_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


class CostWriter(Callback):
    """Saves the cost of the run so far, so that a run that is resumed adds to it."""

    def __init__(self, cost: Cost) -> None:
        self.cost = cost

    def on_epoch_end(self, row: Row) -> None:
        """Save it."""
        self.cost.save()


class TensorBoard(Callback):
    """Writes every number of an epoch as a TensorBoard scalar."""

    def __init__(self, folder: Path) -> None:
        """Raises MissingExtraError where TensorBoard is not installed."""
        optional("tensorboard", extra="tensorboard", purpose="train.tensorboard = true")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def on_train_begin(self, history: History) -> None:
        """Write the earlier epochs."""
        for row in history.rows:
            self.on_epoch_end(row)

    def on_epoch_end(self, row: Row) -> None:
        """Write the epoch's numbers."""
        for name, value in row.items():
            self.writer.add_scalar(name, value, int(row["epoch"]))
        self.writer.flush()


def tensorboard_writer(
    folder: Path, *, tensorboard: Annotated[bool, Doc("Write the curves for TensorBoard, too.")] = False
) -> list[Callback]:
    """The callbacks that a conf can ask for.

    Raises:
        MissingExtraError: `tensorboard` is True and TensorBoard is not installed.
    """
    return [TensorBoard(folder)] if tensorboard else []
