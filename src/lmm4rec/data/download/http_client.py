"""HTTP GET requests over connections to checked addresses alone (needs httpcore2, the extra `download`).

Decision 15 says why connections are opened here, decision 19 why no larger client library is used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import NamedTuple
from urllib.parse import quote, urljoin

import httpcore2

from lmm4rec.data.download.addresses import AddressCheck, RefusedError, Resolver, check_url

REDIRECTS = 5
_REDIRECTED = (301, 302, 303, 307, 308)


class Response(NamedTuple):
    """A server's response after redirects; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    blocks: Iterable[bytes]


class HttpClient:
    """GET requests; every redirect is checked, and every connection goes to an address that was checked.

    Proxies of the environment are not used: the check needs the address that is connected to.
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
        backend = _CheckedBackend(AddressCheck(allow_private, resolve))
        self._pool = httpcore2.ConnectionPool(network_backend=backend, max_connections=connections, keepalive_expiry=15)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str]) -> Iterator[Response]:
        """The response to a GET request.

        Raises:
            RefusedError: the address, or one that it redirects to, is not fetched from.
            httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError: there is no proper response.
        """
        sent = {"User-Agent": f"lmm4rec/{version('lmm4rec')}", "Accept-Encoding": "identity", **headers}
        options = {"headers": list(sent.items()), "extensions": {"timeout": self._timeout}}
        url = _encoded(url)
        for _ in range(REDIRECTS + 1):
            with self._pool.stream("GET", url, **options) as response:  # type: ignore[arg-type]
                found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status not in _REDIRECTED or "location" not in found:
                    yield Response(response.status, found, response.iter_stream())
                    return
            url = _encoded(urljoin(url, found["location"]), after=url)
        raise RefusedError(f"{url}: more than {REDIRECTS} redirects")


def _encoded(url: str, *, after: str = "") -> str:
    """The checked URL in ASCII: host in IDNA, the rest percent-encoded, without the fragment."""
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


class _CheckedBackend(httpcore2.NetworkBackend):
    """Connects to the very address that was checked, so that a second look-up of the name cannot change it.

    TLS still asks for the certificate of the name.
    """

    def __init__(self, check: AddressCheck) -> None:
        self._check = check
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection to the first of the host's addresses that accepts one."""
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        try:
            addresses = self._check.addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} has no address: {error}") from None
        for address in addresses:
            try:
                return self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure
