"""Checkpoints by name: where there is no hub, that is said at once."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from threading import Thread

import pytest

import lmm4rec
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import ENCODERS
from lmm4rec.nn.transformers.hugging_face import loading

hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")
pytest.importorskip("huggingface_hub.utils")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub at an address where nothing answers, with or without a network."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def source_of(checkpoint: str) -> str:
    with loading(checkpoint, kind="model", expected="a folder") as source:
        return source


@pytest.mark.parametrize(
    ("encoder", "checkpoint"),
    [
        ("clip", "openai/clip-vit-base-patch16"), ("dual", "google/siglip-base-patch16-224"),
        ("vision", "microsoft/resnet-50"), ("sentence", "sentence-transformers/all-mpnet-base-v2"),
    ],
)  # fmt: skip
def test_a_hub_name_without_a_network_fails_at_once(encoder: str, checkpoint: str) -> None:
    load, _ = lmm4rec.load_encoder, ENCODERS.get(encoder)  # what is imported once is not what takes a minute
    start = time.monotonic()
    with pytest.raises(ConfigError, match=rf"under checkpoint '{checkpoint}': give a .*it is not in the local cache"):
        load(encoder, checkpoint=checkpoint)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("checkpoint", "why"),
    [
        ("my/own/folder", "there is no such folder, and a hub name reads owner/name"),
        ("./folder", "there is no such folder"),
        ("C:\\models\\clip", "there is no such folder"),
        ("weights.pt", "there is no such file"),
        (__file__, "that is a file"),
        ("owner/name", r"it is not in the local cache, and http://127.0.0.1:\d+ cannot be reached: .*refused"),
    ],
)
def test_what_is_no_checkpoint_says_why(checkpoint: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"no model under checkpoint .*: give a folder, or a hub name .*\({why}"):
        source_of(checkpoint)


def test_a_folder_needs_no_hub(tmp_path: Path) -> None:
    assert source_of(str(tmp_path)) == str(tmp_path)


def test_offline_mode_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="and HF_HUB_OFFLINE is set"):
        source_of("owner/name")


def test_a_name_in_the_cache_is_loaded_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "snapshot_download", lambda name, local_files_only: f"/cache/{name}/{local_files_only}")
    assert source_of("owner/name") == "/cache/owner/name/True"


def test_a_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with an error: what it has to say is for the library to tell."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        server.settimeout(5)
        answer = _answer_once(server)
        assert source_of("owner/name") == "owner/name"
        answer.join()


def _answer_once(server: socket.socket) -> Thread:
    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 403 Forbidden\r\n\r\n")

    thread = Thread(target=answer)
    thread.start()
    return thread


def test_errors_of_the_library_name_the_checkpoint(tmp_path: Path) -> None:
    opened = loading(str(tmp_path), kind="model", expected="a folder")
    with pytest.raises(ConfigError, match=r"no model under checkpoint .* \(no config.json\)"), opened:
        raise ValueError("no config.json\nsecond line")
