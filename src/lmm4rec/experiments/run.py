"""One run: from a conf file to a folder with metrics, history, bundle and report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch

from lmm4rec.core.files import atomic, read_json, write_json
from lmm4rec.core.types import Features, Scorer
from lmm4rec.data.splits import Split
from lmm4rec.evaluation.evaluator import Evaluator, Report
from lmm4rec.experiments.environment import Cost, environment
from lmm4rec.experiments.folder import RunFolder, open_folder
from lmm4rec.experiments.listeners import curves, history_writer
from lmm4rec.experiments.packing import pack
from lmm4rec.experiments.plan import RECOMMENDERS, Plan, make_plan
from lmm4rec.experiments.protocol import masked
from lmm4rec.experiments.report.page import write_report
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.showcase import report_view
from lmm4rec.experiments.spec import Table, load_spec
from lmm4rec.experiments.workbench import Content, Workbench
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.objective import Ranking
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import History, Trainer


def run(
    conf: str | Path | Table,
    overrides: Table | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    workbench: Workbench | None = None,
    shown: bool = True,
) -> Result:
    """Train and measure what a conf file describes.

    `overrides` are dotted keys (`{"train.epochs": 5}`); `out` is the run folder (default `runs/NAME`); with `resume`
    an unfinished run goes on and a finished one is read. Runs that share a `workbench` share data and features.

    Raises:
        ConfigError: before any work, where the conf is wrong or the folder taken.
    """
    plan = make_plan(load_spec(conf, overrides))
    folder = open_folder(plan, Path(out) if out else None, resume=resume)
    bench = workbench or Workbench()
    if not folder.is_finished:
        _carry_out(plan, folder, bench, shown)
    result = Result(folder, plan, read_json(folder.metrics))
    if not folder.report.exists():
        view = report_view([result], [plan.recommender], bench.split(plan), title=plan.title)
        write_report(folder.report, view)
    return result


def _carry_out(plan: Plan, folder: RunFolder, bench: Workbench, shown: bool) -> None:
    write_json(folder.environment, environment())
    cost = Cost()
    with cost.phase("data"):
        split = bench.split(plan)
    with cost.phase("encode"):
        content = bench.content(plan, split.dataset.catalog, shown=shown)
    recommender = make_recommender(plan, split, content.features)
    with cost.phase("train"):
        history = fit(plan, folder, recommender, split, content.features, shown=shown)
    evaluator = Evaluator(**plan.arguments("evaluate", Evaluator))
    with cost.phase("evaluate"), torch.inference_mode():
        scorer = recommender.embed(content.features)
        valid = _measure(plan, evaluator, scorer, split, "valid")
        # the choice of model is on record before the test part is read, and it is read once
        chosen = {"metric": plan.tables["train"]["metric"], "epoch": history.best_epoch, "epochs": len(history.rows)}
        record: dict[str, Any] = {"data": _facts(split, content), "features": content.made}
        record |= {"chosen": chosen, "valid": valid.mean}
        write_json(folder.metrics, record)
        test = _measure(plan, evaluator, scorer, split, "test")
    _write_per_user(folder, split, valid, test)
    record |= {"slices": test.slices, "beyond": test.beyond}
    record["cost"] = cost.summary() | content.cost | _sizes(recommender)
    card = _card(plan, record | {"test": test.mean})
    pack(plan, recommender, scorer, split, content, bench.thumbnails(plan), card).save(folder.bundle)
    write_json(folder.metrics, record | {"test": test.mean})


def make_recommender(plan: Plan, split: Split, features: Features) -> Recommender:
    """The plan's model on the split's training part, its first weights drawn from the training seed."""
    component = RECOMMENDERS.get(plan.tables["recommender"]["name"])
    graph = make_graph(split)
    generator = torch.Generator().manual_seed(plan.tables["train"]["seed"])
    recommender: Recommender = component(graph, features, generator, **plan.arguments("recommender", component))
    return recommender


def make_graph(split: Split) -> InteractionGraph:
    """The graph of the training part."""
    users, items = (torch.from_numpy(column).long() for column in (split.train.users, split.train.items))
    return InteractionGraph(users, items, split.dataset.n_users, split.dataset.n_items)


def fit(
    plan: Plan, folder: RunFolder, recommender: Recommender, split: Split, features: Features, *, shown: bool
) -> History:
    """Train the plan's model, the best epoch by validation left in it; the test part is not touched."""
    if not recommender.is_trained:
        return History()
    evaluator = Evaluator(**plan.arguments("evaluate", Evaluator))
    objective = Ranking(recommender, Frozen(features))
    trainer = Trainer(**plan.arguments("train", Trainer))

    def validate() -> Mapping[str, float]:
        with torch.inference_mode():
            return _measure(plan, evaluator, recommender.embed(objective.source()), split, "valid").mean

    graph = recommender.graph
    sampler = TripleSampler(
        torch.from_numpy(split.train.users), torch.from_numpy(split.train.items), graph.n_items,
        **plan.arguments("train", TripleSampler),
    )  # fmt: skip
    wanted = plan.arguments("train", curves)
    listeners = [history_writer(folder.history), *curves(folder.path / "tensorboard", **wanted)]
    history = trainer.fit(
        objective, sampler, validate, state_file=folder.state, listeners=listeners, description=plan.title, shown=shown
    )
    objective.cpu()
    return history


def _measure(plan: Plan, evaluator: Evaluator, scorer: Scorer, split: Split, part: Any) -> Report:
    exclude = masked(split, part, **plan.arguments("evaluate", masked))
    truth = split.valid if part == "valid" else split.test
    return evaluator.evaluate(scorer, truth, exclude, train=split.train)


def _facts(split: Split, content: Content) -> dict[str, Any]:
    dataset = split.dataset
    return {
        "name": dataset.name,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": len(dataset.interactions),
        "train": len(split.train),
        "valid": len(split.valid),
        "test": len(split.test),
        "split": split.method,
        "split_fingerprint": split.fingerprint,
        "findings": [str(finding) for finding in (*dataset.findings, *split.findings, *content.findings)],
    }


def _sizes(recommender: Recommender) -> dict[str, int]:
    weights = list(recommender.parameters())
    return {
        "parameters": sum(weight.numel() for weight in weights),
        "trainable_parameters": sum(weight.numel() for weight in weights if weight.requires_grad),
    }


def _write_per_user(folder: RunFolder, split: Split, valid: Report, test: Report) -> None:
    frames = [
        report.to_frame(split.dataset.users).with_columns(pl.lit(part).alias("part"))
        for part, report in (("valid", valid), ("test", test))
    ]
    with atomic(folder.per_user) as beside:
        pl.concat(frames).write_parquet(beside)


def _card(plan: Plan, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": plan.recommender,
        "encoder": plan.encoder,
        "title": plan.title,
        "data": record["data"],
        "test": record["test"],
        "cost": record["cost"],
    }
