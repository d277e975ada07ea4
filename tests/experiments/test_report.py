"""The page on runs, read back by an HTML parser that knows nothing of the templates."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hand_made_runs import Broken, PageReader, Plain, make_page, make_result, three_results
from PIL import Image

from lmm4rec.core.errors import DataError
from lmm4rec.experiments.report.user_examples import ItemCard, UserExample

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def source() -> str:
    """The page on three runs."""
    return make_page().html()


@pytest.fixture(scope="module")
def page(source: str) -> PageReader:
    return PageReader(source)


def test_the_page_is_one_file_that_asks_for_nothing(page: PageReader) -> None:
    assert not page.open_tags
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"https?://|url\(|@import|file:", page.source)


def test_every_reference_inside_the_page_has_its_target(page: PageReader) -> None:
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {attributes["href"][1:] for _, attributes in page.elements if attributes.get("href", "").startswith("#")}
    assert targets <= set(names)


def test_the_policy_of_the_page_allows_its_own_script_and_no_other(page: PageReader) -> None:
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_hostile_text_stays_text() -> None:
    hostile = ItemCard(HOSTILE, HOSTILE, None, note=HOSTILE)
    result = make_result(0.1, encoder=HOSTILE, epochs=3, slices={HOSTILE: {"recall@20": 0.1}})
    user = UserExample(HOSTILE, HOSTILE, [hostile], {HOSTILE: [hostile]}, [hostile])
    page = PageReader(
        make_page(
            {HOSTILE: result}, title=HOSTILE, subtitle=HOSTILE, facts={HOSTILE: HOSTILE}, users=[user],
            findings=[f"`{HOSTILE}`", HOSTILE], next_steps=[HOSTILE], masked=HOSTILE,
        ).html()
    )  # fmt: skip
    assert len(page.all("script")) == 1
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text().count(HOSTILE) > 10


@pytest.mark.long
def test_emoji_and_right_to_left_titles_keep_their_letters_and_set_their_own_direction() -> None:
    titles = ["🧶 Wool", "مصباح نحاسي"]
    user = UserExample("p", "", [ItemCard(title, title, None) for title in titles], {})
    page = PageReader(make_page(users=[user]).html())
    assert [name["title"] for name in page.all("p", class_="name")] == titles
    assert {name["dir"] for name in page.all("p", class_="name")} == {"auto"}


def test_each_image_is_embedded_once_and_used_wherever_its_item_stands(page: PageReader) -> None:
    urls = [image["href"] for image in page.all("image")]
    assert len(urls) == len(set(urls)) == 3
    assert page.source.count("data:image/webp") == 3
    assert len(page.all("use")) == 2 + 3 * 2 + 1  # history, three lists, held out
    colors = {Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).getpixel((9, 9)) for url in urls}
    assert colors == {(200, 30, 30), (0, 0, 200), (0, 200, 0)}  # small images lose nothing


def test_hits_carry_a_word_and_not_only_a_color(page: PageReader) -> None:
    assert len(page.all("li", class_="hit")) == 3  # in each of three lists
    assert page.texts.count(("span", "✓ hit")) == 3 + 1  # and in the explanation
    assert page.texts.count(("span", "1 of 2 hit")) == 3


@pytest.mark.parametrize("image", [None, Broken()])
def test_an_item_without_a_readable_image_shows_its_initials(image: Plain | None) -> None:
    user = UserExample("p", "", [ItemCard("x", "oak Table, round", image)], {})
    page = PageReader(make_page({"BPR": make_result(0.1)}, users=[user]).html())
    assert not page.all("use")
    assert ("span", "OT") in page.texts
    (placeholder,) = page.all("span", class_="placeholder")
    assert placeholder["aria-label"] == "No image of oak Table, round"


def test_the_table_holds_the_numbers_best_first_with_the_best_two_marked(source: str) -> None:
    table = source[source.index("<table") : source.index("</table")]
    labels = re.findall(r'<th scope="row" data-value="(\w+)"', table)
    assert labels == ["VBPR", "BPR", "Popular"]
    assert re.findall(r'<strong>([\d.]+)</strong><span class="unseen"> best<', table) == ["0.1224", "0.0612", "0.1224"]
    assert re.findall(r'"second">([\d.]+)</span><span class="unseen"> second', table) == ["0.0978", "0.0489", "0.0978"]
    for shown in ("0.0613", "2 min 05 s", "83.2 k", "1.5 GB", "no content", "clip · frozen"):
        assert shown in table
    assert {"0.0122", "0.500"} <= set(re.findall(r"[\d.]+", source))  # the cold slice, coverage


def test_values_that_read_alike_share_a_rank_and_missing_values_are_dashes() -> None:
    last = make_result(0.05, test={"recall@20": 0.05})
    results = {"A": make_result(0.10001), "B": make_result(0.10002), "C": last}
    source = make_page(results, users=[]).html()
    table = source[source.index("<table") : source.index("</table")]
    assert len(re.findall("<strong>0.1000</strong>", table)) == 4  # A and B, in test and validation recall
    assert '<td data-value="">–</td>' in table


def test_tables_and_images_speak_to_screen_readers(page: PageReader) -> None:
    assert all(head.get("scope") in {"col", "row"} for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(drawn.get("aria-label") or drawn.get("aria-hidden") for drawn in page.all("svg"))
    assert [name for name, _ in page.elements if name in {"h1", "h2"}].count("h1") == 1
    cost, curves, _ = (image["alt"] for image in page.all("img"))  # the numbers, for those who do not see the figure
    assert "VBPR: 0.1224, 2 min 05 s" in cost
    assert "BPR: epoch 5, 0.0978" in curves


def test_one_model_is_selected_from_the_start_and_it_is_the_one_that_validation_prefers() -> None:
    results = {"A": make_result(0.3, valid=0.1), "B": make_result(0.2, valid=0.2)}
    user = UserExample("p", "", [], {label: [ItemCard(label, label, None)] for label in results})
    page = PageReader(make_page(results, users=[user]).html())
    radios = page.all("input", type_="radio")
    assert ["checked" in radio for radio in radios] == [False, True]  # in the order of the table: A, B
    assert len({radio["name"] for radio in radios}) == 1
    assert "main:has(#by-2:checked) .by:not(.by-2) { display: none; }" in page.source


@pytest.mark.parametrize(
    ("bare", "rich", "expected"),
    [
        (
            0.10,
            0.125,
            "VBPR reaches Recall@20 0.1250 on the test set, 25% more than BPR (0.1000), the best model without",
        ),
        (0.10, 0.095, "Content brings no gain here: VBPR reaches Recall@20 0.0950 on the test set, 5.0% less than BPR"),
        (0.10, 0.1005, "Content makes no difference here: VBPR reaches Recall@20 0.1005"),
        (0.0, 0.02, "VBPR reaches Recall@20 0.0200 on the test set, 0.0200 more than BPR (0.0000)"),
        (0.0, 0.0, "Content makes no difference here"),
    ],
)
def test_the_headline_is_honest(bare: float, rich: float, expected: str) -> None:
    results = {
        "Popular": make_result(0.0),
        "BPR": make_result(bare, valid=bare + 0.001),
        "VBPR": make_result(rich, encoder="clip"),
    }
    assert headline(results).startswith(expected)


def headline(results: dict[str, Any]) -> str:
    (sentence,) = make_page(results).headlines
    return sentence


def test_the_headline_compares_what_validation_selected_and_says_when_test_disagrees() -> None:
    results = {
        "BPR": make_result(0.10, valid=0.10),
        "Lucky": make_result(0.50, valid=0.05, encoder="clip"),
        "VBPR": make_result(0.12, valid=0.09, encoder="clip"),
    }
    sentence = headline(results)
    assert sentence.startswith("VBPR reaches Recall@20 0.1200 on the test set, 20% more than BPR")
    assert sentence.endswith("take the difference with care.")


def test_without_a_rival_the_headline_names_the_best() -> None:
    one = {"BPR": make_result(0.1)}
    assert headline(one) == "BPR reaches Recall@20 0.1000 on the test set."
    two = headline(one | {"Popular": make_result(0.05)})
    assert two == "BPR, the best of these models on validation, reaches Recall@20 0.1000 on the test set."


def test_the_notes_state_the_protocol() -> None:
    notes = " ".join(make_page(masked="each user's training items").notes)
    for part in (
        "selected on validation Recall@20",
        "read once",
        "Full ranking",
        "each user's training items",
        "One seed (0)",
    ):
        assert part in notes


def test_a_report_without_curves_users_or_costs_is_a_page_still() -> None:
    result = make_result(0.1, slices={}, beyond={}, cost={})
    page = PageReader(make_page({"Popular": result}, users=[], facts={}).html())
    assert not page.open_tags
    assert not page.all("figure")
    assert [section["id"] for section in page.all("section")] == ["results", "data"]


def test_results_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(DataError, match="needs at least one run"):
        make_page({})
    other = make_result(0.1, test={"recall@10": 0.1})
    with pytest.raises(DataError, match=r"run 'B' has no test 'recall@20'.*it has: recall@10"):
        make_page(three_results() | {"B": other})


def test_two_runs_of_one_label_are_refused() -> None:
    from lmm4rec.experiments.report.collect import labeled_runs

    results: list[Any] = [SimpleNamespace()] * 2
    with pytest.raises(DataError, match="2 runs of the report are labeled 'A'"):
        labeled_runs("t", results, ["A", "A"])


@pytest.mark.long
def test_the_same_results_give_the_same_page(source: str) -> None:
    assert make_page().html() == source
    assert source.startswith("<!DOCTYPE html>")


@pytest.mark.long
def test_a_page_on_one_run_compares_nothing() -> None:
    results = three_results()
    one, several = make_page({"VBPR": results["VBPR"]}).html(), make_page(results).html()
    for mark in ("<strong>Bold</strong>", 'class="bar"', '<fieldset class="switch">'):
        assert mark in several
        assert mark not in one
