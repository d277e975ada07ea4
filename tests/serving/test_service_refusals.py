"""What the service refuses, and that its errors have one shape."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image, PngImagePlugin
from shops import HERE, add, png

from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.settings import MAX_K, Settings


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
        ("/recommend/u001?limit=5", 422, "query.limit: unknown parameter; there are: k, exclude_seen, reasons, only,"),
        ("/recommend/u001?exclude_sen=false", 422, "Did you mean 'exclude_seen'?"),
        ("/users/u001/history?a=1&b=2", 422, "query.b: unknown parameter; there are: k, bundle"),
        ("/health?x=1", 422, "query.x: unknown parameter; it takes none"),
    ],
)
def test_errors_of_requests_have_one_shape(reader: TestClient, path: str, status: int, words: str) -> None:
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
def test_histories_of_new_users_that_are_wrong_are_refused(reader: TestClient, body: object) -> None:
    assert reader.post("/recommend", json=body).status_code == 422


def test_half_a_surrogate_pair_is_no_text(reader: TestClient) -> None:
    content = b'{"history": ["\\ud800"]}'
    answer = reader.post("/recommend", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (404, 422)
    assert reader.post("/items", data={"fields": '{"title": "\\ud800"}'}).status_code == 422


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"fields": "no json"}, "is not a JSON object"),
        ({"fields": "[1]"}, "must be a JSON object of texts"),
        ({"fields": '{"title": 5}'}, "must be a JSON object of texts"),
        ({"fields": json.dumps({"title": "x" * 10_001})}, "is larger than allowed"),
        ({"fields": json.dumps({f"f{i}": "x" for i in range(40)})}, "is larger than allowed"),
        ({"fields": "[" * 5000}, "is not a JSON object"),
        ({}, "give a text (fields) or an image (image)"),
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
    "empty": (b"", "is not an image"),
    "words": (b"<svg onload=alert(1)>", "is not an image"),
    "half": (png(size=(300, 300), kind="JPEG")[:200], ""),
    "bomb": (bomb(), "more than 25,000,000"),
    "text bomb": (text_bomb(), ""),
    "bmp": (png(kind="BMP"), "is not an image that can be read (JPEG, PNG, WEBP, GIF)"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_broken_and_hostile_images_are_refused(reader: TestClient, kind: str) -> None:
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


@pytest.mark.long
def test_a_request_that_takes_too_long_ends(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are answered while it still occupies its thread."""
    end, ended = threading.Event(), threading.Event()

    def similar(*_: object) -> None:
        end.wait(30)
        ended.set()

    with TestClient(make_app(runs, Settings(hosts=HERE, timeout_s=1.0))) as client:
        monkeypatch.setattr(Bundle, "similar", similar)
        try:
            answer = client.get("/similar/T0001")
            assert answer.status_code == 503
            assert "no answer within 1 s" in answer.json()["detail"]
            assert client.get("/health").status_code == 200
            assert not ended.is_set()
        finally:
            end.set()


@pytest.mark.long
def test_a_reload_has_its_own_time_and_is_done_once_at_a_time(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import time
    from concurrent.futures import ThreadPoolExecutor

    load, started = Bundle.load, threading.Event()

    def slow(*given: object, **more: object) -> Bundle:
        started.set()
        time.sleep(0.35)
        return load(*given, **more)  # type: ignore[arg-type]

    headers = {"authorization": "Bearer a-token-of-the-service"}
    settings = Settings(hosts=HERE, token="a-token-of-the-service", timeout_s=0.2)
    with TestClient(make_app(runs[1:], settings)) as client, ThreadPoolExecutor() as threads:
        monkeypatch.setattr(Bundle, "load", slow)
        first = threads.submit(client.post, "/reload", headers=headers)
        assert started.wait(10)
        second = client.post("/reload", headers=headers)
        assert (second.status_code, second.headers["retry-after"]) == (409, "10")
        assert first.result().status_code == 200
        assert client.post("/reload", headers=headers).status_code == 200


def test_a_service_without_a_token_says_how_else_to_reload(reader: TestClient) -> None:
    answer = reader.post("/reload")
    assert answer.status_code == 403
    assert "kill -HUP" in answer.json()["detail"]


def test_more_requests_than_may_wait_are_turned_away(runs: list[Path]) -> None:
    with TestClient(make_app(runs, Settings(hosts=HERE, max_waiting=0))) as client:
        answer = client.get("/recommend/u001")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "too many requests are waiting" in answer.json()["detail"]


def test_an_unexpected_error_is_reported_without_its_internals(
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
        *(f"/page/{name}" for name in ("style.css", "docs.css", "main.js", "cards.js", "item.js", "home.js")),
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
        "/metrics", "/reload", "/rules", "/nights", "/compare", "/interactions", "/interactions/{id}",
        "/users/{user}",
    }  # fmt: skip
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["responses"]["422"]["content"].keys() == {"application/problem+json"}
            assert operation["description"]
    assert "ProblemBody" in document["components"]["schemas"]


def test_scores_that_are_not_finite_are_sent(runs: list[Path]) -> None:
    """A user whose every item is seen gets an empty list, not an error."""
    bundle = Bundle.load(runs[1])
    assert torch.isfinite(bundle.scorer.scores(torch.tensor([0]))).all()
    with TestClient(make_app(runs, Settings(hosts=HERE))) as client:
        history = [one["id"] for one in client.get("/users/u001/history").json()["items"]]
        assert client.get("/recommend/u001", params={"only": history}).json()["items"] == []
