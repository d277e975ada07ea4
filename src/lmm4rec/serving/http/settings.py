"""What the service permits: sizes, times, who may write."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal, TypeAlias

MAX_K = 500  # items in one answer
MAX_ID = 512  # characters of an id in a request
MAX_WORDS = 2_000  # characters of a search
MAX_FIELDS, MAX_FIELD_NAME, MAX_FIELD = 32, 64, 10_000  # fields of a new item and their characters
MAX_HISTORY = 1_000  # items of a person who is not in the bundle, or of a filter
MAX_PAGE = 500  # rows of a listing

IndexKind: TypeAlias = Literal["exact", "hnsw", "ivf"]
Writing: TypeAlias = Literal["open", "token", "off"]
"""Who may add and delete items: everybody who reaches the service, who knows the token, or nobody."""


@dataclass(frozen=True)
class Settings:
    """Where the service listens and what it permits; the defaults suit one's own machine."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None  # writing needs it where it is set
    max_body_mb: float = 16.0
    max_pixels: int = 25_000_000  # of an uploaded picture
    timeout_s: float = 30.0  # of a request, its upload included
    max_waiting: int = 512  # recommendations that wait at a time; more are turned away
    index: IndexKind = "exact"  # how the best items are found, as in `Bundle.from_pretrained`
    hosts: tuple[str, ...] = ()  # names in the Host header that are taken beside the address itself; "*": any

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def writing(self) -> Writing:
        """A service that others reach takes no items from them without a token."""
        if self.token:
            return "token"
        return "open" if self.is_local else "off"

    @property
    def max_body(self) -> int:
        """Bytes of a request's body."""
        return int(self.max_body_mb * 2**20)

    @property
    def known_hosts(self) -> frozenset[str]:
        """The Host names that are answered; empty where any is (a service for others may stand behind any name).

        Without this a page elsewhere could reach a local service through a name that it points to 127.0.0.1.
        """
        if "*" in self.hosts or not (self.is_local or self.hosts):
            return frozenset()
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower(), *(h.lower() for h in self.hosts)})
