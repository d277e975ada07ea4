"""The HTTP service: what every endpoint answers, held against the bundle itself."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from shops import HERE, ITEMS, USERS, loaded_bundles, write_shop

from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.settings import Settings
from lmm4rec.serving.thumbnails import SIDE


def test_recommendations_are_the_bundle_s(reader: TestClient, shops: Path) -> None:
    bundle = Bundle.load(shops / "whole")
    for user in ("u001", "u017"):
        answer = reader.get(f"/recommend/{user}", params={"k": 5}).json()
        assert answer["bundle"] == "whole"
        expected = bundle.recommend([user], 5)[user]
        assert [(one["id"], one["title"]) for one in answer["items"]] == [(one.item, one.title) for one in expected]
        assert [one["score"] for one in answer["items"]] == pytest.approx([one.score for one in expected])


def test_the_other_bundle_answers_by_its_name(reader: TestClient, shops: Path) -> None:
    best = Bundle.load(shops / "bare").recommend(["u001"], 3)["u001"]
    answer = reader.get("/recommend/u001", params={"k": 3, "bundle": "bare"}).json()
    assert [one["id"] for one in answer["items"]] == [one.item for one in best]


def test_seen_items_are_left_out_unless_asked_for(reader: TestClient) -> None:
    seen = {one["id"] for one in reader.get("/users/u001/history").json()["items"]}
    assert seen
    best = {one["id"] for one in reader.get("/recommend/u001", params={"k": ITEMS}).json()["items"]}
    assert not best & seen
    everything = reader.get("/recommend/u001", params={"k": ITEMS, "exclude_seen": False}).json()["items"]
    assert len(everything) == ITEMS


def test_only_some_items_compete(reader: TestClient) -> None:
    answer = reader.get("/recommend/u001", params={"only": ["T0003", "T0001"], "exclude_seen": False}).json()
    assert {one["id"] for one in answer["items"]} == {"T0001", "T0003"}


def test_reasons_add_up_to_the_score(reader: TestClient) -> None:
    items = reader.get("/recommend/u002", params={"k": 3, "reasons": True}).json()["items"]
    history = {one["id"] for one in reader.get("/users/u002/history").json()["items"]}
    for one in items:
        assert set(one["reason"]["shares"]) == {"id", "image", "text"}
        assert sum(one["reason"]["shares"].values()) == pytest.approx(one["score"], rel=1e-4)
        assert {near["id"] for near in one["reason"]["nearest"]} <= history
    reason = reader.get("/explain", params={"user": "u002", "item": items[0]["id"]}).json()
    assert reason["shares"] == items[0]["reason"]["shares"]


def test_a_new_user_gets_items_by_a_history(reader: TestClient) -> None:
    answer = reader.post("/recommend", json={"history": ["T0001", "T0002"], "k": 4}).json()
    assert len(answer["items"]) == 4
    assert not {"T0001", "T0002"} & {one["id"] for one in answer["items"]}


def test_similar_items_are_the_bundle_s(reader: TestClient, shops: Path) -> None:
    near = Bundle.load(shops / "whole").similar(["T0005"], 3)["T0005"]
    assert [one["id"] for one in reader.get("/similar/T0005", params={"k": 3}).json()["items"]] == [
        one.item for one in near
    ]


def test_the_audience_of_an_item_are_those_who_get_it(reader: TestClient, shops: Path) -> None:
    bundle = Bundle.load(shops / "whole")
    lists = bundle.recommend(bundle.users, 10)
    ranks = {
        user: [one.item for one in best].index("T0007") + 1 for user, best in lists.items() if "T0007" in str(best)
    }
    answer = reader.get("/audience/T0007").json()
    assert answer["asked"] == USERS
    assert {one["id"]: one["rank"] for one in answer["people"]} == ranks
    assert [one["rank"] for one in answer["people"]] == sorted(ranks.values())


def test_an_item_s_own_text_and_image_find_it(reader: TestClient) -> None:
    detail = reader.get("/items/T0004").json()
    words = f"{detail['fields']['title']} {detail['fields']['description']}"
    assert reader.get("/search", params={"text": words, "k": 1}).json()["items"][0]["id"] == "T0004"
    image = reader.get(detail["picture"])
    assert image.headers["content-type"] == "image/webp"
    found = reader.post("/search", params={"k": 3}, files={"image": ("a.webp", image.content)}).json()["items"]
    assert "T0004" in [one["id"] for one in found]
    both = reader.post("/search", data={"text": words}, params={"k": 1}, files={"image": ("a.webp", image.content)})
    assert both.json()["items"][0]["id"] == "T0004"
    personal = reader.get("/search", params={"text": words, "k": 3, "for_user": "u001"}).json()["items"]
    assert len(personal) == 3


def test_users_and_items_are_listed_and_found(reader: TestClient) -> None:
    page = reader.get("/users", params={"offset": 2, "limit": 3}).json()
    assert (page["total"], [one["id"] for one in page["users"]]) == (USERS, ["u003", "u004", "u005"])
    assert page["users"][0]["history"] == len(reader.get("/users/u003/history").json()["items"])
    assert reader.get("/users", params={"q": "U02"}).json()["users"][0]["id"] == "u020"
    page = reader.get("/items", params={"offset": ITEMS - 1}).json()
    assert (page["total"], len(page["items"])) == (ITEMS, 1)
    title = page["items"][0]["title"]
    assert page["items"][0]["id"] in [one["id"] for one in reader.get("/items", params={"q": title}).json()["items"]]


def test_bundles_say_what_they_can(reader: TestClient) -> None:
    answer = loaded_bundles(reader)
    assert answer["writing"] == "open"
    whole, bare = answer["bundles"]
    assert (whole["name"], whole["title"], whole["users"], whole["items"]) == ("whole", "Whole", USERS, ITEMS)
    assert whole["can"] == {"search_words": True, "search_picture": True, "add_items": True, "explain": True}
    assert bare["can"] == {"search_words": False, "search_picture": False, "add_items": False, "explain": True}
    assert whole["fields"] == ["title", "description"]


def test_the_service_answers_while_the_encoder_is_loaded(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = threading.Event()
    opened = Bundle.search

    def search(*given: object, **more: object) -> object:
        assert may_go_on.wait(20)
        return opened(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Bundle, "search", search)
    with TestClient(make_app(runs[:1], Settings(hosts=HERE))) as client:
        assert client.get("/ready").status_code == 200
        assert len(client.get("/recommend/u001").json()["items"]) == 10
        (one,) = client.get("/bundles").json()["bundles"]
        assert one["loading"]
        assert one["can"] == {"search_words": False, "search_picture": False, "add_items": True, "explain": True}
        may_go_on.set()
        assert client.get("/search", params={"text": "lamp"}).status_code == 200
        assert loaded_bundles(client)["bundles"][0]["can"]["search_picture"]


def test_an_encoder_that_fails_is_no_reason_to_answer_nothing(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of the encoder")

    monkeypatch.setattr(Bundle, "search", broken)
    with TestClient(make_app(runs[:1], Settings(hosts=HERE))) as client:
        assert not loaded_bundles(client)["bundles"][0]["can"]["search_words"]
        assert client.get("/recommend/u001").status_code == 200
    assert "of the encoder" in caplog.text


def test_a_k_above_the_catalog_is_the_catalog_with_a_note(reader: TestClient) -> None:
    note = f"k is 500, the catalog has {ITEMS} items: lists have no more"
    answer = reader.get("/recommend/u001", params={"k": 500, "exclude_seen": False}).json()
    assert (len(answer["items"]), answer["note"]) == (ITEMS, note)
    assert reader.get("/search", params={"text": "lamp", "k": 500}).json()["note"] == note
    assert reader.get("/similar/T0001", params={"k": 500}).json()["note"] == note
    assert reader.post("/recommend", json={"history": ["T0001"], "k": 500}).json()["note"] == note
    assert reader.get("/recommend/u001", params={"k": ITEMS}).json()["note"] is None


def test_health_ready_and_metrics(reader: TestClient) -> None:
    assert reader.get("/health").json() == {"status": "ok"}
    assert reader.get("/ready").json() == {"status": "ready"}
    reader.get("/recommend/u001")
    reader.get("/no-such-thing")
    text = reader.get("/metrics").text
    assert 'lmm4rec_requests_total{method="GET",route="/recommend/{user:path}",status="200"}' in text
    assert 'lmm4rec_requests_total{method="GET",route="none",status="404"}' in text
    assert f'lmm4rec_items{{bundle="whole",kind="catalog"}} {ITEMS}.0' in text
    assert "process_resident_memory_bytes" in text


def test_a_thumbnail_is_not_sent_twice(reader: TestClient) -> None:
    first = reader.get("/thumbnails/T0001")
    again = reader.get("/thumbnails/T0001", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_thumbnail_has_the_size_that_is_asked_for(reader: TestClient) -> None:
    sides = {}
    for side in (26, 64, 65, 192, 193, 1024):
        answer = reader.get("/thumbnails/T0001", params={"side": side})
        sides[side] = min(Image.open(io.BytesIO(answer.content)).size)
    assert sides == {26: 64, 64: 64, 65: 192, 192: 192, 193: SIDE, 1024: SIDE}
    assert reader.get("/thumbnails/T0001").content == reader.get("/thumbnails/T0001", params={"side": 500}).content


def test_bundles_say_how_good_and_how_costly_they_are(tmp_path: Path) -> None:
    facts = {"test": {"recall@20": 0.25, "note": "x"}, "test_error": {"recall@20": 0.01}, "cost": {"seconds": 3.5}}
    run = write_shop(tmp_path / "shop", content=False, facts=facts)
    with TestClient(make_app([run], Settings(hosts=HERE))) as client:
        (one,) = client.get("/bundles").json()["bundles"]
    assert (one["test"], one["test_error"], one["cost"]) == ({"recall@20": 0.25}, {"recall@20": 0.01}, {"seconds": 3.5})
    assert one["interactions"] == 300
