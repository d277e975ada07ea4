"""The page of a shop: rule sets, what a user says, the log of the nights, two models; in a real browser."""

from __future__ import annotations

import signal
import time
from typing import Any

import httpx2 as httpx
import pytest
from page_visits import RULES, best, ids
from server import Server

pytestmark = pytest.mark.slow


def test_two_bundles_side_by_side(visit: Any, server: Server) -> None:
    page = visit("#user=u005")
    page.locator("#beside").select_option(label="Second")
    panes = page.locator(".panes.two > section")
    panes.nth(1).locator(".card").first.wait_for()
    panes.nth(0).locator(".card").first.wait_for()
    assert panes.count() == 2
    for number, name in enumerate(("first", "second")):
        shown = [str(card.get_attribute("data-item")) for card in panes.nth(number).locator(".card").all()]
        assert shown == best(server, "u005", bundle=name)
    first, second = (panes.nth(number).bounding_box() for number in (0, 1))
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] <= second["x"]
    panes.nth(1).locator(".card").first.click()
    page.locator("dialog#item[open] .share-rows").wait_for()
    assert "from=second" in page.url


def test_a_rule_set_is_chosen_and_says_what_it_changed(visit: Any, server: Server) -> None:
    page = visit("#user=u001")
    page.locator("#rules").focus()
    page.keyboard.press("ArrowDown")
    page.locator(".ruled").wait_for()
    answer = httpx.get(f"{server.url}/recommend/u001", params={"k": 12, "rules": "week"}).json()
    assert ids(page, ".grid") == [one["id"] for one in answer["items"]]
    assert ids(page, ".left-out") == [one["id"] for one in answer["rules"]["left_out"]]
    did = " ".join(page.locator(".did li").all_inner_texts())
    assert "boost title~kite by 3" in did
    assert "diversity 0.3" in did
    cards = page.locator(".grid .card")
    for number, one in enumerate(answer["items"]):
        shown = cards.nth(number).locator(".moved .rule").all_inner_texts()
        assert shown == one["rules"]
    moved = next(n for n, one in enumerate(answer["items"]) if one["rules"] and one["place_without_rules"] is None)
    assert cards.nth(moved).locator(".moved b").inner_text() == "not listed without rules"
    page.locator("#rules").select_option("lamps")
    page.get_by_text("Rules lamps:").wait_for()
    assert "which leaves" in page.locator(".ruled .hint").inner_text()
    page.locator("#rules").select_option("")
    page.locator(".ruled").wait_for(state="detached")
    assert "rules=" not in page.url


def test_a_refused_rule_file_is_said(visit: Any, server: Server) -> None:
    def reload(text: str, *, refused: bool) -> None:
        assert server.rules is not None
        server.rules.write_text(text)
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 60
        while ("rules_error" in httpx.get(f"{server.url}/health").json()) is not refused and time.monotonic() < end:
            time.sleep(0.1)

    reload("[week]\nwhere = ['prize<5']\n", refused=True)
    try:
        page = visit("#user=u001&rules=week")
        said = page.locator(".refused").inner_text()
        assert said.startswith(
            "The newest rule file was refused, and the earlier rules stay: rule set 'week' does not fit"
        )
        assert page.locator(".ruled").count() == 1  # by the earlier ones
    finally:
        reload(RULES, refused=False)
    assert visit("#user=u001&rules=week").locator(".refused").count() == 0


def test_what_a_person_says_changes_the_list_at_once(visit: Any, server: Server) -> None:
    page = visit("#user=u030&beside=second")
    page.locator(".panes.two .says").nth(20).wait_for()
    liked, disliked, bought = best(server, "u030")[:3]
    page.evaluate("scrollTo(0, 200)")
    page.locator(f"section .card[data-item={liked}] + .says [data-kind=like]").first.focus()
    page.keyboard.press("Enter")
    page.locator("#toast.shown", has_text="is liked").wait_for()
    assert page.evaluate("document.activeElement.dataset.kind") == "like"  # at the same place of the new list
    assert page.evaluate("scrollY") > 0
    assert ids(page, ".strip")[0] == liked
    for bundle, pane in (("first", 0), ("second", 1)):
        shown = [str(one.get_attribute("data-item")) for one in page.locator(".grid").nth(pane).locator(".card").all()]
        assert shown == best(server, "u030", bundle=bundle)
        assert liked not in shown
    page.get_by_role("link", name="For you").click()
    for item, kind, words in ((disliked, "dislike", "left out"), (bought, "bought", "is bought")):
        page.locator(f".grid .card[data-item={item}] + .says [data-kind={kind}]").first.click()
        page.locator("#toast.shown", has_text=words).wait_for()
        assert item not in ids(page, ".grid")
    assert disliked not in ids(page, ".strip")
    before = ids(page, ".grid"), ids(page, ".strip")
    page.locator(".grid .says [data-kind=like]").first.click()
    undo = page.locator("#toast.shown button", has_text="Undo")
    undo.wait_for()
    assert (ids(page, ".grid"), ids(page, ".strip")) != before
    undo.focus()
    page.keyboard.press("Enter")
    page.locator("#toast.shown", has_text="is as it was before").wait_for()
    assert (ids(page, ".grid"), ids(page, ".strip")) == before
    assert page.evaluate("document.activeElement.dataset.kind") == "like"
    assert undo.count() == 0
    stored = httpx.get(f"{server.url}/interactions").json()["interactions"]
    assert [(one["user"], one["item"], one["kind"]) for one in stored] == [
        ("u030", liked, "like"), ("u030", disliked, "dislike"), ("u030", bought, "bought"),
    ]  # fmt: skip


def test_the_nights_and_two_models_compared(visit: Any, server: Server) -> None:
    page = visit("#user=u001&view=models&other=second")
    answer = httpx.get(f"{server.url}/compare", params={"other": "second"}).json()
    numbers = page.get_by_label("how alike the lists are").locator("b")
    assert numbers.first.inner_text() == f"{round(100 * answer['overlap'])} %"
    assert ids(page, "[aria-label='Shown more by First model']") == [one["id"] for one in answer["more"]]
    nights = page.locator(".night")
    nights.first.wait_for()
    assert nights.locator(".decision").all_inner_texts() == ["kept", "first"]
    nights.first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert "it was worse" in nights.first.inner_text()
    assert "3 new" in nights.first.inner_text()
    page.locator("#other").select_option("")
    page.get_by_label("how alike the lists are").wait_for(state="detached")
