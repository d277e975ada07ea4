"""Projections that leave out what is not there, and graphs that are as fresh as their features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lmm4rec.core.types import Features
from lmm4rec.nn.item_graph import ContentGraph
from lmm4rec.nn.projections import Projections
from lmm4rec.nn.sparse import SparseMatrix


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def features() -> dict[str, Tensor]:
    return {m: torch.randn(6, width, generator=generator()) for m, width in (("image", 5), ("audio", 3))}


def test_projection_is_the_affine_map_of_the_chosen_rows() -> None:
    x = features()
    projections = Projections(x, 4, generator())
    with torch.no_grad():
        projections.offsets["audio"] += 1.0
    found = projections(x, torch.tensor([5, 2]))
    expected = x["audio"][[5, 2]] @ projections.maps["audio"] + projections.offsets["audio"]
    torch.testing.assert_close(found["audio"], expected)


def test_offset_does_not_reach_an_item_without_the_modality() -> None:
    x = features()
    x["image"][3] = 0
    projections = Projections(x, 4, generator())
    with torch.no_grad():
        projections.offsets["image"] += 1.0
    assert (projections(x)["image"][3] == 0).all()
    assert (projections(x)["image"][2] != 0).any()


def test_trained_features_start_at_the_given_ones_and_get_the_gradient() -> None:
    x = features()
    projections = Projections(x, 4, generator(), trained=True)
    assert torch.equal(projections.tables["image"], x["image"])
    projections(x)["image"].sum().backward()
    assert projections.tables["image"].grad is not None
    assert x["image"].grad is None


class Builder:
    """Builds the matrix with the sum of all features in its corner, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, features: Features) -> SparseMatrix:
        self.calls += 1
        total = torch.stack([x.sum() for x in features.values()]).sum()[None]
        return SparseMatrix(torch.zeros(1).long(), torch.zeros(1).long(), total, (1, 1))


def value(matrix: SparseMatrix) -> float:
    return float(matrix.matrix.values()[0])


def test_a_graph_is_rebuilt_exactly_when_its_features_change() -> None:
    build, x = Builder(), features()
    graph = ContentGraph(build)
    graph.renew(x)
    graph.renew({m: t.clone() for m, t in x.items()})  # other tensors, the same values
    assert build.calls == 1
    before = value(graph.current(x))
    x["audio"][2, 1] += 1.0  # the same tensor, another value
    assert value(graph(x)) == pytest.approx(before + 1.0, abs=1e-5)
    assert value(graph.current(x)) == before  # ranking other features doesn't disturb a training epoch
    graph.renew(x)
    assert value(graph.current(x)) == pytest.approx(before + 1.0, abs=1e-5)
    assert build.calls == 3
    graph.renew({"image": x["image"]})
    assert build.calls == 4
