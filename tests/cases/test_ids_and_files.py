"""Ids of float columns, archives with an array's name, paths of Windows, and files that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lmm4rec.core.errors import DataError, ImageError
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.doctor import examine
from lmm4rec.data.feature_files import open_matrix, read_shipped
from lmm4rec.data.images import ImageFile, NotAnImageError
from lmm4rec.data.sources.table import load
from lmm4rec.experiments.report.collect import collect
from lmm4rec.experiments.run import run
from lmm4rec.serving.catalog_filters import Filter


def pairs(data: Dataset) -> list[tuple[str, str]]:
    log = data.interactions
    return [(data.users[user], data.items[item]) for user, item in zip(log.users, log.items, strict=True)]


def table(users: list[str], items: list[str], known: list[str] | None) -> Dataset:
    log = pl.DataFrame({"user_id": users, "item_id": items})
    return load(interactions=log, items=None if known is None else pl.DataFrame({"item_id": known, "title": known}))


@pytest.mark.parametrize(
    ("users", "items", "known", "expected", "changed"),
    [
        (["a", "a"], ["0.0", "1.0"], ["0", "1"], [("a", "0"), ("a", "1")], {"item": 2}),
        (["a", "a"], ["0", "1.0"], ["0", "1"], [("a", "0"), ("a", "1")], {"item": 1}),
        (["a", "a"], ["0", "1"], ["0.0", "1.0"], [("a", "0.0"), ("a", "1.0")], {"item": 2}),
        (["1", "1.0"], ["x", "y"], ["x", "y"], [("1", "x"), ("1", "y")], {"user": 1}),
        (["1.0", "2.0"], ["x", "y"], ["x", "y"], [("1.0", "x"), ("2.0", "y")], {}),  # they meet as they are
        (["a", "b"], ["7", "7.0"], None, [("a", "7"), ("b", "7")], {"item": 1}),
        (["a", "b"], ["7", "7.0"], ["7", "7.0"], [("a", "7"), ("b", "7.0")], {}),  # two items of the catalog
        (["a", "b"], ["007.0", "1.50"], ["007", "1.50"], [("a", "007"), ("b", "1.50")], {"item": 1}),
        (["a", "b"], ["v1.0", "9.0"], ["v1", "v1.0", "9"], [("a", "v1.0"), ("b", "9")], {"item": 1}),
    ],
)
def test_ids_with_point_zero_meet(
    users: list[str],
    items: list[str],
    known: list[str] | None,
    expected: list[tuple[str, str]],
    changed: dict[str, int],
) -> None:
    data = table(users, items, known)
    assert pairs(data) == expected
    found = [finding for finding in data.findings if finding.kind == "ids-with-point-zero"]
    assert {finding.message.split()[1]: finding.count for finding in found} == changed
    if changed:
        assert ", read as " in found[0].examples[0]


def test_an_archive_with_the_name_of_an_array(tmp_path: Path) -> None:
    with (tmp_path / "image_feat.npy").open("wb") as file:
        np.savez(file, features=np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"is an \.npz archive \(features\); save its array alone"):
        open_matrix(tmp_path / "image_feat.npy")
    (tmp_path / "interactions.csv").write_text("user_id,item_id\n1,0\n1,1\n")
    (tmp_path / "items.csv").write_text("item_id,title\n0,a\n1,b\n")
    data = load(path=tmp_path)
    assert [finding.level for finding in examine(data) if finding.kind == "unusable-features"] == ["error"]
    with pytest.raises(DataError, match="archive"):
        read_shipped(data.catalog)


def shop_with_images(folder: Path, names: list[str]) -> Dataset:
    rows = list(map(str, range(len(names))))
    items = pl.DataFrame({"item_id": rows, "title": rows, "image": names})
    log = pl.DataFrame({"user_id": rows, "item_id": rows})
    return load(interactions=log, items=items, image_folder=folder)


def test_image_paths_of_windows_are_found(tmp_path: Path) -> None:
    (tmp_path / "images/a").mkdir(parents=True)
    for name in ("images/0.png", "images/a/1.png", "odd\\name.png"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    names = ["images\\0.png", ".\\images\\a\\1.png", "odd\\name.png", "images\\none.png", "..\\secret.png", "C:\\x.png"]
    (tmp_path.parent / "secret.png").write_bytes((tmp_path / "images/0.png").read_bytes())
    data = shop_with_images(tmp_path, names)
    for image in data.catalog.images[:3]:
        assert image is not None
        assert image.open().size == (40, 40)
    counts = {finding.kind: finding.count for finding in data.findings}
    assert counts["missing-image"] == 2
    assert counts["image-outside-folder"] == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A named pipe without a writer would be waited for without end; a folder and a device are no images either."""
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "c.png")
    data = shop_with_images(tmp_path, ["a.jpg", "b.jpg", "c.png"])
    findings = {finding.kind: finding for finding in examine(data)}
    assert findings["not-an-image"].count == 2
    assert findings["not-an-image"].examples[0].startswith("item 0: ")
    for name in ("a.jpg", "b.jpg"):
        image = ImageFile(tmp_path / name)
        assert image.digest() != ImageFile(tmp_path / "c.png").digest()
        for read in (image.open, image.conversions):
            with pytest.raises(NotAnImageError, match="is no regular file"):
                read()
    with pytest.raises(ImageError):
        ImageFile(Path("/dev/zero")).open()


def respelled(users: list[str], items: list[str], known: list[str] | None) -> tuple[list[tuple[str, str]], list[str]]:
    data = table(users, items, known)
    return pairs(data), [finding.kind for finding in data.findings if finding.kind.startswith("ids-")]


NFD, NFC = "e\u0301", "\u00e9"


@pytest.mark.parametrize(
    ("users", "items", "known", "expected", "kinds"),
    [
        (["a", "a "], ["x ", "\u200fx"], ["x", "y"], [("a", "x"), ("a", "x")], ["ids-respelled", "ids-respelled"]),
        (["a"], ["x"], ["x \u00a0", "y"], [("a", "x \u00a0")], ["ids-respelled"]),
        (["a"], ["x"], ["x ", "x\t", "z", "x"], [("a", "x")], []),
        (["a", "b"], ["x", "z"], ["x ", "x\t", "z"], [("b", "z")], []),  # two it may be: set aside
        ([NFD, NFC], [NFD + "1", NFC + "1"], [NFC + "1"], [(NFC, NFC + "1")] * 2, ["ids-respelled", "ids-respelled"]),
        (["a ", "b"], ["7.0", "7 "], ["7"], [("a ", "7"), ("b", "7")], ["ids-with-point-zero", "ids-respelled"]),
        (["a", "b"], [" x", "x"], None, [("a", "x"), ("b", "x")], ["ids-respelled"]),
        (["\U0001f98a", "b"], ["\U0001f469\u200d\U0001f467", "x"], None,
         [("\U0001f98a", "\U0001f469\u200d\U0001f467"), ("b", "x")], []),
    ],
)  # fmt: skip
def test_ids_that_differ_in_spaces_or_unicode_form_meet(
    users: list[str], items: list[str], known: list[str] | None, expected: list[tuple[str, str]], kinds: list[str]
) -> None:
    assert respelled(users, items, known) == (expected, kinds)


@pytest.mark.parametrize(
    ("items", "known", "hint"),
    [
        (["7", "8"], ["007", "008"], "leading zeros"),
        (["A1"], ["a1"], "upper and lower case"),
        (["1.23E+12"], ["1230000000001"], "scientific notation"),
    ],
)
def test_why_no_item_is_known(items: list[str], known: list[str], hint: str) -> None:
    with pytest.raises(DataError, match=hint):
        table(["u"] * len(items), items, known)


def test_ids_that_may_be_none_are_findings() -> None:
    data = table(["nan", "u", "1.5E+11", "v"], ["x", "NULL", "x", "x"], None)
    findings = [(finding.kind, finding.examples) for finding in data.findings if "ids" in finding.kind]
    assert findings == [
        ("shortened-ids", ("interactions row 3: 1.5E+11",)),
        ("ids-of-nothing", ("interactions row 1: nan",)),
        ("ids-of-nothing", ("interactions row 2: NULL",)),
    ]


def test_ids_of_every_type_become_text() -> None:
    log = pl.DataFrame({"user_id": [2.0**70, 3.0, 0.5], "item_id": [b"a", b"\xff", b"b"]})
    data = load(interactions=log)
    assert list(data.users) == ["1.1805916207174113e+21", "3", "0.5"]
    assert list(data.items) == ["a", "\ufffd", "b"]


def test_image_names_under_other_spellings(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    for name in ("img/A.JPG", "b c.png", f"{NFD}.png", "d.png", "e.png", "e.jpg", "g%20h.png"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    good = ["IMG/a.jpg".lower(), "b%20c.png", f"{NFC}.png", "d", "/d.png", "d.png?v=2", " d.png ", "g%20h.png", "img/A"]
    good += ["d.png | e.png"]
    data = shop_with_images(tmp_path, [*good, "e", "../d.png", "data:image/png;base64," + "A" * 2000])
    for image in data.catalog.images[: len(good)]:
        assert image is not None
        assert image.open().size == (40, 40)
    findings = {finding.kind: finding for finding in data.findings}
    assert findings["image-respelled"].count == len(good) - 1
    assert findings["image-respelled"].examples[1] == "item 1: b%20c.png, read as b c.png"
    assert findings["missing-image"].examples == ("item 10: e",)  # two files it may be
    assert findings["image-outside-folder"].count == 2
    duplicates = {finding.kind: finding.count for finding in examine(data)}["duplicate-image"]
    assert duplicates == len(good)


def test_images_in_lists_and_objects() -> None:
    urls = ["http://a.b/1.jpg", "http://a.b/2.jpg"]
    for cell in (urls, {"large": urls[0], "small": urls[1]}, [{"large": urls[0]}, {"large": urls[1]}]):
        items = pl.DataFrame({"item_id": ["0", "1"], "title": ["a", "b"], "image": [cell, None]})
        data = load(interactions=pl.DataFrame({"user_id": ["u"], "item_id": ["0"]}), items=items)
        assert data.catalog.image_urls == (urls[0], "")
        assert {finding.kind: finding.count for finding in data.findings}["several-images"] == 1


@pytest.mark.parametrize("fraction", [0, 2])
@pytest.mark.parametrize("form", ["lines", "broken lines", "array"])
def test_a_fraction_among_long_ids_in_json_costs_them_no_digit(tmp_path: Path, form: str, fraction: int) -> None:
    """2^53 + 1 is the first whole number that a float cannot hold."""
    ids: list[float] = [2**53 + 1, 2**53]
    ids.insert(fraction, 1.5)
    rows = [json.dumps({"user_id": user, "item_id": 7}) for user in ids]
    path = tmp_path / ("log.json" if form == "array" else "log.jsonl")
    rows += ["{broken"] if form == "broken lines" else []
    path.write_text(f"[{','.join(rows)}]" if form == "array" else "\n".join(rows))
    assert list(load(interactions=path).users) == [str(one) for one in ids]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pl.Series([40063813339310001, 40063813339310002, None]), pl.Int64),
        (pl.Series([40063813339310001, 40063813339310002, None]).cast(pl.Decimal(38, 0)), pl.Int64),
        (pl.Series(["40063813339310001", "40063813339310002", ""]), pl.Int64),
        (pl.Series(["99940063813339310001", "99940063813339310002", ""]), pl.String),
        (pl.Series(["40063813339310001", " 40063813339310002", "none"]), pl.String),
        (pl.Series([9.5, 10.0, None]), pl.Float64),
        (pl.Series(["9.5", "10", ""]), pl.Float64),
        (pl.Series([9.5, 10.0, None]).cast(pl.Decimal(10, 2)), pl.Float64),
    ],
)
def test_codes_of_items_keep_all_their_digits(cells: pl.Series, expected: pl.DataType) -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"], "code": cells})
    data = load(interactions=pl.DataFrame({"user_id": ["u"], "item_id": ["a"]}), items=items, text_columns=["title"])
    codes = data.catalog.attributes["code"]
    assert codes.dtype == expected
    for at in (0, 1):
        code = str(cells[at]).strip()
        assert Filter("code", "=", code).passing(data.catalog.attributes).arg_true().to_list() == [at]
        assert Filter("code", "<=", code).passing(data.catalog.attributes).arg_true().to_list() == [0, 1][: at + 1]


def test_signs_of_patterns_in_the_names_of_folders(tmp_path: Path) -> None:
    """Polars reads [, * and ? of a path as a pattern unless told otherwise."""
    shop, out = tmp_path / "shop [a]", tmp_path / "runs [*]"
    shop.mkdir()
    log = pl.DataFrame({"user_id": [f"u{n % 6}" for n in range(30)], "item_id": [f"i{n % 7}" for n in range(30)]})
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(7)], "title": ["red mug"] * 7})
    log.write_csv(shop / "interactions.csv")
    log.write_parquet(shop / "log.parquet")
    items.write_ndjson(shop / "items.jsonl")
    tables = {"data": {"name": "table", "path": str(shop)}, "recommender": {"name": "popular"}}
    result = run(tables, out=out)
    assert len(result.bundle().items) == 7
    assert collect([out]).designs[0].per_user("recall@20").size > 0
    assert len(load(interactions=shop / "log.parquet").interactions) == 30
