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


@pytest.mark.parametrize("items", [1, 2])
def test_in_a_small_catalog_it_is_finite(items: int) -> None:
    assert torch.isfinite(neighbor_discrimination(units()[:, :items], torch.arange(items), 10, 0.2))


@pytest.mark.parametrize("temperature", [0.2, 0.05, 0.01, 0.002])
def test_at_low_temperatures_it_is_the_published_loss(temperature: float) -> None:
    """Exponentials of cosines overflow in single precision; logarithms of sums in double precision do not."""
    x = F.normalize(torch.randn(2, 60, 4, generator=torch.Generator().manual_seed(0)), dim=2).requires_grad_()
    exact = x.detach().double().requires_grad_()
    loss, expected = neighbor_discrimination(x, torch.arange(60), 3, temperature), published(exact, 3, temperature)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    gradient, exact_gradient = torch.autograd.grad(loss, x)[0], torch.autograd.grad(expected, exact)[0]
    assert (gradient - exact_gradient).norm() < 1e-3 * exact_gradient.norm()


def published(x: torch.Tensor, labels: int, temperature: float) -> torch.Tensor:
    """The mean over views and all items of -log(A / T) - log(B / (T - A)); A, B and T as in the docstring."""
    shares = [(view @ view.T).softmax(1) for view in x.detach()]
    total = x.new_zeros(())
    for view, share in zip(x, shares, strict=True):
        exponents = view @ view.T / temperature
        near = (sum(shares) + share).topk(labels)[1]
        far = share.scatter(1, near, 0.0).topk(labels)[1]
        others = exponents.scatter(1, near, -torch.inf)
        total = total + (exponents.logsumexp(1) - exponents.gather(1, near).logsumexp(1)).sum()
        total = total + (others.logsumexp(1) - exponents.gather(1, far).logsumexp(1)).sum()
    return total / x.shape[0] / x.shape[1]
