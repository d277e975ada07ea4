"""The command that exports the interactions that a service was told: interactions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmm4rec.cli.console import errors
from lmm4rec.cli.options import local_path
from lmm4rec.core.errors import CheckpointError

interactions = typer.Typer(rich_markup_mode="rich")


@interactions.command("interactions", rich_help_panel="Use a trained model")
def interactions_command(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="The run folder or live folder that is or was served.", parser=local_path),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="FILE", help="A .csv, .jsonl or .parquet file; -: CSV to stdout.", parser=local_path
        ),
    ] = Path("-"),
) -> None:
    """Export what was posted to a service, as a table of interactions: user, item, timestamp, kind."""
    from lmm4rec.cli.recommendation_files import appended, require_file
    from lmm4rec.serving.feedback import FILE, read_feedback

    require_file(out)
    file = run / FILE
    if not file.is_file():
        raise CheckpointError(f"there is no {file}: nothing was posted to a service of {run}")
    table = read_feedback(file)
    with appended(out) as append:
        append(table)
    errors.print(f"{len(table):,} interactions of {table['user'].n_unique():,} users")
