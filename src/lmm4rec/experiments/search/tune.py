"""Hyper-parameter search: Optuna proposes settings, validation ranks them, the best one becomes a conf file.

A search that was killed and started again tries the settings that it would have tried anyway: each proposal depends on
the seed and on the finished trials alone. The trial that was interrupted is continued.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import tomli_w

from lmm4rec.core.errors import ConfigError, TrainingError, optional
from lmm4rec.core.files import read_json, storage_errors, write_json, write_text
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.folder_lock import locked_folder
from lmm4rec.core.progress import is_quiet, progress
from lmm4rec.distributed.pool import Job, Pool, WorkerDiedError
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.conf.spec import Table, load_spec, read_conf
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.search.space import check_space, draw, grid, with_fractions
from lmm4rec.experiments.search.trials import ERROR, pruner_of, run_trial, storage_of, try_setting

TUNED = "tuned.json"  # the file of a finished search
SEARCH = "search.json"  # the file that says what is searched


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


def tune(
    conf: Table, options: SearchOptions, folder: Path, *, data: DataCache | None = None, pool: Pool | None = None
) -> SearchResult:
    """Search the space of an ordinary conf for the setting that validates best; finished trials are not repeated.

    The workers of a pool try several settings at a time. Each is then proposed before the ones beside it have ended,
    so that TPE knows less, and which settings are tried depends on their pace.

    Raises:
        ConfigError: the conf or the space is wrong, the folder holds another search, or another process searches in it.
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
    wanted = min(options.budget, len(points)) if points else options.budget
    with locked_folder(folder, doing="searches in it", advice="wait until it ends, or name another folder with -o"):
        with storage_errors(folder):
            study = _open(optuna, folder, options, begin_search(folder, conf, options))
        options = replace(options, space=with_fractions(options.space, conf))
        if pool is not None:
            _try_on_pool(optuna, study, conf, options, folder, points, wanted, pool)
            return _finish(optuna, study, conf, options, folder)
        data = data or DataCache()
        for trial in _open_trials(optuna, study, options, points, wanted):
            run_trial(optuna, study, trial, conf, options, folder, data)
            _log_trial(study, trial, len(_finished_trials(optuna, study)), wanted)
        return _finish(optuna, study, conf, options, folder)


def _open_trials(
    optuna: Any, study: Any, options: SearchOptions, points: Sequence[Mapping[str, Any]], wanted: int
) -> Iterator[Any]:
    """New trials for those of the `wanted` places in the search that have no finished one, each proposed when drawn.

    A place determines the point of the grid, and the sampler's seed. Several at a time do not finish in order, so after
    an interruption the open places need not be the last ones.
    """
    finished = {t.user_attrs.get("place", index) for index, t in enumerate(_finished_trials(optuna, study))}
    for place in (place for place in range(wanted) if place not in finished):
        study.sampler = _sampler(optuna, options, place)
        if points:
            study.enqueue_trial(points[place])
        trial = study.ask()
        trial.set_user_attr("place", place)
        draw(trial, options.space)  # by this sampler, whatever process tries it
        yield trial


def _try_on_pool(
    optuna: Any,
    study: Any,
    conf: Table,
    options: SearchOptions,
    folder: Path,
    points: Sequence[Mapping[str, Any]],
    wanted: int,
    pool: Pool,
) -> None:
    """Try settings by the workers of a pool until enough have ended."""
    arguments = (tomli_w.dumps(conf), options, folder.resolve())
    trials = _open_trials(optuna, study, options, points, wanted)
    jobs = (Job(str(trial.number), try_setting, (*arguments, study.study_name, trial.number)) for trial in trials)
    with progress(total=wanted, description="settings", unit="setting") as bar:
        bar.update(len(_finished_trials(optuna, study)))
        for outcome in pool.run(jobs):
            if isinstance(outcome.error, WorkerDiedError):  # counts as tried
                trial = optuna.trial.Trial(study, study.trials[int(outcome.job.name)]._trial_id)
                trial.set_user_attr("setting", draw(trial, options.space))
                trial.set_user_attr(ERROR, str(outcome.error))
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                outcome.result()
            bar.update()


def begin_search(folder: Path, conf: Table, options: SearchOptions) -> str:
    """Record what is searched in a folder, or check that it is what the folder holds; returns the search's name.

    The name has an id of the folder, so that in a database of several searches each finds its own trials alone.

    Raises:
        ConfigError: the folder holds another search.
    """
    wanted = {
        "conf": dict(conf),
        "search": {"sampler": options.sampler, "seed": options.seed, "space": dict(options.space)},
    }
    digest = fingerprint(wanted)
    path = folder / SEARCH
    if not path.exists():
        write_json(path, {"fingerprint": digest, "id": uuid4().hex, **wanted})
    held = read_json(path)
    if held["fingerprint"] != digest:
        raise ConfigError(f"{folder} holds a search of another conf or space; name another folder with -o")
    if "id" not in held:  # of an earlier version, which named it so
        return fingerprint(conf, dict(options.space))
    return f"{digest}-{held['id']}"


def _open(optuna: Any, folder: Path, options: SearchOptions, name: str) -> Any:
    """The Optuna study, in the folder's SQLite file or another database; interrupted trials are closed."""
    study = optuna.create_study(
        storage=storage_of(optuna, folder, options),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        pruner=pruner_of(optuna, options),
    )
    states = optuna.trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)
    while study.get_trials(deepcopy=False, states=(states.WAITING,)):  # a point of a grid that was not yet begun
        study.tell(study.ask(), state=states.FAIL)
    return study


def _sampler(optuna: Any, options: SearchOptions, place: int) -> Any:
    """A sampler for the setting at a place in the search, which seeds it: it keeps no state between them."""
    seed = int(fingerprint(options.seed, place)[:8], 16)
    if options.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=options.startup)
    return optuna.samplers.RandomSampler(seed=seed)


def _finished_trials(optuna: Any, study: Any) -> list[Any]:
    states = optuna.trial.TrialState
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state in (states.COMPLETE, states.PRUNED) or ERROR in t.user_attrs]


def _log_trial(study: Any, trial: Any, number: int, wanted: int) -> None:
    if is_quiet():
        return
    record = study.trials[trial.number]
    value = "failed" if ERROR in record.user_attrs else record.state.name.lower()
    value = f"{record.value:.4f}" if record.value is not None and value == "complete" else value
    setting = ", ".join(f"{key} = {_short(value)}" for key, value in record.user_attrs["setting"].items())
    logging.getLogger(__name__).info("%d of %d: %s  (%s)", number, wanted, value, setting)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _finish(optuna: Any, study: Any, conf: Table, options: SearchOptions, folder: Path) -> SearchResult:
    tried = [t for t in study.trials if t.state != optuna.trial.TrialState.FAIL or ERROR in t.user_attrs]
    complete = [t for t in tried if t.state == optuna.trial.TrialState.COMPLETE]
    if not complete:
        errors = [trial.user_attrs[ERROR] for trial in tried if ERROR in trial.user_attrs]
        raise TrainingError(f"none of {len(tried)} settings could be validated; the last one: {(errors or ['-'])[-1]}")
    best = max(complete, key=lambda trial: (trial.value, -trial.number))  # of equals the first
    setting = dict(best.user_attrs["setting"])
    found = load_spec(conf, setting)
    write_text(folder / "best.conf", _conf_text(found.title, dict(found.tables), best.value, len(tried)))
    rows = [{"number": t.number, "state": t.state.name.lower(), "value": t.value, **t.user_attrs} for t in tried]
    result = {
        "best": setting,
        "value": best.value,
        "budget": options.budget,
        "sampler": options.sampler,
        "trials": rows,
    }
    write_json(folder / TUNED, result)
    return SearchResult(folder, setting, best.value, len(rows))


def _conf_text(title: str, tables: dict[str, Any], value: float, trials: int) -> str:
    said = f"# The best of {trials} settings by validation: {value:.4f}. `lmm4rec run` takes this file.\n"
    return said + tomli_w.dumps({"title": title, **tables})


def read_tuned(folder: Path) -> SearchResult | None:
    """The outcome of the search in a folder; None where it is not finished."""
    path = folder / TUNED
    if not path.exists():
        return None
    found = read_json(path)
    return SearchResult(folder, found["best"], found["value"], len(found["trials"]))
