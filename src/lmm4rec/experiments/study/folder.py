"""Study folder: the paths of a study's files, and the failures of its tasks."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.folder_lock import LOCK_FILES, is_locked
from lmm4rec.data.buckets import is_remote
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.remote_copy import RemoteCopy
from lmm4rec.experiments.study.cells import Cell
from lmm4rec.experiments.study.spec import StudySpec


class StudyFolder:
    """The paths of a study's files."""

    def __init__(self, path: Path, remote: RemoteCopy | None = None) -> None:
        """`remote` is its copy in an object store."""
        self.path, self.remote = path, remote
        self.record = path / "study.json"  # options, cells and their axes, which the report reads
        self.report = path / "report"  # page, tables and figures
        self.running = path / "running.json"  # the tasks that are being done
        self.logs = path / "logs"  # the output of each worker

    def cell(self, name: str) -> RunFolder:
        """The run folder of a cell."""
        return RunFolder(self.path / "cells" / name)

    def search(self, design: str) -> Path:
        """The folder of a design's hyper-parameter search."""
        return self.path / "searches" / design

    def features_mark(self, key: str) -> Path:
        """The file that says that features are in the store."""
        return self.path / "content" / f"{key}.json"

    def failure(self, task: str) -> Path:
        """The record of a task's failure."""
        return self.path / "failures" / f"{task}.json"

    def failures(self) -> dict[str, Mapping[str, Any]]:
        """The failures of tasks that have not succeeded since, by task."""
        return {path.stem: read_json(path) for path in sorted((self.path / "failures").glob("*.json"))}

    def running_tasks(self) -> list[str]:
        """The tasks that are being done; none where no process works on the study."""
        return list(read_json(self.running)["tasks"]) if self.running.exists() and is_locked(self.path) else []

    def write_failure(self, task: str, error: BaseException) -> None:
        """Record a task's failure, with its traceback."""
        trace = "".join(traceback.format_exception(error))
        facts = {"error": type(error).__name__, "message": str(error), "when": time.time(), "traceback": trace}
        write_json(self.failure(task), facts)


def study_folder(name: str, out: str | Path | None) -> StudyFolder:
    """The folder that a study of this name will have; at an address, one of the cache."""
    if out and is_remote(out):
        remote = RemoteCopy(str(out))
        return StudyFolder(remote.path, remote)
    return StudyFolder(Path(out) if out else Path("runs") / name)


def open_study(spec: StudySpec, cells: Sequence[Cell], out: Path | None, *, resume: bool) -> StudyFolder:
    """The folder of a study: a new one, or an existing one to go on with, whose conf may by now have more values.

    Raises:
        ConfigError: the folder holds a study although `resume` is False, or something else.
        CheckpointError: there is nothing to resume.
    """
    folder = StudyFolder(out or Path("runs") / spec.name)
    if folder.record.exists() and not resume:
        raise ConfigError(f"{folder.path} already holds a study: add --resume to go on, or name another with -o")
    if resume and not folder.record.exists():
        raise CheckpointError(f"there is nothing to resume in {folder.path}: it has no study.json")
    if not folder.record.exists() and {path.name for path in folder.path.glob("*")} - LOCK_FILES:
        raise ConfigError(f"{folder.path} is not empty and holds no study; name another folder with -o")
    record = {
        "name": spec.name,
        "title": spec.title,
        "options": asdict(spec.options),
        "search": asdict(spec.search) if spec.search else None,
        "axes": {axis: [value.name for value in values] for axis, values in spec.axes.items()},
        "cells": [
            {"name": cell.name, "axes": dict(cell.axes), "searched": bool(cell.space), "design": cell.design_name}
            for cell in cells
        ],
    }
    write_json(folder.record, record)
    return folder
