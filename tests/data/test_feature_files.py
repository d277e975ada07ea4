"""Feature files are checked before they are believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from lmm4rec.core.errors import DataError
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.feature_files import read_shipped

ROWS = np.arange(12, dtype=np.float16).reshape(4, 3)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Items c and a of a source with rows a, b, c, d."""
    np.save(tmp_path / "image_feat.npy", ROWS)
    whole = Catalog(
        Vocabulary("abcd"), pl.DataFrame(), (None,) * 4, np.arange(4), 4, {"image": tmp_path / "image_feat.npy"}
    )
    return whole.select(np.array([2, 0]))


def test_rows_follow_the_catalog(catalog: Catalog) -> None:
    features = read_shipped(catalog)
    assert features["image"].dtype == np.float32
    assert features["image"].tolist() == [[6, 7, 8], [0, 1, 2]]


def test_safetensors_and_bfloat16(catalog: Catalog, tmp_path: Path) -> None:
    save_file({"audio": torch.from_numpy(ROWS).bfloat16()}, tmp_path / "audio.safetensors")
    assert read_shipped(catalog, files={"audio": str(tmp_path / "audio.safetensors")})["audio"].tolist() == [
        [6, 7, 8],
        [0, 1, 2],
    ]


def test_broken_rows_are_counted_and_named(catalog: Catalog, tmp_path: Path) -> None:
    for bad in (np.nan, np.inf, 1e30):
        rows = ROWS.astype(np.float32)
        rows[0, 1] = bad
        np.save(tmp_path / "bad.npy", rows)
        files = {"image": tmp_path / "bad.npy"}
        with pytest.raises(
            DataError, match=r"bad\.npy holds NaN, infinity or numbers beyond 1e\+18 in 1 row, of the items a;"
        ):
            read_shipped(catalog, files=files)
        assert read_shipped(catalog, files=files, broken_rows="zero")["image"].tolist() == [[6, 7, 8], [0, 0, 0]]


def test_broken_rows_of_other_items_do_not_matter(catalog: Catalog, tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[1] = np.nan
    np.save(tmp_path / "bad.npy", rows)
    assert np.isfinite(read_shipped(catalog, files={"image": tmp_path / "bad.npy"})["image"]).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros((3, 2)), "has 3 rows; expected 4, one for each item"),
        (np.zeros(4), "shape \\(4,\\)"),
        (np.array([["a"]] * 4), "expected numbers"),
        (np.array([[object()]] * 4), "not a readable .npy"),
        (b"not numpy", r"not a readable .npy file: it is no array of numbers that numpy.save wrote$"),
        (b"", "not a readable .npy"),
        (None, "is missing"),
    ],
)
def test_unusable_files(catalog: Catalog, tmp_path: Path, content: object, words: str) -> None:
    path = tmp_path / "bad.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(DataError, match=words):
        read_shipped(catalog, files={"image": path})


def test_nothing_to_read_and_unknown_kinds(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no feature files"):
        read_shipped(catalog, files={})
    for name in ("x.pt", "x.safetensors"):
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(DataError, match="unknown kind"):
        read_shipped(catalog, files={"image": tmp_path / "x.pt"})
    with pytest.raises(DataError, match=r"not a readable \.safetensors"):
        read_shipped(catalog, files={"image": tmp_path / "x.safetensors"})
