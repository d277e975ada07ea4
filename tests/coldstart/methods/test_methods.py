"""The cold-start methods: each loss against its equation in NumPy or by hand, and a world whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.methods.aldi import ALDI, distillation
from lmm4rec.coldstart.methods.base import ColdStartMethod, TanhLayers, standardized
from lmm4rec.coldstart.methods.dropoutnet import DropoutNet
from lmm4rec.coldstart.methods.heater import Heater
from lmm4rec.coldstart.methods.softmax_tower import SoftmaxTower
from lmm4rec.core.registry import COLD_START
from lmm4rec.core.types import Batch, Embeddings
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer
from worlds import camp_features, camps


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small() -> tuple[InteractionGraph, dict[str, Tensor], Embeddings, Batch]:
    """Three users, five items, the last of which nobody has interacted with."""
    graph = InteractionGraph(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 2]), 3, 5)
    features = {"image": torch.randn(5, 4, generator=generator()), "text": torch.randn(5, 3, generator=generator(1))}
    trained = Embeddings(torch.randn(3, 2, generator=generator(2)), torch.randn(5, 2, generator=generator(3)))
    batch = Batch(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]), torch.tensor([[2], [3], [1]]))
    return graph, features, trained, batch


def affine(layer: nn.Module, x: np.ndarray) -> np.ndarray:
    weight, offset = (values.detach().numpy() for values in layer.parameters())
    result: np.ndarray = x @ weight + offset
    return result


def network(layers: TanhLayers, x: np.ndarray) -> np.ndarray:
    """A₂ tanh(A₁ x) with the statistics of a network before its training: mean 0, variance 1."""
    return affine(layers.last, np.tanh(affine(layers.first, x) / math.sqrt(1 + layers.norm.eps)))


def columns(x: Tensor) -> np.ndarray:
    result: np.ndarray = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    return result


def pairs(users: np.ndarray, items: np.ndarray, batch: Batch) -> np.ndarray:
    """The scores of each row's positive and negative."""
    both = np.concatenate([batch.positives[:, None].numpy(), batch.negatives.numpy()], axis=1)
    return np.einsum("bd,bnd->bn", users[batch.users.numpy()], items[both])


def test_content_has_its_principal_axes_at_a_root_mean_square_of_1() -> None:
    graph, features, trained, _ = small()
    method = DropoutNet(graph, features, generator(), trained)
    known = method.known
    assert float(known.square().mean()) == pytest.approx(1.0, rel=1e-5)
    x = ContentSpace.of(features)(features)  # distances are those of the content, but for one factor
    ratio = torch.cdist(known, known)[0, 1:] / torch.cdist(x, x)[0, 1:]
    torch.testing.assert_close(ratio, ratio[:1].expand(4), rtol=1e-4, atol=1e-4)


def test_a_constant_column_is_standardized_to_zeros() -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 4.0]])
    torch.testing.assert_close(standardized(x), torch.tensor([[0.0, -1.0], [0.0, 1.0]]))


def test_dropoutnet_reproduces_scores_with_and_without_the_items_vectors() -> None:
    """Equation 2; with a vector of zeros for an item without interactions."""
    graph, features, trained, batch = small()
    method = DropoutNet(graph, features, generator(), trained, dim=3, hidden=6, dropout=0.0).eval()
    users, content = network(method.users, columns(trained.users)), method.known.numpy()
    items = network(method.items, np.concatenate([columns(trained.items), content], axis=1))
    target = pairs(trained.users.numpy(), trained.items.numpy(), batch)
    with torch.no_grad():
        loss = method.losses(batch, features, generator())["reproduction"]
    assert float(loss) == pytest.approx(np.square(target - pairs(users, items, batch)).mean(), rel=1e-5)
    with torch.no_grad():
        found = method.embed(features)
    cold = network(method.items, np.concatenate([np.zeros((5, 2), np.float32), content], axis=1))
    np.testing.assert_allclose(found.items.numpy(), cold, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.users.numpy(), users, rtol=1e-4, atol=1e-5)
    nearly_all = DropoutNet(graph, features, generator(), trained, dim=3, hidden=6, dropout=1 - 1e-9).eval()
    with torch.no_grad():
        dropped = nearly_all.losses(batch, features, generator())["reproduction"]
    assert float(dropped) == pytest.approx(np.square(target - pairs(users, cold, batch)).mean(), rel=1e-5)


def test_heater_mixes_experts_and_stays_close_to_the_trained_vectors() -> None:
    graph, features, trained, batch = small()
    method = Heater(graph, features, generator(), trained, dim=3, hidden=6, experts=2, random=0.0).eval()
    content = method.known.numpy()
    gates, outputs = np.tanh(affine(method.gate, content)), np.tanh(affine(method.experts, content))
    mixture = gates[:, :1] * outputs[:, :2] + gates[:, 1:] * outputs[:, 2:]
    with torch.no_grad():
        np.testing.assert_allclose(method.mixture(method.known).numpy(), mixture, rtol=1e-4, atol=1e-5)
        found = method.embed(features)
    np.testing.assert_allclose(found.items.numpy(), network(method.items, mixture), rtol=1e-4, atol=1e-5)
    users, items = network(method.users, columns(trained.users)), network(method.items, columns(trained.items))
    with torch.no_grad():
        terms = method.losses(batch, features, generator())
    observed = np.array([[1.0, 0.0]] * 3)
    assert float(terms["ranking"]) == pytest.approx(np.square(pairs(users, items, batch) - observed).mean(), rel=1e-5)
    distance = np.square(mixture - columns(trained.items))[:4].mean()  # the items of the batch
    assert float(terms["similarity"]) == pytest.approx(0.1 * distance, rel=1e-5)
    nearly_all = Heater(graph, features, generator(), trained, dim=3, hidden=6, experts=2, random=1 - 1e-9).eval()
    with torch.no_grad():
        ranking = nearly_all.losses(batch, features, generator())["ranking"]
    by_content = pairs(users, network(method.items, mixture), batch)
    assert float(ranking) == pytest.approx(np.square(by_content - observed).mean(), rel=1e-5)


def test_aldi_distils_order_distance_and_scores() -> None:
    """One pair. Student: scores 2 and 0, distance 5 - 1. Teacher: scores 1 and 0, distance 1 - 0. Trust one half."""

    def cross_entropy(teacher: float, student: float) -> float:
        p, q = 1 / (1 + math.exp(-teacher)), 1 / (1 + math.exp(-student))
        return -p * math.log(q) - (1 - p) * math.log(1 - q)

    student = (torch.tensor([[1.0, 0.0]]), torch.tensor([[[2.0, 1.0], [0.0, 1.0]]]))
    teacher = (torch.tensor([[1.0, 1.0]]), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
    terms = distillation(student, teacher, torch.tensor([0.5]))
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(
        {
            "own": math.log(1 + math.exp(-2)),
            "ranking": 0.5 * cross_entropy(1, 2),
            "identity": 0.5 * cross_entropy(1, 4),
            "rating": 1.0,
        }
    )


def test_aldi_trusts_the_teacher_more_for_popular_items() -> None:
    """Users 0, 1, 2 have 2, 1 and 1 items: the items have 1/2, 1/2 + 1, 1, 0, 0; the mean is 3/5."""
    graph, features, trained, batch = small()
    method = ALDI(graph, features, generator(), trained, hidden=6, frequency_limit=0.5)
    shares = [0.5 / 0.6, 1.0, 1.0, 0.0, 0.0]
    torch.testing.assert_close(method.get_buffer("trust"), torch.tanh(0.5 * torch.tensor(shares)))
    assert method.losses(batch, features, generator()).keys() == {"own", "ranking", "identity", "rating"}


def test_the_tower_s_softmax_is_over_the_items_with_interactions() -> None:
    graph, features, trained, batch = small()
    method = SoftmaxTower(graph, features, generator(), trained, dim=3)
    with torch.no_grad():
        scores = (method.users @ (method.known @ method.map).T).numpy()[:, :3].astype(np.float64)
        loss = method.losses(batch, features, generator())["softmax"]
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert float(loss) == pytest.approx(-np.log(chances[np.arange(3), np.arange(3)]).mean(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", COLD_START.names())
def test_new_items_go_to_the_camp_of_similar_items(name: str) -> None:
    """Three camps of users and items, one axis of the trained vectors for each."""
    graph, _ = camps(items=16, users=20)
    features = camp_features(generator(), items=16)
    axes = torch.eye(3)
    trained = Embeddings(axes.repeat_interleave(20, 0), 2 * axes.repeat_interleave(16, 0))
    method: ColdStartMethod = COLD_START.get(name)(graph, features, generator(1), trained)
    sampler = TripleSampler(graph.users, graph.items, graph.n_items, batch_size=128)
    trainer = Trainer(epochs=40, learning_rate=1e-2, evaluate_every=40, metric="recall", device="cpu")
    trainer.fit(RankingObjective(method, Frozen(features)), sampler, lambda: {"recall": 0.0})
    new = {m: x.view(3, 16, -1).mean(1) for m, x in features.items()}
    with torch.no_grad():
        best = method.embed(new).scores(torch.arange(60)).argmax(1)
    torch.testing.assert_close(best, torch.arange(3).repeat_interleave(20))
