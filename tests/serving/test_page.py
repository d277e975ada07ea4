"""The page in a real browser: each flow that it is made for, by pointer and by keyboard, on a desk and on a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest
from page_visits import DESK, PHONE, best, ids, wait_until
from server import TOKEN, Server
from shops import png, write_shop

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
HOSTILE = '<img src=x onerror="document.body.dataset.broken=1"><b>bold</b>'


def test_pick_a_user_and_see_history_and_recommendations_with_reasons(visit: Any, server: Server) -> None:
    page = visit()
    assert page.locator("#person").input_value() == "u001"
    assert ids(page, ".grid") == best(server, "u001")
    page.locator("#person").fill("u02")
    page.locator("#people [role=option]").nth(3).click()
    page.get_by_role("heading", name="For u023").wait_for()
    page.locator(".near").first.wait_for()
    assert ids(page, ".grid") == best(server, "u023")
    history = httpx.get(f"{server.url}/users/u023/history").json()["items"]
    assert ids(page, ".strip") == [one["id"] for one in history]
    assert page.locator(".grid .card").first.locator(".shares i").count() >= 1
    assert "because of:" in str(page.locator(".shares").first.get_attribute("aria-label"))
    assert page.locator(".near-words").first.inner_text().startswith("like ")
    assert {"picture", "words"} <= set(page.locator(".legend li").all_inner_texts())
    page.go_back()
    page.get_by_role("heading", name="For u001").wait_for()


def test_an_item_opens_with_reasons_and_similar_ones(visit: Any, server: Server) -> None:
    page = visit("#user=u001")
    first = page.locator(".grid .card").first
    item = str(first.get_attribute("data-item"))
    first.click()
    dialog = page.locator("dialog#item[open]")
    dialog.locator(".alike .card").first.wait_for()
    near = httpx.get(f"{server.url}/similar/{item}", params={"k": 12}).json()["items"]
    assert ids(page, "dialog .alike") == [one["id"] for one in near]
    rows = dialog.locator(".share-rows .number").all_inner_texts()
    score = httpx.get(f"{server.url}/explain", params={"user": "u001", "item": item}).json()["score"]
    assert sum(float(row.replace("−", "-")) for row in rows) == pytest.approx(score, abs=0.02)
    dialog.locator(".alike .card").first.click()
    wait_until(page, "id => location.hash.includes(`item=${id}`)", arg=near[0]["id"])
    wait_until(page, "title => document.querySelector('#item-title').textContent === title", arg=near[0]["title"])
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    wait_until(page, "!location.hash.includes('item=')")


def test_search_by_text(visit: Any, server: Server) -> None:
    page = visit("#user=u001")
    page.keyboard.press("/")
    page.keyboard.type("lamp")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="“lamp”").wait_for()
    page.locator("[aria-label=found] .card").first.wait_for()
    found = httpx.get(f"{server.url}/search", params={"text": "lamp", "k": 12}).json()["items"]
    assert ids(page, ".grid") == [one["id"] for one in found]
    page.get_by_label("mix in what u001 likes").check()
    wait_until(page, "location.hash.includes('taste=1')")
    page.locator("[aria-label=found] .card").first.wait_for()
    mixed = httpx.get(f"{server.url}/search", params={"text": "lamp", "k": 12, "for_user": "u001"}).json()["items"]
    assert ids(page, ".grid") == [one["id"] for one in mixed]
    page.locator("#clear").click()
    page.get_by_role("heading", name="For u001").wait_for()


def dropped(page: Page, selector: str, content: bytes, name: str = "photo.png") -> None:
    """A file dropped on an element, as a browser tells it."""
    transfer = page.evaluate_handle(
        """([bytes, name]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
            return transfer;
        }""",
        [list(content), name],
    )
    for event in ("dragover", "drop"):
        page.dispatch_event(selector, event, {"dataTransfer": transfer})


def test_search_by_a_dropped_photo(visit: Any, server: Server) -> None:
    page = visit("#user=u001", refused="status of 422")
    photo = httpx.get(f"{server.url}/thumbnails/T0004").content
    dropped(page, "main", photo)
    page.get_by_role("heading", name="Like the photo").wait_for()
    page.locator("[aria-label=found] .card").first.wait_for()
    assert ids(page, ".grid")[0] == "T0004"
    assert page.locator(".preview").evaluate("image => image.complete && image.naturalWidth > 0")
    page.locator("#clear").click()
    page.get_by_role("heading", name="For u001").wait_for()
    page.locator("#photo").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.locator(".wrong", has_text="is not an image that can be read").wait_for()
    assert page.locator("#drop").is_hidden()


def test_add_an_item_and_see_it_recommended_then_delete_it(visit: Any, server: Server) -> None:
    page = visit("#user=u001")
    page.get_by_role("button", name="Add item").click()
    page.locator("[data-field=title]").fill(HOSTILE)
    page.locator("[data-field=description]").fill("Glazed stoneware, red.")
    dropped(page, "#new-drop", png("red", (200, 200)))
    page.locator("#new-preview img").wait_for()
    page.get_by_role("button", name="Add", exact=True).click()
    dialog = page.locator("dialog#item[open]")
    dialog.locator(".alike .card").first.wait_for()
    assert dialog.locator("#item-title").inner_text() == HOSTILE  # shown as written, not as markup
    assert dialog.locator(".badge").first.inner_text() == "new"
    assert dialog.locator(".share-rows th").all_inner_texts() == ["picture", "words", "as any new item"]
    page.keyboard.press("Escape")
    fresh = page.get_by_role("heading", name="New, best for u001 first")
    fresh.wait_for()
    page.locator("[aria-label='new items, best for u001 first'] .card").first.wait_for()
    card = page.locator("[aria-label='new items, best for u001 first'] .card").first
    assert card.locator(".name").inner_text() == HOSTILE
    assert card.locator("img").count() >= 1
    assert page.evaluate("document.body.dataset.broken") is None
    recommended = page.get_by_label("recommended to u001", exact=True)
    assert fresh.bounding_box()["y"] > recommended.bounding_box()["y"] + recommended.bounding_box()["height"]
    card.click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    assert httpx.get(f"{server.url}/items", params={"added": True}).json()["total"] == 1
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    fresh.wait_for(state="detached")
    assert httpx.get(f"{server.url}/items", params={"added": True}).json()["total"] == 0


def test_more_than_twelve_and_scores_on_demand(visit: Any, server: Server) -> None:
    page = visit("#user=u001")
    assert page.locator(".score").count() == 0
    page.get_by_label("Scores").check()
    page.locator(".grid .score").first.wait_for()
    answer = httpx.get(f"{server.url}/recommend/u001", params={"k": 1}).json()
    assert page.locator(".score").first.inner_text() == f"score {answer['items'][0]['score']:.3f}"
    for shown in (24, 36):
        page.get_by_role("button", name="Show more").click()
        every = best(server, "u001", k=shown)
        wait_until(page, "count => document.querySelectorAll('.grid .card').length === count", arg=len(every))
        assert ids(page, ".grid") == every
    assert page.get_by_role("button", name="Show more").is_hidden()  # fewer than 36 are left to recommend


def test_the_catalog_is_browsed_and_filtered(visit: Any, server: Server) -> None:
    page = visit("#user=u001&view=catalog")
    everything = httpx.get(f"{server.url}/items", params={"limit": 500}).json()
    assert ids(page, ".grid") == [one["id"] for one in everything["items"][:48]]
    page.get_by_label("Items whose title or id contains").fill("lamp")
    page.keyboard.press("Enter")
    wait_until(page, "location.hash.includes('q=lamp')")
    lamps = httpx.get(f"{server.url}/items", params={"q": "lamp"}).json()
    wait_until(page, "count => document.querySelectorAll('.grid .card').length === count", arg=lamps["total"])
    assert ids(page, ".grid") == [one["id"] for one in lamps["items"]]
    page.get_by_role("link", name="Models").click()
    page.get_by_role("link", name="First model").wait_for()
    assert page.locator(".reloading").inner_text().startswith("To load them again after a run: kill -HUP.")
    page.keyboard.press("/")
    page.keyboard.type("lamp")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="“lamp”").wait_for()
    page.locator("#clear").click()
    page.get_by_role("heading", name="For u001").wait_for()


def test_an_unknown_person_is_one_message_with_ids_that_exist(visit: Any) -> None:
    page = visit("#user=u001", refused="status of 404")
    page.locator("#person").fill("u02z")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Nobody is called “u02z”").wait_for()
    links = page.get_by_label("people there are").get_by_role("link")
    links.first.wait_for()
    assert page.locator("main section").count() == 1
    assert links.all_inner_texts() == ["u020", "u021", "u022", "u023", "u024", "u025"]
    links.nth(1).click()
    page.get_by_role("heading", name="For u021").wait_for()


def test_controls_fold_on_a_phone(visit: Any) -> None:
    page = visit("#user=u001", viewport=PHONE)
    assert page.locator("#person").is_hidden()
    button = page.locator("#options")
    assert button.inner_text() == "u001 · First model"
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    page.locator("#person").wait_for()


def test_all_by_keyboard(visit: Any, server: Server) -> None:
    page = visit("#user=u001")
    page.locator("#person").focus()
    page.keyboard.type("u01")
    page.locator("#people [role=option]").first.wait_for()
    wait_until(page, "document.querySelector('#people [role=option]').dataset.user === 'u010'")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#person").get_attribute("aria-activedescendant") == "person-1"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="For u011").wait_for()
    page.locator(".near").first.wait_for()
    page.locator(".grid .card").first.focus()
    page.keyboard.press("Enter")
    page.locator("dialog#item[open] .alike .card").first.wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog#item").wait_for(state="hidden")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "words"
    page.goto(f"{server.url}/")
    page.locator(".grid .card").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_nothing_leaves_the_screen_and_words_can_be_read(visit: Any, viewport: dict[str, int], scheme: str) -> None:
    for fragment in (
        "#user=u001&scores=1", "#user=u001&beside=second", "#user=u001&item=T0003", "#user=u001&words=lamp",
        "#user=u001&view=catalog", "#user=u001&rules=week&beside=second", "#user=u001&view=models&other=second",
    ):  # fmt: skip
        page = visit(fragment, viewport=viewport, color_scheme=scheme, device_scale_factor=2)
        page.wait_for_load_state("networkidle")
        page.evaluate("document.querySelectorAll('.ruled, .night').forEach((one) => (one.open = true))")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        small = page.evaluate(
            """() => [...document.querySelectorAll("button, select, input:not([type=file]):not([type=checkbox])")]
                .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 30)
                .map((one) => one.id || one.className)"""
        )
        assert small == []
        density = page.evaluate(
            """() => [...document.querySelectorAll(".frame img")].filter((one) => one.complete && one.clientWidth)
                .map((one) => Number(new URL(one.currentSrc).searchParams.get("side") ?? 416) / one.clientWidth)"""
        )
        assert density
        assert min(density) >= 2  # image pixels in a CSS pixel: sharp on dense screens
        for selector in (
            "h2",
            ".name",
            ".hint",
            ".near-words",
            "small",
            ".score",
            "#views a",
            ".moved b",
            ".rule",
            ".decision",
        ):
            for ratio in page.evaluate(CONTRAST, selector):
                assert ratio >= 4.5, (fragment, selector, ratio)
        page.context.close()


CONTRAST = """(selector) => {
    const parts = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => parts(color).slice(0, 3).map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
        const color = getComputedStyle(node).backgroundColor;
        const clear = parts(color).length === 4 && parts(color)[3] === 0;
        return clear && node.parentElement ? ground(node.parentElement) : color;
    };
    return [...document.querySelectorAll(selector)].filter((node) => node.offsetParent).slice(0, 5).map((node) => {
        const [one, two] = [light(getComputedStyle(node).color), light(ground(node))];
        return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    });
}"""


def test_the_token_is_asked_for_where_writing_needs_one(visit: Any, tmp_path: Path) -> None:
    run = write_shop(tmp_path / "shop")
    with Server([run], "--token-env", "LMM4REC_TEST_TOKEN") as server:
        page = visit("#user=u001", url=server.url)
        page.get_by_role("button", name="Add item").click()
        page.locator("[data-field=title]").fill("A blue vase")
        page.locator("#new-token input").fill(TOKEN)
        page.get_by_role("button", name="Add", exact=True).click()
        page.locator("dialog#item[open] .alike .card").first.wait_for()
        page.get_by_role("button", name="Delete").click()
        page.locator("dialog#item").get_by_role("textbox", name="Token").fill(TOKEN)
        page.get_by_role("button", name="Delete it").click()
        page.locator("dialog#item").wait_for(state="hidden")
        assert httpx.get(f"{server.url}/items", params={"added": True}).json()["total"] == 0
        page.locator(".says [data-kind=like]").first.click()
        page.locator("#toast.shown", has_text="This needs the service's token").wait_for()
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type(TOKEN)
        page.locator(".says [data-kind=like]").first.click()
        page.locator("#toast.shown", has_text="is liked").wait_for()


def test_the_reference_shows_every_endpoint(visit: Any, browser: Browser, server: Server) -> None:
    page = browser.new_page()
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.goto(f"{server.url}/docs")
    page.locator("details").first.wait_for()
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert page.locator("details").count() == sum(len(operations) for operations in document["paths"].values())
    page.locator("details", has_text="POST/recommend").first.locator("summary").click()
    command = page.locator("details[open] pre").first.inner_text()
    body = json.loads(re.findall(r"--json '(.*)'", command)[0])
    assert httpx.post(f"{server.url}/recommend", json=body).status_code == 200
    assert complaints == []
    page.close()
