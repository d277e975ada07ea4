"""The server as a process: killed in the middle of adds, stopped and reloaded in the middle of requests."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest
from server import TOKEN, Server
from shops import png, write_shop

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "shop")


def adding(url: str, acknowledged: list[str], name: str) -> Callable[[], None]:
    """Adds items until the server is gone; notes each one that it acknowledged."""

    def add() -> None:
        with httpx.Client(base_url=url) as client:
            for number in range(10_000):
                id_ = f"{name}-{number}"
                fields = json.dumps({"title": f"Item {id_}"})
                try:
                    answer = client.post("/items", data={"id": id_, "fields": fields}, files={"image": png()})
                except httpx.TransportError:
                    return
                if answer.status_code == 201:
                    acknowledged.append(id_)

    return add


def test_a_kill_in_the_middle_of_adds_loses_nothing_that_was_acknowledged(run: Path) -> None:
    acknowledged: list[str] = []
    for round_ in range(3):
        with Server([run]) as server:
            before = len(acknowledged)
            threads = [threading.Thread(target=adding(server.url, acknowledged, f"r{round_}t{i}")) for i in range(3)]
            for thread in threads:
                thread.start()
            while len(acknowledged) < before + 12:
                time.sleep(0.01)
            server.end(signal.SIGKILL)
            for thread in threads:
                thread.join()
    with Server([run]) as server:
        page = httpx.get(f"{server.url}/items", params={"added": True, "limit": 500}).json()
        assert set(acknowledged) <= {item["id"] for item in page["items"]}
        # at most one more a thread and round was written and not told
        assert page["total"] <= len(acknowledged) + 9
        assert httpx.get(f"{server.url}/bundles").json()["bundles"][0]["not_restored"] == []


def asking(url: str, statuses: list[int], stop: threading.Event) -> Callable[[], None]:
    def ask() -> None:
        with httpx.Client(base_url=url) as client:
            while not stop.is_set():
                statuses.append(client.get("/recommend/u001").status_code)

    return ask


def test_loading_anew_drops_no_request(run: Path) -> None:
    with Server([run], "--token-env", "LMM4REC_TEST_TOKEN") as server:
        statuses: list[int] = []
        stop = threading.Event()
        threads = [threading.Thread(target=asking(server.url, statuses, stop)) for _ in range(3)]
        for thread in threads:
            thread.start()
        title = ""
        for seed in range(1, 4):
            write_shop(run, seed=seed, title=f"Shop {seed}")
            if seed < 3:
                server.process.send_signal(signal.SIGHUP)
            else:
                headers = {"authorization": f"Bearer {TOKEN}"}
                assert httpx.post(f"{server.url}/reload", headers=headers).status_code == 200
            end = time.monotonic() + 20
            while title != f"Shop {seed}" and time.monotonic() < end:
                title = httpx.get(f"{server.url}/bundles").json()["bundles"][0]["title"]
            assert title == f"Shop {seed}"
        stop.set()
        for thread in threads:
            thread.join()
        assert len(statuses) > 20
        assert set(statuses) == {200}


def test_a_stop_lets_requests_end(run: Path) -> None:
    """A request whose body is on its way when the stop comes still has its answer."""
    with Server([run]) as server:
        body = json.dumps({"history": ["T0001"], "k": 2}).encode()
        sent = threading.Event()

        def slowly() -> object:
            yield body[:5]
            sent.set()
            time.sleep(1.0)
            yield body[5:]

        answers: list[int] = []

        def ask() -> None:
            headers = {"content-type": "application/json"}
            answers.append(httpx.post(f"{server.url}/recommend", content=slowly(), headers=headers).status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        assert sent.wait(10)
        log = server.end(signal.SIGTERM)
        thread.join()
        assert answers == [200]
        assert server.process.returncode in (0, -signal.SIGTERM)
        assert "Traceback" not in log


def test_a_second_server_on_the_same_run_says_what_is_wrong(run: Path) -> None:
    with Server([run]):
        second = Server([run])
        log = second.process.communicate(timeout=60)[1]
        assert second.process.returncode == 2
        assert "another server has it open" in " ".join(log.split())


def test_a_port_in_use_is_reported_at_once(run: Path) -> None:
    with Server([run]) as server:
        second = Server([run], "--port", str(server.port))
        log = second.process.communicate(timeout=60)[1]
        assert second.process.returncode == 2
        assert f"cannot listen on 127.0.0.1, port {server.port}" in " ".join(log.split())
