"""Who does what, told by files in a folder that all workers share: on one machine, or on several.

A claim is a file that can be made only once. Its owner touches it every few seconds; one that has not been touched for
a while, or whose process is gone, is void. Times are those of the folder's own clock, so machines whose clocks differ
agree.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEAT_S, STALE_S = 5.0, 120.0


@dataclass(frozen=True)
class Claims:
    """The claims in a folder."""

    folder: Path
    beat_s: float = BEAT_S
    stale_s: float = STALE_S

    @contextmanager
    def take(self, name: str) -> Iterator[bool]:
        """Whether `name` could be claimed; it is given back when the block ends, also by an error.

        Should the process live on while its claim is taken for void (a laptop asleep), two do the same work and write
        the same files, each whole.
        """
        path = self.folder / f"{name}.json"
        mine = json.dumps(
            {"host": socket.gethostname(), "pid": os.getpid(), "born": born(os.getpid()), "id": uuid.uuid4().hex}
        )
        if not self._make(path, mine):
            yield False
            return
        stop = threading.Event()
        heart = threading.Thread(target=self._beat, args=(path, mine, stop), daemon=True)
        heart.start()
        try:
            yield True
        finally:
            stop.set()
            heart.join()
            if _read(path) == mine:
                path.unlink(missing_ok=True)

    def left_by(self, pid: int) -> list[str]:
        """What a process of this machine had claimed and did not give back; the claims are removed."""
        left = []
        for path in sorted(self.folder.glob("*.json")):
            owner = json.loads(_read(path) or "{}")
            if owner.get("host") == socket.gethostname() and owner["pid"] == pid:
                path.unlink(missing_ok=True)
                left.append(path.stem)
        return left

    def owners(self) -> dict[str, Mapping[str, Any]]:
        """The live claims: name -> host and pid."""
        if not self.folder.is_dir():
            return {}
        now = self.now()
        found: dict[str, Mapping[str, Any]] = {}
        for path in sorted(self.folder.glob("*.json")):
            text = _read(path)
            if text and not self._is_void(path, text, now):
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

    def _make(self, path: Path, mine: str) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = _read(path)
        if text is not None:
            if not self._is_void(path, text, self.now()):
                return False
            # of several who see that it is void one wins: a file can be renamed away only once
            away = path.with_name(f".{path.name}.{uuid.uuid4().hex}.void")
            try:
                path.rename(away)
            except FileNotFoundError:
                return False
            moved = away.read_text(encoding="utf-8")
            away.unlink()
            if moved != text:  # somebody else had taken it already: it was theirs that was moved
                _create(path, moved)
                return False
        return _create(path, mine)

    def _beat(self, path: Path, mine: str, stop: threading.Event) -> None:
        while not stop.wait(self.beat_s):
            if _read(path) == mine:
                path.touch()

    def _is_void(self, path: Path, text: str, now: float) -> bool:
        try:
            owner = json.loads(text)
            touched = path.stat().st_mtime
        except FileNotFoundError:
            return False  # given back in this moment
        except json.JSONDecodeError:  # cut by a kill
            return now - path.stat().st_mtime > self.stale_s
        if owner["host"] == socket.gethostname() and born(owner["pid"]) != owner["born"]:
            return True
        return now - touched > self.stale_s


def born(pid: int) -> str:
    """When a process began, as its system says; empty where there is none. Ids are used again, births are not."""
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
    """Make the file with its text in one step: linked into place, which fails where it is there already."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    beside.write_text(text, encoding="utf-8")
    try:
        os.link(beside, path)
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


def wait_a_moment(seconds: float = 0.5) -> None:
    """Wait for others."""
    time.sleep(seconds)
