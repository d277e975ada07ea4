"""`lmm4rec encode` on tables and image files, in processes of their own: killed, and two at once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lmm4rec.features.store import FeatureStore
from lmm4rec.features.store_inventory import stored_features
from process_kills import kill_when

ITEMS = 1500
CONF = """
[data]
name = "table"
path = "shop"
[encoder]
name = "paired"
image = { name = "color" }
text = { name = "words" }
[features]
workers = 1
[recommender]
name = "vbpr"
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a conf and a shop of distinct images and texts."""
    rng, images = np.random.default_rng(0), tmp_path / "shop" / "images"
    images.mkdir(parents=True)
    for row in range(ITEMS):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(images / f"{row}.png")
    ids = [f"i{row}" for row in range(ITEMS)]
    words = [" ".join(rng.choice(["red", "mug", "lamp", "oak", "blue", "wool"], rng.integers(1, 9))) for _ in ids]
    titles = [f"{text} {row}" for row, text in enumerate(words)]
    images = [f"images/{row}.png" for row in range(ITEMS)]
    pl.DataFrame({"item_id": ids, "title": titles, "description": words, "image": images}).write_csv(
        tmp_path / "shop" / "items.csv"
    )
    users = [f"u{row % 100}" for row in range(ITEMS)]
    pl.DataFrame({"user_id": users, "item_id": ids}).write_csv(tmp_path / "shop" / "interactions.csv")
    (tmp_path / "shop.conf").write_text(CONF)
    return tmp_path


def start(folder: Path, cache: str) -> subprocess.Popen[bytes]:
    script = "from lmm4rec.cli.app import main; main(['encode', 'shop.conf'])"
    environment = {**os.environ, "LMM4REC_CACHE": str(folder / cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", script], cwd=folder, env=environment)


def files(cache: Path) -> dict[str, str]:
    """The vector files of a store and digests of their bytes."""
    paths = cache.rglob("*.safetensors")
    return {str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.slow
def test_killed_with_sigkill_it_goes_on_and_ends_with_the_same_bytes(shop: Path) -> None:
    assert start(shop, "whole").wait() == 0
    kill_when(lambda: any(shop.glob("cut/features/*/part-*")), start(shop, "cut"), seconds=60)
    (unfinished,) = stored_features(FeatureStore(shop / "cut" / "features"))
    assert (unfinished.finished, unfinished.items % 512) == (False, 0)
    assert 512 <= unfinished.items < ITEMS
    assert start(shop, "cut").wait() == 0
    assert files(shop / "cut") == files(shop / "whole")


@pytest.mark.slow
def test_two_processes_on_one_entry_end_with_one_good_entry(shop: Path) -> None:
    assert start(shop, "alone").wait() == 0
    both = [start(shop, "both"), start(shop, "both")]
    assert [process.wait() for process in both] == [0, 0]
    assert files(shop / "both") == files(shop / "alone")
    store = FeatureStore(shop / "both" / "features")
    for entry in store.entries():
        store.verify(entry.key)
        assert entry.items == ITEMS


@pytest.mark.slow
def test_a_changed_file_is_encoded_again_alone(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert start(shop, "cache").wait() == 0
    assert f"{ITEMS:,} items encoded" in capfd.readouterr().out
    Image.new("RGB", (24, 24), "red").save(shop / "shop" / "images" / "7.png")
    (shop / "shop" / "images" / "8.png").write_bytes(b"no image")
    assert start(shop, "cache").wait() == 0
    printed = capfd.readouterr().out
    assert f"2 items encoded, {ITEMS - 2:,} reused" in printed
    assert "broken images: i8" in printed
