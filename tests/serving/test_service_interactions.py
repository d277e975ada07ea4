"""Interactions over HTTP: at once in the lists, once each, kept, read back; bundles replaced."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from shops import HERE, best, post, write_shop

from lmm4rec.core.errors import CheckpointError
from lmm4rec.serving.feedback import FeedbackStore
from lmm4rec.serving.http import bundles
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.settings import Settings

PATH = "/interactions"


def test_the_next_list_reflects_a_post(client: TestClient) -> None:
    first = best(client, "u001")
    answer = post(
        client, {"user": "u001", "item": first[0], "kind": "bought"},
        {"user": "u001", "item": first[1], "kind": "dislike"},
    )  # fmt: skip
    assert answer.status_code == 200
    assert answer.json() == {"bundle": "whole", "new": 2, "repeated": 0, "new_users": [], "unknown_items": []}
    after = best(client, "u001")
    assert not {first[0], first[1]} & set(after)
    assert after != first[2:]  # the purchase moved the vector
    assert client.get("/users/u001/history").json()["items"][0]["id"] == first[0]
    assert client.get("/explain", params={"user": "u001", "item": after[0]}).status_code == 200
    assert best(client, "u002") == best(client, "u002")


def test_a_new_user_is_known_at_once(client: TestClient) -> None:
    assert client.get("/recommend/new").status_code == 404
    answer = post(client, {"user": "new", "item": "T0001"}, {"user": "new", "item": "nothing"}).json()
    assert (answer["new_users"], answer["unknown_items"]) == (["new"], ["nothing"])
    assert "T0001" not in best(client, "new")
    assert client.get("/users", params={"q": "new"}).json()["users"] == [{"id": "new", "history": 1}]


def test_a_repeated_post_counts_once(client: TestClient) -> None:
    with_id = {"user": "u001", "item": "T0001", "id": "order 7"}
    with_time = {"user": "u001", "item": "T0002", "time": 1_700_000_000}
    assert post(client, with_id, with_time).json()["new"] == 2
    assert post(client, with_id, with_time, with_id).json() | {"bundle": ""} == {
        "bundle": "", "new": 0, "repeated": 3, "new_users": [], "unknown_items": [],
    }  # fmt: skip
    stored = client.get("/interactions").json()["interactions"]
    assert [(one["item"], one["kind"]) for one in stored] == [("T0001", "interaction"), ("T0002", "interaction")]


def test_a_retracted_interaction_counts_no_more(client: TestClient) -> None:
    before = best(client, "u001")
    liked = {"user": "u001", "item": before[0], "kind": "like", "time": 1_700_000_000, "id": "order 7/1"}
    disliked = {**liked, "kind": "dislike", "time": 1_700_000_001, "id": "click"}
    post(client, liked)
    after = best(client, "u001")
    assert after != before
    post(client, disliked)
    path = f"{PATH}/order%207%2F1"
    assert client.delete(f"{PATH}/click").status_code == 204
    assert best(client, "u001") == after  # the earlier one with the item counts again
    assert [client.delete(path).status_code for _ in range(2)] == [204, 204]  # as where no answer came
    assert best(client, "u001") == before
    assert post(client, liked, disliked).json() | {"bundle": ""} == {
        "bundle": "", "new": 0, "repeated": 2, "new_users": [], "unknown_items": [],
    }  # fmt: skip
    assert best(client, "u001") == before
    assert client.get(PATH).json()["interactions"] == []
    missing = client.delete(f"{PATH}/nothing")
    assert (missing.status_code, missing.json()["detail"]) == (404, "no interaction has the id 'nothing'")
    assert 'lmm4rec_retractions_total{bundle="whole"} 2.0' in client.get("/metrics").text


def test_a_user_whose_only_interaction_is_retracted_is_unknown_again(client: TestClient) -> None:
    post(client, {"user": "new", "item": "T0001", "id": "1"})
    assert client.get("/recommend/new").status_code == 200
    assert client.delete(f"{PATH}/1").status_code == 204
    assert client.get("/recommend/new").status_code == 404
    assert client.get("/users", params={"q": "new"}).json()["total"] == 0


def test_interactions_are_listed_in_parts(client: TestClient) -> None:
    post(client, *({"user": "u001", "item": f"T000{n}", "id": str(n)} for n in range(1, 6)))
    first = client.get("/interactions", params={"limit": 3}).json()
    assert [one["id"] for one in first["interactions"]] == ["1", "2", "3"]
    last = client.get("/interactions", params={"limit": 3, "after": first["next"]}).json()
    assert [one["id"] for one in last["interactions"]] == ["4", "5"]
    assert last["next"] is None


@pytest.mark.long
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"item": "T0001"}, "body.interactions.1.user"),
        ({"user": "u", "item": ""}, "body.interactions.1.item"),
        ({"user": "u", "item": "i", "kind": "love"}, "'interaction', 'like', 'bought', 'dislike' or 'skip'"),
        ({"user": "u", "item": "i", "time": -1}, "body.interactions.1.time"),
        ({"user": "u", "item": "i", "time": 9e9}, "in the future. Nothing was stored"),
        ({"user": "u", "item": "i", "time": 1.7e12}, "times are in seconds, not milliseconds"),
        ({"user": "u ", "item": "i"}, "body.interactions.1.user: the id 'u ' has a space at an end"),
        ({"user": "u", "item": "a\nb"}, r"body.interactions.1.item: the id 'a\nb' has a space at an end, or"),
        ({"user": "u", "item": "i", "at": 3}, "body.interactions.1.at"),
    ],
)
def test_one_wrong_interaction_is_named_and_none_is_stored(
    client: TestClient, wrong: dict[str, Any], named: str
) -> None:
    answer = post(client, {"user": "u001", "item": "T0001"}, wrong)
    assert answer.status_code == 422
    assert named in answer.json()["detail"]
    assert client.get("/interactions").json()["interactions"] == []


@pytest.mark.long
@pytest.mark.parametrize("body", ["{", "[]", '{"interactions": []}', '{"interactions": [{"user": "u001"}]}'])
def test_a_wrong_body_is_worded_alike_with_and_without_query_parameters(client: TestClient, body: str) -> None:
    headers = {"content-type": "application/json"}
    one, other = (client.post(path, content=body, headers=headers) for path in (PATH, f"{PATH}?bundle=whole"))
    assert one.status_code == other.status_code == 422
    assert one.json() == other.json()
    assert one.json()["detail"].startswith("body")


def test_a_post_may_name_the_bundle_and_a_character_set(client: TestClient) -> None:
    body = '{"interactions": [{"user": "u001", "item": "T0001"}]}'
    headers = {"content-type": "application/json; charset=utf-8"}
    assert client.post(PATH, content=body, headers=headers).json()["new"] == 1
    for query, status in (("bundle=whole", 200), ("bundle=none", 404), ("bundel=whole", 422)):
        assert client.post(f"{PATH}?{query}", content=body, headers=headers).status_code == status


def test_a_client_that_leaves_in_the_middle_of_its_post_is_no_fault_of_the_service(
    runs: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    messages = [{"type": "http.request", "body": b'{"inter', "more_body": True}, {"type": "http.disconnect"}]
    headers = [(b"host", HERE[0].encode()), (b"content-type", b"application/json")]
    statuses = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    with TestClient(make_app(runs, Settings(hosts=HERE))) as client:
        scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": headers}
        asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]
    assert statuses == [400]
    assert not caplog.records


def test_a_clock_may_be_five_minutes_ahead(client: TestClient) -> None:
    early = {"user": "u001", "item": "T0001"}
    assert post(client, early | {"time": time.time() + 400}).status_code == 422
    assert post(client, early | {"time": time.time() + 200}).status_code == 200


def test_interactions_are_there_after_a_restart(runs: list[Path]) -> None:
    with TestClient(make_app(runs, Settings(hosts=HERE))) as client:
        post(client, {"user": "new", "item": "T0001"})
        before = best(client, "new")
    with TestClient(make_app(runs, Settings(hosts=HERE))) as again:
        assert best(again, "new") == before


def test_another_process_sees_a_post_at_once(runs: list[Path]) -> None:
    with TestClient(make_app(runs[1:], Settings(hosts=HERE))) as client:
        other = FeedbackStore(runs[1] / "interactions.sqlite")
        first = best(client, "u001")
        from lmm4rec.serving.posted_interactions import PostedInteraction

        other.add([PostedInteraction("u001", first[0], "bought", 1.0, "x")])
        assert first[0] not in best(client, "u001")
        other.retract("x")
        assert best(client, "u001") == first
        other.erase("u001")
        assert client.get("/recommend/u001").status_code == 404
        other.close()


def test_a_disk_that_fails_is_told_and_nothing_counts(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    before = best(client, "u001")

    def full(self: FeedbackStore, posted: object) -> list[bool]:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(FeedbackStore, "add", full)
        answer = post(client, {"user": "u001", "item": before[0]})
    assert answer.status_code == 503
    assert "database or disk is full" in answer.json()["detail"]
    assert best(client, "u001") == before
    assert post(client, {"user": "u001", "item": before[0], "id": "1"}).json()["new"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(FeedbackStore, "retract", full)
        assert client.delete(f"{PATH}/1").status_code == 503
    assert before[0] not in best(client, "u001")


def test_a_bundle_that_is_replaced_is_loaded(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_WATCH_S", 0.02)

    def model(client: TestClient) -> str:
        return str(client.get("/bundles").json()["bundles"][0]["title"])

    live = runs[1].parent / "live"
    live.mkdir()
    (live / "bundle").symlink_to(runs[1] / "bundle")
    with TestClient(make_app([live], Settings(hosts=HERE))) as client:
        post(client, {"user": "new", "item": "T0001"})
        assert model(client) == "Bare"
        night = write_shop(live / "night", seed=3, content=False, title="Night")
        (live / "next").symlink_to(night / "bundle")
        (live / "next").rename(live / "bundle")
        end = time.monotonic() + 10
        while model(client) != "Night" and time.monotonic() < end:
            time.sleep(0.02)
        assert model(client) == "Night"
        assert "T0001" not in best(client, "new")  # what was posted counts in the new one, too
        (live / "broken").symlink_to(live / "nowhere")
        (live / "broken").rename(live / "bundle")
        time.sleep(0.1)
        assert best(client, "new")  # the one in service stays


def test_writing_needs_the_token(runs: list[Path]) -> None:
    token = "0123456789abcdef-token"
    with TestClient(make_app(runs, Settings(hosts=HERE, token=token))) as client:
        assert post(client, {"user": "u001", "item": "T0001"}).status_code == 401
        assert client.get("/interactions").status_code == 401
        assert client.delete("/users/u001").status_code == 401
        assert client.delete(f"{PATH}/x").status_code == 401
        client.headers["authorization"] = f"Bearer {token}"
        assert post(client, {"user": "u001", "item": "T0001"}).status_code == 200


def test_a_folder_without_a_bundle_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no bundle"):
        make_app([tmp_path / "none"], Settings(hosts=HERE))
    assert list(tmp_path.iterdir()) == []
