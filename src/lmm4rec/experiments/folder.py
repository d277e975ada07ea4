"""Run folder: the paths of a run's files, and whether it is new, unfinished or finished."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.core.files import read_json, write_text
from lmm4rec.core.folder_lock import LOCK_FILES, locked_folder
from lmm4rec.core.registry import plugins
from lmm4rec.data.buckets import is_remote
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.experiments.remote_copy import RemoteCopy, copied


class RunFolder:
    """The paths of a run's files."""

    def __init__(self, path: Path, remote: RemoteCopy | None = None) -> None:
        """`remote` is its copy in an object store."""
        self.path, self.remote = path, remote
        self.named = remote.address if remote else str(path)  # in messages: what was given with -o
        self.experiment = path / "experiment.toml"  # the conf with every default filled in
        self.environment = path / "environment.json"  # versions, machine, commit, command
        self.metrics = path / "metrics.json"  # see `RunMetrics`
        self.per_user = path / "per_user.parquet"  # every metric of every user, by external id
        self.history = path / "history.jsonl"  # one JSON object an epoch
        self.report = path / "report.html"
        self.state = path / "checkpoint" / "state.safetensors"  # from which an interrupted training goes on
        self.axes = path / "rotation.safetensors"  # of the features, only with [features] rotate
        self.cost = path / "cost.json"  # of the run so far, while it is not finished
        self.bundle = path / "bundle"  # the trained model, ready to serve
        self.encoder = path / "encoder"  # only where one was trained with the recommender

    @property
    def is_finished(self) -> bool:
        """Whether the test metrics are there (empty without a test part), which a run writes last."""
        return self.metrics.exists() and "test" in read_json(self.metrics)

    def plan(self) -> Plan:
        """The plan of the run.

        Raises:
            ConfigError: a component that it names cannot be had; it says which plugins the run was made with.
            CheckpointError: the file is damaged.
        """
        with _undamaged(self.experiment):
            tables = tomllib.loads(self.experiment.read_text(encoding="utf-8"))
        try:
            return make_plan(load_spec(tables))
        except ConfigError as error:
            used = read_json(self.environment).get("plugins", {}) if self.environment.exists() else {}
            if gone := [f"{name}=={version}" for name, version in used.items() if plugins().get(name) != version]:
                raise ConfigError(f"{error}. The run was made with {', '.join(gone)}: pip install it") from error
            raise

    def history_rows(self) -> list[dict[str, float]]:
        """The epochs of the run so far."""
        if not self.history.exists():
            return []
        with _undamaged(self.history):
            return [json.loads(line) for line in self.history.read_text(encoding="utf-8").splitlines()]

    def scan_per_user(self) -> pl.LazyFrame:
        """Every metric of every user, by external id, as a stream; what the file holds is checked here."""
        with _undamaged(self.per_user):
            frame = pl.scan_parquet(self.per_user, glob=False)
            frame.collect_schema()
            return frame

    def remove_if_nothing_is_done(self) -> None:
        """Remove a folder that holds no more than a conf, so that the corrected run can have it."""
        only_conf = {self.experiment.name, self.environment.name, self.cost.name, self.axes.name, *LOCK_FILES}
        if self.path.is_dir() and {path.name for path in self.path.iterdir()} <= only_conf:
            shutil.rmtree(self.path)


@contextmanager
def _undamaged(file: Path) -> Iterator[None]:
    """A context in which a file of a run is read.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: run the experiment again") from None
    except (ValueError, pl.exceptions.PolarsError) as error:  # TOML, JSON and UTF-8 raise kinds of ValueError
        raise CheckpointError(f"{file} is damaged ({error}): run the experiment again") from error


@contextmanager
def opened_folder(plan: Plan, out: str | Path | None, *, resume: bool) -> Iterator[RunFolder]:
    """The folder for a run, as `open_folder` finds it, which no other process runs in the meantime.

    Raises:
        ConfigError: another process does; it says which.
        StorageError: `out` is an address that cannot be written.
    """
    folder = folder_of(plan, out, resume=resume)
    advice = "wait until it ends, or name another folder with -o"
    with locked_folder(folder.path, doing="runs it", advice=advice):
        if folder.remote:
            folder.remote.begin(resume=resume)
        _open(plan, folder, resume=resume)  # before errors are followed by a copy: a folder that is refused has none
        with copied(folder.remote):
            yield folder


def folder_of(plan: Plan, out: str | Path | None, *, resume: bool) -> RunFolder:
    """The folder that a run of the plan will have, as `open_folder` says; at an address, one of the cache."""
    if out is not None and is_remote(out):
        remote = RemoteCopy(str(out))
        return RunFolder(remote.path, remote)
    out = Path(out) if out is not None else None
    return RunFolder(out or _default(plan.name, resume=resume))


def open_folder(plan: Plan, out: Path | None, *, resume: bool) -> RunFolder:
    """The folder for a run: a new one, or one to resume.

    Without `out` it is `runs/NAME`, numbered where that is taken; to resume, the newest of these that is not finished.

    Raises:
        ConfigError: `out` holds another run, or one although `resume` is not set.
        CheckpointError: there is nothing to resume.
    """
    folder = folder_of(plan, out, resume=resume)
    _open(plan, folder, resume=resume)
    return folder


def _open(plan: Plan, folder: RunFolder, *, resume: bool) -> None:
    text = _as_toml(plan)
    if not folder.experiment.exists():
        if resume:
            raise CheckpointError(f"there is nothing to resume in {folder.named}: it has no experiment.toml")
        if folder.path.exists() and {path.name for path in folder.path.iterdir()} - LOCK_FILES:
            raise ConfigError(f"{folder.named} is not empty and holds no run; name another folder with -o")
        write_text(folder.experiment, text)
    elif not resume:
        raise ConfigError(f"{folder.named} already holds a run: add --resume to go on with it, or name another with -o")
    else:
        _take_over(folder, folder.plan(), plan)


def _take_over(folder: RunFolder, before: Plan, now: Plan) -> None:
    """Check that a resumed run has the folder's conf; with more epochs than before, a finished run goes on.

    Raises:
        ConfigError: other keys differ, there are fewer epochs, or more although learning rates depend on their number.
    """
    old, new = tomllib.loads(_as_toml(before)), tomllib.loads(_as_toml(now))  # newer keys have their defaults in both
    more = new["train"]["epochs"] > old["train"]["epochs"]
    if more:
        if keys := _keys_by_all_steps(now):
            raise ConfigError(
                f"{folder.named} cannot be trained for longer (train.epochs was {old['train']['epochs']}, now "
                f"{new['train']['epochs']}): with {' and '.join(keys)} learning rates depend on the number of all "
                "epochs, and would differ in those that are done; name another with -o"
            )
        old["train"]["epochs"] = new["train"]["epochs"]
    if changes := differences(old, new):
        raise ConfigError(
            f"{folder.named} was begun with another conf ({'; '.join(changes[:5])}); name another with -o"
        )
    if more:
        for measured in (folder.metrics, folder.report):  # of the shorter training
            measured.unlink(missing_ok=True)
        write_text(folder.experiment, _as_toml(now))


def plan_changes(before: Plan, now: Plan) -> list[str]:
    """The keys in which two plans differ, each with both values; titles do not count."""
    return differences(tomllib.loads(_as_toml(before)), tomllib.loads(_as_toml(now)))


def _keys_by_all_steps(plan: Plan) -> list[str]:
    """The keys, with their values, by which a learning rate depends on the number of all steps."""
    tables = {"train": plan.train.table}
    if plan.encoder and plan.features.train == "end2end":
        tables["features.end2end"] = plan.features.end2end or {}
    defaults = {"schedule": "constant", "warmup": 0}
    return [
        f"{name}.{key} = {table[key]!r}"
        for name, table in tables.items()
        for key, default in defaults.items()
        if table.get(key, default) != default
    ]


def _as_toml(plan: Plan) -> str:
    return tomli_w.dumps({"name": plan.name, "title": plan.title, **plan.tables})


def _default(name: str, *, resume: bool) -> Path:
    base = Path("runs")
    numbered = {1: base / name, **{number: base / f"{name}-{number}" for number in range(2, 1000)}}
    taken = {number: path for number, path in numbered.items() if path.exists()}
    if resume:
        open_ones = [path for path in taken.values() if not RunFolder(path).is_finished]
        if not taken:
            raise CheckpointError(f"there is nothing to resume: no folder {base / name}")
        return (open_ones or list(taken.values()))[-1]
    return base / (f"{name}-{max(taken) + 1}" if taken else name)  # the newest has the highest, where one was removed


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys in which two tables of plain values differ, each with both values; titles do not count."""
    changes = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += differences(old, new, f"{prefix}{key}.")
        elif old != new and key not in ("title", "name"):
            changes.append(f"{prefix}{key} was {old!r}, now {new!r}")
    return changes
