"""The server that the fetchers' tests ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_server import LocalServer, local_server


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        yield running
