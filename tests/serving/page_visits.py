"""What the tests of the page share: sizes of screens, and readings of lists."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
from server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
RULES = """
[week]
where = ["title!=T0030"]
boost = [{ where = ["title~kite"], by = 3 }]
diversity = 0.3
[lamps]
where = ["title~lamp"]
"""


def ids(page: Page, where: str) -> list[str]:
    return [str(card.get_attribute("data-item")) for card in page.locator(f"{where} .card").all()]


def best(server: Server, user: str, k: int = 12, **more: object) -> list[str]:
    answer = httpx.get(f"{server.url}/recommend/{user}", params={"k": k, **more}).json()
    return [one["id"] for one in answer["items"]]


def wait_until(page: Page, expression: str, arg: Any = None, seconds: float = 10.0) -> None:
    """Return when a JavaScript expression, or function of `arg`, is true.

    Playwright's wait_for_function needs eval, which the page's security policy forbids, unless it is true at once.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, f"not within {seconds:g} s: {expression}"
        page.wait_for_timeout(50)
