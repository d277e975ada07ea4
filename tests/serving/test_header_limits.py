"""The limits of a header, over real sockets: 60 slow clients are closed, and no other request is."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI, Request

from lmm4rec.serving.http.header_limits import HeaderLimits

_S = 0.3  # time for a header
HALF = b"GET /size HTTP/1.1\r\nHost: localhost\r\nX-"
BODY = b"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"


class QuickLimits(HeaderLimits):
    timeout_s = _S


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server with one endpoint, which returns the length of the body."""
    app = FastAPI()

    @app.api_route("/size", methods=["GET", "POST"])
    async def size(request: Request) -> int:
        return len(await request.body())

    server = uvicorn.Server(uvicorn.Config(app, http=QuickLimits, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def connect(port: int, first: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(first)
    return client


def read(client: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    parts = []
    while part := client.recv(4096):
        parts.append(part)
    return b"".join(parts)


def answer(client: socket.socket) -> bytes:
    """What comes until the body of one character, the length of the request's body."""
    received = b""
    while b"\r\n\r\n" not in received[:-1] and (part := client.recv(4096)):  # head and body may come apart
        received += part
    return received


def test_unfinished_headers_are_closed(port: int) -> None:
    clients = [connect(port, HALF if number % 2 else b"") for number in range(60)]
    for client in clients:
        assert read(client).startswith(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n")
        client.close()


def test_a_header_that_comes_byte_by_byte_is_closed(port: int) -> None:
    with connect(port, HALF) as client:
        client.settimeout(0.02)
        end, received = time.monotonic() + 20, b""
        while not received and time.monotonic() < end:
            client.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                received = client.recv(4096)
        assert received.startswith(b"HTTP/1.1 408")


def test_a_later_header_of_a_connection_has_the_same_time(port: int) -> None:
    with connect(port, b"GET /size HTTP/1.1\r\nHost: localhost\r\n\r\n") as client:
        assert answer(client).startswith(b"HTTP/1.1 200")
        time.sleep(1.5 * _S)  # idle between two requests is no header
        client.sendall(HALF)
        assert read(client).startswith(b"HTTP/1.1 408")


def test_a_slow_body_is_no_slow_header(port: int) -> None:
    """A body has the request's time, which the middleware measures."""
    with connect(port, BODY) as client:
        time.sleep(1.5 * _S)
        client.sendall(b"body")
        assert answer(client).endswith(b"\r\n\r\n4")
        client.sendall(BODY + b"more")  # the connection goes on
        assert answer(client).endswith(b"\r\n\r\n4")


def test_a_header_without_end_is_refused(port: int) -> None:
    with connect(port, HALF + b"a" * 70_000) as client:
        assert read(client).startswith(b"HTTP/1.1 431 ")
