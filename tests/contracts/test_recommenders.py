"""Every recommender of the package keeps its contracts (`lmm4rec.testing`), whichever it is."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.features.source import Frozen
from lmm4rec.recommenders.base import Recommender
from lmm4rec.testing import recommender_contracts
from lmm4rec.testing.probes import image_weights, sampled_batch
from lmm4rec.testing.recommender_candidate import Candidate
from lmm4rec.testing.recommenders import CONTRACTS
from lmm4rec.training.objective import RankingObjective
from worlds import camp_features, camps

COMPONENTS: dict[str, type[Recommender]] = {
    name: RECOMMENDERS.load(RECOMMENDERS.find(name)) for name in RECOMMENDERS.names()
}


@cache
def candidate(name: str) -> Candidate:
    """Each recommender with what its checks share."""
    return Candidate(COMPONENTS[name])


@pytest.mark.parametrize(
    ("name", "contract"),
    [(name, contract) for name, component in COMPONENTS.items() for contract in recommender_contracts(component)],
)
def test_contract(name: str, contract: str) -> None:
    CONTRACTS.check(candidate(name), name, contract)


@pytest.mark.parametrize(
    "name",
    [name for name, c in COMPONENTS.items() if c.uses_content and c.is_trained and c.trains_content],
)
def test_the_weights_of_a_modality_are_named_after_it(name: str) -> None:
    """Else the contract of the missing modality would not apply."""
    graph, _ = camps()
    assert image_weights(COMPONENTS[name](graph, camp_features(_generator()), _generator()))


@pytest.mark.gpu
@pytest.mark.parametrize(
    "name", [name for name, component in COMPONENTS.items() if component.is_trained and not component.is_solved]
)
def test_a_step_on_a_gpu_equals_one_on_the_cpu(name: str) -> None:
    graph, _ = camps()
    features = camp_features(_generator())
    batch = sampled_batch(COMPONENTS[name], graph, batch_size=64)
    gradients = []
    for device in ("cpu", "cuda"):
        recommender = COMPONENTS[name](camps()[0], features, _generator())
        objective = RankingObjective(recommender, Frozen(features)).to(device)
        objective.begin_epoch(_generator())
        sum(objective.losses(batch, _generator()).values(), torch.zeros((), device=device)).backward()
        gradients.append([parameter.grad.cpu() for parameter in objective.parameters()])
    for cpu, gpu in zip(*gradients, strict=True):
        torch.testing.assert_close(gpu, cpu, atol=1e-6, rtol=1e-4)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
