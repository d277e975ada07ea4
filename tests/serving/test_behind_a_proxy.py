"""The service under a path prefix, behind a small proxy that keeps or strips it; logs with a line for each request."""

from __future__ import annotations

import json
import logging
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient
from page_visits import wait_until
from server import Server
from shops import HERE

from lmm4rec.core.errors import ConfigError
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.logs import JsonLines, requests
from lmm4rec.serving.http.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PREFIX = "/shop"


@contextmanager
def proxy(port: int, *, strips: bool) -> Iterator[str]:
    """A proxy that shows the service on a port under the prefix, and nothing else; it passes the Host header on."""

    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            if self.path != PREFIX and not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            path = self.path.removeprefix(PREFIX) if strips else self.path
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            service = HTTPConnection("127.0.0.1", port)
            service.request(self.command, path or "/", body, dict(self.headers))
            answer = service.getresponse()
            content = answer.read()
            service.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_DELETE = forward  # noqa: N815

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{PREFIX}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def prefixed(shops: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("prefixed") / "runs"
    shutil.copytree(shops, folder)
    with TestClient(make_app([folder / "whole"], Settings(hosts=HERE, root_path=f"{PREFIX}/"))) as client:
        yield client


@pytest.mark.parametrize("prefix", [PREFIX, ""], ids=["kept", "stripped"])
def test_every_address_that_is_shown_is_under_the_prefix(prefixed: TestClient, prefix: str) -> None:
    for page in ("/", "/docs"):
        shown = prefixed.get(f"{prefix}{page}").text
        for address in re.findall(r'(?:href|src)="([^"#][^"]*)"', shown):
            seen = urljoin(f"http://x{PREFIX}{page}", address)  # as a browser resolves it
            assert seen.startswith(f"http://x{PREFIX}/")
            inside = seen.removeprefix(f"http://x{PREFIX}")
            assert prefixed.get(f"{prefix}{inside}").status_code == 200
    [card] = prefixed.get(f"{prefix}/recommend/u001", params={"k": 1}).json()["items"]
    assert card["picture"].startswith(f"{PREFIX}/thumbnails/")
    picture = card["picture"].removeprefix(PREFIX)
    assert prefixed.get(f"{prefix}{picture}").headers["content-type"] == "image/webp"
    assert prefixed.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": PREFIX}]
    added = prefixed.post(f"{prefix}/items", data={"id": "a/b", "fields": '{"title": "A mug"}'})
    assert added.status_code == 201
    assert prefixed.get(f"{prefix}/items/a%2Fb").json()["id"] == "a/b"
    assert prefixed.delete(f"{prefix}/items/a%2Fb").status_code == 204


def test_the_prefix_without_a_slash_leads_to_the_page(prefixed: TestClient) -> None:
    answer = prefixed.get(PREFIX, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, f"{PREFIX}/")
    assert prefixed.get("/shopping/").status_code == 404


@pytest.mark.parametrize("path", ["shop", "/a b", "//x", "/shop?x"])
def test_what_is_no_prefix_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="--root-path is a path such as /shop"):
        Settings(root_path=path)


def test_a_prefix_that_is_a_path_of_the_service_is_refused(runs: list[Path]) -> None:
    with pytest.raises(ConfigError, match="--root-path /items/new begins like the service's own /items"):
        make_app(runs[1:], Settings(hosts=HERE, root_path="/items/new"))


def test_each_request_has_an_id_and_a_line_without_ids_of_users(
    reader: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonLines().format(record)))

    monkeypatch.setattr(requests, "handlers", [Handler()])
    monkeypatch.setattr(requests, "propagate", False)
    level = requests.level
    requests.setLevel(logging.INFO)
    assert reader.get("/recommend/u001", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    other = reader.get("/users/u001/history", headers={"x-request-id": "not one\u00e9".encode()}).headers[
        "x-request-id"
    ]
    assert re.fullmatch("[0-9a-f]{16}", other)
    assert reader.get("/recommend/nobody").status_code == 404
    assert [(line["request"], line["route"], line["status"], line["level"]) for line in lines[:2]] == [
        ("abc-1", "/recommend/{user:path}", 200, "info"), (other, "/users/{user:path}/history", 200, "info"),
    ]  # fmt: skip
    assert lines[2]["status"] == 404
    assert lines[0]["ms"] > 0
    assert "u001" not in json.dumps(lines)
    requests.setLevel(level)
    assert set(lines[0]) == {"time", "level", "logger", "message", "request", "method", "route", "status", "ms"}


@pytest.mark.slow
@pytest.mark.parametrize("strips", [False, True], ids=["kept", "stripped"])
def test_the_page_works_behind_a_real_proxy(runs: list[Path], browser: Browser, strips: bool) -> None:
    with Server(runs[:1], "--root-path", PREFIX, "--log-format", "json") as server:
        with proxy(server.port, strips=strips) as url:
            complaints: list[str] = []
            page = browser.new_page()
            page.set_default_timeout(10_000)
            page.on("console", lambda one: complaints.append(one.text) if one.type in ("error", "warning") else None)
            page.on("request", lambda one: None if one.url.startswith(url) else complaints.append(one.url))
            page.goto(f"{url}/")
            page.locator(".grid .card img").first.wait_for()
            wait_until(page, "document.querySelector('.grid .card img')?.naturalWidth > 0")
            page.locator(".grid .card").first.click()
            page.locator("dialog#item[open] .alike .card").first.wait_for()
            page.wait_for_load_state("networkidle")
            page.goto(f"{url}/docs")
            page.locator("details").first.wait_for()
            assert page.locator("details pre").first.text_content().find(f"'{url}/") > 0
            page.close()
            form = {"id": "mug-7", "fields": '{"title": "A red mug"}'}
            assert httpx.post(f"{url}/items", data=form).status_code == 201
            assert complaints == []
        log = server.end(signal.SIGTERM)
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"request", "route", "status", "ms"} <= set(lines[-1])
