"""Many files fetched from a server on this machine, by calls that go on from each other."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from data.download.quick_fetcher import HOME, fetcher
from lmm4rec.data.download.download_log import DownloadLog
from lmm4rec.data.download.fetcher import Fetcher, Limits, RateLimit
from lmm4rec.data.download.http_client import HttpClient
from lmm4rec.data.download.jobs import Job, Outcome
from lmm4rec.data.download.parallel import download
from local_server import JPEG, LocalServer, says, serves


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def many(server: LocalServer, folder: Path, count: int) -> list[Job]:
    for at in range(count):
        server.answers[f"/{at}"] = serves(JPEG + bytes([at]))
    return [Job(str(at), server.url(f"/{at}"), folder / str(at), "image") for at in range(count)]


def place(job: Job) -> Path:
    return job.target.with_name(job.target.name + ".jpg")


def fetch_all(jobs: list[Job], folder: Path, worker: Fetcher | None = None, **options: object) -> list[Outcome]:
    worker = worker or fetcher()
    try:
        return download(jobs, worker, DownloadLog(folder), find=place, **options)  # type: ignore[arg-type]
    finally:
        worker.client.close()


def test_a_second_call_fetches_only_what_is_missing_or_failed(server: LocalServer, tmp_path: Path) -> None:
    jobs = many(server, tmp_path, 20)
    server.answers["/3"] = says(404)
    server.answers["/4"] = says(200, b"<html>")
    outcomes = fetch_all(jobs, tmp_path)
    assert sorted(outcome.key for outcome in outcomes if outcome.status == "failed") == ["3", "4"]
    summary = json.loads((tmp_path / "downloads.json").read_text())
    assert summary["counts"] == {"fetched": 18, "failed": 2}
    assert {failure["key"]: failure["error"] for failure in summary["failures"]}["3"] == "HTTP 404"
    assert {record.key: record.sha256 for record in DownloadLog(tmp_path)}["0"] == hashlib.sha256(
        JPEG + b"\0"
    ).hexdigest()

    many(server, tmp_path, 20)
    (tmp_path / "7.jpg").unlink()
    (tmp_path / "8.jpg").write_bytes(b"short")
    server.asked.clear()
    fetch_all(jobs, tmp_path)
    assert sorted(path for path, _ in server.asked) == ["/3", "/4", "/7", "/8"]
    summary = json.loads((tmp_path / "downloads.json").read_text())
    assert summary["counts"] == {"present": 16, "fetched": 4}
    assert summary["failures"] == []


def test_checksums_find_what_changed_on_disk(server: LocalServer, tmp_path: Path) -> None:
    jobs = many(server, tmp_path, 3)
    fetch_all(jobs, tmp_path)
    flipped = bytearray(JPEG + b"\1")
    flipped[100] ^= 1
    (tmp_path / "1.jpg").write_bytes(flipped)
    assert fetch_all(jobs, tmp_path) == []
    assert [outcome.key for outcome in fetch_all(jobs, tmp_path, verify=True)] == ["1"]
    assert (tmp_path / "1.jpg").read_bytes() == JPEG + b"\1"


def test_files_that_were_there_before_are_taken_down(server: LocalServer, tmp_path: Path) -> None:
    jobs = many(server, tmp_path, 2)
    (tmp_path / "0.jpg").write_bytes(JPEG)
    assert [outcome.key for outcome in fetch_all(jobs, tmp_path)] == ["1"]
    assert {record.key: record.sha256 for record in DownloadLog(tmp_path)}["0"] == hashlib.sha256(JPEG).hexdigest()


def test_another_address_is_another_image(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/png"] = serves(b"\x89PNG\r\n\x1a\n" + bytes(50))
    fetch_all(many(server, tmp_path, 1), tmp_path)
    fetch_all([Job("0", server.url("/png"), tmp_path / "0", "image")], tmp_path)
    assert files(tmp_path) == ["0.png", "downloads.json", "downloads.parquet"]


def test_requests_are_spaced(server: LocalServer, tmp_path: Path) -> None:
    worker = Fetcher(HttpClient(allow_private=[HOME]), Limits(1 << 20, 5.0), RateLimit(50.0))
    start = time.monotonic()
    fetch_all(many(server, tmp_path, 11), tmp_path, worker, workers=8)
    assert time.monotonic() - start >= 10 / 50


def test_an_interruption_keeps_what_came(server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = many(server, tmp_path, 30)
    add, noted = DownloadLog.add, []

    def interrupted(self: DownloadLog, outcome: Outcome) -> None:
        add(self, outcome)
        noted.append(outcome)
        if len(noted) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(DownloadLog, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_all(jobs, tmp_path, workers=2)
    monkeypatch.undo()
    assert len(list(DownloadLog(tmp_path))) == 5
    fetch_all(jobs, tmp_path)
    assert len(list(tmp_path.glob("*.jpg"))) == 30
    assert all(server.times(f"/{at}") <= 2 for at in range(30))
