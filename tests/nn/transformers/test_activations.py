"""quick_gelu beside the library's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.activations import QuickGELUActivation

from lmm4rec.nn.transformers.activations import QuickGelu, use_quick_gelu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_are_those_of_the_library_and_slopes_are_exact(dtype: torch.dtype) -> None:
    x = torch.cat([torch.linspace(-12, 12, 97), torch.tensor([-200.0, 200.0])]).to(dtype).requires_grad_()
    ours, theirs = QuickGelu()(x), QuickGELUActivation()(x)
    assert torch.equal(ours, theirs)
    (slope,) = torch.autograd.grad(ours.sum(), x)
    exact = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad((exact * torch.sigmoid(1.702 * exact)).sum(), exact)
    torch.testing.assert_close(slope.double(), expected, atol={torch.float32: 1e-6}.get(dtype, 0.02), rtol=0)


def test_it_takes_the_place_of_the_librarys_alone() -> None:
    model = nn.ModuleDict({"deep": nn.Sequential(nn.Linear(2, 2), QuickGELUActivation()), "other": nn.GELU()})
    use_quick_gelu(model)
    kinds = [type(module) for module in model.modules()]
    assert QuickGelu in kinds
    assert nn.GELU in kinds
    assert QuickGELUActivation not in kinds
