"""Bundles and encoders to the Hugging Face hub and back, by a server on this machine that speaks its few requests."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from lmm4rec.cli.app import main
from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.core.hub import local_folder, push_folder
from lmm4rec.core.types import Embeddings
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.encoders.color import Color
from lmm4rec.encoders.vlmo import Vlmo
from lmm4rec.serving.bundle import Bundle

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
TOKEN, COMMIT = "hf_right", "c" * 40


class Hub(ThreadingHTTPServer):
    """Repositories as mappings from path to content."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}


class Request(BaseHTTPRequestHandler):
    """A request of huggingface_hub."""

    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        repository = "/".join(self.path.split("/")[3:5])
        if self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            wanted = json.loads(body)
            name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
            self.server.repositories.setdefault(name, {})
            self.server.private[name] = wanted.get("private", wanted.get("visibility") == "private")
            self.answer({"url": f"{self.url}/{name}", "id": name})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for file in json.loads(body)["files"]]  # fmt: skip
            self.answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.repositories[repository][line["value"]["path"]] = content
            self.answer({"success": True, "commitOid": COMMIT, "commitUrl": f"{self.url}/{repository}/commit/{COMMIT}"})
        else:
            self.answer({"error": self.path}, 404)

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].split("/")
        name = "/".join(parts[3:5] if parts[1] == "api" else parts[1:3])
        files = self.server.repositories.get(name)
        if files is None:
            self.answer({"error": "Repository not found"}, 401, **{"X-Error-Code": "RepoNotFound"})
        elif "/resolve/" in self.path:
            content = files["/".join(parts[5:])]
            etag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
            self.answer(content, **{"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        elif "/tree/" in self.path:
            self.answer([{"type": "file", "path": path, "size": len(content),
                          "oid": hashlib.sha1(content, usedforsecurity=False).hexdigest()}
                         for path, content in files.items()])  # fmt: skip
        else:
            siblings = [{"rfilename": path} for path in files]
            self.answer({"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0})

    def do_HEAD(self) -> None:
        self.do_GET()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, body: Any, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, whose address and token are in the environment."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def bundle() -> Bundle:
    """Two users and three items."""
    log = Interactions(torch.zeros(1).int().numpy(), torch.zeros(1).int().numpy())
    users, items = Vocabulary(["ann", "bob"], kind="user"), Vocabulary(["a", "b", "c"])
    scorer = Embeddings(torch.ones(2, 1), torch.arange(3.0)[:, None])
    return Bundle(scorer, users, items, ["A", "B", "C"], log, {"model": "by hand"})


@pytest.mark.long
def test_a_bundle_goes_and_comes_back(hub: Hub, bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    url = bundle.push_to_hub("shop/mugs")
    assert url.endswith("/shop/mugs")
    assert hub.private == {"shop/mugs": True}
    card = hub.repositories["shop/mugs"]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: lmm4rec\n")
    assert "# by hand" in card
    again = Bundle.from_pretrained("shop/mugs")
    assert again.recommend(["ann"], 2) == bundle.recommend(["ann"], 2)
    again.remove_items(["c"])
    again.push_to_hub("shop/mugs", private=False)  # a second version
    with pytest.raises(SystemExit) as ended:
        main(["recommend", "shop/mugs", "bob", "-k", "1"])
    assert not ended.value.code
    assert "for bob" in capfd.readouterr().out


@pytest.mark.long
def test_the_command_pushes_a_run(hub: Hub, bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle.save(tmp_path / "mine")
    with pytest.raises(SystemExit) as ended:
        main(["push", "mine", "shop/cups", "--public"])
    assert not ended.value.code
    assert "/shop/cups" in capfd.readouterr().out
    assert hub.private == {"shop/cups": False}


@pytest.mark.long
def test_an_encoder_goes_and_comes_back(hub: Hub, tmp_path: Path) -> None:
    Vlmo.write_tiny(tmp_path / "tiny", ["a red mug", "a blue lamp"])
    encoder = Vlmo.from_pretrained(tmp_path / "tiny")
    encoder.push_to_hub("lab/vlmo")
    assert b'name = "vlmo"\ncheckpoint = "lab/vlmo"' in hub.repositories["lab/vlmo"]["README.md"]
    assert Vlmo.from_pretrained("lab/vlmo").fingerprint() == encoder.fingerprint()
    with pytest.raises(ConfigError, match="Color has no weights, so there is nothing to upload"):
        Color().push_to_hub("lab/color")


def test_what_is_wrong_is_one_line(hub: Hub, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"there is no folder no/where, and as a repository of the hub it is not"):
        Bundle.from_pretrained("no/where")
    with pytest.raises(ConfigError, match="'mugs' is no name of a repository; expected owner/name"):
        bundle.push_to_hub("mugs")
    with pytest.raises(ConfigError, match=r"pushing to shop/mugs: .*401"):
        bundle.push_to_hub("shop/mugs", token="hf_wrong")
    (tmp_path / "runs").mkdir()
    with pytest.raises(CheckpointError, match="there is no bundle in runs/mine"):  # a folder here, not a user there
        Bundle.from_pretrained("runs/mine")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"no/where, and as a repository of the hub"):
        Bundle.from_pretrained("no/where")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match="there is no token for the hub: pass token=…, set HF_TOKEN"):
        push_folder(tmp_path, "shop/mugs", token=None, private=True)
    assert hub.repositories == {}


def test_folders_and_plain_names_are_no_repositories(tmp_path: Path) -> None:
    assert local_folder(tmp_path) == tmp_path
    assert local_folder("nowhere") == Path("nowhere")
    assert local_folder("a/b/c") == Path("a/b/c")
