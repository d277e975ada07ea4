"""Lock on a folder: one process at a time, free again however its owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.folder_lock import is_locked, locked_folder

HOLDER = """
import sys, time
from pathlib import Path
from lmm4rec.core.folder_lock import locked_folder
with locked_folder(Path(sys.argv[1]), doing="runs it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_one_hears_who_holds_it(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "run", doing="runs it"):
        assert is_locked(tmp_path / "run")
        with (
            pytest.raises(
                ConfigError, match=rf"run is in use: process {os.getpid()} on \S+ runs it; wait until it ends$"
            ),
            locked_folder(tmp_path / "run", doing="reads it"),
        ):
            pass
        assert is_locked(tmp_path / "run")
    assert not is_locked(tmp_path / "run")


def test_an_empty_folder_is_removed_and_a_filled_one_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), locked_folder(tmp_path / "run", doing="runs it"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
    with locked_folder(tmp_path / "run", doing="runs it"):
        (tmp_path / "run" / "file").touch()
    with locked_folder(tmp_path / "run", doing="runs it"):
        assert (tmp_path / "run" / "file").exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


def test_of_many_who_try_at_once_one_wins(tmp_path: Path) -> None:
    won: list[int] = []
    start, done = threading.Barrier(16), threading.Barrier(16)

    def grab(number: int) -> None:
        start.wait(60)
        try:
            with locked_folder(tmp_path, doing="runs it"):
                won.append(number)
                done.wait(60)
        except ConfigError:
            done.wait(60)

    threads = [threading.Thread(target=grab, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"process {process.pid} on"), locked_folder(tmp_path, doing="runs it"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with locked_folder(tmp_path, doing="runs it"):
        assert is_locked(tmp_path)


@pytest.mark.slow
def test_a_lock_that_is_passed_on_quickly_has_one_owner_at_a_time(tmp_path: Path) -> None:
    """The file is removed with each release, so a contender may hold one that is no longer there."""
    inside, most, taken = [0], [0], [0]
    guard = threading.Lock()
    (tmp_path / "file").touch()  # the folder stays

    def work() -> None:
        for _ in range(300):
            try:
                with locked_folder(tmp_path, doing="runs it"):
                    with guard:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                        taken[0] += 1
                    with guard:
                        inside[0] -= 1
            except ConfigError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert taken[0] > 50
