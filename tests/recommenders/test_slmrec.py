"""SLMRec's self-supervised tasks against a few lines of NumPy; the golden file checks encoder, ranking loss and FAC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import small
import torch

from lmm4rec.recommenders.slmrec import SLMRec


def model(**parameters: Any) -> SLMRec:
    given = {"dim": 4, "layers": 3, "ssl_weight": 1.0, "ssl_temperature": 0.5} | parameters
    return SLMRec(small.graph(), small.features(), torch.Generator().manual_seed(0), **given)


def read(weights: dict[str, np.ndarray], masked: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Users and items after the graph, one branch of all items masked before it."""
    tables = [weights["items"]]
    for modality, features in small.features().items():
        x = features.numpy()
        mapped = small.unit(x) @ weights[f"projections.{modality}"] + weights[f"offsets.{modality}"]
        tables.append(mapped * x.any(1, keepdims=True))
    mean = small.light(small.adjacency(), layers=3)
    nodes = [
        mean @ np.concatenate([weights["users"], np.zeros_like(table) if k == masked else table])
        for k, table in enumerate(tables)
    ]
    joined = np.concatenate(nodes, axis=1)
    return (
        joined[: small.USERS] @ weights["read_user.weight"] + weights["read_user.offset"],
        joined[small.USERS :] @ weights["read_item.weight"] + weights["read_item.offset"],
    )


def test_feature_masking_contrasts_two_masked_branches() -> None:
    slmrec = model(task="FM")
    weights = small.number(slmrec)
    u, i, _ = (np.unique(rows.numpy()) for rows in small.batch())
    found = set()
    for seed in range(12):
        ssl = small.losses(slmrec, seed)["ssl"]
        one, other = torch.randperm(3, generator=torch.Generator().manual_seed(seed))[:2].tolist()
        pairs = zip(read(weights, one), read(weights, other), (u, i), strict=True)
        expected = sum(small.info_nce(left[rows], right[rows], 0.5) for left, right, rows in pairs)
        assert ssl == pytest.approx(expected, rel=1e-4)
        found.add(frozenset((one, other)))
    assert len(found) == 3  # every pair of branches comes up


def test_feature_dropout_of_nothing_contrasts_equal_views() -> None:
    slmrec = model(task="FD", dropout=0.0)
    weights = small.number(slmrec)
    u, i, _ = (np.unique(rows.numpy()) for rows in small.batch())
    expected = sum(small.info_nce(x[rows], x[rows], 0.5) for x, rows in zip(read(weights), (u, i), strict=True))
    ssl = small.losses(slmrec)["ssl"]
    assert ssl == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("task", ["FD", "FD+FM"])
def test_feature_dropout_makes_two_views(task: str) -> None:
    """Other draws, other views; and what is dropped is dropped after a step, never the ids and content themselves."""
    slmrec = model(task=task, dropout=0.5)
    losses = [small.losses(slmrec, seed)["ssl"] for seed in range(4)]
    assert len(set(losses)) == 4
    rows = torch.arange(small.USERS), torch.arange(small.ITEMS)
    content = slmrec._content(small.features())
    users, items = slmrec._dropped(*rows, content, torch.Generator().manual_seed(0))
    lonely = content[4] / (slmrec.layers + 1)  # item 4 has no edge: only its layer 0 counts
    torch.testing.assert_close(items[4], lonely)
    assert users.shape == (small.USERS, 3, 4)


def test_masking_and_dropout_of_nothing_is_masking() -> None:
    both, masking = model(task="FD+FM", dropout=0.0), model(task="FM")
    losses = [small.losses(each, 5)["ssl"] for each in (both, masking)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_items_without_a_modality_have_no_part_in_its_space() -> None:
    """FAC in NumPy; item 2 lacks its image, so that its row is neither asked nor an answer there."""
    slmrec = model(task="FAC")
    weights = small.number(slmrec)
    given = small.batch()._replace(positives=torch.tensor([1, 2, 0]))
    ssl = small.losses(slmrec, given=given)["ssl"]
    branches = slmrec_branches(weights)[:, given.positives.numpy()]
    anchor, expected = branches[0], 0.0
    for level, (modality, kept) in enumerate((("image", [0, 2]), ("text", [0, 1, 2]))):
        maps = {part: weights[f"{part}.{level}.weight"] for part in ("anchor_maps", "content_maps")}
        offsets = {part: weights[f"{part}.{level}.offset"] for part in ("anchor_maps", "content_maps")}
        anchor = anchor @ maps["anchor_maps"] + offsets["anchor_maps"]
        other = branches[1 + level] @ maps["content_maps"] + offsets["content_maps"]
        shares = np.exp(anchor[kept] @ other[kept].T / 0.5)
        expected += -np.log(np.diag(shares) / shares.sum(1)).mean()
        assert modality in small.features()
    assert ssl == pytest.approx(expected, rel=1e-4)
    assert slmrec.content_maps[1].weight.shape == (4, 2)  # the coarse space is half as wide


def slmrec_branches(weights: dict[str, np.ndarray]) -> np.ndarray:
    """The items' branches after the graph [branches, items, dim]."""
    tables = [weights["items"]]
    for modality, features in small.features().items():
        x = features.numpy()
        mapped = small.unit(x) @ weights[f"projections.{modality}"] + weights[f"offsets.{modality}"]
        tables.append(mapped * x.any(1, keepdims=True))
    mean = small.light(small.adjacency(), layers=3)
    return np.stack([(mean @ np.concatenate([weights["users"], table]))[small.USERS :] for table in tables])
