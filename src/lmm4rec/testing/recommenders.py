"""The contracts of recommenders: checks that every one of them has to pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import hyper_parameters
from lmm4rec.core.types import Embeddings, Features, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender
from lmm4rec.serving.bundle import Bundle
from lmm4rec.testing.contracts import Contracts, expect
from lmm4rec.testing.probes import (
    all_scores,
    copy_weights,
    generator,
    gradient,
    image_weights,
    item_vectors,
    move_weights,
    sampled_batch,
    total,
    triples_of,
)  # fmt: skip
from lmm4rec.testing.recommender_candidate import Candidate, world
from lmm4rec.testing.worlds import camp_features, camps, ordered_camps, share_found, share_next
from lmm4rec.training.objective import RankingBatch

CONTRACTS: Contracts[Candidate] = Contracts()


def check_recommender(component: type[Recommender], /, *, contract: str | None = None, **hyper: Any) -> None:
    """Check that a recommender keeps the promises of its kind, or the one that `contract` names.

    `hyper` are its hyper-parameters, where it is not to be checked with the defaults. What it has to promise follows
    from the class variables of `Recommender` (`is_trained`, `uses_content`, ...).

    Raises:
        BrokenContractError: it says which promise is broken, and how.
    """
    CONTRACTS.check(Candidate(component, hyper), component.__name__, contract)


def recommender_contracts(component: type[Recommender], /, **hyper: Any) -> list[str]:
    """The names of the contracts that a recommender has to keep."""
    return CONTRACTS.names(Candidate(component, hyper))


@CONTRACTS.add()
def declares_whether_it_is_trained(candidate: Candidate) -> None:
    """`is_trained` is True where there are weights and losses (or `is_solved` and a sweep), else False."""
    component, recommender = candidate.component, candidate.build(*world())
    has_weights = any(weight.requires_grad for weight in recommender.parameters())
    has_sweep = component.sweep is not Recommender.sweep
    updates = has_sweep or component.losses is not Recommender.losses
    expect(has_sweep == component.is_solved, f"is_solved is {component.is_solved}, a method `sweep`: {has_sweep}")
    expect(
        has_weights == updates == component.is_trained,
        f"is_trained is {component.is_trained}, weights to train: {has_weights}, `losses` or `sweep`: {updates}",
    )


@CONTRACTS.add(lambda candidate: candidate.component.is_personal)
def learns_a_world_whose_answer_is_known(candidate: Candidate) -> None:
    """Of users who interact with the items of one camp, the camp's other items rank first; in order, the next one."""
    share = _share_learned(candidate, camp_features(generator()), 0.95)
    expect(share > 0.95, f"{share:.2f} of the held-out items are ranked first, expected more than 0.95")


@CONTRACTS.add(
    lambda candidate: (
        candidate.component.is_personal and (candidate.component.uses_content or not candidate.component.sequential)
    )
)
def copes_with_one_modality_and_with_items_that_lack_it(candidate: Candidate) -> None:
    """With a single modality of any name, which every seventh item lacks, it still learns."""
    features = {"audio": camp_features(generator())["image"]}
    features["audio"][::7] = 0
    share = _share_learned(candidate, features, 0.9)
    expect(share > 0.9, f"{share:.2f} of the held-out items are ranked first, expected more than 0.9")


def _share_learned(candidate: Candidate, features: Features, goal: float) -> float:
    """The share of held-out items that are ranked first; training ends once it is above the goal."""
    (graph, held_out), share_of = camps(), share_found
    if candidate.component.sequential:
        (graph, held_out), share_of = ordered_camps(), share_next

    def share(scorer: Scorer) -> float:
        scores = all_scores(scorer)
        expect(torch.isfinite(scores).all(), "there are scores that are not finite")
        return share_of(scores, graph, held_out)

    trained = candidate.trained(
        graph, features, epochs=60 if candidate.component.sequential else 30, enough=lambda scorer: share(scorer) > goal
    )
    return share(trained.embed(features))


def _has_ids(candidate: Candidate) -> bool:
    return "ids" in hyper_parameters(candidate.component) and "ids" not in candidate.hyper


@CONTRACTS.add(_has_ids)
def without_ids_an_item_is_its_content(candidate: Candidate) -> None:
    """With ids = False two items of the same content without interactions have one vector, and it still learns."""
    graph, features = world()
    seen = (graph.items != 4) & (graph.items != 5)
    graph = InteractionGraph(graph.users[seen], graph.items[seen], graph.n_users, graph.n_items)
    for x in features.values():
        x[5] = x[4]
    without = replace(candidate, hyper={**candidate.hyper, "ids": False})
    same = [item_vectors(one.trained(graph, features, epochs=1), features)[4:6] for one in (without, candidate)]
    expect(torch.equal(*same[0]), "two items of the same content have two vectors without ids")
    expect(not torch.equal(*same[1]), "ids = True changes nothing")
    share = _share_learned(without, camp_features(generator()), 0.95)
    expect(share > 0.95, f"without ids {share:.2f} of the held-out items are ranked first, expected more than 0.95")


@CONTRACTS.add(lambda candidate: not candidate.component.sequential)
def permuted_items_have_permuted_scores(candidate: Candidate) -> None:
    """Renumbering the items renumbers the scores and changes nothing else."""
    graph, features = world()
    order = torch.randperm(graph.n_items, generator=generator(7))
    permuted = InteractionGraph(graph.users, torch.argsort(order)[graph.items], graph.n_users, graph.n_items)
    shuffled = {modality: x[order] for modality, x in features.items()}
    first, second = candidate.build(graph, features), candidate.build(permuted, shuffled)
    copy_weights(first, second, order, graph)
    expected = all_scores(first.embed(features))[:, order]
    torch.testing.assert_close(all_scores(second.embed(shuffled)), expected, atol=1e-5, rtol=1e-4)


@CONTRACTS.add()
def the_same_seed_gives_the_same_scores(candidate: Candidate) -> None:
    """Two trainings from the same seed end in the same scores, bit by bit."""
    graph, features = world()
    trainings = candidate.after_three_epochs, candidate.trained(graph, features, epochs=3)
    one, other = (all_scores(trained.embed(features)) for trained in trainings)
    expect(torch.equal(one, other), f"scores differ by up to {float((one - other).abs().max()):g}")


@CONTRACTS.add(lambda candidate: candidate.component.is_deterministic)
def every_seed_gives_the_same_scores(candidate: Candidate) -> None:
    """A model that declares to be deterministic draws no random number."""
    graph, features = world()
    one, other = (all_scores(candidate.build(graph, features, seed).embed(features)) for seed in range(2))
    expect(torch.equal(one, other), "is_deterministic is True, but two seeds give other scores")


@CONTRACTS.add(lambda candidate: candidate.component.is_trained)
def another_seed_gives_other_scores(candidate: Candidate) -> None:
    """First weights come from the generator that is passed."""
    graph, features = world()
    one, other = (all_scores(candidate.build(graph, features, seed).embed(features)) for seed in range(2))
    expect(not torch.equal(one, other), "two seeds give the same scores")


@CONTRACTS.add()
def survives_saving_and_loading(candidate: Candidate) -> None:
    """All that training changes is in the state dict."""
    graph, features = world()
    trained, again = candidate.after_three_epochs, candidate.build(graph, features, seed=1)
    again.load_state_dict(trained.state_dict())
    scores = all_scores(again.embed(features)), all_scores(trained.embed(features))
    expect(torch.equal(*scores), "the loaded model gives other scores than the saved one")


@CONTRACTS.add(lambda candidate: candidate.component.is_trained)
def ends_in_two_matrices(candidate: Candidate) -> None:
    """A trained model ranks by a user matrix and an item matrix."""
    graph, features = world()
    scorer = candidate.build(graph, features).embed(features)
    expect(isinstance(scorer, Embeddings), f"`embed` returns {type(scorer).__name__}, expected Embeddings")


@CONTRACTS.add()
def recommends_from_a_bundle(candidate: Candidate) -> None:
    """What `embed` returns can be stored and loaded, and recommends to users and to histories."""
    graph, features = world()
    trained = candidate.after_three_epochs
    with torch.no_grad():
        scorer = trained.embed(features)
    users, items = (
        Vocabulary([f"{kind}{row}" for row in range(size)], kind=kind)
        for kind, size in (("user", graph.n_users), ("item", graph.n_items))
    )
    log = Interactions(graph.users.numpy().astype(np.int32), graph.items.numpy().astype(np.int32), None, None)
    bundle = Bundle(scorer, users, items, list(items), log, {"model": candidate.component.__name__})
    with TemporaryDirectory() as folder:
        bundle.save_pretrained(Path(folder) / "bundle")
        loaded = Bundle.from_pretrained(Path(folder) / "bundle")
    torch.testing.assert_close(all_scores(loaded.scorer), all_scores(scorer), rtol=0, atol=0)
    expect(loaded.recommend(users[:3]) == bundle.recommend(users[:3]), "the loaded bundle recommends other items")
    expect(len(loaded.recommend_for(items[:2], k=5)) == 5, "a history of two items gets no five recommendations")


@CONTRACTS.add(lambda candidate: candidate.component.uses_content)
def says_that_it_needs_features(candidate: Candidate) -> None:
    """A model that `uses_content` raises ConfigError where there are no features."""
    try:
        candidate.build(camps()[0], {})
    except ConfigError as error:
        expect("features" in str(error), f"the message does not speak of features: {error}")
    else:
        raise AssertionError("it is built without features: call super().__init__(graph, features)")


@CONTRACTS.add(lambda candidate: not candidate.component.uses_content and not candidate.hyper)
def ignores_features_unless_it_declares_them(candidate: Candidate) -> None:
    """A model whose scores depend on features by default declares `uses_content`."""
    graph, features = world()
    other = {modality: x.flip(0) + 1 for modality, x in features.items()}
    scores = [all_scores(candidate.build(graph, given).embed(given)) for given in (features, other, {})]
    expect(torch.equal(scores[0], scores[1]), "other features give other scores: declare uses_content = True")
    expect(torch.equal(scores[0], scores[2]), "no features give other scores: declare uses_content = True")


def _trains_on_content(candidate: Candidate) -> bool:
    return candidate.component.uses_content and candidate.component.is_trained and candidate.component.trains_content


@CONTRACTS.add(lambda candidate: not candidate.component.trains_content)
def features_that_only_choose_edges_receive_no_gradient(candidate: Candidate) -> None:
    """A model that declares `trains_content = False` gives features no gradient, and other features other scores."""
    touched, _, _ = _rows_with_gradient(candidate)
    expect(not any(rows.any() for rows in touched.values()), "features receive gradient: trains_content is True")
    graph, features = world()
    recommender = candidate.build(graph, features)
    one, other = (all_scores(recommender.embed(x)) for x in (features, {m: x.roll(3, 0) for m, x in features.items()}))
    expect(not torch.equal(one, other), "other features give the same scores")


@CONTRACTS.add(_trains_on_content)
def gradient_reaches_live_features(candidate: Candidate) -> None:
    """A batch's positive items receive gradient in every modality, so no transformed features are cached."""
    touched, batch, _ = _rows_with_gradient(candidate)
    for modality, rows in touched.items():
        expect(rows[batch.positives].all(), f"positive items receive no gradient in their {modality} features")


@CONTRACTS.add(lambda candidate: _trains_on_content(candidate) and not candidate.component.spreads_content)
def only_the_batch_receives_gradient(candidate: Candidate) -> None:
    """Where no graph carries content further (`spreads_content`), no item outside the batch receives gradient."""
    touched, batch, reads_negatives = _rows_with_gradient(candidate)
    for modality, rows in touched.items():
        expected = torch.zeros_like(rows)
        expected[batch.positives] = True
        if reads_negatives:
            expected[batch.negatives.flatten()] = True
        wrong = (rows != expected).nonzero().flatten().tolist()
        expect(not wrong, f"gradient of the {modality} features is wrong at items {wrong}")


@CONTRACTS.add(_trains_on_content)
def a_missing_modality_receives_no_gradient(candidate: Candidate) -> None:
    """Where an item lacks a modality no gradient arrives, as it would through an offset or F.normalize."""
    graph, features = world()
    features["image"][4] = 0
    features = {modality: x.requires_grad_() for modality, x in features.items()}
    recommender = candidate.build(graph, features)
    recommender.begin_epoch(features, generator())
    move_weights(recommender)
    batch = sampled_batch(candidate.component, graph) if candidate.component.sequence_batches else triples_of(4, graph)
    total(recommender.losses(batch, features, generator())).backward()  # type: ignore[no-untyped-call]
    gradients = {modality: gradient(x)[4] for modality, x in features.items()}
    expect((gradients["image"] == 0).all(), "the image features of an item without image receive gradient")
    expect(gradients["text"].abs().sum() > 0, "its text features receive none")


@CONTRACTS.add(
    lambda candidate: (
        _trains_on_content(candidate)
        and not candidate.component.item_graph
        and bool(image_weights(candidate.build(*world())))
    )
)
def a_missing_modality_adds_nothing(candidate: Candidate) -> None:
    """Weights of a modality do not move an item without it and without interactions, not even by an offset.

    The weights of a modality are those that have its name in theirs (see `image_weights`).
    """
    graph, features = world()
    others = graph.items != 4
    graph = InteractionGraph(graph.users[others], graph.items[others], graph.n_users, graph.n_items)
    features["image"][4] = 0
    recommender = candidate.build(graph, features)
    with torch.no_grad():
        before = item_vectors(recommender, features)
        other = item_vectors(recommender, {modality: x.flip(0) for modality, x in features.items()})
        for weight in image_weights(recommender):
            weight.mul_(3.0).add_(0.1)
        after = item_vectors(recommender, features)
    expect(torch.equal(after[4], before[4]), "the vector of an item without image moves with the weights of images")
    if not torch.equal(other, before):  # else content only has a part in training
        expect(not torch.equal(after[5], before[5]), "the vector of an item with an image does not")


def _rows_with_gradient(candidate: Candidate) -> tuple[dict[str, Bool[Tensor, " items"]], RankingBatch, bool]:
    """The items whose features receive gradient from a small batch, and whether its negatives count at all."""
    graph, features = world()
    features = {modality: x.requires_grad_() for modality, x in features.items()}
    recommender = candidate.build(graph, features)
    recommender.begin_epoch(features, generator())
    batch = sampled_batch(candidate.component, graph, batch_size=5)
    loss = total(recommender.losses(batch, features, generator()))
    loss.backward()  # type: ignore[no-untyped-call]
    other = batch._replace(negatives=(batch.negatives + 1) % graph.n_items)
    reads_negatives = not torch.equal(total(recommender.losses(other, features, generator())), loss)
    return {modality: gradient(x).abs().sum(1) > 0 for modality, x in features.items()}, batch, reads_negatives
