"""Vectors from cached states: the same losses and gradients as the whole encoder gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from layered import ENCODERS, build, catalog, whole_vectors
from lmm4rec.core.errors import ConfigError
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.color import Color
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.encoding.sizing import ResolvedPrecision
from lmm4rec.features.cached import SideVectors, TopBlocks
from lmm4rec.features.state_cache import StatesCache

ROWS = [5, 3, 0, 2]


def cache(encoder: Encoder, root: Path, top: int | None, stored: ResolvedPrecision = "float32") -> StatesCache:
    return StatesCache(encoder, catalog(), top=top, root=root, stored=stored, precision="float32", block_size=2)


def loss_of(vectors: dict[str, Tensor]) -> Tensor:
    """Any function of all numbers that come out."""
    parts = [torch.einsum("bd,d->b", x, torch.linspace(-1, 1, x.shape[1])).square().sum() for x in vectors.values()]
    return torch.stack(parts).sum()


@pytest.mark.long
@pytest.mark.parametrize("name", ENCODERS)
def test_the_top_blocks_get_the_gradient_that_the_whole_encoder_gives_them(
    name: str, layered_root: Path, tmp_path: Path
) -> None:
    encoder = build(name, layered_root)
    expected = loss_of(whole_vectors(encoder, ROWS))
    expected.backward()
    gradients = [one.grad for one in encoder.parameters()]
    encoder.zero_grad()
    vectors = TopBlocks(encoder, cache(encoder, tmp_path / "states", 1))
    lengths = PreparedItems(encoder, catalog()[:], memory_mb=100).text_lengths
    assert lengths is vectors.text_lengths is None or torch.equal(lengths, vectors.text_lengths)
    loss = loss_of(vectors(torch.tensor(ROWS)))
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    loss.backward()
    trained = 0
    for parameter, gradient in zip(encoder.parameters(), gradients, strict=True):
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, gradient, atol=2e-5, rtol=1e-4)
            trained += 1
        else:
            assert parameter.grad is None
    assert 0 < trained < len(gradients)


@pytest.mark.long
@pytest.mark.parametrize("top", [1, None])
@pytest.mark.parametrize("name", ENCODERS)
def test_a_batch_in_which_no_item_has_a_modality_is_cached(
    name: str, top: int | None, layered_root: Path, tmp_path: Path
) -> None:
    encoder = build(name, layered_root)
    filled = StatesCache(
        encoder, catalog(), top=top, root=tmp_path, stored="float32", precision="float32", batch_size=1
    )
    with torch.no_grad():
        vectors = (TopBlocks(encoder, filled) if top else SideVectors(filled)).eval()(torch.tensor(ROWS))
        expected = whole_vectors(encoder, ROWS)
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("name", ["clip", "vlmo"])
def test_training_from_the_cache_gives_the_losses_of_training_without_and_changes_no_other_weight(
    name: str, layered_root: Path, tmp_path: Path
) -> None:
    encoders = [build(name, layered_root) for _ in range(2)]
    cached = TopBlocks(encoders[0], cache(encoders[0], tmp_path / "states", 1))
    before = {key: tensor.clone() for key, tensor in encoders[0].state_dict().items()}
    trains = {key for key, one in encoders[0].named_parameters() if one.requires_grad}
    for key, one in encoders[1].named_parameters():
        one.requires_grad_(key in trains)
    losses: list[list[float]] = [[], []]
    optimizers = [
        torch.optim.SGD([one for one in encoder.parameters() if one.requires_grad], lr=0.05) for encoder in encoders
    ]
    for step in range(4):
        rows = [(step + shift) % 6 for shift in range(3)]
        for number, optimizer in enumerate(optimizers):
            optimizer.zero_grad()
            loss = loss_of(cached(torch.tensor(rows)) if number == 0 else whole_vectors(encoders[1], rows))
            loss.backward()
            optimizer.step()
            losses[number].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    after = encoders[0].state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert changed <= trains


@pytest.mark.long
@pytest.mark.parametrize("name", ["beit3", "clip", "paired"])
def test_bfloat16_on_disk_moves_vectors_by_a_hundredth_at_most(name: str, layered_root: Path, tmp_path: Path) -> None:
    encoder = build(name, layered_root)
    with torch.no_grad():
        exact = whole_vectors(encoder, ROWS)
        kept = TopBlocks(encoder, cache(encoder, tmp_path, 1, "bfloat16"))(torch.tensor(ROWS))
    for modality, x in kept.items():
        assert (x - exact[modality]).norm(dim=1).max() < 0.01 * max(1.0, float(exact[modality].norm(dim=1).max()))


@pytest.mark.long
@pytest.mark.parametrize("name", ["beit3", "clip", "paired"])
def test_a_side_network_starts_as_the_frozen_encoder_and_learns(name: str, layered_root: Path, tmp_path: Path) -> None:
    encoder = build(name, layered_root)
    vectors = SideVectors(cache(encoder, tmp_path / "states", None, "bfloat16"), dim=8)
    learned = getattr(encoder, "logit_scale", None)
    assert (vectors.scale() is None) == (learned is None)
    with torch.no_grad():
        frozen = whole_vectors(encoder, ROWS)
    items = torch.tensor(ROWS)
    for modality, x in vectors(items).items():
        torch.testing.assert_close(x, frozen[modality], atol=1e-6, rtol=1e-5)
    optimizer = torch.optim.Adam(vectors.parameters(), lr=0.01)
    target = {modality: x.roll(1, dims=1) for modality, x in frozen.items()}
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.stack([(x - target[modality]).square().sum() for modality, x in vectors(items).items()]).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(one.grad is not None and one.grad.any() for one in vectors.parameters())
    for modality, x in vectors(items).items():
        assert torch.equal(x.any(dim=1), frozen[modality].any(dim=1))  # what is missing stays missing


def test_what_has_too_few_blocks_says_how_many(layered_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"top 4 blocks are to train, but the image tower of Clip has 3"):
        cache(build("clip", layered_root), tmp_path, 4)
    with pytest.raises(ConfigError, match=r"Color gives image by no stack of blocks \(0 layers\)"):
        cache(Color(), tmp_path, 1)
