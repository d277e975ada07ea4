"""The report in a real browser: sharp images, no sideways scrolling, tables and lists by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hand_made_runs import Noise, make_page, three_results

from lmm4rec.experiments.report.user_examples import ItemCard, UserExample

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

# of the images that are visible: device pixels of the frame over pixels of the image, the largest
_MAGNIFICATION = """() => Math.max(...[...document.querySelectorAll(".frame svg")].map((frame) => {
  const symbol = document.querySelector(frame.querySelector("use").getAttribute("href"));
  return frame.getBoundingClientRect().width * devicePixelRatio / symbol.viewBox.baseVal.width;
}))"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with as many images of 300 by 300 pixels as it ever shows for a user."""
    results = three_results()
    cards = [ItemCard(str(i), f"A rather long title of item {i}", Noise(seed=i)) for i in range(34)]
    user = UserExample("anna", "", cards[:12], dict.fromkeys(results, cards[12:22]), cards[22:])
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(make_page(results, users=[user]).html(), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Page]:
    """The page on a screen of two pixels a CSS pixel; whatever the browser complains about fails the test."""
    complaints: list[str] = []
    page = browser.new_context(device_scale_factor=2).new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    yield page
    page.context.close()
    assert complaints == []


@pytest.mark.parametrize("width", [320, 390, 479, 481, 700, 959, 1280, 2000])
def test_images_are_sharp_and_nothing_scrolls_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate(_MAGNIFICATION) <= 1
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


def test_tables_sort_and_lists_switch_by_keyboard(page: Page) -> None:
    table = page.locator("table.sortable").first
    labels = table.locator("tbody th")
    assert [text.split("\n")[0] for text in labels.all_inner_texts()] == ["VBPR", "BPR", "Popular"]
    table.locator("thead button").nth(1).press("Enter")  # sorted by it already, largest first
    assert [text.split("\n")[0] for text in labels.all_inner_texts()] == ["Popular", "BPR", "VBPR"]
    table.locator("thead button").nth(0).press("Enter")
    assert [text.split("\n")[0] for text in labels.all_inner_texts()] == ["BPR", "Popular", "VBPR"]
    page.locator("input[type=radio]:checked").press("ArrowRight")
    assert page.locator(".by:visible h4").all_inner_texts() == ["Top 10 by BPR 0 of 10 hit"]
