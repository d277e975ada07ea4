"""Files fetched from a server on this machine that misbehaves."""

from __future__ import annotations

import hashlib
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from data.download.quick_fetcher import HOME, fetcher
from lmm4rec.data.download.http_client import HttpClient
from lmm4rec.data.download.jobs import Job, Outcome
from local_server import JPEG, LocalServer, Request, cuts, fails_first, local_server, says, serves, trickles


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
