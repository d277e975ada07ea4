"""Locks in a shared folder: one owner at a time, stale when it is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lmm4rec.experiments.study.locks import Locks, start_time


def test_one_at_a_time_and_free_again_afterwards(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with locks.hold("cell") as first, locks.hold("cell") as second, locks.hold("other") as third:
        assert (first, second, third) == (True, False, True)
        assert set(locks.owners()) == {"cell", "other"}
        assert locks.owners()["cell"]["pid"] == os.getpid()
    with locks.hold("cell") as again:
        assert again
    assert list(tmp_path.iterdir()) == []


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with pytest.raises(ValueError, match="no"), locks.hold("cell"):
        raise ValueError("no")
    assert locks.owners() == {}


def test_of_many_who_try_at_once_one_wins(tmp_path: Path) -> None:
    won: list[int] = []
    start, done = threading.Barrier(16), threading.Barrier(16)

    def grab(number: int) -> None:
        start.wait()
        with Locks(tmp_path).hold("cell") as mine:
            if mine:
                won.append(number)
            done.wait()

    threads = [threading.Thread(target=grab, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def write(path: Path, **owner: object) -> None:
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "x", "id": "y"} | owner))


def test_a_lock_of_a_process_that_is_gone_is_stale_at_once(tmp_path: Path) -> None:
    import socket

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write(tmp_path / "cell.json", host=socket.gethostname(), pid=dead.pid, born="12345")
    with Locks(tmp_path).hold("cell") as mine:
        assert mine


def test_a_reused_process_id_is_another_process(tmp_path: Path) -> None:
    import socket

    write(tmp_path / "cell.json", host=socket.gethostname(), pid=os.getpid(), born="long ago")
    with Locks(tmp_path).hold("cell") as mine:
        assert mine
    write(tmp_path / "cell.json", host=socket.gethostname(), pid=os.getpid(), born=start_time(os.getpid()))
    with Locks(tmp_path).hold("cell") as mine:
        assert not mine


def test_a_lock_from_elsewhere_is_stale_when_it_beats_no_more(tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    write(path)
    locks = Locks(tmp_path, stale_s=100.0)
    with locks.hold("cell") as mine:
        assert not mine
    old = time.time() - 101
    os.utime(path, (old, old))
    with locks.hold("cell") as mine:
        assert mine


def test_a_held_lock_beats(tmp_path: Path) -> None:
    locks = Locks(tmp_path, beat_s=0.02)
    with locks.hold("cell"):
        path = tmp_path / "cell.json"
        os.utime(path, (1000, 1000))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime < 2000 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 2000


def test_a_lock_that_a_kill_cut_short_is_stale_in_time(tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    path.write_text('{"host": "els')
    locks = Locks(tmp_path, stale_s=100.0)
    with locks.hold("cell") as mine:
        assert not mine
    os.utime(path, (1000, 1000))
    with locks.hold("cell") as mine:
        assert mine


def test_what_a_dead_worker_left_is_found_and_removed(tmp_path: Path) -> None:
    import socket

    write(tmp_path / "cell-a.json", host=socket.gethostname(), pid=77, born="1")
    write(tmp_path / "cell-b.json", host="elsewhere", pid=77)
    locks = Locks(tmp_path)
    assert locks.left_by(77) == ["cell-a"]
    assert locks.left_by(77) == []
    assert [path.stem for path in tmp_path.iterdir()] == ["cell-b"]
