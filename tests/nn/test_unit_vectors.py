"""Unit vectors against torch's, values and gradients."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lmm4rec.nn.unit_vectors import unit_vectors


def test_values_and_gradients_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 4, dtype=torch.float64, generator=generator)
    x[1, 3] = 0
    weights = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    sides = []
    for function in (unit_vectors, lambda y: F.normalize(y, dim=-1)):
        leaf = x.clone().requires_grad_()
        values = function(leaf)
        (values * weights).sum().backward()
        sides.append((values.detach(), leaf.grad))
    torch.testing.assert_close(sides[0], sides[1])
    assert (sides[0][0][1, 3] == 0).all()
