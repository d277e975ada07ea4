"""The report page, read back by an HTML parser that knows nothing of the templates."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmm4rec.core.errors import DataError, ImageError
from lmm4rec.experiments.report import curves
from lmm4rec.experiments.report import number_formats as words
from lmm4rec.experiments.report.page import render, write_report
from lmm4rec.experiments.report.thumbnails import album
from lmm4rec.experiments.report.view import Card, Person, ReportView, RunView

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Plain:
    """An image of one color."""

    color: tuple[int, int, int] = (200, 30, 30)
    size: tuple[int, int] = (64, 64)

    def open(self) -> Image.Image:
        return Image.new("RGB", self.size, self.color)

    def digest(self) -> str:
        return hashlib.sha256(f"{self.color}{self.size}".encode()).hexdigest()


@dataclass(frozen=True)
class Noise(Plain):
    """An image that compresses about as badly as images can."""

    seed: int = 0

    def open(self) -> Image.Image:
        pixels = np.random.default_rng(self.seed).integers(0, 256, (300, 300, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    def digest(self) -> str:
        return f"noise {self.seed}"


class Broken(Plain):
    """An image that cannot be read."""

    def open(self) -> Image.Image:
        raise ImageError("no image in here")


@dataclass
class Page(HTMLParser):
    """The elements of a page: (tag, attributes), and the text under each tag."""

    source: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in {"meta", "link", "input", "img", "br"}:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag, "elements nest and are closed"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open_tags[-1] if self.open_tags else "", data.strip()))

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag
            and all(value in attributes.get(key.rstrip("_"), "").split() for key, value in wanted.items())
        ]

    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in {"style", "script"})


def make_run(label: str, test: float, *, valid: float | None = None, encoder: str = "", epochs: int = 0) -> RunView:
    history = [{"epoch": e, "loss": 1.0 / e, "recall@20": test * e / epochs} for e in range(1, epochs + 1)]
    return RunView(
        label=label,
        recommender=label.lower(),
        encoder=encoder,
        paradigm="frozen" if encoder else "",
        valid={"recall@20": test if valid is None else valid},
        test={"recall@20": test, "ndcg@20": test / 2},
        slices={"cold": {"recall@20": test / 10}},
        beyond={"coverage@20": 0.5},
        cost={"seconds": 125.0, "parameters": 83_200, "peak_memory_mb": 1500.0},
        history=history,
        best_epoch=epochs,
    )


def make_view(**changes: object) -> ReportView:
    runs = [
        make_run("Popular", 0.0613),
        make_run("BPR", 0.0978, epochs=5),
        make_run("VBPR", 0.1224, encoder="clip", epochs=4),
    ]
    liked = [Card("a", "Red mug", Plain()), Card("b", "Blue lamp", Plain((0, 0, 200)))]
    top = [Card("c", "Green chair", Plain((0, 200, 0)), hit=True), Card("a", "Red mug", Plain())]
    person = Person(
        "anna", "two things", liked, {run.label: top for run in runs}, [Card("c", "Green chair", Plain((0, 200, 0)))]
    )
    view = ReportView("A title", "a subtitle", {"Users": "800"}, runs, [person])
    return replace(view, **changes)


def test_the_page_is_one_file_that_asks_for_nothing() -> None:
    page = Page(render(make_view()))
    assert not page.open_tags
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"https?://|url\(|@import|file:", page.source)


def test_every_reference_inside_the_page_has_its_target() -> None:
    page = Page(render(make_view()))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {attributes["href"][1:] for _, attributes in page.elements if attributes.get("href", "").startswith("#")}
    assert targets <= set(names)


def test_the_policy_of_the_page_allows_its_own_script_and_no_other() -> None:
    page = Page(render(make_view()))
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_hostile_words_stay_words() -> None:
    hostile = Card(HOSTILE, HOSTILE, None, note=HOSTILE)
    runs = [replace(make_run("x", 0.1, encoder=HOSTILE, epochs=3), label=HOSTILE, slices={HOSTILE: {"recall@20": 0.1}})]
    person = Person(HOSTILE, HOSTILE, [hostile], {HOSTILE: [hostile]}, [hostile])
    view = ReportView(
        HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, runs, [person], [f"`{HOSTILE}`", HOSTILE], next_steps=[HOSTILE],
        masked=HOSTILE, hit_label=HOSTILE,
    )  # fmt: skip
    page = Page(render(view))
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text().count(HOSTILE) > 10


def test_emoji_and_right_to_left_titles_keep_their_letters_and_set_their_own_direction() -> None:
    titles = ["🧶 Wool", "مصباح نحاسي"]
    person = Person("p", "", [Card(title, title, None) for title in titles], {})
    page = Page(render(make_view(people=[person])))
    assert [name["title"] for name in page.all("p", class_="name")] == titles
    assert {name["dir"] for name in page.all("p", class_="name")} == {"auto"}


def test_each_image_is_embedded_once_and_used_wherever_its_item_stands() -> None:
    page = Page(render(make_view()))
    urls = [image["href"] for image in page.all("image")]
    assert len(urls) == len(set(urls)) == 3
    assert page.source.count("data:image/") == 3
    assert len(page.all("use")) == 2 + 3 * 2 + 1  # liked, three top lists, held out
    colors = {Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).getpixel((9, 9)) for url in urls}
    assert colors == {(200, 30, 30), (0, 0, 200), (0, 200, 0)}  # small drawn images lose nothing


def test_items_with_the_same_image_share_it() -> None:
    images = album([Card("a", "A", Plain()), Card("b", "B", Plain())])
    assert len(images.thumbnails) == 1
    assert images.by_item["a"] == images.by_item["b"]


def test_hits_carry_a_word_and_not_only_a_color() -> None:
    page = Page(render(make_view(hit_label="bought later")))
    assert len(page.all("li", class_="hit")) == 3  # in each of three top lists
    assert page.texts.count(("span", "✓ bought later")) == 3 + 1  # and in the explanation
    assert page.texts.count(("span", "1 of 2 hit")) == 3


@pytest.mark.parametrize("image", [None, Broken()])
def test_an_item_without_a_readable_image_shows_its_initials(image: Plain | None) -> None:
    person = Person("p", "", [Card("x", "oak Table, round", image)], {})
    page = Page(render(make_view(people=[person])))
    assert not page.all("use")
    assert ("span", "OT") in page.texts
    (placeholder,) = page.all("span", class_="placeholder")
    assert placeholder["aria-label"] == "No image of oak Table, round"


@pytest.mark.parametrize(("title", "letters"), [("🧶 wool", "W"), ("🧶", "?"), ("", "?"), ("מנורה גדולה", "מג")])
def test_initials(title: str, letters: str) -> None:
    assert words.initials(title) == letters


def test_the_table_holds_the_numbers_best_first_with_the_best_two_marked() -> None:
    source = render(make_view())
    table = source[source.index("<table") : source.index("</table")]
    labels = re.findall(r'<th scope="row" data-value="(\w+)"', table)
    assert labels == ["VBPR", "BPR", "Popular"]
    assert re.findall(r'title="best">1st</sup> <strong>([\d.]+)<', table) == ["0.1224", "0.0612", "0.1224"]
    assert re.findall(r'second best">2nd</sup> <span class="second">([\d.]+)<', table) == ["0.0978", "0.0489", "0.0978"]
    for shown in ("0.0613", "2 min 05 s", "83.2 k", "1.5 GB", "no content", "clip · frozen"):
        assert shown in table
    assert {"0.0122", "0.500"} <= set(re.findall(r"[\d.]+", source))  # the cold slice, coverage


def test_values_that_read_alike_share_a_rank_and_missing_values_are_dashes() -> None:
    runs = [make_run("A", 0.10001), make_run("B", 0.10002), replace(make_run("C", 0.05), test={"recall@20": 0.05})]
    source = render(make_view(runs=runs, people=[]))
    table = source[source.index("<table") : source.index("</table")]
    assert len(re.findall("1st</sup> <strong>0.1000<", table)) == 4  # A and B, in test and validation recall
    assert re.search(r'<td data-value="">\s*–\s*</td>', table)


def test_tables_and_images_speak_to_screen_readers() -> None:
    page = Page(render(make_view()))
    assert all(head.get("scope") in {"col", "row"} for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(drawn.get("aria-label") or drawn.get("aria-hidden") for drawn in page.all("svg"))
    assert [name for name, _ in page.elements if name in {"h1", "h2"}].count("h1") == 1


def test_one_model_is_chosen_from_the_start_and_it_is_the_one_that_validation_prefers() -> None:
    runs = [make_run("A", 0.3, valid=0.1), make_run("B", 0.2, valid=0.2)]
    person = Person("p", "", [], {"A": [Card("a", "a", None)], "B": [Card("b", "b", None)]})
    page = Page(render(make_view(runs=runs, people=[person])))
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
    runs = [make_run("Popular", 0.0), make_run("BPR", bare, valid=bare + 0.001), make_run("VBPR", rich, encoder="clip")]
    assert words.headline(make_view(runs=runs, people=[])).startswith(expected)


def test_the_headline_compares_what_validation_chose_and_says_when_test_disagrees() -> None:
    runs = [
        make_run("BPR", 0.10, valid=0.10),
        make_run("Lucky", 0.50, valid=0.05, encoder="clip"),
        make_run("VBPR", 0.12, valid=0.09, encoder="clip"),
    ]
    sentence = words.headline(make_view(runs=runs, people=[]))
    assert sentence.startswith("VBPR reaches Recall@20 0.1200 on the test set, 20% more than BPR")
    assert sentence.endswith("take the difference with care.")


def test_without_a_rival_the_headline_names_the_best() -> None:
    one = words.headline(make_view(runs=[make_run("BPR", 0.1)], people=[]))
    assert one == "BPR reaches Recall@20 0.1000 on the test set."
    two = words.headline(make_view(runs=[make_run("BPR", 0.1), make_run("Popular", 0.05)], people=[]))
    assert two == "BPR, the best of these models on validation, reaches Recall@20 0.1000 on the test set."


def test_the_footnotes_tell_the_protocol() -> None:
    text = Page(render(make_view(masked="each user's training items"))).text()
    for part in (
        "chosen on validation Recall@20",
        "read once",
        "Full ranking",
        "each user's training items",
        "One seed (0)",
    ):
        assert part in text


def test_a_report_without_curves_people_or_costs_is_a_page_still() -> None:
    run = RunView("Popular", "popular", "", "", {"recall@20": 0.1}, {"recall@20": 0.1})
    page = Page(render(ReportView("t", "s", {}, [run])))
    assert not page.open_tags
    assert not page.all("figure")
    assert [section["id"] for section in page.all("section")] == ["results", "data"]


def test_curves_mark_the_best_epoch_and_skip_what_cannot_be_drawn() -> None:
    run = make_run("BPR", 0.1, epochs=6)
    history = [{"epoch": 1, "loss": math.nan}, *run.history[1:4], {"epoch": 5, "loss": 0.2}]
    validation, loss = curves.training([replace(run, history=history, best_epoch=3)], "recall@20")
    assert [len(figure.lines[0].points) for figure in (validation, loss)] == [3, 4]
    assert validation.marks[0].words == "BPR: best epoch 3, 0.0500"
    assert validation.marks[0].x == pytest.approx(validation.lines[0].points[1][0])


@pytest.mark.parametrize("values", [[0.1], [0.0, 0.0], [0.03, 0.047, 0.051], [-3.0, 12.0], [0.0, 1234.5]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_axes_hold_their_values_and_have_a_few_round_ticks(values: list[float], logarithmic: bool) -> None:
    if logarithmic:
        values = [abs(value) + 0.01 for value in values]
    figure = curves._axis("x", values, 50.0, 450.0, logarithmic=logarithmic)
    assert all(50 <= figure.place(value) <= 450 for value in values)
    assert 1 <= len(figure.ticks) <= 7
    for tick in figure.ticks:  # what a tick says is where it stands
        assert figure.place(float(tick.text.replace(",", ""))) == pytest.approx(tick.at, abs=1e-6)


def test_labels_of_the_cost_figure_do_not_cover_each_other() -> None:
    generator = np.random.default_rng(0)
    runs = [
        replace(make_run(f"Model {i}", 0.1 + 0.02 * generator.random()), cost={"seconds": 10 + 5 * generator.random()})
        for i in range(8)
    ]
    (figure,) = curves.quality_and_cost(runs, "recall@20")
    boxes = [curves.box_of(label) for label in figure.labels]
    assert len(boxes) == 8
    for i, box in enumerate(boxes):
        assert all(box.shared(other) == 0 for other in boxes[:i])
        assert box.left >= 0
        assert box.right <= curves.WIDTH


def test_runs_differ_in_more_than_color() -> None:
    looks = curves.styles([make_run(str(i), 0.1) for i in range(28)])
    assert len({(look.color, look.shape) for look in looks.values()}) == 28
    assert len({look.shape for look in list(looks.values())[:4]}) == 4


def test_the_page_stays_small_however_many_images_it_has() -> None:
    cards = [Card(str(i), f"Item {i}", Noise(seed=i)) for i in range(60)]
    images = album(cards, budget=180_000)
    assert len(images.thumbnails) == 60
    assert 0 < sum(len(thumbnail.url) for thumbnail in images.thumbnails) <= 180_000


def test_images_keep_their_shape_in_a_common_frame() -> None:
    images = album([Card("poster", "", Plain(size=(400, 600))), Card("wide", "", Plain((1, 2, 3), size=(600, 300)))])
    poster, wide = images.by_item["poster"], images.by_item["wide"]
    assert (poster.width, poster.height) == (107, 160)
    assert (wide.width, wide.height) == (160, 80)
    assert 2 / 3 <= images.aspect <= 3 / 2
    assert images.fit(wide) == "meet"


def test_code_between_backticks() -> None:
    assert words.with_code("run `a <b>` now") == "run <code>a &lt;b&gt;</code> now"
    assert words.with_code("a lone ` stays") == "a lone ` stays"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0 s"),
        (0.004, "< 0.01 s"),
        (0.42, "0.42 s"),
        (9.7, "10 s"),
        (59.7, "1 min 00 s"),
        (11_520.0, "3 h 12 min"),
    ],
)
def test_durations(value: float, shown: str) -> None:
    assert words.seconds(value) == shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": []}, "needs at least one run"),
        ({"runs": [make_run("A", 0.1), make_run("A", 0.2)]}, "2 runs of the report are labelled 'A'"),
        ({"metric": "recall@10"}, "run 'Popular' has no validation 'recall@10'.*it has: recall@20"),
        ({"people": [Person("p", "", [], {"VPBR": []})]}, "'VPBR', which is no run.*Did you mean 'VBPR'"),
    ],
)
def test_a_view_that_does_not_fit_together_says_so(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_view(**changes)


def test_the_same_view_gives_the_same_file(tmp_path: Path) -> None:
    write_report(tmp_path / "one" / "report.html", make_view())
    text = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert text == render(make_view())
    assert text.startswith("<!DOCTYPE html>")
