"""Features in bfloat16: all models that read content have float32's losses, gradients and scores but for rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Batch
from lmm4rec.nn.projections import content_product
from worlds import camp_features, camps

MODELS = [name for name in RECOMMENDERS.names() if RECOMMENDERS.get(name).uses_content]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_product_and_its_gradient_are_those_of_float32_but_for_rounding() -> None:
    x, outer = torch.randn(200, 300, generator=generator(0)).bfloat16(), torch.randn(200, 8, generator=generator(1))
    weight = torch.randn(300, 8, generator=generator(2), requires_grad=True)
    exact, rounded = x.float() @ weight, content_product(x, weight)
    assert rounded.dtype == torch.float32
    assert 1e-4 < float(((rounded - exact).norm() / exact.norm()).detach()) < 4e-3
    of_exact, of_rounded = (torch.autograd.grad(y, weight, outer)[0] for y in (exact, rounded))
    assert of_rounded.dtype == torch.float32
    assert float((of_rounded - of_exact).norm() / of_exact.norm()) < 5e-3
    assert torch.equal(content_product(x.float(), weight), exact)


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_models_read_features_in_bfloat16(name: str) -> None:
    graph, _ = camps()
    features = {m: x.bfloat16() for m, x in camp_features(generator(0)).items()}
    batch = Batch(graph.users[::3], graph.items[::3], graph.items.roll(7)[::3, None])

    def outcome(given: dict[str, Tensor]) -> list[Tensor]:
        component = RECOMMENDERS.get(name)
        model = component(graph, given, generator(1))
        loss = gradient = torch.zeros(())
        if component.is_trained and not component.is_solved:
            model.begin_epoch(given, generator(2))
            loss = torch.stack(list(model.losses(batch, given, generator(3)).values())).sum()
            loss.backward()
            gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        return [loss.detach(), gradient, model.embed(given).scores(torch.arange(graph.n_users)).detach()]

    expected = outcome({m: x.float() for m, x in features.items()})
    for exact, rounded, share in zip(expected, outcome(features), (0.02, 0.06, 0.02), strict=True):
        assert rounded.dtype == torch.float32
        assert float((exact - rounded).norm()) <= share * float(exact.norm())
