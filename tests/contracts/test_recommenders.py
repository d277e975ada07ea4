"""What every recommender must do, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import RECOMMENDERS as REGISTRY
from lmm4rec.core.types import Batch, Embeddings, Features, Scorer
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.objective import Ranking
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer
from worlds import camp_features, camps, found

NAMES = REGISTRY.names()
PERSONAL = [name for name in NAMES if name != "popular"]
NEEDS_CONTENT = [name for name in NAMES if name not in ("popular", "itemknn", "bpr", "lightgcn")]
NO_NEGATIVES = ["bm3"]
CONTENT_STAYS = ["bm3", "freedom", "vbpr"]  # no graph carries content from item to item
ITEM_GRAPH = ["freedom", "lattice", "mgcn"]  # an item's vector is also made of those of items that look alike


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(name: str, graph: InteractionGraph, features: Features, seed: int = 0) -> Recommender:
    recommender: Recommender = REGISTRY.get(name)(graph, features, generator(seed))
    return recommender


def train(recommender: Recommender, features: Features, *, epochs: int = 60) -> Recommender:
    if not recommender.is_trained:
        return recommender
    graph = recommender.graph
    sampler = TripleSampler(graph.users, graph.items, graph.n_items, batch_size=64, negatives=1)
    trainer = Trainer(epochs=epochs, learning_rate=0.02, evaluate_every=epochs, metric="loss", device="cpu")
    trainer.fit(Ranking(recommender, Frozen(features)), sampler, dict)
    return recommender


def all_scores(scorer: Scorer) -> Tensor:
    with torch.no_grad():
        return scorer.scores(torch.arange(scorer.n_users))


@pytest.mark.parametrize("name", PERSONAL)
def test_learns_a_world_whose_answer_is_known(name: str) -> None:
    graph, rest = camps()
    features = camp_features(generator())
    recommender = train(build(name, graph, features), features)
    assert found(all_scores(recommender.embed(features)), graph, rest) > 0.95


def test_popular_ranks_by_likes() -> None:
    graph, _ = camps()
    scores = all_scores(build("popular", graph, {}).embed({}))
    assert torch.equal(scores[0], graph.item_degrees.float())


@pytest.mark.parametrize("name", NAMES)
def test_item_permutation_permutes_scores(name: str) -> None:
    """Renaming the rows of items changes the rows of the answer and nothing else."""
    graph, _ = camps()
    features = camp_features(generator())
    order = torch.randperm(graph.n_items, generator=generator(7))
    place = torch.argsort(order)
    permuted = InteractionGraph(graph.users, place[graph.items], graph.n_users, graph.n_items)
    shuffled = {modality: x[order] for modality, x in features.items()}
    first, second = build(name, graph, features), build(name, permuted, shuffled)
    _copy_weights(first, second, order, graph)
    expected = all_scores(first.embed(features))[:, order]
    torch.testing.assert_close(all_scores(second.embed(shuffled)), expected, atol=1e-5, rtol=1e-4)


def _copy_weights(source: Recommender, target: Recommender, order: Tensor, graph: InteractionGraph) -> None:
    """Give the target the source's weights, item rows reordered."""
    nodes = torch.cat([torch.arange(graph.n_users), graph.n_users + order])
    with torch.no_grad():
        for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
            rows = {graph.n_items: order, graph.n_users + graph.n_items: nodes}.get(len(theirs))
            mine.copy_(theirs if rows is None else theirs[rows])


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_scores(name: str) -> None:
    graph, _ = camps()
    features = camp_features(generator())
    runs = [all_scores(train(build(name, graph, features), features, epochs=3).embed(features)) for _ in range(2)]
    assert torch.equal(*runs)


@pytest.mark.parametrize("name", [name for name in PERSONAL if name != "itemknn"])
def test_other_seed_other_scores(name: str) -> None:
    graph, _ = camps()
    features = camp_features(generator())
    runs = [all_scores(build(name, graph, features, seed).embed(features)) for seed in range(2)]
    assert not torch.equal(*runs)


@pytest.mark.parametrize("name", NAMES)
def test_survives_saving_and_loading(name: str) -> None:
    graph, _ = camps()
    features = camp_features(generator())
    trained = train(build(name, graph, features), features, epochs=2)
    again = build(name, graph, features, seed=1)
    again.load_state_dict(trained.state_dict())
    assert torch.equal(all_scores(again.embed(features)), all_scores(trained.embed(features)))


@pytest.mark.parametrize("name", PERSONAL)
def test_copes_with_one_modality_and_with_missing_ones(name: str) -> None:
    graph, rest = camps()
    features = {"audio": camp_features(generator())["image"]}
    features["audio"][::7] = 0  # every seventh item lacks it
    recommender = train(build(name, graph, features), features)
    scores = all_scores(recommender.embed(features))
    assert torch.isfinite(scores).all()
    assert found(scores, graph, rest) > 0.9


@pytest.mark.parametrize("name", NEEDS_CONTENT)
def test_content_models_say_that_they_need_features(name: str) -> None:
    graph, _ = camps()
    with pytest.raises(ConfigError, match="features"):
        build(name, graph, {})


@pytest.mark.parametrize("name", NEEDS_CONTENT)
def test_gradient_reaches_live_features(name: str) -> None:
    """The batch's items receive gradient in every modality; so no model keeps what it once made of the features."""
    touched, _, batch = _touched_rows(name)
    for rows in touched.values():
        assert rows[batch.positives].all()


@pytest.mark.parametrize("name", CONTENT_STAYS)
def test_only_the_batch_receives_gradient(name: str) -> None:
    """Where no graph carries content further, no other row is touched."""
    touched, graph, batch = _touched_rows(name)
    expected = torch.zeros(graph.n_items, dtype=torch.bool)
    expected[batch.positives] = True
    if name not in NO_NEGATIVES:
        expected[batch.negatives.flatten()] = True
    assert all(torch.equal(rows, expected) for rows in touched.values())


def _touched_rows(name: str) -> tuple[dict[str, Tensor], InteractionGraph, Batch]:
    graph, _ = camps()
    features = {modality: x.requires_grad_() for modality, x in camp_features(generator()).items()}
    recommender = build(name, graph, features)
    recommender.begin_epoch(features, generator())
    batch = next(TripleSampler(graph.users, graph.items, graph.n_items, batch_size=5, negatives=1).epoch(generator()))
    _total(recommender.losses(batch, features, generator())).backward()
    return {modality: x.grad.abs().sum(1) > 0 for modality, x in features.items()}, graph, batch


def _total(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("name", NEEDS_CONTENT)
def test_what_an_item_lacks_moves_nothing(name: str) -> None:
    """Where an item lacks a modality no gradient arrives, as would through the offset of a map."""
    graph, _ = camps()
    features = camp_features(generator())
    features["image"][4] = 0
    features = {modality: x.requires_grad_() for modality, x in features.items()}
    recommender = build(name, graph, features)
    recommender.begin_epoch(features, generator())
    _shake(recommender)
    users, positives = graph.users[graph.items == 4], graph.items[graph.items == 4]
    losses = recommender.losses(Batch(users, positives, (positives[:, None] + 10) % 30), features, generator())
    _total(losses).backward()
    assert (features["image"].grad[4] == 0).all()
    assert features["text"].grad[4].abs().sum() > 0


@pytest.mark.parametrize("name", [name for name in NEEDS_CONTENT if name not in ITEM_GRAPH])
def test_missing_modality_contributes_nothing(name: str) -> None:
    """What images are turned into doesn't move an item without image and without likes, not even by an offset."""
    graph, _ = camps()
    liked = graph.items != 4
    graph = InteractionGraph(graph.users[liked], graph.items[liked], graph.n_users, graph.n_items)
    features = camp_features(generator())
    features["image"][4] = 0
    recommender = build(name, graph, features)
    with torch.no_grad():
        before = recommender.embed(features).items[4]
        parameters = recommender.named_parameters()  # a layer of MMGCN's also works on ids, whatever the item lacks
        of_images = [x for part, x in parameters if "image" in part.split(".") and not part.startswith("layers.")]
        for parameter in of_images:
            if len(parameter) != graph.n_users:
                parameter.mul_(3.0).add_(0.1)
        after = recommender.embed(features).items
    assert of_images
    assert torch.equal(after[4], before)
    assert not torch.equal(after[5], before)


def _shake(recommender: Recommender) -> None:
    """Away from the first weights, whose offsets are 0."""
    with torch.no_grad():
        for parameter in recommender.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator()), alpha=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in PERSONAL if name != "itemknn"])
def test_a_step_on_a_gpu_equals_one_on_the_cpu(name: str) -> None:
    graph, _ = camps()
    features = camp_features(generator())
    batch = next(TripleSampler(graph.users, graph.items, graph.n_items, batch_size=64, negatives=1).epoch(generator()))
    gradients = []
    for device in ("cpu", "cuda"):
        objective = Ranking(build(name, *camps()[:1], features), Frozen(features)).to(device)
        objective.begin_epoch(generator())
        sum(objective.losses(batch, generator()).values(), torch.zeros((), device=device)).backward()
        gradients.append([parameter.grad.cpu() for parameter in objective.parameters()])
    for cpu, gpu in zip(*gradients, strict=True):
        torch.testing.assert_close(gpu, cpu, atol=1e-6, rtol=1e-4)


def test_every_trained_model_ends_in_two_matrices() -> None:
    graph, _ = camps()
    features = camp_features(generator())
    for name in NAMES:
        recommender = build(name, graph, features)
        if recommender.is_trained:
            assert isinstance(recommender.embed(features), Embeddings), name
