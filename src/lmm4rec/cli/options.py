"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Conf = Annotated[Path, typer.Argument(metavar="CONF", help="A .conf file (TOML).")]
Settings = Annotated[
    list[str] | None, typer.Option("-s", "--set", metavar="KEY=VALUE", help="Override a key, e.g. -s train.epochs=5.")
]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="The run folder (default: runs/NAME).")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")]
