"""Products in tiles are products; the highest scores of each row, against sorting the row whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmm4rec.core.matrices import dot_each, dot_products, highest


@pytest.mark.parametrize(
    ("rows", "columns", "dim"), [(700, 2000, 8), (1, 9, 3), (0, 9, 3), (600_000, 3, 1), (300, 2000, 600)]
)
def test_equals_numpys_product_in_double_precision(rows: int, columns: int, dim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(count, dim, generator=generator) for count in (rows, columns))
    expected = left.numpy().astype(np.float64) @ right.numpy().astype(np.float64).T
    np.testing.assert_allclose(dot_products(left, right).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("others", [1, 16, 17])
def test_dot_products_of_each_row_with_its_own_others_are_numpys(others: int) -> None:
    rows, own = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, others, 5, dtype=torch.float64)
    want = np.stack([one @ row for one, row in zip(own.numpy(), rows.numpy(), strict=True)])
    np.testing.assert_allclose(dot_each(rows, own).numpy(), want, rtol=1e-12)


def test_gradient_reaches_both_sides() -> None:
    left, right = torch.ones(700, 2, requires_grad=True), torch.full((2000, 2), 3.0, requires_grad=True)
    dot_products(left, right).sum().backward()  # type: ignore[no-untyped-call]
    assert left.grad is not None
    assert right.grad is not None
    assert torch.equal(left.grad, torch.full_like(left, 6000.0))
    assert torch.equal(right.grad, torch.full_like(right, 700.0))
    with torch.no_grad():
        assert torch.equal(dot_products(left, right), torch.full((700, 2000), 6.0))


@pytest.mark.parametrize("columns", [5, 640, 641, 647, 3000])
@pytest.mark.parametrize("levels", [2, 40, 10**6])  # with few levels nearly all scores are tied
def test_equals_sorting_everything(columns: int, levels: int) -> None:
    rng = np.random.default_rng(columns)
    table = rng.integers(levels, size=(50, columns)).astype(np.float32)
    table[rng.random(table.shape) < 0.3] = -np.inf
    table[0] = -np.inf
    for k in (1, 4, 5):
        values, places = highest(torch.from_numpy(table), k)
        np.testing.assert_array_equal(values.numpy(), -np.sort(-table, axis=1)[:, :k])
        np.testing.assert_array_equal(np.take_along_axis(table, places.numpy(), axis=1), values.numpy())
        assert all(len(set(row)) == k for row in places.tolist())


@pytest.mark.parametrize("columns", [1, 7, 8, 100])
def test_the_highest_of_no_score_are_none(columns: int) -> None:
    """A single item has no other one to be near to."""
    values, places = highest(torch.rand(3, columns), 0)
    assert values.shape == places.shape == (3, 0)


def test_nan_counts_as_the_highest() -> None:
    table = torch.arange(2000.0).repeat(2, 1)
    table[1, [3, 1999]] = torch.nan
    values, _ = highest(table, 3)
    assert values[0].tolist() == [1999, 1998, 1997]
    assert values[1].isnan().tolist() == [True, True, False]


def test_a_part_of_a_larger_table_is_read_where_it_lies() -> None:
    table = torch.rand(1500, 40, generator=torch.Generator().manual_seed(0))
    values, places = highest(table.T, 7)
    expected = table.T.contiguous().topk(7, dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)
