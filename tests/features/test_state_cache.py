"""The cache of states: found again, resumed after a kill with the same bytes, refused where the disk is too small."""

from __future__ import annotations

import dataclasses
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from layered import WORDS, build, catalog
from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Inputs
from lmm4rec.encoders.base import Encoder
from lmm4rec.features.state_cache import StatesCache
from lmm4rec.features.state_files import Shards
from lmm4rec.features.store_inventory import stored_states

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def encoder(layered_root: Path) -> Encoder:
    return build("clip", layered_root)


def cache(encoder: Encoder, root: Path, **options: Any) -> StatesCache:
    given = {"top": 1, "stored": "float32", "precision": "float32", "block_size": 2, "batch_size": 2} | options
    return StatesCache(encoder, catalog(), root=root, **given)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.glob("*/shard-*"))}


def test_states_are_those_of_the_encoder_and_only_of_tokens_that_are_there(encoder: Encoder, tmp_path: Path) -> None:
    stored = cache(encoder, tmp_path).fill()
    items = catalog()
    for row in range(len(WORDS)):
        inputs = encoder.prepare([items[row]])
        for modality, tower in encoder.towers().items():
            chosen = torch.tensor([row])
            if stored.present(modality, chosen):
                (states,) = tower.observe(inputs, [2])[0].values()
                torch.testing.assert_close(stored.read(modality, chosen), states[0], atol=1e-6, rtol=1e-5)
            assert stored.present(modality, chosen).item() == encoder.present(inputs)[modality].item()
    assert stored.inputs(torch.tensor([1, 0])).text_mask.sum(1).tolist() == [  # type: ignore[union-attr]
        int(encoder.prepare([items[row]]).text_mask.sum())  # type: ignore[union-attr]
        for row in (1, 0)
    ]


def test_what_is_cached_is_not_computed_again(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cache(encoder, tmp_path).fill()
    before = contents(tmp_path)
    monkeypatch.setattr(StatesCache, "_compute", None)
    again = cache(encoder, tmp_path)
    assert again.estimate().missing == again.estimate().bytes == 0
    everyone = torch.arange(len(WORDS))
    for modality in encoder.dims:
        assert torch.equal(again.fill().read(modality, everyone), first.read(modality, everyone))
    assert contents(tmp_path) == before


def test_another_encoder_depth_or_precision_has_a_cache_of_its_own(
    encoder: Encoder, layered_root: Path, tmp_path: Path
) -> None:
    other = build("clip", layered_root)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1
    made = [
        cache(encoder, tmp_path), cache(encoder, tmp_path, top=2), cache(encoder, tmp_path, top=None),
        cache(encoder, tmp_path, stored="bfloat16"), cache(other, tmp_path),
    ]  # fmt: skip
    assert len({one.key for one in made}) == len(made)
    assert cache(encoder, tmp_path).key == made[0].key


def test_a_killed_filling_goes_on_and_ends_with_the_same_bytes(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache(encoder, tmp_path / "whole").fill()
    passes: list[int] = []
    compute = StatesCache._tensors

    def dying(self: StatesCache, inputs: Inputs) -> dict[str, torch.Tensor]:
        passes.append(len(inputs.text_ids))  # type: ignore[arg-type]
        if len(passes) == 4:  # two of the trial, one block of two batches is done
            raise KeyboardInterrupt
        return compute(self, inputs)

    monkeypatch.setattr(StatesCache, "_tensors", dying)
    with pytest.raises(KeyboardInterrupt):
        cache(encoder, tmp_path / "killed").fill()
    assert 0 < len(contents(tmp_path / "killed")) < len(contents(tmp_path / "whole"))
    assert not list((tmp_path / "killed").glob("*/states.json"))
    assert [one.finished for one in stored_states(tmp_path / "killed")] == [False]
    left = cache(encoder, tmp_path / "killed").estimate()
    assert 0 < left.missing < left.items
    cache(encoder, tmp_path / "killed").fill()
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_shard_that_another_process_has_rounded_otherwise_counts_once(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, everyone, write = cache(encoder, tmp_path / "alone").fill(), torch.arange(len(WORDS)), Shards.write

    def write_twice(self: Shards, number: int, tensors: dict[str, torch.Tensor]) -> None:
        write(self, number, tensors)
        write(self, number, {name: x + 1e-7 if x.is_floating_point() else x for name, x in tensors.items()})

    monkeypatch.setattr(Shards, "write", write_twice)
    stored = cache(encoder, tmp_path / "two").fill()
    for modality in encoder.dims:
        torch.testing.assert_close(stored.read(modality, everyone), expected.read(modality, everyone))


def test_a_damaged_file_is_noticed_and_computed_anew(
    encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache(encoder, tmp_path).fill()
    before = contents(tmp_path)
    damaged = next(tmp_path.glob("*/shard-00001-*"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    cache(encoder, tmp_path).fill()
    assert contents(tmp_path) == before
    assert "was altered" in caplog.text


def test_the_size_is_reported_before_and_too_little_disk_is_refused(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = cache(encoder, tmp_path).estimate()
    assert estimate.missing == estimate.items == len(WORDS)
    assert estimate.items_per_s > 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1000, 0, estimate.bytes - 1))
    with pytest.raises(DataError, match=rf"of 6 items needs about 0.00 GB in {tmp_path}.*, where 0.00 GB are free"):
        cache(encoder, tmp_path).fill()
    assert contents(tmp_path) == {}
    monkeypatch.undo()
    cache(encoder, tmp_path).fill()
    (listed,) = stored_states(tmp_path)
    assert (listed.items, listed.finished, listed.parts) == (6, True, 3)
    assert dict(listed.identity.dims) == {"states below 1 blocks of image": 32, "states below 1 blocks of text": 32}  # type: ignore[union-attr]
    on_disk = sum(len(content) for content in contents(tmp_path).values())
    assert 0.9 < estimate.bytes / on_disk < 1.3
    with pytest.raises(DataError, match=r"2.00 GB in .*, where 1.00 GB are free"):
        dataclasses.replace(estimate, bytes=2 * 10**9, free=10**9).check()


def test_items_of_the_same_content_share_a_row(encoder: Encoder, tmp_path: Path) -> None:
    twice = catalog()
    doubled = dataclasses.replace(
        twice,
        fields=twice.fields[[0, 1, 0, 1, 4, 5]],
        images=tuple(twice.images[row] for row in (0, 1, 0, 1, 4, 5)),
    )
    stored = StatesCache(encoder, doubled, top=1, root=tmp_path, precision="float32").fill()
    assert stored.n_items == 6
    assert len(stored.lengths["image"]) == 4
    assert torch.equal(stored.read("text", torch.tensor([0, 1])), stored.read("text", torch.tensor([2, 3])))
