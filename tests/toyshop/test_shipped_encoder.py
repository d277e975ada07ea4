"""The CLIP that comes with the toy shop: small, and its vectors tell the shop's items apart."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import lmm4rec
from lmm4rec.core.types import Features
from lmm4rec.experiments.build.encoders import SHIPPED
from lmm4rec.toyshop.attributes import VALUES
from lmm4rec.toyshop.world import make_world


@pytest.fixture(scope="module")
def features() -> Features:
    encoder = lmm4rec.load_encoder("clip", checkpoint="toyshop")
    return lmm4rec.encode(encoder, lmm4rec.load_dataset("toyshop").catalog)


@pytest.mark.long
@pytest.mark.parametrize(
    ("modality", "attribute", "at_least"),
    [("image", "color", 0.7), ("image", "category", 0.2), ("text", "material", 0.7), ("text", "brand", 0.6),
     ("text", "season", 0.8), ("text", "category", 0.3)],
)  # fmt: skip
def test_the_nearest_class_mean_tells_an_item_s_attribute(
    features: Features, modality: str, attribute: str, at_least: float
) -> None:
    x = F.normalize(features[modality].clone(), dim=1)
    truth = torch.from_numpy(make_world().attributes[attribute])
    present = x.abs().amax(1) > 0
    x, truth = x[present] - x[present].mean(0), truth[present]
    fitted = torch.arange(len(x)) % 3 != 0
    means = torch.stack([x[fitted & (truth == value)].mean(0) for value in range(len(VALUES[attribute]))])
    guessed = (F.normalize(x, dim=1) @ F.normalize(means, dim=1).T).argmax(1)
    accuracy = float((guessed == truth)[~fitted].float().mean())
    assert accuracy > at_least


def test_the_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in (SHIPPED / "clip").iterdir()) < 2_500_000
