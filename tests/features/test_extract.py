"""Extraction with a small encoder whose vectors can be computed by hand."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lmm4rec.core.errors import DataError, ImageError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder, stack_pixels
from lmm4rec.features.extract import Extracted, encode, extract
from lmm4rec.features.store import FeatureStore

LENGTH = 6  # characters that are read of a text


@dataclass(frozen=True)
class Plain:
    """An image of one gray level; a negative one cannot be read."""

    level: int

    def open(self) -> Image.Image:
        if self.level < 0:
            raise ImageError("damaged")
        return Image.new("RGB", (2, 2), (self.level,) * 3)

    def digest(self) -> str:
        return str(self.level)


class Plainly(Encoder):
    """image = (level, 1), text = code points @ weight + 1: a missing modality gives ones unless it is masked."""

    def __init__(self, *, scale: float = 1.0, kill_after: int = -1, pause_s: float = 0.0) -> None:
        super().__init__()
        self.dims = {"image": 2, "text": 3}
        self.text = "{title}"
        self.weight = nn.Parameter(scale * torch.arange(LENGTH * 3.0).reshape(LENGTH, 3) / 100)
        self.dropout = nn.Dropout(0.5)
        self.kill_after, self.pause_s = kill_after, pause_s
        self.seen: list[int] = []  # rows in each batch

    def prepare(self, items: Sequence[Item]) -> Inputs:
        pixels, has_image = stack_pixels(items, lambda image: torch.tensor(np.array(image)).permute(2, 0, 1).float())
        ids, mask = torch.zeros(len(items), LENGTH, dtype=torch.long), torch.zeros(len(items), LENGTH, dtype=torch.bool)
        for row, item in enumerate(items):
            codes = torch.tensor([ord(letter) for letter in self.item_text(item)][:LENGTH], dtype=torch.long)
            ids[row, : len(codes)], mask[row, : len(codes)] = codes, True
        return Inputs(pixels, ids, mask, has_image)

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        assert inputs.pixels is not None
        assert inputs.text_ids is not None
        if len(self.seen) == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.pause_s)
        self.seen.append(len(inputs.pixels))
        level = inputs.pixels.mean(dim=(1, 2, 3))
        image = torch.stack([level, torch.ones_like(level)], dim=1)
        return {"image": self.dropout(image), "text": inputs.text_ids.float() @ self.weight + 1}

    def settings(self) -> dict[str, object]:
        return {}


def make_catalog(levels: Mapping[str, int | None], titles: Mapping[str, str] | None = None) -> Catalog:
    named = {id_: f"t{id_}" for id_ in levels} | dict(titles or {})
    return Catalog(
        ids=Vocabulary(levels),
        fields=pl.DataFrame({"title": [named[id_] for id_ in levels]}, schema={"title": pl.String}),
        images=tuple(None if level is None else Plain(level) for level in levels.values()),
        source_rows=np.arange(len(levels)),
        source_size=len(levels),
    )


def many(count: int = 20) -> Catalog:
    return make_catalog({f"i{row}": row for row in range(count)})


def run(encoder: Plainly, catalog: Catalog, folder: Path, **options: object) -> Extracted:
    return extract(
        encoder,
        catalog,
        store=FeatureStore(folder),
        **{"batch_size": 2, "block_size": 4, "precision": "float32"} | options,
    )  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, str]:
    """The vector files of a store and digests of their bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.safetensors")
    }


def vector_file(folder: Path) -> Path:
    (name,) = files(folder)
    return folder / name


def test_rows_are_the_items_in_order(tmp_path: Path) -> None:
    catalog = make_catalog({"a": 10, "b": 250, "c": 30})
    encoder = Plainly()
    extracted = run(encoder, catalog, tmp_path)
    assert extracted.features["image"].tolist() == [[10, 1], [250, 1], [30, 1]]
    codes = np.array([[ord("t"), ord(id_), 0, 0, 0, 0] for id_ in "abc"])
    expected = codes @ (np.arange(18.0).reshape(6, 3) / 100) + 1
    np.testing.assert_allclose(extracted.features["text"].numpy(), expected, rtol=1e-6)
    assert (extracted.encoded, extracted.reused, extracted.broken) == (3, 0, ())


def test_permuted_catalog_has_permuted_rows_without_encoding(tmp_path: Path) -> None:
    catalog, order = many(), np.random.default_rng(0).permutation(20)
    first = run(Plainly(), catalog, tmp_path)
    encoder = Plainly()
    second = run(encoder, catalog.select(order), tmp_path)
    assert torch.equal(second.features["image"], first.features["image"][order])
    assert torch.equal(second.features["text"], first.features["text"][order])
    assert (encoder.seen, second.encoded, second.reused) == ([], 0, 20)
    fresh = run(Plainly(), catalog.select(order), tmp_path / "another")
    assert torch.equal(second.features["text"], fresh.features["text"])


def test_missing_and_broken_are_zero_and_broken_is_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalog = make_catalog({"a": 10, "none": None, "bad": -1, "d": 4}, {"d": ""})
    for folder in (tmp_path, tmp_path):  # encoded, then read
        extracted = run(Plainly(), catalog, folder)
        assert extracted.broken == ("bad",)
        assert extracted.features["image"].tolist() == [[10, 1], [0, 0], [0, 0], [4, 1]]
        assert extracted.features["text"].any(dim=1).tolist() == [True, True, True, False]
    assert run(Plainly(), catalog.select(np.array([2, 0])), tmp_path).broken == ("bad",)  # copied rows keep it
    with caplog.at_level(logging.WARNING):
        encode(Plainly(), catalog, store=FeatureStore(tmp_path))
    assert "1 of 4 items" in caplog.text
    assert "bad" in caplog.text


def test_same_call_reads_and_maps(tmp_path: Path) -> None:
    first, encoder = run(Plainly(), many(), tmp_path), Plainly()
    before = files(tmp_path)
    second = run(encoder, many(), tmp_path, batch_size=7, block_size=3)
    assert (encoder.seen, second.encoded, second.reused) == ([], 0, 20)
    assert files(tmp_path) == before
    assert len(before) == 1  # no parts are left
    assert all(torch.equal(first.features[modality], second.features[modality]) for modality in ("image", "text"))
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        assert str(vector_file(tmp_path)) in mapped.read_text()


def test_entry_describes_itself(tmp_path: Path) -> None:
    encoder = Plainly()
    run(encoder, make_catalog({"a": 10, "bad": -1}), tmp_path)
    store = FeatureStore(tmp_path)
    (entry,) = store.entries()
    assert json.loads((tmp_path / entry.key / "entry.json").read_text())["broken"] == ["bad"]
    assert (entry.encoder, entry.items, entry.dims) == ("Plainly", 2, {"image": 2, "text": 3})
    assert (entry.encoder_fingerprint, entry.precision) == (encoder.fingerprint(), "float32")
    store.prune([entry.key, "unknown"])
    assert store.entries() == []
    assert list(tmp_path.iterdir()) == []


def test_only_the_changed_item_is_encoded(tmp_path: Path) -> None:
    catalog = many()
    run(Plainly(), catalog, tmp_path)
    images = list(catalog.images)
    images[7] = Plain(99)
    encoder = Plainly()
    extracted = run(encoder, replace(catalog, images=tuple(images)), tmp_path)
    assert (encoder.seen, extracted.encoded, extracted.reused) == ([1], 1, 19)
    assert extracted.features["image"][6:9, 0].tolist() == [6, 99, 8]
    assert len(FeatureStore(tmp_path).entries()) == 2


def test_what_vectors_took_is_known_later_and_for_the_whole_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that moves by a second for each item encoded."""
    catalog, encoder = many(), Plainly()
    monkeypatch.setattr("lmm4rec.features.extract.time", SimpleNamespace(perf_counter=lambda: float(sum(encoder.seen))))
    first, again = (run(encoder, catalog, tmp_path) for _ in range(2))
    assert (first.seconds, first.encoding_seconds) == (20, 20)
    assert (again.seconds, again.encoding_seconds) == (0, 20)
    changed = run(encoder, replace(catalog, images=(Plain(99), *catalog.images[1:])), tmp_path)
    assert (changed.seconds, changed.encoding_seconds) == (1, 20)


def test_identical_items_are_encoded_once(tmp_path: Path) -> None:
    catalog = make_catalog({"a": 1, "b": 2, "c": 1, "d": -1, "e": -1}, dict.fromkeys("abcde", "same"))
    encoder = Plainly()
    extracted = run(encoder, catalog, tmp_path)
    assert (sum(encoder.seen), extracted.encoded, extracted.reused) == (3, 3, 2)
    assert extracted.features["image"][:, 0].tolist() == [1, 2, 1, 0, 0]
    assert extracted.broken == ("d", "e")
    smaller = run(encoder, catalog.select(np.array([2, 1])), tmp_path)  # from an entry that has a content twice
    assert smaller.features["image"][:, 0].tolist() == [1, 2]


def test_other_weights_and_other_precision_are_other_entries(tmp_path: Path) -> None:
    run(Plainly(), many(), tmp_path)
    other = Plainly(scale=2)
    assert run(other, many(), tmp_path).encoded == 20
    low = run(other, many(), tmp_path, precision="bfloat16")
    assert low.encoded == 20
    assert low.features["text"].dtype == torch.float32
    full = run(other, many(), tmp_path)
    assert full.encoded == 0
    assert not torch.equal(low.features["text"], full.features["text"])
    torch.testing.assert_close(low.features["text"], full.features["text"], rtol=0.02, atol=0.02)
    assert len(FeatureStore(tmp_path).entries()) == 3


@pytest.mark.long
def test_workers_give_the_same(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    alone = run(Plainly(), many(), tmp_path / "0")
    spread = run(Plainly(), many(), tmp_path / "1", workers=1)
    assert torch.equal(alone.features["text"], spread.features["text"])
    assert files(tmp_path / "0") == files(tmp_path / "1")
    assert torch.equal(torch.get_rng_state(), state)


def test_training_modes_are_kept(tmp_path: Path) -> None:
    encoder = Plainly().train()
    encoder.dropout.eval()
    run(encoder, many(), tmp_path)
    assert encoder.training
    assert not encoder.dropout.training
    encoder = Plainly().train()  # dropout would have dropped or doubled
    assert run(encoder, many(5), tmp_path / "fresh").features["image"][:, 0].tolist() == [0, 1, 2, 3, 4]


def test_empty_catalog(tmp_path: Path) -> None:
    extracted = run(Plainly(), make_catalog({}), tmp_path, workers=1)
    assert {modality: tuple(rows.shape) for modality, rows in extracted.features.items()} == {
        "image": (0, 2),
        "text": (0, 3),
    }


def test_vector_that_is_not_finite_stops_and_names_the_item(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Plainly gives item 'i10' a text vector that is not finite"):
        run(Plainly(scale=float("inf")), many(), tmp_path)
    assert FeatureStore(tmp_path).entries() == []


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    header = int.from_bytes(content[:8], "little")
    content[8 + header] ^= 1  # the first vector's lowest bit
    path.write_bytes(content)


@pytest.mark.long
@pytest.mark.parametrize("damage", [_cut_short, _flip_a_byte, Path.unlink])
def test_damaged_vectors_are_noticed_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    run(Plainly(), many(), tmp_path)
    before, path = files(tmp_path), vector_file(tmp_path)
    time.sleep(0.02)  # a file's time of change is coarse
    damage(path)  # type: ignore[operator]
    caplog.clear()
    again = run(Plainly(), many(), tmp_path)
    assert again.encoded == 20
    assert files(tmp_path) == before
    assert str(path) in caplog.text
    assert run(Plainly(), many(), tmp_path).encoded == 0


def test_damaged_description_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(Plainly(), many(), tmp_path)
    (path,) = tmp_path.glob("*/entry.json")
    path.write_text("{")
    assert run(Plainly(), many(), tmp_path).encoded == 20
    assert str(path) in caplog.text


def test_copied_store_is_still_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(Plainly(), many(), tmp_path)
    os.utime(vector_file(tmp_path), (0, 0))
    assert run(Plainly(), many(), tmp_path).encoded == 0
    assert not caplog.records


def start(folder: Path, *, kill_after: int = -1, pause_s: float = 0.0) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder), str(kill_after), str(pause_s)]
    return subprocess.Popen(command, env=environment)


@pytest.mark.slow
def test_killed_in_the_middle_goes_on_with_the_same_bytes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(Plainly(), many(), whole)
    assert start(cut, kill_after=5).wait() == -signal.SIGKILL  # in the third block of 4, its first batch of 2 done
    parts = sorted(cut.rglob("part-*.safetensors"))
    assert len(parts) == 2
    assert FeatureStore(cut).entries() == []
    encoder = Plainly()
    extracted = run(encoder, many(), cut)
    assert (encoder.seen, extracted.encoded, extracted.reused) == ([2] * 6, 12, 8)
    assert files(cut) == files(whole)
    assert not caplog.records


def test_damaged_part_is_encoded_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(Plainly(), many(), whole)
    monkeypatch.setattr(os, "kill", lambda _process, _signal: sys.exit())
    with pytest.raises(SystemExit):
        run(Plainly(kill_after=8), many(), cut)
    first, second, *rest = sorted(cut.rglob("part-*.safetensors"))
    assert len(rest) == 2
    _cut_short(first)
    _flip_a_byte(second)
    assert run(Plainly(), many(), cut).encoded == 12
    assert files(cut) == files(whole)
    assert first.name in caplog.text
    assert second.name in caplog.text


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole", tmp_path / "both"
    expected = run(Plainly(), many(), whole).features["text"].clone()
    both = [start(shared, pause_s=0.05), start(shared, pause_s=0.06)]
    assert [process.wait() for process in both] == [0, 0]
    assert files(shared) == files(whole)
    assert not list(shared.rglob(".*"))  # nor anything half-written
    assert torch.equal(run(Plainly(), many(), shared).features["text"], expected)


def test_entry_that_another_process_finishes_in_the_middle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slow = Plainly()

    def other_process(_encoder: nn.Module, _inputs: object) -> None:
        if len(slow.seen) == 5:
            assert run(Plainly(), many(), tmp_path).encoded == 12  # takes two parts over, then removes all parts

    slow.register_forward_pre_hook(other_process)
    extracted = run(slow, many(), tmp_path)
    assert (extracted.encoded, extracted.features["image"][:, 0].tolist()) == (20, list(range(20)))
    assert len(files(tmp_path)) == 1
    assert run(Plainly(), many(), tmp_path).encoded == 0
    assert not caplog.records


if __name__ == "__main__":
    run(Plainly(kill_after=int(sys.argv[2]), pause_s=float(sys.argv[3])), many(), Path(sys.argv[1]))
