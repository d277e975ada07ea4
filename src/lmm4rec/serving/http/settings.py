"""The settings and limits of the service: address, sizes, times, write access."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from lmm4rec.core.errors import ConfigError
from lmm4rec.serving.rules import RuleSet

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")

RELOAD = "/reload"  # the path with a time limit and a token rule of its own
MAX_K = 500  # items in one answer
MAX_ID = 512  # characters of an id in a request
MAX_TEXT = 2_000  # characters of a search
MAX_FIELDS, MAX_FIELD_NAME, MAX_FIELD = 32, 64, 10_000  # fields of a new item and their characters
MAX_HISTORY = 1_000  # items of an unknown user's history, or of a filter
MAX_POSTED = 1_000  # interactions in one request
MAX_EARLY_S = 300  # that the time of an interaction may be ahead of the clock
MAX_FILTERS = 20  # in one request
MAX_PAGE = 500  # rows of a listing

IndexKind: TypeAlias = Literal["exact", "hnsw", "ivf"]
Writing: TypeAlias = Literal["open", "token", "off"]
"""Who may add and delete items: everybody who reaches the service, those with the token, or nobody."""


@dataclass(frozen=True)
class Settings:
    """The address and the limits of a service; the defaults suit one's own machine."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None  # if set, adding and deleting items needs it
    max_body_mb: float = 16.0
    max_pixels: int = 25_000_000  # of an uploaded image
    timeout_s: float = 30.0  # of a request, with its upload
    reload_timeout_s: float = 600.0  # of /reload, which opens every bundle and its encoder
    max_waiting: int = 512  # requests for recommendations in the queue; more are refused
    index: IndexKind = "exact"  # how the best items are found, as in `Bundle.from_pretrained`
    rules: Callable[[], Mapping[str, RuleSet]] = dict  # reads the rule sets; called at each load of a bundle
    root_path: str = ""  # the path under which a proxy shows the service, such as /shop
    json_logs: bool = False  # lines of JSON, one for each request too
    hosts: tuple[str, ...] = ()  # accepted Host headers beside the address itself; "*": any

    def __post_init__(self) -> None:
        """Check the path prefix.

        Raises:
            ConfigError: it is none.
        """
        path = self.root_path.removesuffix("/")
        if path and not _PREFIX.fullmatch(path):
            raise ConfigError(
                f"--root-path is a path such as /shop, of letters, digits, and - . _ ~, got '{self.root_path}'"
            )
        object.__setattr__(self, "root_path", path)

    @cached_property
    def is_local(self) -> bool:
        """Whether only this machine reaches the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @cached_property
    def writing(self) -> Writing:
        """Who may write: a service that other machines reach accepts items only with a token."""
        if self.token:
            return "token"
        return "open" if self.is_local else "off"

    @cached_property
    def max_body(self) -> int:
        """Bytes of a request's body."""
        return int(self.max_body_mb * 2**20)

    @cached_property
    def known_hosts(self) -> frozenset[str]:
        """The accepted Host headers; empty where all are (a public service may have any name).

        Without this check, a foreign web page could reach a local service by a name that resolves to 127.0.0.1.
        """
        if "*" in self.hosts or not (self.is_local or self.hosts):
            return frozenset()
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower(), *(h.lower() for h in self.hosts)})
