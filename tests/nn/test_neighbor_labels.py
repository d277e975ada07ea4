"""The discrimination of neighbors: its gradient, which is computed with its value, and the size of its blocks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lmm4rec.nn import neighbor_labels
from lmm4rec.nn.neighbor_labels import neighbor_discrimination


def units() -> torch.Tensor:
    return F.normalize(torch.randn(3, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=2)


def test_the_gradient_is_that_of_finite_differences() -> None:
    x, rows = units().requires_grad_(), torch.tensor([0, 4, 5, 8])
    assert torch.autograd.gradcheck(lambda y: neighbor_discrimination(y, rows, 2, 0.5), (x,))


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = neighbor_discrimination(units(), torch.arange(9), 2, 0.5)
    monkeypatch.setattr(neighbor_labels, "_BLOCK_BYTES", 2 * 9 * 8)
    torch.testing.assert_close(neighbor_discrimination(units(), torch.arange(9), 2, 0.5), whole)


def test_in_a_catalog_of_two_items_it_is_finite() -> None:
    assert torch.isfinite(neighbor_discrimination(units()[:, :2], torch.arange(2), 10, 0.2))
