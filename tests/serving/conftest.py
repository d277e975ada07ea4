"""Clients of a service over two small shops, and visits to its page in a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from page_visits import DESK, RULES
from server import Server
from shops import HERE, write_shop

from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.settings import Settings
from lmm4rec.serving.night_log import append_night

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def reader(shops: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client for tests that change nothing; it takes bodies of half a megabyte."""
    folder = tmp_path_factory.mktemp("reader") / "runs"
    shutil.copytree(shops, folder)
    app = make_app([folder / "whole", folder / "bare"], Settings(hosts=HERE, max_body_mb=0.5))
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    runs = [write_shop(folder / "first", title="First model"), write_shop(folder / "second", seed=7, title="Second")]
    (folder / "rules.toml").write_text(RULES)
    for number, (decision, why) in enumerate((("first", "no bundle yet"), ("kept", "it was worse"))):
        record = {"night": f"night-{number}", "started": f"2026-11-2{number}T03:00:00+00:00", "decision": decision}
        append_night(runs[0], record | {"why": why, "serving": "night-0", "rows": {"users": {"new": 3}}})
    with Server(runs, "--rules", str(folder / "rules.toml")) as server:
        server.rules = folder / "rules.toml"
        yield server


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Any]:
    """Opens the page; whatever the browser complains about, and any request to elsewhere, fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(
        fragment: str = "",
        *,
        viewport: dict[str, int] = DESK,
        url: str = "",
        refused: str = "",
        **more: Any,
    ) -> Page:
        base = url or server.url

        def record(message: Any) -> None:
            # the browser itself reports each refused request
            if message.type in ("error", "warning") and not (refused and refused in message.text):
                complaints.append(message.text)

        context = browser.new_context(viewport=viewport, **more)  # type: ignore[arg-type]
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", record)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        away = re.compile(rf"^(?!{re.escape(base)}|blob:|data:)")
        page.on("request", lambda asked: complaints.append(asked.url) if away.match(asked.url) else None)
        page.goto(f"{base}/{fragment}")
        page.locator(".strip .card" if "view=models" in fragment else ".grid .card").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
