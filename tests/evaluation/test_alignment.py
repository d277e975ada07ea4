"""The measures of agreement against hand-computed cases and NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lmm4rec.evaluation import alignment as module
from lmm4rec.evaluation.alignment import (
    alignment,
    measure_alignment,
    modality_gap,
    retrieval_recall,
    uniformity,
)

EAST, NORTH, WEST = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0, 0.0]])


def unit(seed: int, rows: int = 40, dim: int = 6) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_alignment_by_hand() -> None:
    """Squared distances: 0 to itself, 2 at a right angle, 4 to the opposite."""
    image, text = torch.cat([EAST, EAST, EAST]), torch.cat([EAST, NORTH, WEST])
    assert float(alignment(image, text)) == pytest.approx((0 + 2 + 4) / 3)
    assert float(alignment(image, text, power=1.0)) == pytest.approx((0 + math.sqrt(2) + 2) / 3)


def test_uniformity_by_hand() -> None:
    """Pairs east-north, east-west, north-west: squared distances 2, 4, 2."""
    points = torch.cat([EAST, NORTH, WEST])
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    assert float(uniformity(points)) == pytest.approx(expected, rel=1e-5)
    assert float(uniformity(EAST.expand(5, 2))) == pytest.approx(0, abs=1e-6)


def test_uniformity_as_its_paper_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """log of the mean of exp(-2 pdist²), also where it is summed block by block."""
    points = unit(0)
    expected = float(torch.pdist(points).square().mul(-2).exp().mean().log())
    assert float(uniformity(points)) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert float(uniformity(points)) == pytest.approx(expected, rel=1e-5)


def test_the_gap_is_the_distance_of_the_means() -> None:
    image, text = torch.cat([EAST, NORTH]), torch.cat([WEST, NORTH])
    assert float(modality_gap(image, text)) == pytest.approx(1.0)  # means (.5, .5) and (-.5, .5)


def test_retrieval_recall_by_hand() -> None:
    """Images 0 and 1 find their words first; image 2 finds those of 0 before its own, and its words likewise."""
    text = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -0.2]]), dim=1)
    image = F.normalize(torch.tensor([[1.0, 0.0], [0.1, 1.0], [1.0, 0.3]]), dim=1)
    recall = retrieval_recall(image, text, ks=(1, 2, 3))
    # ranks of image -> text: 0, 0, 1; of text -> image: 0, 0, 1
    assert recall == {
        "retrieval_recall@1": pytest.approx(4 / 6),
        "retrieval_recall@2": pytest.approx(1.0),
        "retrieval_recall@3": pytest.approx(1.0),
    }


def test_vectors_that_are_all_the_same_find_no_more_than_chance() -> None:
    same = EAST.expand(20, 2)
    assert retrieval_recall(same, same) == {
        "retrieval_recall@1": pytest.approx(1 / 20),
        "retrieval_recall@5": pytest.approx(5 / 20),
        "retrieval_recall@10": pytest.approx(10 / 20),
    }


def test_two_equal_answers_share_the_first_place() -> None:
    """Items 0 and 1 are twins: either is found first half of the time, and surely among two."""
    text = image = torch.cat([EAST, EAST, NORTH])
    assert retrieval_recall(image, text, ks=(1, 2)) == {
        "retrieval_recall@1": pytest.approx((0.5 + 0.5 + 1) / 3),
        "retrieval_recall@2": pytest.approx(1.0),
    }


def test_retrieval_as_numpy_ranks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 7)
    image, text = unit(1), unit(2)
    scores = image.double().numpy() @ text.double().numpy().T
    ranks = [(side > side.diagonal()[:, None]).sum(1) for side in (scores, scores.T)]
    for k in (1, 5, 10):
        expected = np.mean([(one < k).mean() for one in ranks])
        assert retrieval_recall(image, text)[f"retrieval_recall@{k}"] == pytest.approx(expected)


def test_items_that_lack_a_side_do_not_count_and_lengths_do_not_matter() -> None:
    image, text = 3 * unit(3), 0.1 * unit(4)
    image[5], text[7] = 0, 0
    whole = [row for row in range(len(image)) if row not in (5, 7)]
    measured = measure_alignment({"image": image, "text": text, "audio": unit(5)})
    assert measured == pytest.approx(measure_alignment({"image": unit(3)[whole], "text": unit(4)[whole]}), rel=1e-5)
    assert measured["pairs"] == 38
    assert measured["alignment"] == pytest.approx(float(alignment(unit(3)[whole], unit(4)[whole])), rel=1e-5)


def test_of_many_a_fixed_draw_is_measured() -> None:
    image, text = unit(3, 100), unit(4, 100)
    first, second = (measure_alignment({"image": image, "text": text}, most=30) for _ in range(2))
    assert first == second
    assert first["pairs"] == 30


@pytest.mark.parametrize(
    "features",
    [{}, {"image": unit(0)}, {"image": unit(0), "text": unit(0, dim=5)}, {"image": unit(0, 1), "text": unit(1, 1)}],
)
def test_where_it_does_not_apply_there_is_nothing(features: dict[str, torch.Tensor]) -> None:
    assert measure_alignment(features) == {}
