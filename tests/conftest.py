"""What all tests share."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = (
    "1"  # before torch comes: one test process a core, and none waits for the other's threads
)

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from PIL import Image
    from playwright.sync_api import Browser

collect_ignore = ["plugin"]  # a project of its own, which tests/testing/test_plugin.py installs


def _shared() -> Path:
    named = os.environ.get("LMM4REC_SHARED")
    return Path(named) if named else Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _toy_images_drawn_once() -> Iterator[None]:
    """Each image of the toy shop is drawn once, at the size that encoders read; else most of a run is drawing.

    In tests/toyshop, where drawing itself is tested, this has no effect.
    """
    from lmm4rec.toyshop.drawing import SIDE, Drawing

    draw = Drawing.draw
    drawn = functools.lru_cache(maxsize=2000)(lambda image: draw(image, SIDE))

    @functools.wraps(draw)
    def resized(image: Drawing, side: int) -> Image.Image:
        return drawn(image).resize((side, side))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Drawing, "draw", resized)
        yield


@pytest.fixture
def shared() -> Path:
    """The folder of real data and golden files; the test is skipped where it is absent."""
    if not _shared().is_dir():
        pytest.skip(f"no real data at {_shared()} (name another folder in LMM4REC_SHARED)")
    return _shared()


@pytest.fixture(scope="session")
def layered_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the checkpoints of `layered.build` are; each is made once."""
    return tmp_path_factory.mktemp("layered")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; another one is named in LMM4REC_CHROMIUM."""
    path = os.environ.get("LMM4REC_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium here (apt-get install chromium, or name one in LMM4REC_CHROMIUM)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as one:
        browser = one.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """An S3 server on this machine, without content."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An empty bucket of a test's own, access to it in the environment, and an empty cache folder."""
    from s3_buckets import client

    for name, value in {"ACCESS_KEY_ID": "ann", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1",
                        "ENDPOINT_URL": s3_address}.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    name: str = request.node.name.partition("[")[0].replace("_", "-")[:60].strip("-")
    client().create_bucket(Bucket=name)
    return name
