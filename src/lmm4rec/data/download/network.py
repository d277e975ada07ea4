"""HTTP over connections to checked addresses only (needs httpcore2, the extra `download`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import quote, urljoin

import httpcore2

from lmm4rec.data.download.addresses import Guard, RefusedError, Resolver, check_url

REDIRECTS = 5
_MOVED = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Answer:
    """What a server says, after redirects; names of headers are in lower case."""

    url: str
    status: int
    headers: Mapping[str, str]
    blocks: Iterable[bytes]


class Network:
    """Answers to GET requests. Every hop of a redirect is checked, and the name is resolved once, right there.

    Proxies of the environment are not used: the check needs to see the address that is connected to.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 30.0,
        connections: int = 8,
        allow_private: Collection[str] = (),
        resolve: Resolver | None = None,
    ) -> None:
        self._timeout = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
        self._pool = httpcore2.ConnectionPool(
            network_backend=_Checked(Guard(allow_private, resolve)),
            max_connections=connections,
            keepalive_expiry=15.0,
        )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """The answer of a server.

        Raises:
            RefusedError: the address, or one that it redirects to, is not fetched from.
            httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError: the server doesn't answer well.
        """
        url = _ascii(url)
        for _ in range(REDIRECTS + 1):
            with self._request(url, headers) as response:
                found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status not in _MOVED or "location" not in found:
                    yield Answer(url, response.status, found, response.iter_stream())
                    return
            url = _ascii(urljoin(url, found["location"]), after=url)
        raise RefusedError(f"{url}: more than {REDIRECTS} redirects")

    def _request(self, url: str, headers: Mapping[str, str]) -> Any:
        sent = {"User-Agent": f"lmm4rec/{version('lmm4rec')}", "Accept-Encoding": "identity", **headers}
        return self._pool.stream("GET", url, headers=list(sent.items()), extensions={"timeout": self._timeout})


def _ascii(url: str, *, after: str = "") -> str:
    """The checked address as it is sent: host in IDNA, the rest percent-encoded, without the fragment."""
    parts = check_url(url, after=after)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    try:
        host = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        raise RefusedError(f"{url!r} names no host") from None
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    path, query = (quote(part, safe="/%:@!$&'()*+,;=~?-._") for part in (parts.path or "/", parts.query))
    return f"{parts.scheme}://{netloc}{path}" + (f"?{query}" if query else "")


class _Checked(httpcore2.NetworkBackend):
    """Connects to the very address that was checked, so that a name which changes its mind gains nothing.

    TLS still asks for the certificate of the name.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection to the first of the host's addresses that takes one."""
        try:
            addresses = self._guard.addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} has no address: {error}") from None
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.NetworkStream:
        """Never: a file is no public address."""
        raise RefusedError(f"{path} is a socket of this machine")

    def sleep(self, seconds: float) -> None:
        """Wait, between attempts to connect."""
        self._plain.sleep(seconds)
