"""Addresses that may be fetched from, and those that may not."""

from __future__ import annotations

import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.data.download.addresses import AddressCheck, RefusedError, check_url


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808"]
)
def test_public_addresses(address: str) -> None:
    assert AddressCheck().permits(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
        "fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
        "2002:7f00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_private_addresses(address: str) -> None:
    assert not AddressCheck().permits(address)


def test_private_ones_that_are_named() -> None:
    check = AddressCheck(["127.0.0.1", "10.0.0.0/8"])
    assert [check.permits(address) for address in ("127.0.0.1", "10.9.9.9", "::ffff:10.0.0.1")] == [True] * 3
    assert [check.permits(address) for address in ("127.0.0.2", "192.168.0.1", "::1")] == [False] * 3
    with pytest.raises(ConfigError, match="allow_private: 'localhost' does not appear"):
        AddressCheck(["localhost"])


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    check = AddressCheck(resolve=lambda host, port: ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(RefusedError, match=r"the address 10.0.0.1 \(of shop.example\) is not public"):
        check.addresses("shop.example", 443)


def test_numbers_in_disguise_are_resolved_before_they_are_judged() -> None:
    with pytest.raises(RefusedError, match=r"127.0.0.1 \(of 2130706433\)"):
        AddressCheck().addresses("2130706433", 80)  # what resolvers take for 127.0.0.1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "begins with https"),
        ("ftp://shop.example/a.jpg", "begins with https"),
        ("//shop.example/a.jpg", "begins with https"),
        ("http:///a.jpg", "begins with https"),
        ("http://me:secret@shop.example/a.jpg", "user's name"),
        ("http://shop.example:port/a.jpg", "is no address"),
        ("http://shop.example/a.jpg\r\nHost: other", "control character|is no address"),
        ("http://[::1/a.jpg", "is no address"),
    ],
)
def test_addresses_that_are_not_fetched(url: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        check_url(url)


def test_https_is_not_left() -> None:
    with pytest.raises(RefusedError, match="redirects from https"):
        check_url("http://shop.example/b", after="https://shop.example/a")
    assert check_url("https://shop.example/b", after="http://shop.example/a").path == "/b"
