"""Files fetched from a server on this machine that misbehaves."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from lmm4rec.data.download.download_log import DownloadLog
from lmm4rec.data.download.fetcher import Fetcher, Limits, RateLimit
from lmm4rec.data.download.http_client import HttpClient
from lmm4rec.data.download.jobs import Job, Outcome
from lmm4rec.data.download.parallel import download
from local_server import JPEG, LocalServer, Request, cuts, fails_first, local_server, says, serves, trickles

HOME = "127.0.0.1"


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        yield running


def fetcher(
    *,
    max_bytes: int = 1 << 20,
    deadline_s: float = 5.0,
    attempts: int = 3,
    timeout_s: float = 2.0,
    client: HttpClient | None = None,
) -> Fetcher:
    limits = Limits(max_bytes, deadline_s, attempts=attempts, backoff_s=0.01, longest_wait_s=0.3)
    return Fetcher(client or HttpClient(timeout_s=timeout_s, allow_private=[HOME]), limits, RateLimit(1000.0))


def fetch(job: Job, **options: object) -> Outcome:
    worker = fetcher(**options)  # type: ignore[arg-type]
    try:
        return worker.fetch(job)
    finally:
        worker.client.close()


def image(server: LocalServer, folder: Path, path: str = "/a") -> Job:
    return Job("a", server.url(path), folder / "a", "image")


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_an_image_gets_its_ending_and_checksum(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = serves(JPEG)
    outcome = fetch(image(server, tmp_path))
    assert (outcome.status, outcome.file, outcome.size, outcome.attempts) == ("fetched", "a.jpg", len(JPEG), 1)
    assert outcome.sha256 == hashlib.sha256(JPEG).hexdigest()
    assert files(tmp_path) == ["a.jpg"]
    assert (tmp_path / "a.jpg").read_bytes() == JPEG
    assert server.asked[0][1]["User-Agent"].startswith("lmm4rec/")


@pytest.mark.parametrize(
    ("begins", "ending"),
    [(b"\x89PNG\r\n\x1a\n", ".png"), (b"GIF89a", ".gif"), (b"RIFF\x00\x00\x00\x00WEBPVP8 ", ".webp")],
)
def test_endings_of_images(server: LocalServer, tmp_path: Path, begins: bytes, ending: str) -> None:
    server.answers["/a"] = serves(begins + bytes(100))
    assert fetch(image(server, tmp_path)).file == f"a{ending}"


def test_what_is_missing_is_asked_once(server: LocalServer, tmp_path: Path) -> None:
    outcome = fetch(image(server, tmp_path, "/none"))
    assert (outcome.status, outcome.error, outcome.attempts) == ("failed", "HTTP 404", 1)
    assert server.times("/none") == 1
    assert files(tmp_path) == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(server: LocalServer, tmp_path: Path, status: int) -> None:
    server.answers["/a"] = fails_first(2, says(status, b"sorry"), serves(JPEG))
    outcome = fetch(image(server, tmp_path))
    assert (outcome.status, outcome.attempts) == ("fetched", 3)
    assert fetch(Job("b", server.url("/b"), tmp_path / "b", "image")).error == "HTTP 404"


def test_attempts_end(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = says(500)
    outcome = fetch(image(server, tmp_path))
    assert (outcome.status, outcome.error, outcome.attempts) == ("failed", "HTTP 500", 3)
    assert server.times("/a") == 3


@pytest.mark.parametrize("asked", ["100", formatdate(time.time() + 1000, usegmt=True)], ids=["seconds", "date"])
def test_retry_after_is_obeyed(server: LocalServer, tmp_path: Path, asked: str) -> None:
    server.answers["/a"] = fails_first(1, says(429, Retry_After=asked), serves(JPEG))
    start = time.monotonic()
    assert fetch(image(server, tmp_path)).status == "fetched"
    assert time.monotonic() - start > 0.25  # `longest_wait_s`, far more than `backoff_s`


def test_a_cut_connection_is_resumed(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = fails_first(1, cuts(JPEG, 1000), serves(JPEG))
    outcome = fetch(image(server, tmp_path))
    assert (outcome.status, outcome.attempts) == ("fetched", 2)
    assert (tmp_path / "a.jpg").read_bytes() == JPEG
    assert server.asked[1][1]["Range"] == "bytes=1000-"
    assert server.asked[1][1]["If-Range"] == '"one"'


def test_attempts_that_bring_something_do_not_count(server: LocalServer, tmp_path: Path) -> None:
    """A large file over a bad line: each connection ends after 1.5 MB."""
    body = JPEG + bytes(6 << 20)

    def ends_early(request: Request, time_: int) -> None:
        at = int(request.headers.get("Range", "bytes=0-")[6:-1])
        request.send_response(206 if at else 200)
        request.send_header("Content-Length", str(len(body) - at))
        request.send_header("Content-Range", f"bytes {at}-{len(body) - 1}/{len(body)}")
        request.send_header("ETag", '"one"')
        request.end_headers()
        request.wfile.write(body[at : at + 1_500_000])
        request.wfile.flush()
        request.hang_up()

    server.answers["/a"] = ends_early
    outcome = fetch(image(server, tmp_path), attempts=2, max_bytes=1 << 24)
    assert outcome.status == "fetched"
    assert outcome.attempts > 3
    assert (tmp_path / "a.jpg").read_bytes() == body


def test_another_call_resumes_too(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = cuts(JPEG, 1500)
    assert fetch(image(server, tmp_path), attempts=1).status == "failed"
    assert files(tmp_path) == [".a.part", ".a.part.json"]
    server.answers["/a"] = serves(JPEG)
    assert fetch(image(server, tmp_path)).status == "fetched"
    assert server.asked[-1][1]["Range"] == "bytes=1500-"
    assert (tmp_path / "a.jpg").read_bytes() == JPEG
    assert files(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("ranges", [True, False])
def test_another_version_is_never_glued_to_the_old_one(server: LocalServer, tmp_path: Path, ranges: bool) -> None:
    newer = JPEG[:500] + b"newer" * 400
    server.answers["/a"] = fails_first(1, cuts(JPEG, 1000), serves(newer, ranges=ranges, etag='"two"'))
    assert fetch(image(server, tmp_path)).status == "fetched"
    assert (tmp_path / "a.jpg").read_bytes() == newer


def test_without_a_mark_of_the_version_it_starts_over(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = fails_first(1, cuts(JPEG, 1000, etag='W/"weak"'), serves(JPEG))
    assert fetch(image(server, tmp_path)).status == "fetched"
    assert "Range" not in server.asked[1][1]


def test_a_part_of_a_file_that_shrank_starts_over(server: LocalServer, tmp_path: Path) -> None:
    short = JPEG[:600]
    server.answers["/a"] = fails_first(1, cuts(JPEG, 1000), serves(short))
    assert fetch(image(server, tmp_path)).status == "fetched"
    assert (tmp_path / "a.jpg").read_bytes() == short


def test_a_server_that_resumes_elsewhere(server: LocalServer, tmp_path: Path) -> None:
    elsewhere = says(206, JPEG[7:], Content_Range=f"bytes 7-{len(JPEG) - 1}/{len(JPEG)}", ETag='"one"')
    server.answers["/a"] = fails_first(1, cuts(JPEG, 1000), fails_first(2, elsewhere, serves(JPEG)))
    assert fetch(image(server, tmp_path)).status == "fetched"
    assert (tmp_path / "a.jpg").read_bytes() == JPEG


def test_a_page_instead_of_an_image(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = says(200, b"<!DOCTYPE html><title>Robot check</title>", Content_Type="image/jpeg")
    outcome = fetch(image(server, tmp_path))
    assert outcome.error == "it is a web page, expected an image (JPEG, PNG, GIF, WebP, AVIF, TIFF or BMP)"
    assert server.times("/a") == 1
    assert files(tmp_path) == []


@pytest.mark.parametrize("body", [b"", b"\xff", b"GIF"])
def test_next_to_nothing(server: LocalServer, tmp_path: Path, body: bytes) -> None:
    server.answers["/a"] = says(200, body)
    assert "expected an image" in fetch(image(server, tmp_path)).error


def test_too_large_by_what_it_says(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = serves(JPEG)
    outcome = fetch(image(server, tmp_path), max_bytes=1000)
    assert outcome.error == f"too large: {len(JPEG):,} bytes, allowed are 1,000"
    assert files(tmp_path) == []


def test_too_large_without_saying(server: LocalServer, tmp_path: Path) -> None:
    def endless(request: Request, time_: int) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for _ in range(10_000):
            request.wfile.write(b"%x\r\n%s\r\n" % (len(JPEG), JPEG))

    server.answers["/a"] = endless
    outcome = fetch(image(server, tmp_path), max_bytes=10_000)
    assert outcome.error == "too large: more than the 10,000 bytes that are allowed"
    assert files(tmp_path) == []


def test_silence_times_out(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = fails_first(1, lambda request, _: time.sleep(1), serves(JPEG))
    outcome = fetch(image(server, tmp_path), timeout_s=0.3)
    assert outcome.status == "fetched"
    assert outcome.attempts > 1
    server.answers["/b"] = lambda request, _: time.sleep(1)
    assert fetch(image(server, tmp_path, "/b"), timeout_s=0.2, attempts=1).error == "timed out (ReadTimeout)"


def test_a_trickle_ends(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = trickles(JPEG, 0.02)
    start = time.monotonic()
    outcome = fetch(image(server, tmp_path), deadline_s=0.2, attempts=1)
    assert outcome.error.startswith("too slow: ")
    assert time.monotonic() - start < 2


def test_redirects_are_followed(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = says(301, Location="/b?size=1#top")
    server.answers["/b?size=1"] = says(302, Location=server.url("/c"))
    server.answers["/c"] = serves(JPEG)
    outcome = fetch(image(server, tmp_path))
    assert (outcome.status, outcome.url) == ("fetched", server.url("/a"))


def test_redirects_in_a_circle(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = says(302, Location="/a")
    assert "more than 5 redirects" in fetch(image(server, tmp_path)).error
    assert server.times("/a") == 6


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("http://127.0.0.2:1/secret", "127.0.0.2 is not public"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254 is not public"),
        ("http://[::1]/", "::1 is not public"),
        ("http://[::ffff:10.0.0.1]/", "is not public"),
        ("file:///etc/passwd", "begins with https"),
        ("http://user@127.0.0.1/", "user's name"),
    ],
)
def test_a_redirect_to_what_is_private_is_refused(server: LocalServer, tmp_path: Path, there: str, words: str) -> None:
    server.answers["/a"] = says(302, Location=there)
    outcome = fetch(image(server, tmp_path))
    assert outcome.status == "failed"
    assert words in outcome.error
    assert outcome.attempts == 1


def test_this_machine_is_refused_unless_named(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = serves(JPEG)
    outcome = fetch(image(server, tmp_path), client=HttpClient())
    assert "127.0.0.1 is not public; name it in allow_private" in outcome.error
    assert server.asked == []


def test_a_name_that_changes_its_mind_is_asked_once_a_connection(server: LocalServer, tmp_path: Path) -> None:
    """The address that was checked is connected to: a second look at the name would lead to 127.0.0.3."""
    answers = iter([[HOME], ["127.0.0.3"]])
    client = HttpClient(allow_private=[HOME], resolve=lambda host, port: next(answers))
    server.answers["/a"] = says(503, Connection="close")
    port = server.server_address[1]
    job = Job("a", f"http://shop.example:{port}/a", tmp_path / "a", "image")
    outcome = fetch(job, client=client, attempts=1)
    assert outcome.error == "HTTP 503"  # the server of the checked address answered
    assert server.asked[0][1]["Host"] == f"shop.example:{port}"
    outcome = fetch(job, client=client, attempts=1)
    assert "127.0.0.3 (of shop.example) is not public" in outcome.error
    assert server.times("/a") == 1


def test_known_checksums(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/a"] = serves(JPEG)
    right = hashlib.sha256(JPEG).hexdigest()
    assert fetch(Job("a", server.url("/a"), tmp_path / "a", "image", sha256=right)).status == "fetched"
    outcome = fetch(Job("b", server.url("/a"), tmp_path / "b", "image", sha256="0" * 64))
    assert outcome.error == f"damaged: SHA-256 is {right}, expected {'0' * 64}"
    assert files(tmp_path) == ["a.jpg"]


def test_nobody_answers(tmp_path: Path) -> None:
    with local_server() as gone:
        url = gone.url("/a")
    outcome = fetch(Job("a", url, tmp_path / "a", "image"))
    assert outcome.error.startswith("connection failed: ")
    assert outcome.attempts == 3


def test_words_in_an_address_are_encoded(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/bl%C3%A5%2B%20x.jpg?q=%C3%A9"] = serves(JPEG)
    assert fetch(image(server, tmp_path, "/blå%2B%20x.jpg?q=é")).status == "fetched"


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
