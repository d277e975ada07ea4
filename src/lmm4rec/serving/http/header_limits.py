"""The limits of a request's header: clients that send it slowly, or without end, do not keep their connection."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HeaderLimits(HttpToolsProtocol):
    """uvicorn's protocol, which waits without limit for the rest of a header and reads one of any size."""

    timeout_s: ClassVar[float] = 10.0  # from the connection, or the first byte of a later request, to the last header
    max_bytes: ClassVar[int] = 65_536

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._timer: asyncio.TimerHandle | None = None  # runs while a header is awaited
        self._received = 0  # bytes while it is awaited

    def connection_made(self, transport: Any) -> None:  # of asyncio, or uvloop's own kind
        """Wait for the first header."""
        super().connection_made(transport)
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a header or of a body."""
        before = self.cycle
        if self._timer is None and (before is None or before.response_complete):
            self._await_header()
        self._received += len(data)
        super().data_received(data)
        if self.cycle is not before:  # it is made when the header is complete
            self._stop_waiting()
        elif self._timer is not None and self._received > self.max_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _await_header(self) -> None:
        self._received = 0
        self._timer = self.loop.call_later(self.timeout_s, self._refuse, HTTPStatus.REQUEST_TIMEOUT)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: HTTPStatus) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            line = f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(line.encode())
            self.transport.close()
