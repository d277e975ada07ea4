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


def test_two_servers_on_the_same_run_answer_alike(run: Path) -> None:
    with Server([run]) as one, Server([run]) as other:
        best = [item["id"] for item in httpx.get(f"{one.url}/recommend/u001").json()["items"]]
        posted = {"interactions": [{"user": "u001", "item": best[0]}]}
        assert httpx.post(f"{one.url}/interactions", json=posted).status_code == 200
        lists = [httpx.get(f"{server.url}/recommend/u001").json()["items"] for server in (one, other)]
        assert lists[0] == lists[1]
        assert best[0] not in [item["id"] for item in lists[1]]
        assert httpx.post(f"{one.url}/items", data={"id": "mug-7", "fields": '{"title": "A mug"}'}).status_code == 201
        end = time.monotonic() + 20
        while httpx.get(f"{other.url}/items/mug-7").status_code == 404 and time.monotonic() < end:
            time.sleep(0.1)
        assert httpx.get(f"{other.url}/items/mug-7").status_code == 200


def test_several_processes_serve_as_one(run: Path) -> None:
    with Server([run], "--workers", "2") as server:
        for n in range(20):  # over new connections: both processes take some
            posted = {"interactions": [{"user": "new", "item": f"T00{n + 10}", "id": str(n)}]}
            assert httpx.post(f"{server.url}/interactions", json=posted).json()["new"] == 1
            assert httpx.get(f"{server.url}/users", params={"q": "new"}).json()["users"][0]["history"] == n + 1
        page = httpx.get(f"{server.url}/metrics").text
        assert 'lmm4rec_interactions_total{bundle="shop",kind="interaction",outcome="new"} 20.0' in page
        server.process.send_signal(signal.SIGHUP)  # one process after the other is replaced
        end = time.monotonic() + 15
        while time.monotonic() < end:
            assert httpx.get(f"{server.url}/recommend/new").status_code == 200
        log = server.end(signal.SIGTERM)
    assert server.process.returncode == 0
    assert "Traceback" not in log


@pytest.mark.timeout(400)
def test_several_processes_say_that_a_rule_file_was_refused(run: Path) -> None:
    rules = run / "rules.toml"
    good, bad = "[lamps]\nwhere = ['title~lamp']\n", "[lamps]\nwhere = ['prize<5']\n"
    rules.write_text(good)

    def errors() -> set[str | None]:  # of all processes: each connection is another one
        return {httpx.get(f"{server.url}/health").json().get("rules_error") for _ in range(10)}

    def reloaded(text: str, *, refused: bool) -> set[str | None]:
        rules.write_text(text)
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 120
        while (None in (found := errors())) is refused and time.monotonic() < end:
            time.sleep(0.2)
        return found

    with Server([run], "--workers", "2", "--rules", str(rules)) as server:
        assert errors() == {None}
        (error,) = reloaded(bad, refused=True)
        assert "rule set 'lamps' does not fit the bundle 'shop': the catalog has no column" in str(error)
        answer = httpx.get(f"{server.url}/rules").json()
        assert ([one["name"] for one in answer["rules"]], answer["error"]) == (["lamps"], error)
        assert httpx.get(f"{server.url}/recommend/u001", params={"rules": "lamps"}).status_code == 200
        assert None in reloaded(good, refused=False)
        log = server.end(signal.SIGTERM)
    assert server.process.returncode == 0
    assert "Traceback" not in log


def test_a_port_in_use_is_reported_at_once(run: Path) -> None:
    with Server([run]) as server:
        second = Server([run], "--port", str(server.port))
        log = second.process.communicate(timeout=60)[1]
        assert second.process.returncode == 2
        assert f"cannot listen on 127.0.0.1, port {server.port}" in " ".join(log.split())
