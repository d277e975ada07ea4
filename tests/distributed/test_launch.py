"""Several processes of one command: their errors, kills and interruptions are those of one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from lmm4rec.distributed import launch
from lmm4rec.distributed.launch import run_in_processes

START = "import os, signal, sys, time; rank = int(os.environ['RANK'])\n"


def status_of(script: str, processes: int = 2) -> int:
    return run_in_processes(lambda is_restart: [sys.executable, "-S", "-c", START + script, str(is_restart)], processes)


def test_all_succeed_and_the_first_writes_to_the_output(capfd: pytest.CaptureFixture[str]) -> None:
    assert status_of("print('from', rank, 'of', os.environ['WORLD_SIZE'])", processes=3) == 0
    assert capfd.readouterr().out == "from 0 of 3\n"


def test_an_error_of_all_is_reported_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert status_of("print('error: no data', file=sys.stderr); sys.exit(2)") == 2
    assert capfd.readouterr().err == "error: no data\n"


def test_an_error_of_one_is_reported_and_the_others_end(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ends since its peer is lost; the third does not notice, and is killed."""
    monkeypatch.setattr(launch, "_GRACE_S", 0.2)
    script = "if rank == 1: sys.exit('error: of the second')\nif rank == 2: time.sleep(60)\nsys.exit(75)"
    assert status_of(script, processes=3) == 1
    assert capfd.readouterr().err == "error: of the second\n"


def test_a_lost_connection_without_a_failure_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    assert status_of("sys.exit(75 if rank == 0 else 0)", processes=3) == 75
    assert "process 1 of 3 lost the connection to the others, none of which failed" in caplog.text


def test_after_a_kill_all_start_again(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    script = f"""
open({str(tmp_path)!r} + f"/{{rank}}", "a").write(sys.argv[1] + " ")
if rank == 1 and sys.argv[1] == "False": os.kill(os.getpid(), signal.SIGKILL)
sys.exit(75 if sys.argv[1] == "False" else 0)
"""
    assert status_of(script) == 0
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["False True "] * 2
    assert "process 2 of 2 was killed by SIGKILL: all processes start again" in caplog.text


def test_after_some_kills_it_ends(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "RESTARTS", 1)
    assert status_of("os.kill(os.getpid(), signal.SIGKILL)") == 128 + signal.SIGKILL
    assert "was killed by SIGKILL for the 2th time" not in caplog.text
    assert "was killed by SIGKILL 2 times. The system kills processes where memory runs out" in caplog.text


def test_an_interruption_reaches_each_process_once(tmp_path: Path) -> None:
    script = f"""
came = []
def note(number, _): came.append(number)
signal.signal(signal.SIGINT, note)
open({str(tmp_path)!r} + f"/{{rank}}", "w").close()
while not came: time.sleep(0.01)
time.sleep(0.1)
sys.exit(130 if came == [signal.SIGINT] else 1)
"""

    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    assert status_of(script) == 130
    other.join()
