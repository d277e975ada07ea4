"""Trials of a search: a setting is trained and validated, and the database learns its value."""

from __future__ import annotations

import shutil
import time
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from lmm4rec.core.errors import ConfigError, TrainingError, did_you_mean, optional
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.progress import quiet
from lmm4rec.evaluation.ranking import RankingError
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.build.recommender_features import recommender_features
from lmm4rec.experiments.build.recommenders import check_memory, make_objective, make_recommender
from lmm4rec.experiments.conf.spec import Table, load_spec
from lmm4rec.experiments.environment import Cost
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.search.space import draw
from lmm4rec.experiments.train import measure, require_held_out, train
from lmm4rec.training.callbacks import Callback
from lmm4rec.training.history import History, Row

ERROR = "error"  # attribute of a trial whose training failed, so that it counts; an interrupted one has none
_UNFIT = (ConfigError, RankingError, TrainingError)  # of values that do not go together, or with which it diverges


def validate_setting(plan: Plan, folder: Path, data: DataCache, callbacks: Sequence[Callback] = ()) -> float:
    """The best validation value of the plan's metric; an interrupted training in `folder` is continued.

    The split is sealed (`Split.without_test`): nothing below can read a test interaction.
    """
    with quiet():
        split = data.split(plan).without_test()
        require_held_out(plan, split, "valid")
        check_memory(plan, split)
        features = recommender_features(plan, load_features(plan, split.dataset.catalog), RunFolder(folder))
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


def storage_of(optuna: Any, folder: Path, options: SearchOptions) -> Any:
    """The database of a search: that of the conf, else a SQLite file in its folder."""
    return optuna.storages.RDBStorage(options.storage or f"sqlite:///{(folder / 'search.db').resolve()}")


def pruner_of(optuna: Any, options: SearchOptions) -> Any:
    """The rule by which settings end early."""
    if options.pruner == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=options.startup, n_warmup_steps=options.warmup)


def run_trial(
    optuna: Any, study: Any, trial: Any, conf: Table, options: SearchOptions, folder: Path, data: DataCache
) -> None:
    """Train and validate the setting of a trial, whose value or failure the study then holds."""
    setting = draw(trial, options.space)
    # by its place in the search, too: two workers may try the same setting at a time
    place = folder / "trials" / f"{trial.user_attrs['place']}-{fingerprint(setting)}"
    began = time.monotonic()
    trial.set_user_attr("setting", setting)
    try:
        plan = make_plan(load_spec(conf, setting))
        value = validate_setting(plan, place, data, [_Pruning(optuna, trial, plan.train.metric)])
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except _UNFIT as error:  # counts as tried
        trial.set_user_attr(ERROR, str(error))
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


def try_setting(conf: str, options: SearchOptions, folder: Path, name: str, number: int) -> None:
    """Try the setting of a trial that the search of this name asked for; done by a worker."""
    optuna = optional("optuna", extra="search", purpose="hyper-parameter search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tables = tomllib.loads(conf)
    storage = storage_of(optuna, folder, options)
    study = optuna.load_study(study_name=name, storage=storage, pruner=pruner_of(optuna, options))
    trial = optuna.trial.Trial(study, study.trials[number]._trial_id)
    run_trial(optuna, study, trial, tables, options, folder, _data_of(folder))


@lru_cache(maxsize=1)
def _data_of(folder: Path) -> DataCache:
    """The data of a search, loaded once by a worker."""
    return DataCache()
