"""Products in tiles are products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmm4rec.core.dot_products import dot_products


@pytest.mark.parametrize(
    ("rows", "columns", "dim"), [(700, 2000, 8), (1, 9, 3), (0, 9, 3), (600_000, 3, 1), (300, 2000, 600)]
)
def test_equals_numpys_product_in_double_precision(rows: int, columns: int, dim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(count, dim, generator=generator) for count in (rows, columns))
    expected = left.numpy().astype(np.float64) @ right.numpy().astype(np.float64).T
    np.testing.assert_allclose(dot_products(left, right).numpy(), expected, atol=1e-4)


def test_gradient_reaches_both_sides() -> None:
    left, right = torch.ones(700, 2, requires_grad=True), torch.full((2000, 2), 3.0, requires_grad=True)
    dot_products(left, right).sum().backward()  # type: ignore[no-untyped-call]
    assert left.grad is not None
    assert right.grad is not None
    assert torch.equal(left.grad, torch.full_like(left, 6000.0))
    assert torch.equal(right.grad, torch.full_like(right, 700.0))
    with torch.no_grad():
        assert torch.equal(dot_products(left, right), torch.full((700, 2000), 6.0))
