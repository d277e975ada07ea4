"""A small HTTP server on this machine that serves bytes, and misbehaves as it is told to."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(256)) * 8


class Request(BaseHTTPRequestHandler):
    """A GET or PUT request, answered by what stands under its path."""

    protocol_version = "HTTP/1.1"
    server: LocalServer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        answer = self.server.answers.get(self.path)
        (answer or self.server.otherwise)(self, self.server.times(self.path))

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


Answer = Callable[[Request, int], None]  # the request, and the how-manieth it is of its path (from 1)


class LocalServer(ThreadingHTTPServer):
    """Serves `answers` by path, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answers: dict[str, Answer] = {}
        self.otherwise: Answer = missing
        self.asked: list[tuple[str, dict[str, str]]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def times(self, path: str) -> int:
        return Counter(path for path, _ in self.asked)[path]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def local_server() -> Iterator[LocalServer]:
    server = LocalServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def missing(request: Request, time_: int) -> None:
    request.send(404, b"no such thing")


def serves(body: bytes, *, ranges: bool = True, etag: str = '"one"') -> Answer:
    """Serves bytes, from where it is asked."""

    def answer(request: Request, time_: int) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        same = request.headers.get("If-Range") in (None, etag)
        if not (ranges and asked and same):
            request.send(200, body, ETag=etag)
        elif int(asked[1]) >= len(body):
            request.send(416, Content_Range=f"bytes */{len(body)}")
        else:
            at = int(asked[1])
            request.send(206, body[at:], ETag=etag, Content_Range=f"bytes {at}-{len(body) - 1}/{len(body)}")

    return answer


def fails_first(failures: int, bad: Answer, good: Answer) -> Answer:
    """Answers badly so many times, then well."""
    return lambda request, time_: (bad if time_ <= failures else good)(request, time_)


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    return lambda request, time_: request.send(status, body, **headers)


def cuts(body: bytes, after: int, etag: str = '"one"') -> Answer:
    """Promises all of the bytes and hangs up after some."""

    def answer(request: Request, time_: int) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", etag)
        request.end_headers()
        request.wfile.write(body[:after])
        request.wfile.flush()
        request.hang_up()

    return answer


def trickles(body: bytes, every_s: float) -> Answer:
    """Sends a byte now and then."""

    def answer(request: Request, time_: int) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        for at in range(len(body)):
            request.wfile.write(body[at : at + 1])
            request.wfile.flush()
            time.sleep(every_s)

    return answer
