"""Pools: the same outcomes in this process, in local processes and on a Ray cluster; deaths, errors, interruptions."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed.pool_jobs import break_down, die, die_at_first, fail, square, subtract, wait_for
from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.distributed.pool import Job, Outcome, Pool, WorkerDiedError, WorkerOptions, open_pool

CLUSTER = pytest.param("local:2", marks=[pytest.mark.slow, pytest.mark.timeout(300)])


def outcomes(pool: Pool, jobs: list[Job]) -> dict[str, Outcome]:
    return {outcome.job.name: outcome for outcome in pool.run(iter(jobs))}


def test_jobs_in_this_process_are_done_one_after_another() -> None:
    with open_pool(0) as pool:
        names = [outcome.job.name for outcome in pool.run(Job(str(n), square, (n,)) for n in range(3))]
        assert names == ["0", "1", "2"]
        failed = outcomes(pool, [Job("fail", fail, ("no such table",)), Job("square", square, (3,))])
        assert str(failed["fail"].error) == "no such table"
        assert failed["square"].result() == 9
        with pytest.raises(ZeroDivisionError, match="by zero"):
            outcomes(pool, [Job("broken", break_down)])


@pytest.mark.long
@pytest.mark.parametrize("cluster", ["", CLUSTER])
def test_workers_return_values_errors_and_survive_deaths(
    cluster: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [Job(str(n), square, (n,)) for n in range(4)]
    jobs += [Job("fail", fail, ("no such table",)), Job("broken", break_down)]
    jobs += [Job("once", die_at_first, (tmp_path / "mark",)), Job("always", die)]
    options = WorkerOptions(logs=tmp_path / "logs", retries=1, shared=(tmp_path,))
    with caplog.at_level(logging.WARNING), open_pool(2, cluster, options) as pool:
        assert pool.slots == 2
        found = outcomes(pool, jobs)
    assert [found[str(n)].result() for n in range(4)] == [0, 1, 4, 9]
    assert (type(found["fail"].error), str(found["fail"].error)) == (DataError, "no such table")
    assert isinstance(found["broken"].error, ZeroDivisionError)
    assert found["once"].result() == "done"
    with pytest.raises(WorkerDiedError, match="each of 2 worker processes ended"):
        found["always"].result()
    assert "once: its worker died" in caplog.text
    printed = "".join(path.read_text() for path in (tmp_path / "logs").glob("*.log"))
    assert all(f"the square of {n}" in printed for n in range(4))
    assert list(tmp_path.glob(".*.shared")) == []


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 1])
def test_the_values_of_its_inputs_are_a_jobs_last_arguments(workers: int) -> None:
    with open_pool(workers) as pool:
        assert not pool.does_inputs_apart
        job = Job("difference", subtract, (100,), (Job("four", square, (2,)), Job("nine", square, (3,))))
        assert outcomes(pool, [job])["difference"].result() == 100 - 4 - 9
        failed = outcomes(pool, [Job("all", subtract, (1,), (Job("fail", fail, ("no such table",)),))])
        assert str(failed["all"].error) == "no such table"


def test_a_job_may_depend_on_an_earlier_outcome() -> None:
    done: list[str] = []

    def jobs() -> Iterator[Job | None]:
        yield Job("first", square, (1,))
        while not done:
            yield None
        yield Job("second", square, (2,))

    with open_pool(0) as pool:
        for outcome in pool.run(jobs()):
            done.append(outcome.job.name)
    assert done == ["first", "second"]


@pytest.mark.parametrize("cluster", [pytest.param("", marks=pytest.mark.slow), CLUSTER])
def test_an_error_of_the_caller_ends_what_the_workers_do(cluster: str, tmp_path: Path) -> None:
    def interrupted() -> Iterator[Job | None]:
        yield Job("waits", wait_for, (tmp_path / "mark",))
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("mark.*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_pool(2, cluster) as pool:
        list(pool.run(interrupted()))
    (begun,) = tmp_path.glob("mark.*")
    pid = int(begun.suffix[1:])
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """A port at which nobody answers, where Ray finds no trace of any cluster."""
    services = pytest.importorskip("ray._private.services")
    services.find_gcs_addresses.cache_clear()
    monkeypatch.setattr(services, "_find_address_from_flag", lambda _: set())
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.long
@pytest.mark.parametrize("address", ["junk", "auto", "ray://127.0.0.1:{port}", "127.0.0.1:{port}", "local:none"])
def test_a_cluster_that_is_not_there_is_named(address: str, port: int) -> None:
    with pytest.raises(ConfigError, match="local:3") as error:
        open_pool(1, address.format(port=port))
    assert f"'{address.format(port=port)}'" in str(error.value)


@pytest.mark.long
@pytest.mark.parametrize("trace", ["variable", "variable of a client", "file"])
def test_a_cluster_that_was_here_is_named_at_once(
    trace: str, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What `ray start` and `ray up` leave names it even after its end; Ray itself tries to reach it for minutes."""
    if trace == "file":
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")
    else:
        monkeypatch.setenv("RAY_ADDRESS", f"{'ray://' if 'client' in trace else ''}127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=rf"'auto' \((ray://)?\S+:{port}: .*refused"):
        open_pool(1, "auto")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nodes_that_cannot_do_the_work_are_named_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from lmm4rec.distributed import cluster_checks

    found = cluster_checks.versions()
    elsewhere = found | {"lmm4rec": "0.0.1", "here-only": "1.0"}
    monkeypatch.setattr(cluster_checks, "versions", lambda: elsewhere)
    original = cluster_checks._leave_marks

    def not_shared(folders: Any) -> list[Path]:
        marks = original(folders)
        for mark in marks:
            mark.unlink()
        return marks

    monkeypatch.setattr(cluster_checks, "_leave_marks", not_shared)
    with pytest.raises(ConfigError) as error:
        open_pool(1, "local:2", WorkerOptions(shared=(tmp_path,)))
    host = os.uname().nodename
    assert f"{host}: lmm4rec is {found['lmm4rec']} there and 0.0.1 here: install one version on all" in str(error.value)
    assert f"the folder {tmp_path} is not shared: {host} does not see" in str(error.value)
