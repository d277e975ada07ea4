"""The Amazon review data, from small files in its layouts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from amazon_files import (
    LOG,
    META_2014,
    META_2018,
    META_2023,
    review_2014,
    review_2023,
    write_2014,
    write_2018,
    write_2023,
    write_lines,
)
from lmm4rec.core.errors import DataError
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.filters import prepare
from lmm4rec.data.sources.amazon import line_blocks, reviews
from lmm4rec.data.sources.amazon.image_folder import image_stem
from lmm4rec.data.sources.amazon.item_metadata import image_url, parse
from lmm4rec.data.sources.amazon.source import load
from lmm4rec.data.sources.amazon.text_cleaning import text_fields


def pairs(data: Dataset) -> list[tuple[str, str]]:
    log = data.interactions
    return [(data.users[user], data.items[item]) for user, item in zip(log.users, log.items, strict=True)]


def found(data: Dataset) -> dict[str, int]:
    return {finding.kind: finding.count for finding in data.findings}


def test_2014(tmp_path: Path) -> None:
    data = load(path=write_2014(tmp_path), category="Baby")
    assert data.name == "Baby (Amazon 2014)"
    assert pairs(data) == [(user, item) for user, item, *_ in LOG]
    assert data.interactions.ratings.tolist() == [5, 3, 1]
    assert data.interactions.timestamps.tolist() == [1_400_000_000, 1_400_000_100, 1_400_000_200]
    assert list(data.items) == ["B1", "B2", "B3"]
    assert dict(data.catalog[0].fields) == {
        "title": 'Baby\'s "soft" blanket',
        "brand": "Cozy",
        "categories": "Baby, Nursery, Bedding, Gifts",
        "description": "Soft & warm, for a baby's cot.",
    }
    assert data.catalog.image_urls == (META_2014[0]["imUrl"], META_2014[1]["imUrl"], "")
    assert found(data) == {"no-metadata": 1, "image-not-fetched": 2, "no-image-address": 1}
    assert data.findings[0].examples == ("item B3",)


def test_2018(tmp_path: Path) -> None:
    data = load(path=write_2018(tmp_path), category="Appliances", edition="2018")
    assert pairs(data) == [(user, item) for user, item, *_ in LOG]
    assert dict(data.catalog[0].fields) == {
        "title": "Blade",
        "brand": "Mixmaster",
        "categories": "Appliances, Parts",
        "description": "Sharp blade. Fits all mixers <5 l",
        "features": "Steel Dishwasher safe",
    }
    assert data.catalog[1].fields["title"] == ""
    assert data.catalog.title(2) == "Filter"
    high, none, small = data.catalog.image_urls
    assert (high.endswith("/1.jpg"), none, small.endswith("/3._SS40_.jpg")) == (True, "", True)
    assert found(data) == {"duplicate-item": 1, "script-title": 1, "image-not-fetched": 2, "no-image-address": 1}


@pytest.mark.parametrize(
    ("size", "endings"),
    [
        ("thumb", ("10._SS40_.jpg", "20._SS40_.jpg")),
        ("large", ("10.jpg", "20.jpg")),
        ("hi_res", ("10.jpg", "20._SL1500_.jpg")),  # the main image of the first has none
    ],
)
def test_2023(tmp_path: Path, size: str, endings: tuple[str, str]) -> None:
    data = load(path=write_2023(tmp_path), category="All_Beauty", edition="2023", image_size=size)
    assert pairs(data) == [(user, item) for user, item, *_ in LOG]
    assert data.interactions.timestamps.tolist() == [1_400_000_000, 1_400_000_100, 1_400_000_200]
    assert dict(data.catalog[0].fields) == {
        "title": "Lurrose 100Pcs",
        "brand": "Lurrose",
        "categories": "All Beauty",
        "description": "Description For women",
        "features": "Fake nails 100 pieces",
    }
    assert dict(data.catalog[1].fields)["categories"] == "Beauty, Combs"
    assert [url.rpartition("/")[2] for url in data.catalog.image_urls] == [*endings, ""]


@pytest.mark.parametrize("nested", [False, True])
def test_2023_in_parquet(tmp_path: Path, nested: bool) -> None:
    """Images as a list of structs, or as a struct of lists, the way tools that write columns turn them."""
    lined, columns = tmp_path / "lines", tmp_path / "columns"
    whole = load(path=write_2023(lined), category="All_Beauty", edition="2023")
    log = pl.read_ndjson(gzip.decompress((lined / "All_Beauty.jsonl.gz").read_bytes()))
    (columns / "raw_review_All_Beauty").mkdir(parents=True)
    log[:2].write_parquet(columns / "raw_review_All_Beauty" / "full-00000-of-00002.parquet")
    log[2:].write_parquet(columns / "raw_review_All_Beauty" / "full-00001-of-00002.parquet")
    metas = [dict(meta) for meta in META_2023]
    if nested:
        sizes = ("thumb", "large", "variant", "hi_res")
        metas = [
            meta | {"images": {size: [image[size] for image in meta["images"]] for size in sizes}} for meta in metas
        ]
    keep = ("title", "main_category", "features", "description", "images", "store", "categories", "parent_asin")
    frame = pl.DataFrame([{name: meta.get(name) for name in keep} for meta in metas], infer_schema_length=None)
    frame.write_parquet(columns / "meta_All_Beauty.parquet")
    data = load(path=columns, category="All_Beauty", edition="2023")
    assert data.fingerprint == whole.fingerprint
    assert data.catalog.fields.equals(whole.catalog.fields)
    assert data.catalog.image_urls == whole.catalog.image_urls


def test_parquet_rows_that_cannot_be_read(tmp_path: Path) -> None:
    write_2023(tmp_path)
    (tmp_path / "All_Beauty.jsonl.gz").unlink()
    rows = {"user_id": ["A1", None, "A2", "A3"], "parent_asin": ["B1", "B1", "", "B2"], "rating": [5.0, 1.0, 1.0, None]}
    pl.DataFrame(rows | {"timestamp": [1, 2, 3, 4]}).write_parquet(tmp_path / "All_Beauty.parquet")
    data = load(path=tmp_path, category="All_Beauty", edition="2023")
    assert pairs(data) == [("A1", "B1")]
    kinds = {finding.kind: finding.examples for finding in data.findings}
    assert kinds["unreadable-user"][0].startswith("All_Beauty.parquet row 2: ")
    assert kinds["unreadable-item"][0].startswith("All_Beauty.parquet row 3: ")
    assert kinds["unreadable-rating"][0].startswith("All_Beauty.parquet row 4: ")


def test_unpacked_files_and_other_names(tmp_path: Path) -> None:
    packed = load(path=write_2014(tmp_path), category="Baby")
    for file in list(tmp_path.iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert load(path=tmp_path, category="Baby").fingerprint == packed.fingerprint
    (tmp_path / "reviews_Baby_5.json").rename(tmp_path / "my.json")
    assert load(path=tmp_path, category="Baby", reviews="my.json").fingerprint == packed.fingerprint
    with pytest.raises(DataError, match=r"has no reviews_Baby_5\.json\.gz .*`lmm4rec data download` fetches it"):
        load(path=tmp_path, category="Baby")
    with pytest.raises(DataError, match=r"none\.json is missing"):
        load(path=tmp_path, category="Baby", reviews="my.json", metadata="none.json")


BAD_LINES = (
    ("", None),
    ("{broken", "broken-line"),
    ("[1]", "broken-line"),
    (json.dumps({"asin": "B1", "overall": 5.0, "unixReviewTime": 1}), "unreadable-user"),
    (json.dumps({"reviewerID": "A1", "asin": ["B1"], "overall": 5.0, "unixReviewTime": 1}), "unreadable-item"),
    (json.dumps({"reviewerID": "A1", "asin": "B1", "overall": True, "unixReviewTime": 1}), "unreadable-rating"),
    ('{"reviewerID": "A1", "asin": "B1", "overall": NaN, "unixReviewTime": 1}', "unreadable-rating"),
    (json.dumps({"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": "soon"}), "unreadable-timestamp"),
)


@pytest.mark.parametrize("block", [1, 1 << 24])
def test_lines_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(reviews, "blocks", partial(line_blocks.blocks, size=block))
    rows = [review_2014(*row) for row in LOG]
    rows[1:1] = [line for line, _ in BAD_LINES]
    write_2014(tmp_path)
    write_lines(tmp_path / "reviews_Baby_5.json.gz", rows)
    data = load(path=tmp_path, category="Baby")
    assert pairs(data) == [(user, item) for user, item, *_ in LOG]
    examples = {finding.kind: finding.examples for finding in data.findings}
    for number, (_, kind) in enumerate(BAD_LINES, start=2):
        if kind:
            assert any(example.startswith(f"reviews_Baby_5.json.gz line {number}: ") for example in examples[kind])
    assert sum(finding.count for finding in data.findings if finding.kind.startswith(("broken", "unread"))) == 7


def test_numbers_as_texts_are_numbers(tmp_path: Path) -> None:
    write_2014(tmp_path)
    odd = {"reviewerID": 7, "asin": "B1", "overall": "4.0", "unixReviewTime": 1.4e9}
    write_lines(tmp_path / "reviews_Baby_5.json.gz", [json.dumps(odd)])
    data = load(path=tmp_path, category="Baby")
    assert (pairs(data), data.interactions.ratings.tolist()) == ([("7", "B1")], [4.0])
    assert data.interactions.timestamps.tolist() == [1_400_000_000]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(alphabet='ab"\\\u00e9👕{}', max_size=12), max_size=20), st.integers(1, 40))
def test_blocks_are_the_file(tmp_path_factory: pytest.TempPathFactory, texts: list[str], size: int) -> None:
    content = "\n".join(texts).encode()
    path = tmp_path_factory.mktemp("blocks") / "x.json.gz"
    path.write_bytes(gzip.compress(content))
    parts = list(line_blocks.blocks(path, size))
    assert b"".join(part for _, part in parts) == content
    assert all(part.endswith(b"\n") for _, part in parts[:-1])
    at = 1
    for first, part in parts:
        assert first == at
        at += part.count(b"\n")


def test_the_metadata_is_never_evaluated(tmp_path: Path) -> None:
    write_2014(tmp_path)
    trap = tmp_path / "trap"
    evil = [
        f"{{'asin': 'B1', 'title': open({str(trap)!r}, 'w')}}",
        "{'asin': 'B2', 'title': __import__('os').getcwd()}",
        "{'asin': 'B3', 'x': " + "(" * 5000 + ")" * 5000 + "}",
        "['asin', 'B1']",
        "{'asin': 'B1', 'title': 'cut",
    ]
    write_lines(tmp_path / "meta_Baby.json.gz", [*evil, repr(META_2014[1])])
    data = load(path=tmp_path, category="Baby")
    assert not trap.exists()
    assert found(data)["broken-meta"] == 5
    assert data.catalog.title(1) == "Bottle"
    assert parse(b"{'a': True, 'b': None}") == {"a": True, "b": None}
    assert parse(b'{"a": true, "b": null}') == {"a": True, "b": None}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet="a<&;/b>! ", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["large", "hi_res", "x"]), inner),
    max_leaves=8,
)


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*META_2014[0], *META_2018[0], *META_2023[0], "image", "store"]), VALUES))
def test_metadata_of_any_shape_gives_texts(meta: dict[str, object]) -> None:
    assert all(isinstance(text, str) for text in text_fields(meta).values())
    assert all(isinstance(image_url(meta, size), str) for size in ("thumb", "large", "hi_res"))


def test_a_cut_file_says_so(tmp_path: Path) -> None:
    write_2014(tmp_path)
    file = tmp_path / "reviews_Baby_5.json.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"reviews_Baby_5.json.gz is cut off or damaged .*fetch it again"):
        load(path=tmp_path, category="Baby")
    file.write_bytes(b"<html>not here</html>")
    with pytest.raises(DataError, match="is cut off or damaged"):
        load(path=tmp_path, category="Baby")


def test_files_of_different_kinds_of_items(tmp_path: Path) -> None:
    write_2014(tmp_path)
    write_lines(tmp_path / "meta_Baby.json.gz", ["{'asin': 'X'}"])
    with pytest.raises(DataError, match="knows none of the reviewed items, such as 'B1'"):
        load(path=tmp_path, category="Baby")


def test_low_ratings_and_nothing_left(tmp_path: Path) -> None:
    write_2014(tmp_path)
    data = load(path=tmp_path, category="Baby", rating_at_least=3.0)
    assert pairs(data) == [("A1", "B1"), ("A2", "B2")]
    assert found(data)["low-rating"] == 1
    with pytest.raises(DataError, match=r"has no usable review .*rating below 6"):
        load(path=tmp_path, category="Baby", rating_at_least=6.0)
    with pytest.raises(DataError, match="nothing is left of 3 reviews after early_core = 2"):
        load(path=tmp_path, category="Baby", early_core=2)


@pytest.mark.parametrize("rating_at_least", [None, 3.0])
def test_an_early_core_changes_nothing_but_the_work(tmp_path: Path, rating_at_least: float | None) -> None:
    rng = np.random.default_rng(0)
    drawn = [(f"A{int(90 * rng.random() ** 2)}", f"B{int(40 * rng.random() ** 2)}") for _ in range(900)]  # some twice
    log = [(user, item, float(rng.integers(1, 6)), int(rng.integers(1, 10**9))) for user, item in drawn]
    write_2014(tmp_path)
    write_lines(tmp_path / "reviews_Baby_5.json.gz", [review_2014(*row) for row in log])
    write_lines(tmp_path / "meta_Baby.json.gz", [repr({"asin": f"B{at}", "title": str(at)}) for at in range(40)])
    late = prepare(load(path=tmp_path, category="Baby"), rating_at_least=rating_at_least, k_core=5)
    early = load(path=tmp_path, category="Baby", rating_at_least=rating_at_least, early_core=5)
    assert found(early)["early-core"] > 0
    early = prepare(early, rating_at_least=rating_at_least, k_core=5)
    assert early.fingerprint == late.fingerprint
    assert early.interactions.timestamps.tolist() == late.interactions.timestamps.tolist()
    assert early.catalog.fields.equals(late.catalog.fields)


def test_images_by_item_id(tmp_path: Path) -> None:
    write_2023(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "B1.jpg")
    Image.new("RGB", (5, 5)).save(folder / "B2.png")
    (folder / ".B3.part").write_bytes(b"half")
    data = load(path=tmp_path, category="All_Beauty", edition="2023", images="photos")
    assert data.catalog.has_image.tolist() == [True, True, False]
    assert data.catalog.images[1].open().size == (5, 5)
    assert found(data) == {"no-image-address": 1}


@pytest.mark.parametrize("id_", ["../../etc/passwd", "a/b", "..", "a\\b", "C:x", "ä", "%2e"])
def test_the_name_of_a_image_stays_in_its_folder(tmp_path: Path, id_: str) -> None:
    place = tmp_path / f"{image_stem(id_)}.jpg"
    assert place.parent == tmp_path
    assert place.resolve().parent == tmp_path.resolve()


def test_what_is_selected_keeps_its_address(tmp_path: Path) -> None:
    data = load(path=write_2014(tmp_path), category="Baby")
    chosen = data.catalog.select(np.array([1, 0]))
    assert chosen.image_urls == (META_2014[1]["imUrl"], META_2014[0]["imUrl"])


def test_codes_without_gaps() -> None:
    codes, ids = reviews.compact(np.array([3, 1, 3, 0], dtype=np.int32), pl.Series(["a", "b", "c", "d"]))
    assert (codes.tolist(), ids) == ([2, 1, 2, 0], ["a", "b", "d"])


@pytest.mark.parametrize("block", [500, 1 << 24])
def test_ids_are_in_the_order_of_their_first_appearance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(reviews, "blocks", partial(line_blocks.blocks, size=block))
    rng = np.random.default_rng(1)
    log = [(f"A{rng.integers(90)}", f"B{rng.integers(30)}", 5.0, 1) for _ in range(300)]
    write_2014(tmp_path)
    write_lines(tmp_path / "reviews_Baby_5.json.gz", [review_2014(*row) for row in log])
    data = load(path=tmp_path, category="Baby")
    assert list(data.users) == list(dict.fromkeys(user for user, *_ in log))
    assert list(data.items) == list(dict.fromkeys(item for _, item, *_ in log))
    assert pairs(data) == [(user, item) for user, item, *_ in log]


WRITERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "2014": ("Baby", write_2014),
    "2018": ("Appliances", write_2018),
    "2023": ("All_Beauty", write_2023),
}


@pytest.mark.parametrize("edition", WRITERS)
def test_the_same_log_whatever_the_edition(tmp_path: Path, edition: str) -> None:
    category, write = WRITERS[edition]
    data = load(path=write(tmp_path), category=category, edition=edition)
    other = load(path=write_2014(tmp_path / "other"), category="Baby")
    assert data.fingerprint == other.fingerprint


def test_variants_of_2023_are_one_item(tmp_path: Path) -> None:
    write_2023(tmp_path)
    red, blue = (json.loads(review_2023(user, "B1", 5.0, 1)) for user in ("A1", "A2"))
    write_lines(
        tmp_path / "All_Beauty.jsonl.gz", [json.dumps(red | {"asin": "RED"}), json.dumps(blue | {"asin": "BLUE"})]
    )
    assert pairs(load(path=tmp_path, category="All_Beauty", edition="2023")) == [("A1", "B1"), ("A2", "B1")]
