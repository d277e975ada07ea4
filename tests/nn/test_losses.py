"""Losses against a few lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmm4rec.nn.losses import bpr, bpr_of_vectors, contrast_views, contrastive, info_nce, l2, match_rows


def test_bpr_is_minus_log_sigmoid_of_the_difference() -> None:
    positives, negatives = torch.tensor([2.0, -1.0]), torch.tensor([[1.0, 0.0], [3.0, -1.0]])
    differences = np.array([1.0, 2.0, -4.0, 0.0])
    assert float(bpr(positives, negatives)) == pytest.approx(np.mean(-np.log(1 / (1 + np.exp(-differences)))))


def test_bpr_stays_finite_where_a_sigmoid_would_not() -> None:
    assert float(bpr(torch.tensor([-500.0]), torch.tensor([[500.0]]))) == pytest.approx(1000.0)


def test_l2_is_half_the_squares_for_each_example() -> None:
    assert float(l2(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0]), batch=2)) == pytest.approx(14 / 4)


@pytest.mark.parametrize("negatives", [1, 3, 12])
def test_bpr_of_vectors_is_numpys(negatives: int) -> None:
    shapes = ((5, 3), (5, 3), (5, negatives, 3))
    vectors = [torch.randn(*shape, dtype=torch.float64) for shape in shapes]
    u, p, n = (one.numpy() for one in vectors)
    margins = (u * p).sum(1)[:, None] - np.einsum("bd,bnd->bn", u, n)
    assert float(bpr_of_vectors(*vectors)) == pytest.approx(float(np.log1p(np.exp(-margins)).mean()), rel=1e-12)


def test_l2_is_exact_in_large_tables_and_has_the_gradient_of_differences() -> None:
    large = torch.randn(200_000, 64, generator=torch.Generator().manual_seed(0))
    assert float(l2(large, batch=1)) == pytest.approx(float(large.double().square().sum() / 2), rel=1e-6)
    sides = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 3), (4,), (4, 2, 3))]
    assert torch.autograd.gradcheck(lambda *tables: l2(*tables, batch=4), sides)


def test_contrastive_is_the_mean_of_both_cross_entropies() -> None:
    left, right = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    logits = 5.0 * left.numpy() @ right.numpy().T
    rows = -np.log(np.exp(logits).diagonal() / np.exp(logits).sum(1))
    columns = -np.log(np.exp(logits).diagonal() / np.exp(logits).sum(0))
    assert float(contrastive(left, right, torch.tensor(5.0))) == pytest.approx((rows.mean() + columns.mean()) / 2)


def test_info_nce_is_the_mean_log_share_of_the_own_row() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    one, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (left, right))
    shares = np.exp(one @ other.T / 0.2)
    expected = -np.log(np.diag(shares) / shares.sum(1)).mean()
    loss = info_nce(torch.tensor(left), torch.tensor(right), temperature=0.2)
    assert float(loss) == pytest.approx(expected)


def test_a_single_row_has_no_loss() -> None:
    for rows in (0, 1):
        assert float(match_rows(torch.zeros(rows, 3), torch.zeros(rows, 3))) == 0


def test_many_rows_are_compared_in_groups() -> None:
    """5,000 rows are three groups; the mean is over rows, not over groups."""
    left, right = torch.randn(2, 5000, 4, generator=torch.Generator().manual_seed(0))
    apart = [info_nce(left[rows], right[rows], temperature=0.5) for rows in torch.arange(5000).tensor_split(3)]
    expected = (apart[0] * 1667 + apart[1] * 1667 + apart[2] * 1666) / 5000
    assert float(info_nce(left, right, temperature=0.5)) == pytest.approx(float(expected), rel=1e-5)


def test_contrast_views_compares_with_both_sides() -> None:
    rng = np.random.default_rng(1)
    anchors, others = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    a, o = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (anchors, others))
    total = 0.0
    for i in range(4):
        shares = sum(np.exp(a[i] @ o[j] / 0.5) for j in range(4)) + sum(
            np.exp(a[i] @ a[j] / 0.5) for j in {0, 1, 2, 3} - {i}
        )
        total -= np.log(np.exp(a[i] @ o[i] / 0.5) / shares)
    loss = contrast_views(torch.tensor(anchors), torch.tensor(others), 0.5)
    assert float(loss) == pytest.approx(total / 4)
