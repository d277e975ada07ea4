"""The parts of a report: figures, small images, tables, number formats."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hand_made_runs import Drawn, Noise, Plain, make_result, three_results
from matplotlib.text import Text

from lmm4rec.experiments.report import figure_style, number_formats, page_svg
from lmm4rec.experiments.report.collect import labeled_runs
from lmm4rec.experiments.report.figures import run_figures
from lmm4rec.experiments.report.finished_runs import Design, DesignGroup, FinishedRun
from lmm4rec.experiments.report.point_labels import label_points
from lmm4rec.experiments.report.study_report import StudyPage
from lmm4rec.experiments.report.table_files import latex, markdown
from lmm4rec.experiments.report.tables import ReportTable, TableCell, alignment_table
from lmm4rec.experiments.report.thumbnails import LARGE, SMALL, page_images
from lmm4rec.experiments.report.user_examples import ItemCard
from lmm4rec.experiments.result import ChosenModel


def figures_of(results: dict[str, Any]) -> dict[str, Any]:
    return {figure.name: figure for figure in run_figures(labeled_runs("t", list(results.values()), list(results)))}


def test_curves_mark_the_selected_epoch_and_skip_what_cannot_be_drawn() -> None:
    result = make_result(0.1, epochs=6, chosen=ChosenModel("recall@20", epoch=3, epochs=6))
    result.history[0] = {"epoch": 1, "loss": math.nan}
    result.history[4:] = [{"epoch": 5, "loss": 0.2}]
    figures = figures_of({"BPR": result})
    assert list(figures) == ["learning_curves", "training_losses"]
    (validation,), (loss,) = (figures[name].figure.axes for name in figures)
    assert [len(axes.lines[0].get_xdata()) for axes in (validation, loss)] == [3, 4]
    assert [tuple(line.get_xdata()) for line in validation.lines[1:]] == [(3.0,), ()]  # the mark; the legend's sample
    assert figures["learning_curves"].numbers == "BPR: epoch 3, 0.0500"


def test_a_model_has_the_same_color_and_marker_in_every_figure() -> None:
    figures = figures_of(three_results())  # popular has no curve
    (cost,), legend = figures["quality_and_cost"].figure.axes, figures["learning_curves"].figure.legends[0]
    looks = [
        {text.get_text(): (line.get_color(), line.get_marker()) for text, line in zip(*parts, strict=True)}
        for parts in ((cost.texts, cost.lines), (legend.get_texts(), legend.get_lines()))
    ]
    assert set(looks[0]) == {"Popular", "BPR", "VBPR"}
    assert figures["quality_and_cost"].figure.legends == []  # the points have names
    assert looks[1] == {name: looks[0][name] for name in ("BPR", "VBPR")}


def boxes_of(labels: Sequence[str], points: Sequence[tuple[float, float]]) -> tuple[list[str], list[Any], Any]:
    """The labels that `label_points` left out, and the boxes of the others and of the axes, as they are drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with figure_style.figure_settings():
        figure, ax = figure_style.single_canvas([], figure_style.WIDE)
        ax.plot(*zip(*points, strict=True), "o")
        ax.margins(0.12)
        left_out = label_points(ax, points, labels)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        return left_out, [Text.get_window_extent(text, renderer) for text in ax.texts], ax.get_window_extent(renderer)


def test_labels_of_points_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in rng.random((24, 2))]
    left_out, boxes, frame = boxes_of([f"Recommender {i}" for i in range(24)], points)
    assert left_out == []
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1


def test_labels_without_room_are_left_out_and_named() -> None:
    left_out, boxes, _ = boxes_of([f"Recommender {i}" for i in range(90)], [(0.5, 0.5)] * 89 + [(0.9, 0.9)])
    assert 0 < len(left_out) < 89
    assert len(left_out) + len(boxes) == 90
    assert "Recommender 0" not in left_out  # the first ones come first
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


@pytest.mark.long
def test_figures_of_a_page_follow_its_scheme_and_typeface() -> None:
    results = {"<b>#ffffff": make_result(0.1, epochs=5), "fill: #000000": make_result(0.2, epochs=5)}
    for figure in figures_of(results).values():
        svg = page_svg.themed(figure.text_svg())
        assert figure.text_svg() == figure.text_svg()
        root = ElementTree.fromstring(svg)
        written = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert set(results) <= set(written)  # texts are text, and as they were
        styles = [value for one in root.iter() for name, value in one.attrib.items() if name == "style"]
        assert not [style for style in styles if re.search("#[0-9a-f]{6}", style)]  # every color has its dark one
        assert "DejaVu" not in "".join(styles)
        assert "system-ui" in "".join(styles)
        assert "prefers-color-scheme:dark" in svg


def test_columns_of_dashes_are_no_columns() -> None:
    rows = [[TableCell("a"), TableCell("–"), TableCell("1", 1.0)], [TableCell("b"), TableCell("–"), TableCell("–")]]
    table = ReportTable("t", "", ["Design", "p", "Difference"], rows, sorted_by=2).without_empty_columns()
    assert (list(table.heads), table.sorted_by) == (["Design", "Difference"], 1)
    assert [[cell.text for cell in row] for row in table.rows] == [["a", "1"], ["b", "–"]]


def test_losses_of_different_magnitudes_stand_on_a_logarithmic_scale() -> None:
    results = {"BPR": make_result(0.1, epochs=30)}
    assert "Logarithmic" in figures_of(results)["training_losses"].caption
    assert "Logarithmic" not in figures_of({"BPR": make_result(0.1, epochs=5)})["training_losses"].caption


@pytest.mark.long
def test_all_that_is_drawn_lies_inside_its_figure() -> None:
    """Narrow figures have fixed margins: labels and legends must fit them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    results = {f"A model with a long name, {i}": make_result(1e-4 * (i + 1), epochs=3) for i in range(7)}
    for name, figure in figures_of(results).items():
        with figure_style.figure_settings():
            FigureCanvasAgg(figure.figure).draw()
            box = figure.figure.get_tightbbox()
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= figure.figure.get_figwidth(), name
        assert box.y1 <= figure.figure.get_figheight(), name


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
_VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def rgb(colors: Iterable[str]) -> np.ndarray[Any, Any]:
    return np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors])


def linear(rgb: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(linear_rgb: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    xyz = linear_rgb @ _TO_XYZ.T / _TO_XYZ.sum(1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(np.clip(xyz, 0, None)), 7.787 * xyz + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("vision", _VISION)
@pytest.mark.parametrize("dark", [False, True])
def test_colors_of_figures_are_told_apart_by_any_kind_of_color_vision(vision: str, dark: bool) -> None:
    shades = [color.lower() for color in (*figure_style.COLORS, "#ffffff")]
    *colors, paper_color = [page_svg.SCHEME[shade] for shade in shades] if dark else shades
    colors, ground = rgb(colors), rgb([paper_color])
    seen = lab(np.clip(linear(colors) @ np.array(_VISION[vision]).T, 0, 1))
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 1000 * np.eye(len(seen))
    assert distances.min() > 25, distances.round()
    light = [float(values @ _TO_XYZ[1]) + 0.05 for values in linear(colors)]
    paper = float(linear(ground)[0] @ _TO_XYZ[1]) + 0.05
    assert min(max(paper, one) / min(paper, one) for one in light) > 3


def test_series_differ_in_more_than_color() -> None:
    looks = [(figure_style.color(i), figure_style.marker(i)) for i in range(56)]
    assert len(set(looks)) == 56
    assert len({shape for _, shape in looks[:8]}) == 8


def test_images_are_sharp_at_two_pixels_a_css_pixel() -> None:
    """An item that is shown large anywhere is embedded large, one of histories only small; a drawn one is drawn so."""
    small, both = ItemCard("s", "", Noise(seed=1)), ItemCard("b", "", Noise(seed=2))
    drawn, tiny = ItemCard("d", "", Drawn((1, 2, 3))), ItemCard("t", "", Plain())
    images = page_images([small, both], [both, drawn, tiny])
    assert {item: image.width for item, image in images.by_item.items()} == {
        "s": SMALL,
        "b": LARGE,
        "d": LARGE,
        "t": 64,
    }


def test_items_with_the_same_image_share_it() -> None:
    images = page_images([ItemCard("a", "A", Plain())], [ItemCard("b", "B", Plain())])
    assert len(images.thumbnails) == 1
    assert images.by_item["a"] == images.by_item["b"]


@pytest.mark.long
def test_the_page_stays_small_however_many_images_it_has() -> None:
    cards = [ItemCard(str(i), f"Item {i}", Noise(seed=i)) for i in range(30)]
    images = page_images([], cards, budget=150_000)
    assert len(images.thumbnails) == 30
    assert 0 < sum(len(thumbnail.url) for thumbnail in images.thumbnails) <= 150_000


def test_images_keep_their_shape_in_a_common_frame() -> None:
    poster, wide = ItemCard("poster", "", Plain(size=(400, 600))), ItemCard("wide", "", Plain((1, 2, 3), (600, 300)))
    images = page_images([poster, wide], [])
    shapes = {item: (image.width, image.height) for item, image in images.by_item.items()}
    assert shapes == {"poster": (123, 184), "wide": (184, 92)}
    assert 2 / 3 <= images.aspect <= 3 / 2
    assert images.fit(images.by_item["wide"]) == "meet"


def test_what_is_missing_among_numbers_sorts_as_missing() -> None:
    """The script takes a column for numbers where each value is one or empty; a dash would make it sort by letters."""
    rows = [[TableCell("A"), TableCell("–")], [TableCell("B"), TableCell("9 s", 9.0)]]
    table = ReportTable("t", "", ["model", "seconds"], rows)
    page = StudyPage(title="t", subtitle="", headlines=[], results=[table], notes=[], failures={}, card={})
    assert re.findall(r'<td data-value="(.*?)"(.*?)>', page.html()) == [("", ""), ("9.0", "")]


def test_the_cost_of_a_run_counts_its_features_whoever_computed_them() -> None:
    """60 seconds of encoding: done in the run itself they are in its time already, else they come on top of it."""

    def total(**cost: float) -> float:
        return FinishedRun("x", {}, make_result(0.1, cost=cost)).numbers["cost.total_seconds"]

    assert total(seconds=70.0) == 70.0
    assert total(seconds=70.0, encode_seconds=61.0, features_seconds=60.0) == 70.0
    assert total(seconds=11.0, encode_seconds=1.0, features_seconds=60.0) == 70.0


def test_alignment_stands_beside_quality_once_for_all_recommenders() -> None:
    """Frozen features have one measure, trained ones that after training and in brackets that before."""

    def design(recommender: str, paradigm: str, measured: dict[str, Any]) -> Design:
        axes = {"recommender": recommender, "paradigm": paradigm}
        return Design(" · ".join(axes.values()), axes, [FinishedRun("x", axes, make_result(0.1, alignment=measured))])

    frozen, tuned = (
        {"modality_gap": 0.5, "pairs": 9},
        {"before": {"modality_gap": 0.5}, "after": {"modality_gap": 0.25}},
    )
    designs = [design("BPR", "frozen", {}), design("VBPR", "frozen", frozen), design("VBPR", "finetuned", tuned)]
    table = alignment_table(DesignGroup("shop", [*designs, design("LATTICE", "finetuned", tuned)]))
    assert table.heads == ["Features", "Modality gap"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["frozen", "0.500"],
        ["finetuned", "0.250 (0.500)"],
    ]
    by_model = [
        Design(name, {"model": name}, [FinishedRun("x", {"model": name}, make_result(0.1, alignment=frozen))])
        for name in ("VBPR", "LATTICE")
    ]
    (row,) = alignment_table(DesignGroup("runs", by_model)).rows
    assert [cell.text for cell in row] == ["VBPR; LATTICE", "0.500"]


def test_tables_in_markdown_and_latex() -> None:
    rows = [
        [TableCell("a_b & c"), TableCell("0.2000", 0.2, 1, "**")],
        [TableCell("x|y"), TableCell("0.1000", 0.1, 2)],
    ]
    table = ReportTable("T", "50% of α.", ["model", "R"], rows)
    assert markdown(table).splitlines()[2:] == [
        "| model | R |",
        "|---|---:|",
        r"| a_b & c | **0.2000**\*\* |",
        r"| x\|y | *0.1000* |",
    ]
    text = latex(table, "t")
    assert r"a\_b \& c & \textbf{0.2000}$^{**}$ \\" in text
    assert r"x|y & \underline{0.1000} \\" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"50\% of" in text


@pytest.mark.parametrize(("title", "letters"), [("🧶 wool", "W"), ("🧶", "?"), ("", "?"), ("מנורה גדולה", "מג")])
def test_initials(title: str, letters: str) -> None:
    assert number_formats.initials(title) == letters


def test_code_between_backticks() -> None:
    assert number_formats.with_code("run `a <b>` now") == "run <code>a &lt;b&gt;</code> now"
    assert number_formats.with_code("a lone ` stays") == "a lone ` stays"


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
    assert number_formats.seconds(value) == shown
