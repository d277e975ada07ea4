"""What `lmm4rec finetune` does: tune the encoder of a conf file on its catalog, without training a recommender."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.table import Table

from lmm4rec.cli.commands import console, overrides
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import read_json
from lmm4rec.distributed import process_group
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.encoders import make_encoder
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.build.own_encoders import TRAINING, fine_tune, fine_tuned_folder
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.demo import program
from lmm4rec.experiments.estimate.estimate import log_estimate
from lmm4rec.experiments.estimate.fine_tuning import estimate_fine_tuning
from lmm4rec.experiments.plan import make_plan

_Gain: TypeAlias = Mapping[str, Mapping[str, float]]  # "before" and "after" -> measures


def finetune_conf(conf: Path, settings: Sequence[str], out: Path | None, *, dry_run: bool) -> None:
    """`lmm4rec finetune CONF`."""
    plan = make_plan(load_spec(conf, overrides(settings) | {"features.train": "finetuned"}))
    if plan.encoder is None or plan.encoder.is_precomputed:
        raise ConfigError(f"{conf} takes features from files: name an encoder to tune, -s encoder.name=NAME")
    if out is not None and out.exists():
        raise ConfigError(f"{out} is there already: name a folder that is not, or remove it")
    options, catalog = plan.features.fine_tuning, DataCache().dataset(plan).catalog
    with process_group.initialized():
        talks = process_group.is_first()
        with process_group.first_process_first():
            encoder = make_encoder(plan.encoder.table, catalog)
        if dry_run:
            if talks:
                _print_facts(
                    estimate_fine_tuning(encoder, catalog, options).facts(), f"Fine-tuning {plan.encoder.label}"
                )
            return
        if not fine_tuned_folder(encoder, catalog, options).exists():
            log_estimate(lambda: estimate_fine_tuning(encoder, catalog, options))
        folder = fine_tune(encoder, catalog, options)
    if not talks:
        return
    with process_group.single_process():
        content = load_features(plan, catalog)
    _print_gain(read_json(folder / TRAINING), content.alignment, plan.encoder.label)
    if out is not None:
        beside = out.with_name(f".{out.name}.part")
        shutil.copytree(folder, beside, dirs_exist_ok=True)
        beside.rename(out)
    console.print(f"tuned    {out or folder}", soft_wrap=True)
    console.print(f'in conf  [encoder] checkpoint = "{out or folder}"', soft_wrap=True, markup=False)
    frozen = " -s features.train=frozen"
    console.print(f"use it   {program()} run {conf} -s encoder.checkpoint={out or folder}{frozen}", soft_wrap=True)


def _print_facts(facts: Mapping[str, str], title: str) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    for name, fact in facts.items():
        table.add_row(name, fact)
    console.print(table)


def _print_gain(training: _Gain, alignment: _Gain, of: str) -> None:
    """Held-out retrieval, and the measures of all features where these are of one space, before and after."""
    table = Table("", title=f"Images and words under {of}", title_justify="left")
    for column in ("before", "after"):
        table.add_column(column, justify="right")
    parts = (("held-out pairs: ", training), ("all pairs: ", alignment))
    for label, part in parts:
        for name in part.get("before", {}):
            if name != "pairs":
                values = (part[when].get(name) for when in ("before", "after"))
                table.add_row(label + name, *("–" if value is None else f"{value:.4f}" for value in values))
    console.print(table)
