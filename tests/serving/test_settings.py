"""Who reaches the service, under which names, and who may write."""

from __future__ import annotations

import pytest

from lmm4rec.serving.http.settings import Settings


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.5", False), ("shop.example", False)],
)  # fmt: skip
def test_loopback_is_told_from_other_addresses(host: str, local: bool) -> None:
    assert Settings(host=host).is_local is local


def test_without_a_token_only_one_s_own_machine_may_write() -> None:
    assert Settings().writing == "open"
    assert Settings(host="0.0.0.0").writing == "off"
    assert Settings(host="0.0.0.0", token="secret").writing == "token"
    assert Settings(token="secret").writing == "token"


def test_the_names_that_are_answered() -> None:
    assert {"localhost", "127.0.0.1", "[::1]"} <= Settings().known_hosts
    assert "shop.example" in Settings(host="0.0.0.0", hosts=("Shop.Example",)).known_hosts
    assert not Settings(host="0.0.0.0").known_hosts  # any
    assert not Settings(hosts=("*",)).known_hosts
