"""The critic of long rows: products instead of rows, and the gradient penalty."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.nn.critic import RowCritic, product_of_rows

COLUMNS, WIDTH = 7, 4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def critic() -> RowCritic:
    model = RowCritic(COLUMNS, WIDTH, 0.0, generator()).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator(1)))
    return model


def pair() -> tuple[Tensor, Tensor]:
    return torch.randn(5, 3, generator=generator(2)).double(), torch.randn(COLUMNS, 3, generator=generator(3)).double()


def test_the_product_is_that_of_the_scaled_rows() -> None:
    left, right = pair()
    rows = F.normalize(left @ right.T, dim=1)
    model = critic()
    torch.testing.assert_close(product_of_rows(left, right, model.first), rows @ model.first)


def test_the_penalty_is_that_of_the_gradient_by_whole_rows() -> None:
    model = critic()
    real, fake = (F.normalize(torch.randn(5, COLUMNS, generator=generator(seed)).double(), dim=1) for seed in (4, 5))
    share = torch.rand(5, 1, generator=generator(6))
    rows = (share * real + (1 - share) * fake).requires_grad_()
    gradient = torch.autograd.grad(model(rows @ model.first, generator()).sum(), rows)[0]
    scores = [model(side @ model.first, generator()).mean() for side in (fake, real)]
    expected = scores[0] - scores[1] + 0.7 * ((gradient.norm(dim=1) - 1) ** 2).mean()
    products = real @ model.first, fake @ model.first
    found = model.loss(*products, generator(6), penalty=0.7)
    assert float(found.detach()) == pytest.approx(float(expected.detach()))


def test_the_penalty_trains_the_critic() -> None:
    model = critic()
    products = [side @ model.first for side in torch.randn(2, 5, COLUMNS, generator=generator(4)).double()]
    model.loss(*products, generator(), penalty=1.0).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name


def test_judging_trains_the_rows_alone() -> None:
    model = critic()
    products = torch.randn(5, WIDTH, generator=generator(4)).double().requires_grad_()
    model.judge(products, generator()).sum().backward()
    assert products.grad is not None
    assert products.grad.any()
    assert all(weight.grad is None for weight in model.parameters())


def test_the_critic_is_not_linear() -> None:
    """LeakyReLU(True), as in the code of MMSSL's authors, has slope 1: that critic ranks rows by a linear function."""
    model = critic()
    for scale in model.scales:
        scale.data.fill_(1.0)
    x = torch.randn(1, WIDTH, generator=generator(4)).double()
    batch = torch.cat([x, -x, torch.zeros_like(x), *torch.randn(6, 1, WIDTH, generator=generator(5)).double()])
    one, other, middle = torch.logit(model(batch, generator())[:3] / 100)
    assert abs(float((one + other - 2 * middle).detach())) > 1e-3  # 0 in a linear critic


def test_dropout_draws_from_the_generator() -> None:
    model = RowCritic(COLUMNS, WIDTH, 0.5, generator())
    x = torch.randn(5, WIDTH, generator=generator(4))
    assert torch.equal(model(x, generator(1)), model(x, generator(1)))
    assert not torch.equal(model(x, generator(1)), model(x, generator(2)))
