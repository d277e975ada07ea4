"""Maps with hidden units from content to vectors: written and read, in blocks, and apart by modality."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lmm4rec.nn.projections as projections_module
from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.core.types import Embeddings
from lmm4rec.nn.projections import ContentProjection, HiddenLayer

DIM, HIDDEN, WIDTH = 3, 5, 4
FEATURES = {"image": 7, "text": 6}


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def path(width: int) -> ContentProjection:
    """A map of the coordinates on four axes."""
    axes = torch.linalg.qr(drawn(width, WIDTH)).Q
    hidden = HiddenLayer(drawn(HIDDEN), drawn(HIDDEN, DIM))
    return ContentProjection(drawn(WIDTH, DIM + HIDDEN), 0.1 * drawn(WIDTH), axes, hidden)


@pytest.fixture
def maps() -> ContentToVectors:
    content = ContentSpace.of({modality: drawn(9, width) for modality, width in FEATURES.items()})
    zeros = torch.zeros(sum(FEATURES.values()), DIM)
    paths = {modality: path(width) for modality, width in FEATURES.items()}
    return ContentToVectors(content, paths, torch.arange(DIM), zeros, drawn(DIM))


SCORER = Embeddings(drawn(2, DIM), drawn(9, DIM))
NEW = {modality: drawn(4, width) for modality, width in FEATURES.items()}


def test_they_are_read_as_they_were_written(maps: ContentToVectors) -> None:
    read = ContentToVectors.deserialize(*maps.serialize())
    torch.testing.assert_close(read.vectors(NEW, SCORER, {}), maps.vectors(NEW, SCORER, {}))


def test_a_vector_is_the_sum_of_its_modalities_and_a_missing_one_adds_nothing(maps: ContentToVectors) -> None:
    without = NEW["text"].clone()
    without[2] = 0
    shares = maps.modality_shares({**NEW, "text": without}, SCORER)
    assert (shares["text"][2] == 0).all()
    vectors = maps.vectors({**NEW, "text": without}, SCORER, {})
    torch.testing.assert_close(torch.stack([*shares.values()]).sum(0) + maps.offset, vectors)


def test_blocks_of_items_give_the_same(maps: ContentToVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = maps.vectors(NEW, SCORER, {})
    monkeypatch.setattr(projections_module, "_ROWS", 3)
    torch.testing.assert_close(maps.vectors(NEW, SCORER, {}), whole)
    assert maps.paths["text"](torch.zeros(0, FEATURES["text"])).shape == (0, DIM)
