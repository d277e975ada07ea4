"""Locks on tasks, as files in a folder that all workers share: on one machine, or on several.

A lock is a file that can be created only once. Its owner touches it every few seconds; one that has not been touched
for a while, or whose process is gone, is stale. Times are those of the folder's own clock, so machines whose clocks
differ agree.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmm4rec.core.files import storage_errors

BEAT_S, STALE_S = 5.0, 120.0


@dataclass(frozen=True)
class Locks:
    """The locks in a folder."""

    folder: Path
    beat_s: float = BEAT_S
    stale_s: float = STALE_S

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """Whether the lock `name` could be acquired; it is released when the block ends, also by an error.

        Should the process live on while its lock counts as stale (a laptop asleep), two do the same work and write the
        same files, each complete.
        """
        path = self.folder / f"{name}.json"
        mine = json.dumps(
            {"host": socket.gethostname(), "pid": os.getpid(), "born": start_time(os.getpid()), "id": uuid.uuid4().hex}
        )
        if not self._acquire(path, mine):
            yield False
            return
        stop = threading.Event()
        heartbeat = threading.Thread(target=self._touch, args=(path, mine, stop), daemon=True)
        heartbeat.start()
        try:
            yield True
        finally:
            stop.set()
            heartbeat.join()
            if _read(path) == mine:
                path.unlink(missing_ok=True)

    def left_by(self, pid: int) -> list[str]:
        """The locks that a process of this machine acquired and did not release; they are removed."""
        left = []
        for path in sorted(self.folder.glob("*.json")):
            owner = json.loads(_read(path) or "{}")
            if owner.get("host") == socket.gethostname() and owner["pid"] == pid:
                path.unlink(missing_ok=True)
                left.append(path.stem)
        return left

    def owners(self) -> dict[str, Mapping[str, Any]]:
        """The locks that are held: name -> host and pid."""
        if not self.folder.is_dir():
            return {}
        now = self.now()
        found: dict[str, Mapping[str, Any]] = {}
        for path in sorted(self.folder.glob("*.json")):
            text = _read(path)
            if text and not self._is_stale(path, text, now):
                owner = json.loads(text)
                found[path.stem] = {"host": owner["host"], "pid": owner["pid"]}
        return found

    def now(self) -> float:
        """The time by the clock of the file system."""
        self.folder.mkdir(parents=True, exist_ok=True)
        probe = self.folder / f".{os.getpid()}.{threading.get_ident()}.clock"
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink(missing_ok=True)
        return now

    def _acquire(self, path: Path, mine: str) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = _read(path)
        if text is not None:
            if not self._is_stale(path, text, self.now()):
                return False
            # of several workers that see a stale lock one wins: a file can be renamed away only once
            away = path.with_name(f".{path.name}.{uuid.uuid4().hex}.void")
            try:
                path.rename(away)
            except FileNotFoundError:
                return False
            moved = away.read_text(encoding="utf-8")
            away.unlink()
            if moved != text:  # another worker had acquired it already: it was theirs that was moved
                _create(path, moved)
                return False
        return _create(path, mine)

    def _touch(self, path: Path, mine: str, stop: threading.Event) -> None:
        while not stop.wait(self.beat_s):
            if _read(path) == mine:
                path.touch()

    def _is_stale(self, path: Path, text: str, now: float) -> bool:
        try:
            owner = json.loads(text)
            touched = path.stat().st_mtime
        except FileNotFoundError:
            return False  # released in this moment
        except json.JSONDecodeError:  # cut by a kill
            return now - path.stat().st_mtime > self.stale_s
        if owner["host"] == socket.gethostname() and start_time(owner["pid"]) != owner["born"]:
            return True
        return now - touched > self.stale_s


def start_time(pid: int) -> str:
    """The start time of a process, as its system reports it; empty where there is none. Process ids are used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "" if Path("/proc/self").exists() else _alive(pid)
    return "" if fields[0] == "Z" else fields[19]


def _alive(pid: int) -> str:
    """Where there is no /proc: "alive", or empty."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"


def _create(path: Path, text: str) -> bool:
    """Create the file with its text in one step: linked into place, which fails where it is there already."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    with storage_errors(path):
        beside.write_text(text, encoding="utf-8")
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            return False
    finally:
        beside.unlink()
    return True


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
