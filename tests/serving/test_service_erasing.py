"""Users who are erased over HTTP: from memory and disk, whatever they posted, whenever it was cut off."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from shops import HERE, add, best, post

from lmm4rec.core.errors import StorageError
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.feedback import FeedbackStore
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.metrics import Metrics
from lmm4rec.serving.http.served_bundle import RecommendOptions, ServedBundle
from lmm4rec.serving.http.settings import Settings


@pytest.mark.long
def test_an_erased_user_leaves_memory_and_disk(runs: list[Path]) -> None:
    with TestClient(make_app(runs, Settings(hosts=HERE))) as client:
        post(client, {"user": "u001", "item": "T0001"}, {"user": "u002", "item": "T0001"})
        other = best(client, "u003")
        answer = client.delete("/users/u001")
        assert answer.status_code == 200
        assert answer.json()["erased"] == [
            {"bundle": "whole", "interactions": 1, "was_trained": True},
            {"bundle": "bare", "interactions": 0, "was_trained": True},
        ]
        assert client.get("/recommend/u001").status_code == 404
        assert client.delete("/users/u001").status_code == 404
        assert client.get("/users", params={"q": "u001"}).json()["total"] == 0
        assert best(client, "u003") == other
        assert [one["user"] for one in client.get("/interactions").json()["interactions"]] == ["u002"]
    for run in runs:
        stored = Bundle.load(run)
        assert "u001" not in stored.users
        assert stored.scorer.n_users == len(stored.users) == 29
        assert not any(b"u001" in file.read_bytes() for file in run.rglob("*") if file.is_file())
    assert Bundle.load(runs[0]).search("red", k=3)  # the rest of the bundle is whole
    with TestClient(make_app(runs, Settings(hosts=HERE))) as again:
        assert again.get("/recommend/u001").status_code == 404
        assert post(again, {"user": "u001", "item": "T0001"}).json()["new_users"] == ["u001"]
        assert again.get("/recommend/u001").status_code == 200  # who comes back is a new user


def test_users_of_unknown_items_and_of_dislikes_are_erased_from_memory(client: TestClient) -> None:
    post(client, {"user": "ghost", "item": "mug-7"}, {"user": "hater", "item": "T0001", "kind": "dislike"})
    assert client.get("/recommend/ghost").status_code == 404  # and now the process has read both
    assert [client.delete(f"/users/{user}").status_code for user in ("ghost", "hater")] == [200, 200]
    add(client, "mug-7")
    assert client.get("/users/ghost/history").status_code == 404
    post(client, {"user": "hater", "item": "T0002", "kind": "like"})
    assert set(best(client, "hater", k=41)) == {*(f"T{n:04}" for n in range(1, 41)), "mug-7"} - {"T0002"}


def test_a_bundle_all_of_whose_users_are_erased_says_so(runs: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    bundle = Bundle.load(runs[1])
    bundle.forget_users(list(bundle.users))
    bundle.save_pretrained(runs[1] / "bundle")
    with TestClient(make_app(runs[1:], Settings(hosts=HERE))) as client:
        assert client.get("/audience/T0001").json() == {"bundle": "bare", "k": 10, "asked": 0, "people": []}
        refused = client.post("/recommend", json={"history": ["T0001"]})
        assert (refused.status_code, "have been erased" in refused.json()["detail"]) == (409, True)
        assert client.get("/similar/T0001").status_code == 200
    assert not caplog.records


def test_an_erasure_that_the_disk_refused_is_finished_by_the_next_request(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Bundle, folder: Path, **_: object) -> None:
        raise StorageError(f"{folder} cannot be written")

    with TestClient(make_app(runs[1:], Settings(hosts=HERE))) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Bundle, "save_pretrained", full)
            refused = client.delete("/users/u001")
        assert refused.status_code >= 400
        assert "cannot be written" in refused.json()["detail"]
        assert "u001" in Bundle.load(runs[1]).users
        erased = client.delete("/users/u001")
        assert erased.json()["erased"] == [{"bundle": "bare", "interactions": 0, "was_trained": True}]
    assert "u001" not in Bundle.load(runs[1]).users


def test_a_user_who_is_erased_meanwhile_costs_no_other_their_list(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recommend = Bundle.recommend

    def after_an_erasure(self: Bundle, users: list[str], *args: Any, **more: Any) -> Any:
        if "u001" in users:
            self.forget_users(["u001"])
        return recommend(self, users, *args, **more)

    served = ServedBundle("bare", runs[1], Settings(), Metrics())
    monkeypatch.setattr(Bundle, "recommend", after_an_erasure)
    lists = served._recommend(["u001", "u002"], RecommendOptions(3, exclude_seen=True))
    assert lists["u001"] is None
    assert len(lists["u002"] or ()) == 3
    served.close()


@pytest.mark.long
def test_processes_that_erase_at_once_leave_a_whole_bundle(runs: list[Path]) -> None:
    processes = [ServedBundle("bare", runs[1], Settings(), Metrics()) for _ in range(2)]
    erased = [[f"u{number:03}" for number in range(first, first + 8)] for first in (1, 11)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda one, users: [one._erase(user) for user in users], processes, erased))
    assert all(one.was_trained for answers in done for one in answers)
    assert not {*erased[0], *erased[1]} & {*Bundle.load(runs[1]).users}
    for one in processes:
        one.close()


def test_an_erasure_does_not_undo_the_swap_of_a_night(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, load = tmp_path / "live", Bundle.load
    live.mkdir()
    (live / "bundle").symlink_to(runs[0] / "bundle")
    served = ServedBundle("live", live, Settings(), Metrics())

    def swapped_meanwhile(folder: Path, **more: Any) -> Bundle:
        bundle = load(folder, **more)
        (live / "bundle").unlink()
        (live / "bundle").symlink_to(runs[1] / "bundle")
        return bundle

    monkeypatch.setattr(Bundle, "load", swapped_meanwhile)
    assert served._erase("u001").was_trained
    assert served.is_replaced
    assert [load(run).facts["title"] for run in runs] == ["Whole", "Bare"]
    served.close()


def test_an_erasure_that_was_cut_off_is_finished_at_the_next_start(runs: list[Path]) -> None:
    store = FeedbackStore(runs[1] / "interactions.sqlite")
    store.erase("u001")  # and then the process was killed
    store.close()
    with TestClient(make_app(runs[1:], Settings(hosts=HERE))) as client:
        assert client.get("/recommend/u001").status_code == 404
    assert "u001" not in Bundle.load(runs[1]).users
