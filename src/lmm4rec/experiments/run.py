"""One run: from a conf file to a folder with metrics, history, bundle and report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.files import atomic, write_json
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.order_of_time import order_findings
from lmm4rec.data.splits import Split
from lmm4rec.distributed import process_group, sharding
from lmm4rec.evaluation.alignment import measure_alignment
from lmm4rec.evaluation.evaluator import Report
from lmm4rec.experiments.build.bundle import pack
from lmm4rec.experiments.build.data import DataCache, log_findings
from lmm4rec.experiments.build.encoders import finetuned_folder, make_encoder, with_checkpoints
from lmm4rec.experiments.build.end2end import save_item_vectors
from lmm4rec.experiments.build.features import RunFeatures, load_features
from lmm4rec.experiments.build.recommender_features import recommender_features
from lmm4rec.experiments.build.recommenders import make_objective, make_recommender, make_sampler
from lmm4rec.experiments.build.sharding import shards_tables, unsharded
from lmm4rec.experiments.build.warm_start import start_from
from lmm4rec.experiments.checks import require_runnable, require_stores
from lmm4rec.experiments.conf.spec import Table, load_spec
from lmm4rec.experiments.environment import Cost, environment
from lmm4rec.experiments.estimate.end2end import estimate_end2end
from lmm4rec.experiments.estimate.estimate import log_estimate, parameter_counts
from lmm4rec.experiments.estimate.finetuning import estimate_finetuning
from lmm4rec.experiments.folder import RunFolder, opened_folder
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.experiments.remote_copy import RemoteCopier
from lmm4rec.experiments.report.run_report import write_run_report
from lmm4rec.experiments.result import ChosenModel, DataFacts, Result, RunMetrics
from lmm4rec.experiments.trackers import Trackers
from lmm4rec.experiments.train import described_items, measure, train
from lmm4rec.features.live import Live
from lmm4rec.features.source import FeatureSource
from lmm4rec.training.history import History
from lmm4rec.training.objective import RankingObjective


def run(
    conf: str | Path | Table,
    overrides: Table | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    data: DataCache | None = None,
) -> Result:
    """Train and measure the model of a conf file.

    `overrides` are dotted keys (`{"train.epochs": 5}`); `out` is the run folder (default `runs/NAME`), or an address
    such as `s3://bucket/runs/x`, to which a folder of the cache is copied as the run goes on. With `resume` an
    unfinished run goes on and a finished one is read. Runs that share `data` load what they have in common once.

    Raises:
        ConfigError: before any work, where the conf is wrong or the folder taken.
        StorageError: before any work, where the folder or a remote feature store cannot be written.
    """
    plan, data = make_plan(load_spec(conf, overrides)), data or DataCache()
    with process_group.initialized():
        if not process_group.is_first():
            return _run_in(RunFolder(process_group.broadcast(None)), plan, data)
        require_stores(plan)
        with opened_folder(plan, out or None, resume=resume) as folder:
            process_group.broadcast(folder.path)
            return _run_in(folder, plan, data)


def _run_in(folder: RunFolder, plan: Plan, data: DataCache) -> Result:
    """The result in a folder, after the run where it is not finished."""
    first = process_group.is_first()
    trackers = Trackers(plan.title, plan.tables, folder.path, **plan.train.arguments(Trackers))
    if not process_group.broadcast(folder.is_finished):
        try:
            _train_and_measure(plan, folder, data, trackers)
        except BaseException as error:
            trackers.fail()
            if first and isinstance(error, LMM4RecError):
                folder.remove_if_nothing_is_done()
            raise
    result = Result(folder, plan, RunMetrics.read(folder.metrics))
    if first and not folder.report.exists():
        labels = [plan.recommender.label]
        write_run_report(folder.report, [result], labels, data.split(plan), title=plan.title)
    trackers.finish(result.measured.test, folder.report)
    return result


def _train_and_measure(plan: Plan, folder: RunFolder, data: DataCache, trackers: Trackers) -> None:
    cost = Cost(folder.cost if process_group.is_first() else None)
    with cost.phase("data"):
        split = data.split(plan)
    require_runnable(plan, split)
    if process_group.is_first():
        trackers.start()
    order = order_findings(split) if plan.recommender.component.sequential else ()
    log_findings(order)
    with cost.phase("encode"):
        features = _load_features(plan, split.dataset.catalog)
        features = recommender_features(plan, features, folder)
    if process_group.is_first():
        write_json(folder.environment, environment())
    with sharding.sharded_rows(shards_tables(plan, split)):
        recommender = make_recommender(plan, split, features.features)
        with cost.phase("encode"):
            objective = make_objective(plan, split, features, recommender)
            _log_end2end(plan, split, objective)
        if plan.train.start_from:
            notes = start_from(Path(plan.train.start_from), plan, objective, split, features.features)
            log_findings(notes)
            features = replace(features, findings=(*features.findings, *notes))
        features = replace(features, findings=(*features.findings, *order), encoder=None)  # not needed from here on
        copier = [RemoteCopier(folder.remote)] if folder.remote else []
        with cost.phase("train"):
            history = train(plan, folder, objective, split, cost, callbacks=[trackers, *copier])
            objective.recommender = unsharded(plan, split, features.features, objective.recommender)
    if process_group.is_first():
        try:
            with process_group.single_process():  # the others wait below
                _measure_and_save(plan, folder, data, features, objective, history, cost)
        except Exception as error:
            # in full, for the run may be one of `compare` or `reproduce`, which have no --resume
            command = shlex.join(["lmm4rec", "run", str(folder.experiment), "-o", folder.named, "--resume"])
            error.add_note(f"What was trained is in {folder.path}: `{command}` begins after training")
            raise
    process_group.barrier()


def _load_features(plan: Plan, catalog: Catalog) -> RunFeatures:
    """The plan's features; where the encoder has to be fine-tuned for them, the estimate is logged first."""
    if plan.encoder is None or plan.encoder.is_precomputed:
        return load_features(plan, catalog)
    with process_group.first_process_first():
        table = with_checkpoints(plan.encoder.table, catalog)
    with process_group.single_process():  # all load it at the same time, which takes seconds
        encoder = make_encoder(table, catalog)
    with process_group.first_process_first():  # the others then read the features from the store
        options = plan.features.finetune_arguments
        if plan.features.train == "finetuned" and not finetuned_folder(encoder, catalog, options).exists():
            log_estimate(lambda: estimate_finetuning(encoder, catalog, options))
        return load_features(plan, catalog, encoder)


def _log_end2end(plan: Plan, split: Split, objective: RankingObjective) -> None:
    source = objective.source
    if isinstance(source, Live):
        log_estimate(lambda: estimate_end2end(plan, source.vectors, make_sampler(plan, split)))


def _measure_and_save(
    plan: Plan,
    folder: RunFolder,
    data: DataCache,
    features: RunFeatures,
    objective: RankingObjective,
    history: History,
    cost: Cost,
) -> None:
    """Measure the trained model, and write metrics, bundle and encoder."""
    split, recommender, source = data.split(plan), objective.recommender, objective.source
    features = replace(features, features=source())  # of the final weights
    with cost.phase("evaluate"), torch.inference_mode():
        scorer = recommender.embed(features.features)
        valid = measure(plan.evaluate, scorer, split, "valid") if split.holds_out("valid") else None
        # the choice of model is on record before the test part is read, and it is read once
        chosen = ChosenModel(plan.train.metric, history.best_epoch or len(history.rows), len(history.rows))
        metrics = RunMetrics(_data_facts(split, features), features.encoding, chosen, valid.mean if valid else {})
        metrics.write(folder.metrics)
        at_test = scorer if features.at_test is None else recommender.embed(features.at_test)
        items = described_items(split, features.of_encoder)
        test = measure(plan.evaluate, at_test, split, "test", items) if split.holds_out("test") else None
    _write_per_user(folder, split, {"valid": valid, "test": test})
    if isinstance(source, Live):
        save_item_vectors(source.vectors, folder.encoder)
    metrics = replace(
        metrics,
        slices=test.slices if test else {},
        beyond=test.beyond if test else {},
        exposure=test.exposure if test else {},
        alignment=_alignment(features, source),
        cost={**cost.summary(), **features.cost, **_parameters(objective), **_encodings(source, history)},
        test=test.mean if test else {},
    )
    thumbnails, errors = data.thumbnails(plan), test.standard_error if test else {}
    bundle = pack(plan, recommender, scorer, split, features, thumbnails, metrics, errors, folder.encoder)
    bundle.save(folder.bundle)
    metrics.write(folder.metrics)  # last: it marks the run as finished
    folder.cost.unlink(missing_ok=True)  # now in the metrics


def _data_facts(split: Split, features: RunFeatures) -> DataFacts:
    dataset = split.dataset
    return DataFacts(
        name=dataset.name,
        users=dataset.n_users,
        items=dataset.n_items,
        interactions=len(dataset.interactions),
        train=len(split.train),
        valid=len(split.valid),
        test=len(split.test),
        split=split.method,
        split_fingerprint=split.fingerprint,
        findings=[str(finding) for finding in (*dataset.findings, *split.findings, *features.findings)],
    )


def _parameters(objective: RankingObjective) -> dict[str, int]:
    """The numbers of parameters and of those that train: of the whole, and of the encoder where one trains."""
    counts: dict[str, int] = {}
    for name, module in (("parameters", objective), ("encoder_parameters", objective.source)):
        total, trainable = parameter_counts(module)
        if total or module is objective:
            counts |= {name: total, f"trainable_{name}": trainable}
    return counts


def _alignment(features: RunFeatures, source: FeatureSource) -> Mapping[str, Any]:
    """Alignment of image and text; before and after where the encoder was trained end to end."""
    if features.alignment and isinstance(source, Live):
        return {"before": features.alignment, "after": measure_alignment(source())}
    return features.alignment


def _encodings(source: FeatureSource, history: History) -> dict[str, float]:
    """The numbers of items that passed through the encoder, in training and after it, and of passes."""
    counts = dict(source.epoch_counts())  # since the last epoch
    if not counts:
        return {}
    for row in history.rows:
        counts = {name: count + int(row[name]) for name, count in counts.items()}
    total = counts["encoded"] + counts["refreshed"]
    per_epoch = sum(int(row["encoded"] + row["refreshed"]) for row in history.rows) / max(len(history.rows), 1)
    return {**counts, "encodings": total, "encodings_per_epoch": round(per_epoch, 1)}


def _write_per_user(folder: RunFolder, split: Split, reports: Mapping[str, Report | None]) -> None:
    """Write every metric of every user; no file where nothing was measured."""
    frames = [
        report.to_frame(split.dataset.users).with_columns(pl.lit(part).alias("part"))
        for part, report in reports.items()
        if report is not None
    ]
    if not frames:
        return
    with atomic(folder.per_user) as beside:
        pl.concat(frames).write_parquet(beside)
