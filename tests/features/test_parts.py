"""Images apart from words, long texts first, precision and sizes found by themselves, and strictness."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lmm4rec.core.errors import DataError
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.color import Color
from lmm4rec.encoders.paired import Paired
from lmm4rec.encoders.words import Words
from lmm4rec.encoding import sizing
from lmm4rec.features.extract import Extracted, encode, extract
from lmm4rec.features.store import FeatureStore
from towers import Gray, Towers, Wide, catalog_of


def run(encoder: Towers | Paired, catalog: Catalog, folder: Path, **options: object) -> Extracted:
    fixed = {"batch_size": 2, "block_size": 4, "workers": 0, "precision": "float32"}
    return extract(encoder, catalog, store=FeatureStore(folder), **fixed | options)  # type: ignore[arg-type]


def test_a_image_under_two_texts_is_encoded_once(tmp_path: Path) -> None:
    encoder = Towers()
    extracted = run(encoder, catalog_of([7, 7, 8], ["a", "b", "b"]), tmp_path)
    assert sorted(encoder.levels) == [7, 8]
    assert sorted(length for batch in encoder.texts for length in batch) == [1, 1]
    assert extracted.features["image"][:, 0].tolist() == [7, 7, 8]
    assert extracted.features["text"][:, 0].tolist() == [97, 98, 98]
    assert (extracted.encoded, extracted.reused) == (3, 0)


def test_a_unified_encoder_takes_each_pair_whole(tmp_path: Path) -> None:
    encoder = Towers()
    encoder.separable = False  # type: ignore[misc]
    extracted = run(encoder, catalog_of([7, 7, 7], ["a", "b", "b"]), tmp_path)
    assert encoder.levels == [7, 7]
    assert (extracted.encoded, extracted.reused) == (2, 1)
    apart = run(Towers(), catalog_of([7, 7, 7], ["a", "b", "b"]), tmp_path)
    for modality, rows in extracted.features.items():
        assert torch.equal(rows, apart.features[modality])


def test_a_changed_text_leaves_the_images_alone_and_the_other_way_round(tmp_path: Path) -> None:
    catalog = catalog_of([1, 2, 3], ["a", "b", "c"])
    run(Towers(), catalog, tmp_path)
    retold, redrawn = Towers(), Towers()
    assert run(retold, catalog_of([1, 2, 3], ["a", "z", "c"]), tmp_path).features["text"][1, 0] == ord("z")
    assert (retold.levels, retold.texts) == ([], [[1]])
    images = (Gray(1), Gray(9), Gray(3))
    assert run(redrawn, replace(catalog, images=images), tmp_path).features["image"][1, 0] == 9
    assert (redrawn.levels, redrawn.texts) == ([9], [])


def test_another_text_side_leaves_the_images_of_a_pair_alone(tmp_path: Path) -> None:
    catalog = catalog_of([1, 2, 3], ["red mug", "red lamp", "blue mug"])
    for dim in (4, 5):
        run(Paired(image=Color(), text=Words(text="{title}", dim=dim, buckets=64)), catalog, tmp_path)
    widths = sorted(list(entry.dims.items()) for entry in FeatureStore(tmp_path).entries())
    assert widths == [[("image", 294)], [("text", 4)], [("text", 5)]]


def test_long_texts_come_first_so_that_little_is_padding(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).permutation(np.arange(1, 21))
    encoder, titles = Towers(), ["x" * length for length in lengths]
    extracted = run(encoder, catalog_of([None] * 20, titles), tmp_path)
    assert encoder.texts == [[20 - 2 * batch, 19 - 2 * batch] for batch in range(10)]
    assert extracted.features["text"][:, 0].tolist() == (lengths * ord("x")).tolist()


@pytest.mark.parametrize("native", [True, False])
def test_precision_auto_is_what_the_hardware_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(sizing, "has_bfloat16", lambda _device: native)
    expected = "bfloat16" if native else "float32"
    assert run(Towers(), catalog_of([1], ["a"]), tmp_path, precision="auto").precision == expected
    assert {entry.precision for entry in FeatureStore(tmp_path).entries()} == {expected}
    assert sizing.resolve_precision("auto", Color(), torch.device("cpu")) == "float32"  # it has no weights to multiply


def test_automatic_batches_do_not_depend_on_what_is_left(tmp_path: Path) -> None:
    titles = ["x" * (1 + row % 100) for row in range(300)] + ["y" * 5000]  # one long text is in the store already
    run(Wide(), catalog_of([None], titles[-1:]), tmp_path)
    encoder = Wide()
    run(encoder, catalog_of([None] * 301, titles), tmp_path, batch_size="auto", memory_mb=1, block_size=512)
    trial, *batches = [len(batch) for batch in encoder.texts]
    assert trial == 1
    assert batches == [16] * 6 + [4]  # 2 * 4,004 + 9 * 5,000 bytes: 19 fit a MiB; 100 texts are distinct


def test_strict_stops_and_names_the_items(tmp_path: Path) -> None:
    catalog = catalog_of([1, -1, 3, None, -1], ["a", "b", "c", "d", "e"])
    with pytest.raises(DataError, match=r"2 of the items .* cannot be read: i1, i4; mend"):
        run(Towers(), catalog, tmp_path, strict=True)
    assert run(Towers(), catalog, tmp_path).broken == ("i1", "i4")  # the run goes on
    with pytest.raises(DataError, match="i1, i4"):  # also where the vectors are in the store
        run(Towers(), catalog, tmp_path, strict=True)
    assert run(Towers(), catalog_of([1, 2, None], ["a", "b", "c"]), tmp_path, strict=True).broken == ()


def test_what_it_took_is_said_in_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        encode(Towers(), catalog_of([1, 2], ["a", "b"]), store=FeatureStore(tmp_path), precision="bfloat16")
    assert "image: encoded 2 of 2 items in" in caplog.text
    assert "items/s (bfloat16 on cpu, batches of 256, 0 workers)" in caplog.text
