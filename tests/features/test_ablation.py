"""Features changed on purpose, by hand-checked properties."""

from __future__ import annotations

import pytest
import torch

from lmm4rec.core.errors import ConfigError
from lmm4rec.features.ablation import altered, differs_at_test


@pytest.fixture
def features() -> dict[str, torch.Tensor]:
    """Forty items with two modalities; items 3 and 4 have no image."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(40, 5, generator=generator) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]) + 7
    image[3:5] = 0
    return {"image": image, "text": torch.randn(40, 3, generator=generator)}


def hidden(x: torch.Tensor) -> set[int]:
    return set(torch.nonzero(x.abs().sum(1) == 0).flatten().tolist())


def test_nothing_asked_changes_nothing(features: dict[str, torch.Tensor]) -> None:
    assert all(found is features[name] for name, found in altered(features, "train").items())


def test_shuffling_deals_the_same_vectors_to_other_items(features: dict[str, torch.Tensor]) -> None:
    found = altered(features, "train", ablate={"image": "shuffle"})
    assert found["text"] is features["text"]
    assert hidden(found["image"]) == {3, 4}
    there = [row for row in range(40) if row not in (3, 4)]
    assert not (found["image"][there] == features["image"][there]).all(1).any()  # nobody keeps their own
    assert sorted(found["image"].tolist()) == sorted(features["image"].tolist())


def test_noise_keeps_the_columns_mean_and_spread_and_who_has_none() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20_000, 3, generator=generator) * torch.tensor([1.0, 2.0, 0.5]) + torch.tensor([0.0, 5.0, -1.0])
    x[:100] = 0
    found = altered({"image": x}, "test", ablate={"image": "noise"})["image"]
    assert hidden(found) == set(range(100))
    assert found[100:].mean(0) == pytest.approx(x[100:].mean(0), abs=0.05)
    assert found[100:].std(0) == pytest.approx(x[100:].std(0), rel=0.03)
    correlation = torch.corrcoef(torch.stack([found[100:, 0], x[100:, 0]]))[0, 1]
    assert abs(float(correlation)) < 0.03


def test_a_share_is_hidden_and_a_larger_one_hides_more_of_the_same(features: dict[str, torch.Tensor]) -> None:
    some = hidden(altered(features, "test", hide={"image": 0.3})["image"])
    more = hidden(altered(features, "test", hide={"image": 0.6})["image"])
    assert len(some - {3, 4}) == round(0.3 * 38)
    assert len(more - {3, 4}) == round(0.6 * 38)
    assert some < more


def test_hiding_happens_where_it_should(features: dict[str, torch.Tensor]) -> None:
    for at, expected in (("always", (True, True)), ("train", (True, False)), ("test", (False, True))):
        parts = [altered(features, part, hide={"text": 0.5}, hide_at=at)["text"] for part in ("train", "test")]
        assert tuple(bool(hidden(x)) for x in parts) == expected
        assert differs_at_test({"text": 0.5}, at) == (at != "always")


def test_the_seed_decides_and_modalities_do_not_disturb_each_other(features: dict[str, torch.Tensor]) -> None:
    one, same, other = (
        altered(features, "train", ablate={"text": "shuffle"}, alter_seed=seed)["text"] for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    both = altered(features, "train", ablate={"image": "noise", "text": "shuffle"})["text"]
    assert torch.equal(both, one)


def test_a_modality_that_is_not_there_is_named(features: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"name 'imag', the encoder gives: image, text\. Did you mean 'image'"):
        altered(features, "train", hide={"imag": 0.1})
