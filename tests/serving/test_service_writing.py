"""Adding and deleting over HTTP: at once, after a restart, by whom, and loading anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from shops import HERE, add, write_shop

from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.settings import Settings

TOKEN = "0123456789abcdef-token"


def nearest(client: TestClient) -> list[tuple[str, float]]:
    near = client.get("/similar/mug-7", params={"k": 5}).json()["items"]
    return [(one["id"], round(one["score"], 5)) for one in near]


@pytest.mark.long
def test_an_added_item_is_there_at_once_and_after_a_restart(runs: list[Path]) -> None:
    with TestClient(make_app(runs, Settings(hosts=HERE))) as client:
        added = add(client)
        assert added.status_code == 201
        assert (added.json()["id"], added.json()["added"]) == ("mug-7", True)
        assert added.json()["fields"] == {"title": "A red mug", "description": "Stoneware."}

        assert client.get("/recommend/u001", params={"only": "mug-7"}).json()["items"][0]["id"] == "mug-7"
        assert (
            client.get("/search", params={"text": "A red mug. Stoneware.", "k": 1}).json()["items"][0]["id"] == "mug-7"
        )
        assert client.get("/items", params={"added": True}).json()["total"] == 1
        assert client.get(added.json()["picture"]).status_code == 200
        before = nearest(client)
    with TestClient(make_app(runs, Settings(hosts=HERE))) as again:
        assert nearest(again) == before
        assert again.get("/items/mug-7").json() == added.json()
        assert again.delete("/items/mug-7").status_code == 204
        assert again.get("/items/mug-7").status_code == 404
        assert add(again).status_code == 201  # the id is free again
        assert again.delete("/items/mug-7").status_code == 204
    with TestClient(make_app(runs, Settings(hosts=HERE))) as third:
        assert third.get("/items", params={"added": True}).json()["total"] == 0


def test_an_id_is_made_up_where_none_is_given(client: TestClient) -> None:
    answer = client.post("/items", data={"fields": '{"title": "Nameless"}'})
    assert answer.status_code == 201
    assert answer.json()["id"].startswith("new-")
    assert answer.json()["picture"] is None


def test_odd_ids_work_in_addresses(client: TestClient) -> None:
    for id_ in ("a/b c", "100%", "x?y#z", "żółw", "..a"):
        assert add(client, id_).status_code == 201
        from urllib.parse import quote

        detail = client.get(f"/items/{quote(id_, safe='')}")
        assert detail.json()["id"] == id_
        assert client.get(detail.json()["picture"]).status_code == 200
        assert client.delete(f"/items/{quote(id_, safe='')}").status_code == 204


def test_catalog_items_are_neither_replaced_nor_deleted(client: TestClient) -> None:
    assert add(client, "T0001").status_code == 409
    assert "belongs to the catalog" in client.delete("/items/T0001").json()["detail"]
    assert add(client, "twice").status_code == 201
    assert "already" in add(client, "twice").json()["detail"]


def test_a_bundle_without_encoder_says_so(client: TestClient) -> None:
    for answer in (
        add(client, params={"bundle": "bare"}),
        client.get("/search", params={"text": "lamp", "bundle": "bare"}),
    ):
        assert answer.status_code == 409
        assert "encoder" in answer.json()["detail"]
    assert client.get("/items", params={"added": True, "bundle": "bare"}).json()["total"] == 0


def test_a_full_disk_leaves_nothing_behind(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("lmm4rec.serving.added_items.AddedItems.add", full)
    answer = add(client)
    assert answer.status_code == 503
    assert "disk is full" in answer.json()["detail"]
    assert client.get("/items/mug-7").status_code == 404


def test_writing_needs_the_token_where_there_is_one(runs: list[Path]) -> None:
    with TestClient(make_app(runs, Settings(hosts=HERE, token=TOKEN))) as client:
        assert client.get("/bundles").json()["writing"] == "token"
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}, {"authorization": "Bearer "}):
            for refused in (add(client, headers=headers), client.delete("/items/x", headers=headers)):
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
        assert add(client, headers={"authorization": f"bearer {TOKEN}"}).status_code == 201
        assert client.get("/recommend/u001").status_code == 200
        assert client.post("/reload").status_code == 401


def test_a_service_for_others_without_token_takes_nothing(runs: list[Path]) -> None:
    with TestClient(make_app(runs, Settings(host="0.0.0.0"))) as client:
        assert client.get("/bundles").json()["writing"] == "off"
        assert add(client).status_code == 403


@pytest.mark.long
def test_reload_brings_the_new_bundle_and_keeps_added_items(runs: list[Path]) -> None:
    token = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(make_app(runs, Settings(hosts=HERE, token=TOKEN))) as client:
        add(client, headers=token)
        before = client.get("/recommend/u001").json()["items"]
        write_shop(runs[0], seed=5, title="Newer")
        assert client.get("/recommend/u001").json()["items"] == before
        assert client.post("/reload", headers=token).json() == {"reloaded": ["whole", "bare"]}
        assert client.get("/recommend/u001").json()["items"] != before
        assert client.get("/bundles").json()["bundles"][0]["title"] == "Newer"
        assert client.get("/items/mug-7").json()["added"]
        shutil.rmtree(runs[0] / "bundle")
        refused = client.post("/reload", headers=token)
        assert refused.status_code == 409
        assert "there is no bundle in" in refused.json()["detail"]
        assert client.get("/items/mug-7").json()["added"]
    write_shop(runs[0])
