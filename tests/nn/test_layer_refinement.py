"""Layers scaled by cosines beside the equation in plain torch, with gradients by finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lmm4rec.nn import scaled_by_cosine
from lmm4rec.nn.layer_refinement import layer_refined, layer_refined_at
from lmm4rec.nn.sparse import SparseMatrix


@pytest.mark.parametrize("shape", [(7, 3), (7, 2, 3)])
def test_layers_and_gradients_equal_the_equation(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaled_by_cosine, "_ROWS", 3)
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    rows, columns = torch.tensor([0, 0, 1, 2, 4, 5, 6]), torch.tensor([1, 2, 0, 0, 6, 5, 4])  # node 3 has no edge
    values = torch.rand(len(rows), generator=generator, dtype=torch.float64)
    adjacency = SparseMatrix(rows, columns, values, (7, 7))
    dense = torch.zeros(7, 7, dtype=torch.float64).index_put((rows, columns), values)

    def expected(start: torch.Tensor) -> torch.Tensor:
        current, total = start, torch.zeros_like(start)
        for _ in range(3):
            gathered = torch.einsum("ij,j...->i...", dense, current)
            current = F.cosine_similarity(gathered, start, dim=-1)[..., None] * gathered
            total = total + current
        return total

    torch.testing.assert_close(layer_refined(adjacency, nodes, 3), expected(nodes))
    weights = torch.randn(shape, generator=generator, dtype=torch.float64)
    ours, plain = (
        torch.autograd.grad((computed * weights).sum(), nodes)[0]
        for computed in (layer_refined(adjacency, nodes, 3), expected(nodes))
    )
    torch.testing.assert_close(ours, plain)
    if len(shape) == 2:
        chosen = torch.tensor([4, 0, 4])
        (some,) = layer_refined_at(adjacency, nodes, 3, chosen)
        torch.testing.assert_close(some, expected(nodes)[chosen])
        ours, plain = (
            torch.autograd.grad((at * weights[:3]).sum(), nodes)[0] for at in (some, expected(nodes)[chosen])
        )
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_loops_equal_the_equation(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(scaled_by_cosine, "_LARGE", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(scaled_by_cosine, "_lengths_and_cosines", None)  # which PyTorch's blocks would call
    generator = torch.Generator().manual_seed(0)
    rows, unit, weights = (torch.randn(37, 19, generator=generator) for _ in range(3))
    rows[5] = 0  # its length counts as 1e-8
    unit = F.normalize(unit).requires_grad_()
    rows.requires_grad_()
    sides = []
    for of_torch in (scaled_by_cosine.scaled_by_cosine, _scaled_in_plain_torch):
        scaled = of_torch(rows, unit)
        # a gradient that is not contiguous
        sides.append([scaled, *torch.autograd.grad(scaled, [rows, unit], weights.T.contiguous().T)])
    for ours, plain in zip(*sides, strict=True):
        torch.testing.assert_close(ours, plain)


def _scaled_in_plain_torch(rows: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    lengths = (rows * rows).sum(1, keepdim=True).clamp(min=1e-16).sqrt()
    return (rows * unit).sum(1, keepdim=True) / lengths * rows
