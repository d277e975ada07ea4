"""Callbacks of a run: what is written after each epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from lmm4rec.core.errors import optional
from lmm4rec.core.files import write_text

Row = Mapping[str, float | int]
Callback = Callable[[Row], None]


def history_writer(path: Path) -> Callback:
    """The callback that writes `history.jsonl`, from the first epoch on.

    A resumed training passes the rows of earlier sittings first, so a line that was cut by a kill is mended.
    """
    write_text(path, "")

    def write(row: Row) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    return write


def tensorboard_writer(folder: Path, *, tensorboard: bool = False) -> list[Callback]:
    """The callback that writes TensorBoard curves, where they are asked for.

    Raises:
        MissingExtraError: TensorBoard was asked for and is not installed.
    """
    if not tensorboard:
        return []
    optional("tensorboard", extra="tensorboard", purpose="train.tensorboard = true")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def write(row: Row) -> None:
        for name, value in row.items():
            writer.add_scalar(name, value, int(row["epoch"]))
        writer.flush()

    return [write]
