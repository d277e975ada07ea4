"""One run: from a conf file to a folder with metrics, history, bundle and report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import atomic, read_json, write_json
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Features, Scorer
from lmm4rec.data.splits import Split
from lmm4rec.distributed import process_group
from lmm4rec.evaluation.alignment import measure_alignment
from lmm4rec.evaluation.evaluator import Evaluator, Report
from lmm4rec.experiments.build.bundle import pack
from lmm4rec.experiments.build.end2end import make_live, save_item_vectors
from lmm4rec.experiments.build.masking import masked
from lmm4rec.experiments.build.workbench import Content, Workbench
from lmm4rec.experiments.callbacks import Listener, curves, history_writer
from lmm4rec.experiments.conf.spec import Table, load_spec
from lmm4rec.experiments.environment import Cost, environment
from lmm4rec.experiments.estimate.end2end import estimate_training
from lmm4rec.experiments.folder import RunFolder, open_folder
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.experiments.report.run_report import write_run_report
from lmm4rec.experiments.result import Result
from lmm4rec.features.live import Live
from lmm4rec.features.source import FeatureSource, Frozen
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
) -> Result:
    """Train and measure what a conf file describes.

    `overrides` are dotted keys (`{"train.epochs": 5}`); `out` is the run folder (default `runs/NAME`); with `resume`
    an unfinished run goes on and a finished one is read. Runs that share a `workbench` share data and features.

    Raises:
        ConfigError: before any work, where the conf is wrong or the folder taken.
    """
    plan = make_plan(load_spec(conf, overrides))
    bench = workbench or Workbench()
    with process_group.initialized():
        first = process_group.is_first()
        path = open_folder(plan, Path(out) if out else None, resume=resume).path if first else None
        folder = RunFolder(process_group.broadcast(path))
        if not process_group.broadcast(folder.is_finished):
            _carry_out(plan, folder, bench)
        result = Result(folder, plan, read_json(folder.metrics))
        if first and not folder.report.exists():
            write_run_report(folder.report, [result], [plan.recommender], bench.split(plan), title=plan.title)
    return result


def _carry_out(plan: Plan, folder: RunFolder, bench: Workbench) -> None:
    cost = Cost()
    with cost.phase("data"):
        split = bench.split(plan)
    with cost.phase("encode"), process_group.first_process_first():  # the others then find the features in the store
        content = bench.content(plan, split.dataset.catalog)
    if process_group.is_first():
        write_json(folder.environment, environment())
    recommender = make_recommender(plan, split, content.features)
    with cost.phase("encode"):
        objective = make_objective(plan, split, content, recommender)
    content = replace(content, encoder=None)  # a side network needs it no longer
    with cost.phase("train"):
        history = train(plan, folder, objective, split, cost)
    if process_group.is_first():
        _conclude(plan, folder, bench, content, objective, history, cost)
    process_group.barrier()


def _conclude(
    plan: Plan, folder: RunFolder, bench: Workbench, content: Content, objective: Ranking, history: History, cost: Cost
) -> None:
    """Measure the trained model, and write what a run leaves behind."""
    split, recommender, source = bench.split(plan), objective.recommender, objective.source
    content = replace(content, features=source())  # of the final weights
    evaluator = Evaluator(**plan.arguments("evaluate", Evaluator))
    with cost.phase("evaluate"), torch.inference_mode():
        scorer = recommender.embed(content.features)
        valid = _measure(plan, evaluator, scorer, split, "valid")
        # the choice of model is on record before the test part is read, and it is read once
        chosen = {"metric": plan.tables["train"]["metric"], "epoch": history.best_epoch, "epochs": len(history.rows)}
        record: dict[str, Any] = {"data": _facts(split, content), "features": content.made}
        record |= {"chosen": chosen, "valid": valid.mean}
        write_json(folder.metrics, record)
        if content.tested is not None:
            scorer = recommender.embed(content.tested)
        test = _measure(plan, evaluator, scorer, split, "test")
    _write_per_user(folder, split, valid, test)
    if isinstance(source, Live):
        save_item_vectors(source.vectors, folder.encoder)
    record |= {"slices": test.slices, "beyond": test.beyond}
    record |= _alignment(content, source)
    record["cost"] = cost.summary() | content.cost | _sizes(objective) | _encodings(source, history)
    card = _card(plan, record | {"test": test.mean})
    thumbnails = bench.thumbnails(plan)
    pack(plan, recommender, scorer, split, content, thumbnails, card, folder.encoder).save(folder.bundle)
    write_json(folder.metrics, record | {"test": test.mean})


def make_objective(plan: Plan, split: Split, content: Content, recommender: Recommender) -> Ranking:
    """The recommender on the features that the plan asks for, frozen or in training.

    Raises:
        ConfigError: an encoder is to be trained with a model that only counts.
    """
    if content.encoder is None:
        return Ranking(recommender, Frozen(content.features))
    if not recommender.is_trained:
        raise ConfigError(
            f'{plan.recommender} has nothing to train, so no encoder can be trained with it: take train = "frozen"'
        )
    live, rates = make_live(content.encoder, split.dataset.catalog, content.features, plan)
    sampler = make_sampler(plan, split)
    if process_group.is_first():
        _tell_estimate(plan, live, sampler)
    return Ranking(recommender, live, batches=len(sampler), encoder_schedule=rates)


def _tell_estimate(plan: Plan, live: Live, sampler: TripleSampler) -> None:
    epochs, every = (plan.tables["train"][key] for key in ("epochs", "evaluate_every"))
    options = plan.arguments("features.end2end", Live)
    estimate = estimate_training(
        f"{plan.recommender} on {plan.encoder}, end to end", live.vectors, sampler, options, epochs=epochs,
        evaluate_every=every,
    )  # fmt: skip
    logging.getLogger(__name__).info("%s", estimate)


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


def fit(plan: Plan, folder: RunFolder, recommender: Recommender, split: Split, features: Features) -> History:
    """Train the plan's model on features that stay, the best epoch by validation left in it; the test part is shut."""
    return train(plan, folder, Ranking(recommender, Frozen(features)), split, Cost())


def train(
    plan: Plan,
    folder: RunFolder,
    objective: Ranking,
    split: Split,
    cost: Cost,
    *,
    listeners: Sequence[Listener] = (),
) -> History:
    """Train an objective; the best epoch by validation is left in it, with its features, the test part not touched.

    The `listeners` hear of each epoch after the run's own.
    """
    recommender, source = objective.recommender, objective.source
    if not recommender.is_trained:
        return History()
    evaluator = Evaluator(**plan.arguments("evaluate", Evaluator))
    trainer = Trainer(**plan.arguments("train", Trainer))

    def validate() -> Mapping[str, float]:
        with cost.phase("validate"):
            source.settle()
            with torch.inference_mode():
                means = None
                if process_group.is_first():
                    means = _measure(plan, evaluator, recommender.embed(source()), split, "valid").mean
            return process_group.broadcast(means)

    wanted = plan.arguments("train", curves)
    own: list[Listener] = []
    if process_group.is_first():
        own = [history_writer(folder.history), *curves(folder.path / "tensorboard", **wanted)]
    history = trainer.fit(
        objective, make_sampler(plan, split), validate, state_file=folder.state, listeners=[*own, *listeners],
        description=plan.title,
    )  # fmt: skip
    source.settle(final=True)
    objective.cpu()
    return history


def make_sampler(plan: Plan, split: Split) -> TripleSampler:
    """The training part's triples."""
    users, items = torch.from_numpy(split.train.users), torch.from_numpy(split.train.items)
    return TripleSampler(users, items, split.dataset.n_items, **plan.arguments("train", TripleSampler))


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


def _sizes(objective: Ranking) -> dict[str, int]:
    weights = list(objective.parameters())
    sizes = {
        "parameters": sum(weight.numel() for weight in weights),
        "trainable_parameters": sum(weight.numel() for weight in weights if weight.requires_grad),
    }
    encoder = list(objective.source.parameters())
    if encoder:
        sizes["encoder_parameters"] = sum(weight.numel() for weight in encoder)
        sizes["trainable_encoder_parameters"] = sum(weight.numel() for weight in encoder if weight.requires_grad)
    return sizes


def _alignment(content: Content, source: FeatureSource) -> dict[str, Any]:
    """How images and words lie to each other; before and after where the encoder was in training."""
    measured = content.alignment
    if measured and isinstance(source, Live):
        measured = {"before": measured, "after": measure_alignment(source())}
    return {"alignment": measured} if measured else {}


def _encodings(source: FeatureSource, history: History) -> dict[str, float]:
    """How many items went through the encoder in training and after it, and in how many passes."""
    counts = dict(source.facts())  # of what came after the last epoch
    if not counts:
        return {}
    for row in history.rows:
        counts = {name: count + int(row[name]) for name, count in counts.items()}
    total = counts["encoded"] + counts["refreshed"]
    per_epoch = sum(int(row["encoded"] + row["refreshed"]) for row in history.rows) / max(len(history.rows), 1)
    return {**counts, "encodings": total, "encodings_per_epoch": round(per_epoch, 1)}


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
