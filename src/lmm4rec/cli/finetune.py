"""The command `finetune`: fine-tune the encoder of a conf file on its catalog, without training a recommender."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.table import Table

from lmm4rec.cli.console import console, print_facts, quoted
from lmm4rec.cli.options import Conf, DryRun, Processes, Settings, local_path, plan_of
from lmm4rec.cli.processes import command_arguments, run_or_exit
from lmm4rec.core.errors import ConfigError

finetune = typer.Typer(rich_markup_mode="rich")
_Measures: TypeAlias = Mapping[str, Mapping[str, float]]  # "before" and "after" -> measures


@finetune.command("finetune")
def finetune_command(
    conf: Conf,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="DIR", help="The folder for the encoder (default: cache).", parser=local_path
        ),
    ] = None,
    processes: Processes = 1,
    dry_run: DryRun = False,
) -> None:
    """Fine-tune a conf file's encoder on its catalog's image-text pairs; \\[features.finetune] has the keys."""
    from lmm4rec.core.files import atomic_folder, read_json, require_writable
    from lmm4rec.distributed import process_group
    from lmm4rec.experiments.build.data import DataCache
    from lmm4rec.experiments.build.encoders import TRAINING, finetune, finetuned_folder, make_encoder
    from lmm4rec.experiments.build.features import load_features
    from lmm4rec.experiments.build.sharding import require_startable
    from lmm4rec.experiments.demo import program
    from lmm4rec.experiments.estimate.estimate import log_estimate
    from lmm4rec.experiments.estimate.finetuning import estimate_finetuning

    plan = plan_of(conf, settings, {"features.train": "finetuned"})
    if plan.encoder is None or plan.encoder.is_precomputed:
        raise ConfigError(f"{conf} takes features from files: name an encoder to fine-tune, -s encoder.name=NAME")
    if out is not None and out.exists():
        raise ConfigError(f"{out} exists already: name another folder, or remove it")
    if out is not None:
        require_writable(out)
    if processes > 1 and not dry_run:
        require_startable(processes, str(plan.features.finetune_arguments.get("device", "auto")))
        arguments = command_arguments("finetune", conf, settings, out)
        run_or_exit(lambda _: arguments, processes)  # a finished part of it is found again after a restart
        return
    options, catalog = plan.features.finetune_arguments, DataCache().dataset(plan).catalog
    with process_group.initialized():
        prints = process_group.is_first()
        with process_group.first_process_first():
            encoder = make_encoder(plan.encoder.table, catalog)
        if dry_run:
            if prints:
                facts = estimate_finetuning(encoder, catalog, options).facts()
                print_facts(facts, f"Fine-tuning {plan.encoder.label}")
            return
        if not finetuned_folder(encoder, catalog, options).exists():
            log_estimate(lambda: estimate_finetuning(encoder, catalog, options))
        folder = finetune(encoder, catalog, options)
    if not prints:
        return
    with process_group.single_process():
        content = load_features(plan, catalog)
    _print_measures(read_json(folder / TRAINING), content.alignment, plan.encoder.label)
    if out is not None:
        with atomic_folder(out) as beside:
            shutil.copytree(folder, beside, dirs_exist_ok=True)
    console.print(f"tuned    {out or folder}", soft_wrap=True)
    console.print(f'in conf  [encoder] checkpoint = "{out or folder}"', soft_wrap=True, markup=False)
    frozen = " -s features.train=frozen"
    console.print(
        f"use it   {program()} run {quoted(conf, '-s', f'encoder.checkpoint={out or folder}')}{frozen}", soft_wrap=True
    )


def _print_measures(training: _Measures, alignment: _Measures, encoder: str) -> None:
    """Print retrieval among held-out pairs, and the alignment of all pairs in a joint space, before and after."""
    table = Table("", title=f"Images and text under {encoder}", title_justify="left")
    for column in ("before", "after"):
        table.add_column(column, justify="right")
    for label, measures in (("held-out pairs: ", training), ("all pairs: ", alignment)):
        for name in measures.get("before", {}):
            if name != "pairs":
                values = (measures[when].get(name) for when in ("before", "after"))
                table.add_row(label + name, *("–" if value is None else f"{value:.4f}" for value in values))
    console.print(table)
