"""Hyper-parameter search: Optuna proposes settings, validation ranks them, the best one becomes a conf file.

A search that was killed and started again tries the settings that it would have tried anyway: each proposal depends on
the seed and on the finished trials alone. The trial that was interrupted is continued.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch

from lmm4rec.core.errors import ConfigError, TrainingError, did_you_mean, optional
from lmm4rec.core.files import read_json, write_json, write_text
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.progress import is_quiet, quiet
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.build.recommenders import check_memory, make_objective, make_recommender
from lmm4rec.experiments.conf.spec import Table, load_spec, read_conf
from lmm4rec.experiments.environment import Cost
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.search.space import check_space, draw, grid
from lmm4rec.experiments.train import measure, require_held_out, train
from lmm4rec.training.callbacks import Callback
from lmm4rec.training.history import History, Row


def validate_setting(plan: Plan, folder: Path, data: DataCache, callbacks: Sequence[Callback] = ()) -> float:
    """The best validation value of the plan's metric; an interrupted training in `folder` is continued.

    The split is sealed (`Split.without_test`): nothing below can read a test interaction.
    """
    with quiet():
        split = data.split(plan).without_test()
        require_held_out(plan, split, "valid")
        check_memory(plan, split)
        features = load_features(plan, split.dataset.catalog)
        recommender = make_recommender(plan, split, features.features)
        if recommender.is_trained:
            objective = make_objective(plan, split, features, recommender)
            return train(plan, RunFolder(folder), objective, split, Cost(), callbacks=callbacks).best
        with torch.inference_mode():
            values = measure(plan.evaluate, recommender.embed(features.features), split, "valid").mean
        metric = plan.train.metric
        if metric not in values:
            raise ConfigError(
                f"there is no '{metric}' to choose by.{did_you_mean(metric, values)} There are: {', '.join(values)}"
            )
        return values[metric]


_ERROR = "error"  # attribute of a trial whose training failed, so that it counts; an interrupted one has none


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search."""

    folder: Path
    best: Mapping[str, Any]  # dotted key -> value
    value: float  # of the validation metric
    trials: int

    @property
    def conf(self) -> Path:
        """The best setting as a conf file that `lmm4rec run` takes."""
        return self.folder / "best.conf"


def split_conf(conf: str | Path | Table) -> tuple[str, dict[str, Any], SearchOptions]:
    """The name, the ordinary tables and the search of a conf file with a [search] table.

    Raises:
        ConfigError: there is no such table, or it is wrong.
    """
    name, content = read_conf(conf)
    if "search" not in content:
        raise ConfigError("the conf has no [search] table: give it a budget and a space to search")
    options = SearchOptions.of(content.pop("search"))
    if not options.space:
        raise ConfigError(
            '[search] has no space: add keys such as "recommender.l2_weight" = { low = 1e-5, high = 1e-1 }'
        )
    return name, content, options


def tune(conf: Table, options: SearchOptions, folder: Path, *, data: DataCache | None = None) -> SearchResult:
    """Search the space of an ordinary conf for the setting that validates best; finished trials are not repeated.

    Raises:
        ConfigError: the conf or the space is wrong, or the folder holds another search.
        TrainingError: every setting failed.
        MissingExtraError: Optuna is not installed.
    """
    optuna = optional("optuna", extra="search", purpose="hyper-parameter search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    make_plan(load_spec(conf)).require_share("valid", "a search chooses by it")
    check_space(options.space, conf)
    points = grid(options.space) if options.sampler == "grid" else []
    if len(points) > options.budget:
        raise ConfigError(
            f"the grid has {len(points)} settings, the budget is {options.budget}: shrink one, raise the other"
        )
    _check_folder(folder, conf, options)
    study = _open(optuna, folder, options, fingerprint(conf, dict(options.space)))
    data = data or DataCache()
    wanted = min(options.budget, len(points)) if points else options.budget
    while (done := _finished_trials(optuna, study)) < wanted:
        study.sampler = _sampler(optuna, options, done)
        if points and not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
            study.enqueue_trial(points[done])  # one that an interruption left waiting is this very point
        trial = study.ask()
        _run_trial(optuna, study, trial, conf, options, folder, data)
        _log_trial(study, trial, done + 1, wanted)
    return _finish(optuna, study, conf, options, folder)


def _check_folder(folder: Path, conf: Table, options: SearchOptions) -> None:
    """Record what is searched, or check that it is what the folder holds."""
    wanted = {
        "conf": dict(conf),
        "search": {"sampler": options.sampler, "seed": options.seed, "space": dict(options.space)},
    }
    digest = fingerprint(wanted)
    path = folder / "search.json"
    if path.exists() and read_json(path)["fingerprint"] != digest:
        raise ConfigError(f"{folder} holds a search of another conf or space; name another folder with -o")
    if not path.exists():
        write_json(path, {"fingerprint": digest, **wanted})


def _open(optuna: Any, folder: Path, options: SearchOptions, name: str) -> Any:
    """The Optuna study, in the folder's SQLite file or another database; interrupted trials are closed."""
    url = options.storage or f"sqlite:///{(folder / 'search.db').resolve()}"
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True, pruner=_pruner(optuna, options)
    )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _pruner(optuna: Any, options: SearchOptions) -> Any:
    if options.pruner == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=options.startup, n_warmup_steps=options.warmup)


def _sampler(optuna: Any, options: SearchOptions, done: int) -> Any:
    """A sampler for the next setting, seeded by the number of finished trials: it keeps no state between them."""
    seed = int(fingerprint(options.seed, done)[:8], 16)
    if options.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=options.startup)
    return optuna.samplers.RandomSampler(seed=seed)


def _finished_trials(optuna: Any, study: Any) -> int:
    states = optuna.trial.TrialState
    trials = study.get_trials(deepcopy=False)
    return sum(t.state in (states.COMPLETE, states.PRUNED) or _ERROR in t.user_attrs for t in trials)


def _run_trial(
    optuna: Any, study: Any, trial: Any, conf: Table, options: SearchOptions, folder: Path, data: DataCache
) -> None:
    setting = draw(trial, options.space)
    plan = make_plan(load_spec(conf, setting))
    place = folder / "trials" / fingerprint(setting)
    callback = _Pruning(optuna, trial, plan.train.metric)
    began = time.monotonic()
    trial.set_user_attr("setting", setting)
    try:
        value = validate_setting(plan, place, data, [callback])
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except TrainingError as error:  # a setting that diverges counts as tried
        trial.set_user_attr(_ERROR, str(error))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        trial.set_user_attr("seconds", round(time.monotonic() - began, 2))
        study.tell(trial, value)
    shutil.rmtree(place, ignore_errors=True)


class _Pruning(Callback):
    """Reports the metric of each evaluated epoch to a trial, and ends the training where Optuna prunes the trial."""

    def __init__(self, optuna: Any, trial: Any, metric: str) -> None:
        self.optuna, self.trial, self.metric = optuna, trial, metric
        self.reported: set[int] = set()

    def on_train_begin(self, history: History) -> None:
        """Report the earlier epochs of a resumed training."""
        for row in history.rows:
            self.on_epoch_end(row)

    def on_epoch_end(self, row: Row) -> None:
        """Raises optuna.TrialPruned where the trial is to end."""
        epoch = int(row["epoch"])
        if self.metric not in row or epoch in self.reported:
            return
        self.reported.add(epoch)
        self.trial.report(row[self.metric], epoch)
        if self.trial.should_prune():
            raise self.optuna.TrialPruned


def _log_trial(study: Any, trial: Any, number: int, wanted: int) -> None:
    if is_quiet():
        return
    record = study.trials[trial.number]
    value = "failed" if _ERROR in record.user_attrs else record.state.name.lower()
    value = f"{record.value:.4f}" if record.value is not None and value == "complete" else value
    setting = ", ".join(f"{key} = {_short(value)}" for key, value in record.user_attrs["setting"].items())
    logging.getLogger(__name__).info("%d of %d: %s  (%s)", number, wanted, value, setting)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _finish(optuna: Any, study: Any, conf: Table, options: SearchOptions, folder: Path) -> SearchResult:
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not complete:
        errors = [trial.user_attrs[_ERROR] for trial in study.trials if _ERROR in trial.user_attrs]
        raise TrainingError(
            f"none of {len(study.trials)} settings could be validated; the last one: {(errors or ['-'])[-1]}"
        )
    best = max(complete, key=lambda trial: (trial.value, -trial.number))  # of equals the first
    setting = dict(best.user_attrs["setting"])
    found = load_spec(conf, setting)
    write_text(folder / "best.conf", _conf_text(found.title, dict(found.tables), best.value, len(study.trials)))
    rows = [
        {"number": t.number, "state": t.state.name.lower(), "value": t.value, **t.user_attrs}
        for t in study.trials
        if t.state != optuna.trial.TrialState.FAIL or _ERROR in t.user_attrs
    ]
    result = {
        "best": setting,
        "value": best.value,
        "budget": options.budget,
        "sampler": options.sampler,
        "trials": rows,
    }
    write_json(folder / "tuned.json", result)
    return SearchResult(folder, setting, best.value, len(rows))


def _conf_text(title: str, tables: dict[str, Any], value: float, trials: int) -> str:
    said = f"# The best of {trials} settings by validation: {value:.4f}. `lmm4rec run` takes this file.\n"
    return said + tomli_w.dumps({"title": title, **tables})


def read_tuned(folder: Path) -> SearchResult | None:
    """The outcome of the search in a folder; None where it is not finished."""
    path = folder / "tuned.json"
    if not path.exists():
        return None
    found = read_json(path)
    return SearchResult(folder, found["best"], found["value"], len(found["trials"]))
