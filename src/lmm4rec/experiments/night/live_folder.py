"""Live folder: the nights of a shop, and the bundle that is served.

    DIR/bundle              a symlink to the bundle of one night, which is replaced atomically
    DIR/nights/TIME/        candidate/ and final/ (run folders), night.json
    DIR/nights.jsonl        one line a night
    DIR/interactions.sqlite, DIR/added_items.sqlite    written by the service

`night.json` is written before the bundle is replaced, and the line of the log after it, so that a kill between the two
is seen: the next night then adds the line. A night without either was killed earlier, and is removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import read_json, storage_errors, write_json
from lmm4rec.core.folder_lock import locked_folder
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.night.record import NightRecord, now
from lmm4rec.serving import added_items, feedback
from lmm4rec.serving.night_log import append_night, read_nights

_NAME = "%Y-%m-%dT%H%M%SZ"  # of a night: the time at which it began, in UTC


class NightFolder:
    """The folder of one night."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.candidate = path / "candidate"  # the run that is measured on the newest interactions
        self.final = RunFolder(path / "final")  # the run that learned from all of them, whose bundle is served
        self.record = path / "night.json"

    @property
    def name(self) -> str:
        """The time at which it began."""
        return self.path.name


class LiveFolder:
    """The folder that a service serves and the night job writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bundle = path / "bundle"
        self.nights = path / "nights"
        self.interactions = path / feedback.FILE
        self.added_items = path / added_items.FILE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process refreshes the folder; a crash releases it.

        Raises:
            ConfigError: another process does; it says which.
        """
        with locked_folder(self.path, doing="refreshes it"):
            yield

    def served(self) -> NightFolder | None:
        """The night whose bundle is served; None before the first one.

        Raises:
            CheckpointError: the bundle is no symlink to one of the nights, or what it names is gone.
        """
        if not self.bundle.is_symlink():
            if self.bundle.exists():
                raise CheckpointError(
                    f"{self.bundle} is a folder, and `refresh` replaces a symlink: name a live folder of its own"
                )
            return None
        bundle = self.path / self.bundle.readlink()
        night = NightFolder(self.nights / bundle.parent.parent.name)
        if bundle != night.final.bundle or not bundle.is_dir():
            raise CheckpointError(
                f"{self.bundle} names {bundle}, which is not there or is no night's bundle: let it name another one of "
                f"{self.nights}, or remove it to begin anew"
            )
        return night

    def serve(self, night: NightFolder) -> None:
        """Serve the bundle of a night: the symlink is replaced in one step."""
        beside = self.path / f".bundle.{os.getpid()}.part"
        with storage_errors(self.bundle):
            beside.unlink(missing_ok=True)
            beside.symlink_to(night.final.bundle.relative_to(self.path), target_is_directory=True)
            beside.replace(self.bundle)
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def new_night(self) -> NightFolder:
        """A night that begins now; its folder is not there yet."""
        name = datetime.now(UTC).strftime(_NAME)
        taken = {path.name for path in self._folders()} | {
            str(record.get("night")) for record in read_nights(self.path)
        }
        names = (name, *(f"{name}-{number:03d}" for number in range(2, 1000)))
        return NightFolder(self.nights / next(one for one in names if one not in taken))

    def log(self, record: NightRecord) -> None:
        """Append the record of a night to the log."""
        append_night(self.path, record.to_json())

    def write_record(self, night: NightFolder, record: NightRecord) -> None:
        """Write a night's record into its folder."""
        write_json(night.record, record.to_json())

    def recover(self) -> None:
        """Log the nights that a kill ended; those that are not served are removed."""
        for beside in self.path.glob(".bundle.*.part"):  # of a kill within `serve`
            beside.unlink()
        logged = {record.get("night") for record in read_nights(self.path)}
        served = self.served()
        for path in self._folders():
            night = NightFolder(path)
            if night.name in logged:
                continue
            if served is not None and served.name == night.name:
                append_night(self.path, read_json(night.record))
                continue
            record = NightRecord(night.name, "", "", finished=now(), serving=served.name if served else "")
            record.decide("interrupted", "the process ended on the way; its folder is removed")
            shutil.rmtree(path)
            self.log(record)

    def remove_old(self, keep: int) -> list[str]:
        """Remove all nights but the newest `keep` and the one that is served; returns their names."""
        served, paths = self.served(), self._folders()
        names = []
        for path in paths[: max(len(paths) - keep, 0)]:
            if served is None or path.name != served.name:
                shutil.rmtree(path)
                names.append(path.name)
        return names

    def remove_erased(self) -> list[str]:
        """Remove the nights that began before a user was erased, whose files still name them; returns their names.

        Of the night that is served the candidate and the report go; its bundle was written anew by the service.
        """
        if not self.interactions.is_file():
            return []
        store = feedback.FeedbackStore(self.interactions)
        last = max((one.time for one in store.erasures()), default=0.0)
        store.close()
        latest = datetime.fromtimestamp(last, UTC).strftime(_NAME)
        served, names = self.served(), []
        for path in self._folders():
            if path.name[: len(latest)] > latest:
                continue
            night = NightFolder(path)
            if served is not None and path.name == served.name:
                shutil.rmtree(night.candidate, ignore_errors=True)
                night.final.report.unlink(missing_ok=True)
                continue
            shutil.rmtree(path)
            names.append(path.name)
        return names

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.nights.iterdir() if path.is_dir()) if self.nights.is_dir() else []
