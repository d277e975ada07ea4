"""The losses of several processes are those of one: of their parts of a batch, or of the whole."""

from __future__ import annotations

import pytest
import torch

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.distributed import batch_rows, process_group
from lmm4rec.features.source import Frozen
from lmm4rec.recommenders.base import Recommender
from lmm4rec.testing.probes import sampled_batch
from lmm4rec.testing.worlds import camp_features, camps, ordered_camps
from lmm4rec.training.objective import RankingObjective

COMPONENTS: dict[str, type[Recommender]] = {name: RECOMMENDERS.get(name) for name in RECOMMENDERS.names()}
SPLITTING = [name for name, component in COMPONENTS.items() if component.splits_batches]
COMPARING = ["bm3", "mgcn", "slmrec"]  # the rows of a batch with each other, or with random numbers of its shape


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_process(name: str, rank: int, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, float], list[torch.Tensor]]:
    """The losses of one of three processes, and their gradients; of -1 those of the only process."""
    features, component = camp_features(generator()), COMPONENTS[name]
    graph = (ordered_camps if component.sequential else camps)()[0]
    objective = RankingObjective(component(graph, features, generator()), Frozen(features))
    objective.begin_epoch(generator(1))
    batch = sampled_batch(component, graph, batch_size=25)
    with monkeypatch.context() as changed:
        if rank >= 0:
            changed.setattr(process_group, "world_size", lambda: 3)
            changed.setattr(process_group, "rank", lambda: rank)
        losses = objective.losses(batch, generator(2))
    torch.stack(list(losses.values())).sum().backward()
    gradients = [weight.grad for weight in objective.parameters() if weight.grad is not None]
    return {term: float(loss.detach()) for term, loss in losses.items()}, gradients


@pytest.mark.parametrize("name", SPLITTING)
def test_parts_add_up_to_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers and the targets of sequences of different lengths included; 25 rows are 9, 8 and 8."""
    whole, gradients = of_process(name, -1, monkeypatch)
    parts = [of_process(name, rank, monkeypatch) for rank in range(3)]
    assert parts[0][0] != parts[1][0]
    for term, loss in whole.items():
        assert sum(losses[term] for losses, _ in parts) / 3 == pytest.approx(loss, rel=1e-5)
    for gradient, *of_parts in zip(gradients, *(part for _, part in parts), strict=True):
        torch.testing.assert_close(torch.stack(of_parts).mean(0), gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", COMPARING)
def test_rows_are_compared_with_those_of_all_processes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = of_process(name, -1, monkeypatch)
    assert of_process(name, 1, monkeypatch)[0] == whole


def test_a_model_that_reads_all_rows_may_not_split_batches() -> None:
    with batch_rows.shared_batch(10), pytest.raises(TrainingError, match="splits_batches must be False"):
        batch_rows.require_whole_batch("a whole table")
    with batch_rows.shared_batch(10), torch.no_grad():
        batch_rows.require_whole_batch("a whole table")
