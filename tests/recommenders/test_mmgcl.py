"""MMGCL against its equations in NumPy, and against the faults of its public code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import small
import torch
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.nn.branch_convolution import Branches, convolve
from lmm4rec.recommenders.mmgcl import MMGCL, _Pairs


def model(**parameters: Any) -> MMGCL:
    given = {"dim": 4, "layers": 3} | parameters
    return MMGCL(small.graph(), small.features(), torch.Generator().manual_seed(0), **given)


def content(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The items' layer-0 vectors in each branch."""
    tables = {"id": weights["items"]}
    for modality, features in small.features().items():
        x = features.numpy()
        mapped = small.unit(x) @ weights[f"projections.{modality}"] + weights[f"offsets.{modality}"]
        tables[modality] = mapped * x.any(1, keepdims=True)
    return tables


def branches(weights: dict[str, np.ndarray], tables: dict[str, np.ndarray], edges: np.ndarray) -> list[np.ndarray]:
    mean = small.light(edges, layers=3)
    return [mean @ np.concatenate([weights["users"], table]) for table in tables.values()]


def read(weights: dict[str, np.ndarray], nodes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    joined = np.concatenate(nodes, axis=1)
    users, items = joined[: small.USERS], joined[small.USERS :]
    return (
        users @ weights["read_user.weight"] + weights["read_user.offset"],
        items @ weights["read_item.weight"] + weights["read_item.offset"],
    )


def views(mmgcl: MMGCL, *, seed: int = 0) -> tuple[Branches, Branches, Branches]:
    """The whole, the edge-dropped and the masked view, of all users."""
    table = mmgcl._content(small.features())
    whole = convolve(mmgcl.interactions, mmgcl.users, table, mmgcl.layers)
    generator = torch.Generator().manual_seed(seed)
    dropped, everyone = mmgcl._edge_dropout(table, generator), torch.arange(small.USERS)
    pairs = _Pairs(everyone, everyone, everyone, everyone)
    users, items = mmgcl._modality_masking(table, whole.users, whole.items, pairs, generator)
    return whole, dropped, replace(whole, users=users, items=items)


def test_vectors_and_losses_are_the_papers() -> None:
    """With edges that all stay, the dropped view is the whole graph, so that every term is known but for the mask."""
    mmgcl = model(dropout=0.0, mask_shares=[0.0, 1.0], ssl_weight=0.3, temperature=0.5, l2_weight=0.1)
    weights = small.number(mmgcl)
    nodes = branches(weights, content(weights), small.adjacency())
    users, items = read(weights, nodes)
    found = mmgcl.embed(small.features())
    np.testing.assert_allclose(found.users.detach(), users, atol=1e-5)
    np.testing.assert_allclose(found.items.detach(), items, atol=1e-5)
    losses = small.losses(mmgcl)
    u, i, j = (rows.numpy() for rows in small.batch())
    assert losses["bpr"] == pytest.approx(small.bpr(users, items), rel=1e-5)
    assert losses["dropped"] == pytest.approx(0.3 * small.info_nce(users[u], items[i], 0.5), rel=1e-5)
    batch_rows = (weights["users"][u], weights["items"][i], weights["items"][j])
    assert losses["l2"] == pytest.approx(0.1 * sum((rows**2).sum() for rows in batch_rows) / 2 / len(u), rel=1e-5)
    # challenging negatives: text from the first item that the user has not interacted with
    masked = [rows.copy() for rows in nodes]
    view = views(mmgcl)[2]
    masked[2] = torch.cat([view.users[:, 2], view.items[:, 2]]).detach().numpy().astype(np.float64)
    challenge = 0.0
    for parts in (nodes, masked):
        parts_users, parts_items = read(weights, parts)
        swapped = [rows.copy() for rows in parts]
        swapped[2][small.USERS + i] = parts[2][small.USERS + j[:, 0]]
        near = (small.unit(parts_users[u]) * small.unit(parts_items[i])).sum(1) / 0.5
        far = (small.unit(parts_users[u]) * small.unit(read(weights, swapped)[1][i])).sum(1) / 0.5
        challenge += -np.log(np.exp(near) / (np.exp(near) + np.exp(far))).mean()
    assert losses["challenge"] == pytest.approx(0.3 * challenge, rel=1e-4)
    assert losses["masked"] == pytest.approx(0.3 * small.info_nce(parts_users[u], parts_items[i], 0.5), rel=1e-4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("shares", "branch"), [([1.0, 0.0], 1), ([0.0, 1.0], 2)])
def test_masking_acts_on_the_modality_that_was_drawn(shares: list[float], branch: int) -> None:
    """In the public code, one modality's place got another's content."""
    whole, _, masked = views(model(mask_shares=shares))
    for other in range(3):
        same = torch.allclose(masked.users[:, other], whole.users[:, other], atol=1e-6)
        assert same == (other != branch)
    missing = small.features()["image"].eq(0).all(dim=1)
    assert branch == 2 or torch.equal(
        masked.items[missing & ~has_interactions(), 1], whole.items[missing & ~has_interactions(), 1]
    )


def has_interactions() -> Tensor:
    return small.graph().item_degrees > 0


def test_masked_content_leaves_no_trace() -> None:
    """Nothing of the masked modality is left in its branch, whatever it was."""
    mmgcl = model(mask_shares=[1.0, 0.0])
    before = views(mmgcl)[2]
    with torch.no_grad():
        mmgcl.projections["image"].mul_(5.0)
    torch.testing.assert_close(views(mmgcl)[2].items, before.items)
    with torch.no_grad():
        mmgcl.projections["text"].mul_(5.0)
    assert not torch.allclose(views(mmgcl)[2].items, before.items)


def test_mask_shares_are_those_of_the_features_in_their_order() -> None:
    features = dict(reversed(small.features().items()))
    mmgcl = MMGCL(small.graph(), features, torch.Generator().manual_seed(0), dim=4, mask_shares=[0.0, 1.0])
    before = views(mmgcl)[2]
    with torch.no_grad():
        mmgcl.projections["image"].mul_(5.0)
    assert list(features) == ["text", "image"]
    torch.testing.assert_close(views(mmgcl)[2].items, before.items)


def test_each_view_counts() -> None:
    """In the public code the second contrastive term repeated the first: its view had no effect."""
    losses = [small.losses(model(dropout=0.5), seed) for seed in range(8)]
    for term in ("dropped", "masked", "challenge"):
        assert len({round(each[term], 6) for each in losses}) > 1, term
    assert all(each["masked"] != each["dropped"] for each in losses)
    assert len({round(each["bpr"], 6) for each in losses}) == 1  # ranking sees the whole graph


def test_dropped_edges_are_left_out_and_degrees_counted_anew() -> None:
    mmgcl = model(dropout=0.5)
    weights = small.number(mmgcl)
    kept = torch.rand(8, generator=seeded()) >= 0.5
    edges = np.zeros_like(small.adjacency())
    graph = small.graph()
    for user, item in zip(graph.users[kept].tolist(), graph.items[kept].tolist(), strict=True):
        edges[user, small.USERS + item] = edges[small.USERS + item, user] = 1
    expected = branches(weights, content(weights), edges)
    dropped = views(mmgcl)[1]
    for branch, rows in enumerate(expected):
        np.testing.assert_allclose(dropped.users[:, branch].detach(), rows[: small.USERS], atol=1e-6)
        np.testing.assert_allclose(dropped.items[:, branch].detach(), rows[small.USERS :], atol=1e-6)


def test_challenging_negatives_train_the_content() -> None:
    mmgcl = model()
    mmgcl.losses(small.batch(), small.features(), seeded())["challenge"].backward()
    for modality in small.features():
        assert mmgcl.projections[modality].grad.abs().sum() > 0


def test_high_scores_do_not_tie_and_come_from_current_weights() -> None:
    """A float32 sigmoid is exactly 1 from about 17 on."""
    mmgcl = model()
    with torch.no_grad():
        before = mmgcl.embed(small.features()).scores(torch.arange(small.USERS))
        mmgcl.read_item.offset.fill_(30.0)
        mmgcl.read_user.offset.fill_(30.0)
        scores = mmgcl.embed(small.features()).scores(torch.arange(small.USERS))
    assert not torch.equal(scores, before)
    assert scores.min() > 17
    assert all(len(row.unique()) == small.ITEMS for row in scores)


def test_shares_must_fit_the_modalities() -> None:
    for shares in ([1.0], [0.0, 0.0]):
        with pytest.raises(ConfigError, match="mask_shares needs a number for each of image, text"):
            model(mask_shares=shares)
