"""Who hears of each finished epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from lmm4rec.core.errors import optional
from lmm4rec.core.files import write_text

Row = Mapping[str, float | int]
Listener = Callable[[Row], None]


def history_writer(path: Path) -> Listener:
    """Writes `history.jsonl` anew: rows of earlier sittings come to it first, so a line cut by a kill is mended."""
    write_text(path, "")

    def write(row: Row) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    return write


def curves(folder: Path, *, tensorboard: bool = False) -> list[Listener]:
    """The listeners that a run asks for beside its history.

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
