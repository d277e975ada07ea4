"""The doctor finds what was hidden in a shop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lmm4rec.data.dataset import Dataset
from lmm4rec.data.doctor import describe, examine
from lmm4rec.data.findings import Finding
from lmm4rec.data.sources.table import load

LOG = pl.DataFrame({"user_id": [1] * 5, "item_id": range(5)})


@pytest.fixture
def sick(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / "good.png")
    (tmp_path / "twin.png").write_bytes((tmp_path / "good.png").read_bytes())
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:3000])
    (tmp_path / "page.jpg").write_text("<html>")
    Image.new("1", (10_000, 9_000)).save(tmp_path / "huge.png")
    noise.resize((8, 80)).save(tmp_path / "tiny.png")
    noise.convert("CMYK").save(tmp_path / "cmyk.jpg")
    noise.convert("L").save(tmp_path / "gray.png")
    Image.new("RGBA", (40, 40), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    noise.save(tmp_path / "turned.jpg", exif=exif)
    noise.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (64, 64))])
    Image.new("I;16", (40, 40), 9).save(tmp_path / "deep.png")
    first = "good.png twin.png cut.png page.jpg huge.png tiny.png cmyk.jpg gray.png"
    images = [*first.split(), "alpha.png", "turned.jpg", "moving.gif", "deep.png", "none.png", "../out.png", None]
    titles = ["same", "same", "", "  ", *(f"title {row}" for row in range(4, 15))]
    items = pl.DataFrame({"item_id": range(15), "title": titles, "image": images})
    log = pl.DataFrame(
        {"user_id": [1, 1, 1, 1, 1, 2], "item_id": [0, 0, 0, 0, 0, 1], "timestamp": [0, 1, 2, 3, 4, 86_400]}
    )
    rows = np.ones((15, 2))
    rows[3], rows[4] = np.nan, 0
    np.save(tmp_path / "image_feat.npy", rows)
    np.save(tmp_path / "text_feat.npy", np.ones((14, 2)))
    log.write_parquet(tmp_path / "interactions.parquet")
    items.write_parquet(tmp_path / "items.parquet")
    return load(path=tmp_path)


@pytest.mark.long
def test_everything_is_found_and_counted(sick: Dataset) -> None:
    findings = {finding.kind: finding for finding in examine(sick)}
    assert {kind: (finding.level, finding.count) for kind, finding in findings.items()} == {
        "image-outside-folder": ("warning", 1),
        "missing-image": ("warning", 1),
        "not-an-image": ("warning", 1),
        "huge-image": ("warning", 1),
        "broken-image": ("warning", 1),
        "tiny-image": ("note", 1),
        "animated-image": ("note", 1),
        "rotated-image": ("note", 1),
        "alpha-image": ("note", 1),
        "cmyk-image": ("note", 1),
        "gray-image": ("note", 1),
        "deep-image": ("note", 1),
        "duplicate-image": ("note", 2),
        "no-image": ("note", 2),
        "no-text": ("warning", 2),
        "duplicate-text": ("note", 2),
        "no-interaction-item": ("note", 13),
        "rare-item": ("note", 1),
        "rare-user": ("note", 1),
        "moments-in-1970": ("warning", 6),
        "broken-features": ("error", 1),
        "zero-features": ("note", 1),
        "unusable-features": ("error", 1),
    }
    assert "cut.png is damaged" in findings["broken-image"].examples[0]
    assert findings["gray-image"].examples == ("item 7: gray.png, 64 × 64",)
    assert findings["broken-features"].examples == ("item 3",)
    assert "14 rows; expected 15" in findings["unusable-features"].message
    assert len(findings["no-interaction-item"].examples) == 10


def test_empty_columns_are_of_items_with_other_text(tmp_path: Path) -> None:
    """An item without any text is counted once, as such."""
    items = pl.DataFrame({"item_id": range(4), "title": ["a", "b", "", ""], "brand": ["x", " ", "y", ""]})
    found = {finding.message for finding in examine(load(interactions=LOG, items=items)) if "text" in finding.kind}
    assert found == {
        "1 item has no text", "1 item with other text has an empty 'title'",
        "1 item with other text has an empty 'brand'",
    }  # fmt: skip


@pytest.mark.long
def test_earlier_findings_are_passed_on(sick: Dataset) -> None:
    noted = sick.with_findings(Finding("k-core", "note", 3, "the 5-core removed 3 users"))
    assert "k-core" in {finding.kind for finding in examine(noted)}


def test_description(sick: Dataset) -> None:
    assert describe(sick) == {
        "users": 2,
        "items": 15,
        "interactions": 6,
        "density": 0.2,
        "median per user": 3.0,
        "median per item": 0.0,
        "items with an image": 13,
        "items with text": 13,
        "feature files": "image, text",
        "first": "1970-01-01",
        "last": "1970-01-02",
    }


def test_a_log_without_content_is_no_disease() -> None:
    data = load(interactions=LOG)
    assert {finding.kind for finding in examine(data)} == {"no-items-table", "rare-item"}
    assert "first" not in describe(data)
