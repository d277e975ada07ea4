"""Checks of addresses: public ones may be fetched from, private ones where they are allowed by name."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from lmm4rec.core.errors import ConfigError, DataError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver: TypeAlias = Callable[[str, int], Sequence[str]]  # host, port -> numeric addresses

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_6TO4 = ipaddress.ip_network("2002::/16")


class RefusedError(DataError):
    """An address that must not be fetched from."""


def check_url(url: str, *, after: str = "") -> SplitResult:
    """The parts of an http or https URL; `after` is the URL that redirected to it.

    Raises:
        RefusedError: it is no such URL, holds a user's name, or leaves https for http.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises where it is no number)
    except ValueError:
        raise RefusedError(f"{url!r} is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RefusedError(f"{url!r} is not fetched; expected an address that begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise RefusedError(f"the address at {parts.hostname} holds a user's name, which is not sent")
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise RefusedError(f"{url!r} holds a space or a control character")
    if after.startswith("https:") and parts.scheme == "http":
        raise RefusedError(f"{after} redirects from https to {url}, which anybody on the way could change")
    return parts


class AddressCheck:
    """Host names resolved to addresses that may be connected to."""

    def __init__(self, allow_private: Collection[str] = (), resolve: Resolver | None = None) -> None:
        """`allow_private` lists private addresses or networks to allow: "127.0.0.1", "10.0.0.0/8".

        Raises:
            ConfigError: one of these is not an address.
        """
        try:
            self.allowed = [ipaddress.ip_network(network) for network in allow_private]
        except ValueError as error:
            raise ConfigError(f"allow_private: {error}; expected addresses such as 127.0.0.1 or 10.0.0.0/8") from None
        self.resolve = resolve or _resolve

    def addresses(self, host: str, port: int) -> Sequence[str]:
        """The numeric addresses of a host, all checked; connect to one of these, not to the name.

        Raises:
            RefusedError: one of them is private, even where others are public.
            OSError: the host has none.
        """
        found = self.resolve(host, port)
        for text in found:
            if not self.permits(text):
                named = text if text == host else f"{text} (of {host})"
                raise RefusedError(f"the address {named} is not public; name it in allow_private to fetch from it")
        return found

    def permits(self, text: str) -> bool:
        """Whether a numeric address may be connected to."""
        address = ipaddress.ip_address(text.partition("%")[0])
        inner = _inner(address)
        return is_public(inner) or any(one in network for one in (address, inner) for network in self.allowed)


def is_public(address: Address) -> bool:
    """Whether an address belongs to one machine that is reachable from everywhere."""
    return address.is_global and not address.is_multicast and address not in _6TO4


def _inner(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one (mapped or NAT64), else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _resolve(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
