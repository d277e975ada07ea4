"""The HTTP service: every endpoint, what it refuses, and that errors have one shape."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image, PngImagePlugin
from shops import ITEMS, USERS, png, write_shop

from lmm4rec.serving.api.app import make_app
from lmm4rec.serving.api.settings import MAX_K, Settings
from lmm4rec.serving.bundle import Bundle

HERE = ("testserver",)
TOKEN = "0123456789abcdef-token"


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: one that can everything, one without an encoder."""
    folder = tmp_path_factory.mktemp("shops")
    write_shop(folder / "whole", title="Whole")
    write_shop(folder / "bare", seed=1, content=False, title="Bare")
    return folder


@pytest.fixture
def runs(shops: Path, tmp_path: Path) -> list[Path]:
    """The two runs, fresh for one test."""
    shutil.copytree(shops, tmp_path / "runs")
    return [tmp_path / "runs" / "whole", tmp_path / "runs" / "bare"]


@pytest.fixture
def client(runs: list[Path]) -> Iterator[TestClient]:
    with TestClient(make_app(runs, Settings(hosts=HERE))) as client:
        yield client


@pytest.fixture(scope="module")
def reader(shops: Path) -> Iterator[TestClient]:
    """A client for tests that change nothing."""
    with TestClient(make_app([shops / "whole", shops / "bare"], Settings(hosts=HERE, max_body_mb=0.5))) as client:
        yield client


def add(client: TestClient, id_: str = "mug-7", **more: object) -> object:
    fields = json.dumps({"title": "A red mug", "description": "Stoneware."})
    return client.post("/items", data={"id": id_, "fields": fields}, files={"image": ("x.png", png())}, **more)  # type: ignore[arg-type]


# ---- what it answers


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


def test_a_newcomer_gets_items_by_what_they_like(reader: TestClient) -> None:
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


def test_an_item_s_own_words_and_picture_find_it(reader: TestClient) -> None:
    detail = reader.get("/items/T0004").json()
    words = f"{detail['fields']['title']} {detail['fields']['description']}"
    assert reader.get("/search", params={"text": words, "k": 1}).json()["items"][0]["id"] == "T0004"
    picture = reader.get(detail["picture"])
    assert picture.headers["content-type"] == "image/webp"
    found = reader.post("/search", params={"k": 3}, files={"image": ("a.webp", picture.content)}).json()["items"]
    assert "T0004" in [one["id"] for one in found]
    both = reader.post("/search", data={"text": words}, params={"k": 1}, files={"image": ("a.webp", picture.content)})
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
    answer = reader.get("/bundles").json()
    assert answer["writing"] == "open"
    whole, bare = answer["bundles"]
    assert (whole["name"], whole["title"], whole["users"], whole["items"]) == ("whole", "Whole", USERS, ITEMS)
    assert whole["can"] == {"search_words": True, "search_picture": True, "add_items": True, "explain": True}
    assert bare["can"] == {"search_words": False, "search_picture": False, "add_items": False, "explain": True}
    assert whole["fields"] == ["title", "description"]


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


# ---- adding and deleting


def test_an_added_item_is_there_at_once_and_after_a_restart(client: TestClient, runs: list[Path]) -> None:
    added = add(client)
    assert added.status_code == 201
    assert (added.json()["id"], added.json()["added"]) == ("mug-7", True)
    assert added.json()["fields"] == {"title": "A red mug", "description": "Stoneware."}

    def vector_of(client: TestClient) -> list[tuple[str, float]]:
        near = client.get("/similar/mug-7", params={"k": 5}).json()["items"]
        return [(one["id"], round(one["score"], 5)) for one in near]

    assert client.get("/recommend/u001", params={"only": "mug-7"}).json()["items"][0]["id"] == "mug-7"
    assert client.get("/search", params={"text": "A red mug. Stoneware.", "k": 1}).json()["items"][0]["id"] == "mug-7"
    assert client.get("/items", params={"added": True}).json()["total"] == 1
    assert client.get(added.json()["picture"]).status_code == 200
    before = vector_of(client)
    client.__exit__(None, None, None)
    with TestClient(make_app(runs, Settings(hosts=HERE))) as again:
        assert vector_of(again) == before
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

    monkeypatch.setattr("lmm4rec.serving.added.AddedItems.add", full)
    answer = add(client)
    assert answer.status_code == 503
    assert "disk is full" in answer.json()["detail"]
    assert client.get("/items/mug-7").status_code == 404


# ---- who may write


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


# ---- what it refuses


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/recommend/U001", 404, "unknown user 'U001' among 30 users. Did you mean 'u001'?"),
        ("/recommend/u001?k=0", 422, "query.k"),
        (f"/recommend/u001?k={MAX_K + 1}", 422, "query.k"),
        ("/recommend/u001?k=ten", 422, "query.k"),
        ("/recommend/u001?only=nothing", 404, "unknown item 'nothing'"),
        ("/recommend/u001?bundle=nobody", 404, "no bundle is called 'nobody'; there are: whole, bare"),
        ("/similar/T9999", 404, "unknown item 'T9999'"),
        ("/similar/../../etc/passwd", 404, "Not Found"),
        ("/thumbnails/..%2F..%2Fetc%2Fpasswd", 404, "unknown item '../../etc/passwd'"),
        ("/page/..%2f__init__.py", 404, "Not Found"),
        ("/search", 422, "query.text"),
        (f"/search?text={'x' * 3000}", 422, "query.text"),
        ("/search?text=a&for_user=nobody", 404, "unknown user 'nobody'"),
        ("/users?offset=-1", 422, "query.offset"),
        ("/items?limit=100000", 422, "query.limit"),
        ("/explain?user=u001", 422, "query.item"),
        ("/explain?user=u001&item=T9999", 404, "unknown item"),
        ("/nowhere", 404, "Not Found"),
    ],
)
def test_wrong_questions_are_told_in_one_shape(reader: TestClient, path: str, status: int, words: str) -> None:
    answer = reader.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"status", "title", "detail", "errors"}
    assert answer.json()["status"] == status
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"history": []},
        {"history": ["T0001"], "k": 0},
        {"history": ["T0001"], "more": 1},
        {"history": "T0001"},
        {"history": ["T0001"] * 1001},
        {},
    ],
)
def test_wrong_newcomers_are_refused(reader: TestClient, body: object) -> None:
    assert reader.post("/recommend", json=body).status_code == 422


def test_half_a_surrogate_pair_is_no_text(reader: TestClient) -> None:
    content = b'{"history": ["\\ud800"]}'
    answer = reader.post("/recommend", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (404, 422)
    assert reader.post("/items", data={"fields": '{"title": "\\ud800"}'}).status_code == 422


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"fields": "no json"}, "is no JSON object"),
        ({"fields": "[1]"}, "must be a JSON object of texts"),
        ({"fields": '{"title": 5}'}, "must be a JSON object of texts"),
        ({"fields": json.dumps({"title": "x" * 10_001})}, "has more than is taken"),
        ({"fields": json.dumps({f"f{i}": "x" for i in range(40)})}, "has more than is taken"),
        ({"fields": "[" * 5000}, "is no JSON object"),
        ({}, "give words (fields) or a picture (image)"),
        ({"id": " x", "fields": '{"title": "x"}'}, "an id has printable characters"),
        ({"id": "a\0b", "fields": '{"title": "x"}'}, "an id has printable characters"),
        ({"id": "..", "fields": '{"title": "x"}'}, "an id has printable characters"),
        ({"id": "x" * 513, "fields": '{"title": "x"}'}, "body.id"),
    ],
)
def test_wrong_new_items_are_refused(reader: TestClient, data: dict[str, str], words: str) -> None:
    answer = reader.post("/items", data=data)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_a_field_that_the_catalog_lacks_is_named(reader: TestClient) -> None:
    answer = reader.post("/items", data={"fields": '{"titel": "x"}'})
    assert answer.status_code == 422
    assert "Did you mean 'title'?" in answer.json()["detail"]


def bomb() -> bytes:
    """A PNG of few bytes that says it has 30,000 × 30,000 pixels."""
    content = bytearray(png(size=(1, 1)))
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


def text_bomb() -> bytes:
    """A PNG with a compressed text of 100 MB."""
    told = PngImagePlugin.PngInfo()
    told.add_text("note", "a" * 100_000_000, zip=True)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=told)
    return file.getvalue()


HOSTILE = {
    "empty": (b"", "is not a picture"),
    "words": (b"<svg onload=alert(1)>", "is not a picture"),
    "half": (png(size=(300, 300), kind="JPEG")[:200], ""),
    "bomb": (bomb(), "more than 25,000,000"),
    "text bomb": (text_bomb(), ""),
    "bmp": (png(kind="BMP"), "is not a picture that can be read (JPEG, PNG, WEBP, GIF)"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_broken_and_hostile_pictures_are_refused(reader: TestClient, kind: str) -> None:
    content, words = HOSTILE[kind]
    for path, data in (("/search", {}), ("/items", {"fields": '{"title": "x"}'})):
        answer = reader.post(path, data=data, files={"image": ("x.png", content)})
        assert answer.status_code == 422, kind
        assert words in answer.json()["detail"]
    assert reader.get("/items", params={"added": True}).json()["total"] == 0


def test_a_body_that_is_too_large_is_refused_unread(reader: TestClient) -> None:
    answer = reader.post("/search", files={"image": ("x.png", b"x" * 600_000)})
    assert answer.status_code == 413

    def chunks() -> Iterator[bytes]:  # no length beforehand
        for _ in range(100):
            yield b"x" * 10_000

    answer = reader.post("/recommend", content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["detail"].startswith("the body may have up to 0.5 MB")


def test_pages_elsewhere_may_not_write(client: TestClient) -> None:
    assert add(client, headers={"origin": "https://evil.example"}).status_code == 403
    assert add(client, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert add(client, headers={"origin": "http://testserver", "sec-fetch-site": "same-origin"}).status_code == 201


def test_a_local_service_answers_to_local_names_alone(runs: list[Path]) -> None:
    with TestClient(make_app(runs[1:], Settings()), base_url="http://127.0.0.1:8000") as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"host": "localhost:8000"}).status_code == 200
        assert client.get("/health", headers={"host": "[::1]:8000"}).status_code == 200
        assert client.get("/health", headers={"host": "evil.example:8000"}).status_code == 421


def test_a_request_that_takes_too_long_ends(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    with TestClient(make_app(runs, Settings(hosts=HERE, timeout_s=0.2))) as client:
        monkeypatch.setattr(Bundle, "similar", lambda *_: time.sleep(0.6))
        answer = client.get("/similar/T0001")
        assert answer.status_code == 503
        assert "no answer within 0.2 s" in answer.json()["detail"]
        assert client.get("/health").status_code == 200


def test_more_requests_than_may_wait_are_turned_away(runs: list[Path]) -> None:
    with TestClient(make_app(runs, Settings(hosts=HERE, max_waiting=0))) as client:
        answer = client.get("/recommend/u001")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "more requests wait than the service takes" in answer.json()["detail"]


def test_what_nobody_foresaw_is_told_without_its_inner_life(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(Bundle, "similar", broken)
    with TestClient(make_app(runs, Settings(hosts=HERE)), raise_server_exceptions=False) as client:
        answer = client.get("/similar/T0001")
    assert answer.status_code == 500
    assert answer.json()["title"] == "Internal Server Error"
    assert "secret" not in answer.text
    assert "a secret" in caplog.text


def test_every_answer_has_the_safe_headers(reader: TestClient) -> None:
    for path in ("/", "/docs", "/recommend/u001", "/nowhere", "/page/main.js"):
        headers = reader.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_the_page_asks_nobody_else(reader: TestClient) -> None:
    """Every address in the page's files is the service's own, and no script or style stands inline."""
    page = reader.get("/").text
    for path in (
        "/",
        "/docs",
        *(f"/page/{name}" for name in ("style.css", "docs.css", "main.js", "cards.js", "item.js")),
    ):
        text = reader.get(path).text
        assert "https://" not in text
        assert "http://" not in text
        assert "innerHTML" not in text
    assert "<script>" not in page
    assert "style=" not in page


def test_the_openapi_document_names_every_endpoint_with_its_errors(reader: TestClient) -> None:
    document = reader.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/recommend/{user}", "/recommend", "/similar/{item}", "/audience/{item}", "/search", "/items", "/items/{item}",
        "/users", "/users/{user}/history", "/explain", "/thumbnails/{item}", "/bundles", "/health", "/ready",
        "/metrics", "/reload",
    }  # fmt: skip
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["responses"]["422"]["content"].keys() == {"application/problem+json"}
            assert operation["description"]
    assert "ProblemBody" in document["components"]["schemas"]


def test_scores_need_not_be_finite_to_be_told(runs: list[Path]) -> None:
    """A user whose every item is seen gets an empty list, not an error."""
    bundle = Bundle.load(runs[1])
    assert torch.isfinite(bundle.scorer.scores(torch.tensor([0]))).all()
    with TestClient(make_app(runs, Settings(hosts=HERE))) as client:
        history = [one["id"] for one in client.get("/users/u001/history").json()["items"]]
        assert client.get("/recommend/u001", params={"only": history}).json()["items"] == []
