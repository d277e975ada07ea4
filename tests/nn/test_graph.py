"""Propagation and neighbors against dense matrices and brute force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import torch

from lmm4rec.nn.branch_convolution import convolve
from lmm4rec.nn.graph import (
    InteractionGraph,
    drop_edges,
    dropout,
    nearest,
    normalize,
    pattern,
    propagate,
    propagate_to,
    prune_edges,
    spread,
    symmetric_weights,
    user_item,
    weighted_interactions,
    weighted_sample,
)
from lmm4rec.nn.weighted_matrix import WeightedMatrix

EDGES = [(0, 0), (0, 1), (1, 1), (2, 1), (2, 2), (2, 1)]  # the last one twice


def small() -> InteractionGraph:
    users, items = torch.tensor(EDGES).T
    return InteractionGraph(users, items, n_users=4, n_items=3)  # user 3 has nothing


def dense() -> np.ndarray:
    interactions = np.zeros((4, 3))
    for user, item in EDGES:
        interactions[user, item] = 1
    adjacency = np.block([[np.zeros((4, 4)), interactions], [interactions.T, np.zeros((3, 3))]])
    degrees = adjacency.sum(1)
    scale = np.divide(1, np.sqrt(degrees), out=np.zeros(7), where=degrees > 0)
    return scale[:, None] * adjacency * scale[None, :]


def test_edges_count_once() -> None:
    assert small().item_degrees.tolist() == [1, 3, 1]
    assert small().user_degrees.tolist() == [2, 1, 2, 0]


def test_normalize_is_the_dense_matrix() -> None:
    np.testing.assert_allclose(normalize(small()).matrix.to_dense().numpy(), dense(), atol=1e-7)


def test_propagate_is_the_mean_of_dense_powers() -> None:
    nodes = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    adjacency = dense()
    expected = sum(np.linalg.matrix_power(adjacency, k) @ nodes.numpy() for k in range(4)) / 4
    np.testing.assert_allclose(propagate(normalize(small()), nodes, 3).numpy(), expected, atol=1e-6)


def test_gradient_is_that_of_the_dense_product() -> None:
    nodes = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    (propagate(normalize(small()), nodes, 2) * target).sum().backward()
    a = torch.tensor(dense(), dtype=torch.float32)
    expected = (torch.eye(7) + a + a @ a).T @ target / 3
    assert nodes.grad is not None
    torch.testing.assert_close(nodes.grad, expected)


@pytest.mark.parametrize("kind", ["symmetric", "row"])
@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize("chosen", [[1, 5, 5], [3], range(7)])  # a part with one twice; without edges; all
def test_some_rows_of_propagate_and_their_gradient_are_those_of_the_dense_product(
    kind: Literal["symmetric", "row"], layers: int, chosen: Sequence[int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randn(7, 5, generator=generator, requires_grad=True)
    matrix = normalize(small(), kind)
    a, mean = matrix.matrix.to_dense(), torch.zeros(7, 7)
    for step in range(layers + 1):
        mean += torch.linalg.matrix_power(a, step) / (layers + 1)
    index = torch.tensor([list(chosen)])
    first, again = propagate_to(matrix, nodes, layers, index, index[0, :1])
    torch.testing.assert_close(first, (mean @ nodes)[index])
    torch.testing.assert_close(again, first[0, :1])
    target = torch.randn(first.shape, generator=generator)
    (first * target).sum().backward()
    expected = mean.T @ torch.zeros(7, 5).index_add_(0, index[0], target[0])
    torch.testing.assert_close(nodes.grad, expected)


def test_nearest_is_brute_force() -> None:
    vectors = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    values, neighbors = nearest(vectors, 4, block=16)
    unit = vectors.numpy() / np.linalg.norm(vectors.numpy(), axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    expected = np.argsort(-cosine, axis=1)[:, :4]
    np.testing.assert_array_equal(neighbors.numpy(), expected)
    np.testing.assert_allclose(values.numpy(), np.take_along_axis(cosine, expected, 1), atol=1e-6)


def test_nearest_by_dot_products_is_brute_force() -> None:
    vectors = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    values, neighbors = nearest(vectors, 4, cosine=False, block=16)
    products = vectors.numpy() @ vectors.numpy().T
    np.fill_diagonal(products, -np.inf)
    expected = np.argsort(-products, axis=1)[:, :4]
    np.testing.assert_array_equal(neighbors.numpy(), expected)
    np.testing.assert_allclose(values.numpy(), np.take_along_axis(products, expected, 1), rtol=1e-5)


def test_row_normalization_with_self_loops_is_the_dense_matrix() -> None:
    interactions = np.zeros((4, 3))
    interactions[tuple(np.array(EDGES).T)] = 1
    adjacency = np.block([[np.eye(4), interactions], [interactions.T, np.eye(3)]])
    expected = adjacency / adjacency.sum(1, keepdims=True)
    matrix = normalize(small(), "row", self_loops=True)
    np.testing.assert_allclose(matrix.matrix.to_dense().numpy(), expected, atol=1e-7)
    np.testing.assert_allclose(matrix.transposed.to_dense().numpy(), expected.T, atol=1e-7)


def test_users_gather_their_items() -> None:
    items = torch.tensor([[1.0], [10.0], [100.0]])
    assert user_item(small(), "sum")(items)[:, 0].tolist() == [11.0, 10.0, 110.0, 0.0]
    assert user_item(small(), "mean")(items)[:, 0].tolist() == [5.5, 10.0, 55.0, 0.0]
    np.testing.assert_allclose(user_item(small(), "symmetric").matrix.to_dense().numpy(), dense()[:4, 4:], atol=1e-7)


@pytest.mark.long
def test_edges_are_pruned_by_degree() -> None:
    """The share of draws that keep an edge is that of its weight 1 / sqrt(d_u · d_i) where one edge is drawn."""
    graph = small()
    degrees = np.array([[2, 1], [2, 3], [1, 3], [2, 3], [2, 1]])  # of the distinct edges, in order
    weights = 1 / np.sqrt(degrees.prod(1))
    np.testing.assert_allclose(symmetric_weights(graph).numpy(), weights, atol=1e-7)
    generator = torch.Generator().manual_seed(0)
    counts = np.zeros(5)
    for _ in range(4000):
        kept = prune_edges(graph, 0.8, generator)
        assert len(kept.users) == 1
        counts[(graph.users == kept.users).logical_and(graph.items == kept.items).nonzero()[0, 0]] += 1
    np.testing.assert_allclose(counts / 4000, weights / weights.sum(), atol=0.03)


def test_samples_are_those_of_multinomial() -> None:
    """So graphs that were sampled with the same seed before stay as they are."""
    weights = 0.1 + torch.rand(500, generator=torch.Generator().manual_seed(0))
    for k in (1, 100, 500):
        found = weighted_sample(weights, k, torch.Generator().manual_seed(k))
        expected = torch.multinomial(weights, k, generator=torch.Generator().manual_seed(k))
        assert torch.equal(found.sort().values, expected.sort().values)


@pytest.mark.long
def test_more_entries_are_sampled_than_multinomial_takes() -> None:
    """Half of them have ten times the weight of the others; of 1,000 drawn, 1,000 · 10 / 11 are expected of these."""
    weights = torch.ones(2**24 + 2)
    weights[::2] = 10
    found = weighted_sample(weights, 1000, torch.Generator().manual_seed(0))
    assert len(found.unique()) == 1000
    assert abs(int((found % 2 == 0).sum()) - 909) < 40


def test_pruning_keeps_whole_edges_and_counts_degrees_anew() -> None:
    kept = prune_edges(small(), 0.4, torch.Generator().manual_seed(0))
    assert len(kept.users) == 3
    assert int(kept.user_degrees.sum()) == int(kept.item_degrees.sum()) == 3
    assert (kept.n_users, kept.n_items) == (4, 3)


def test_dropout_keeps_the_mean() -> None:
    x = dropout(torch.ones(200, 100), 0.8, torch.Generator().manual_seed(0))
    assert set(x.unique().tolist()) == {0.0, 5.0}
    assert abs(float(x.mean()) - 1) < 0.05


@pytest.mark.parametrize("chosen", [[6, 3, 0], [6, 3, 0, 5, 1, 2, 4]])  # 3 has no edge; all
def test_some_rows_of_a_product_and_their_gradient_are_those_of_the_dense_matrix(chosen: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, rows = normalize(small(), "row"), torch.tensor(chosen)
    dense, target = torch.randn(7, 5, generator=generator, requires_grad=True), torch.randn(len(rows), 5)
    found, whole = matrix.at(rows, dense), matrix.matrix.to_dense()
    torch.testing.assert_close(found, whole[rows] @ dense)
    (found * target).sum().backward()
    torch.testing.assert_close(dense.grad, whole[rows].T @ target)


def test_one_step_in_two_blocks_is_that_over_the_whole() -> None:
    nodes = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    for interactions in (
        weighted_interactions(small(), symmetric_weights(small())),
        WeightedMatrix(pattern(small()), symmetric_weights(small())),
    ):
        np.testing.assert_allclose(spread(interactions, nodes).numpy(), dense() @ nodes.numpy(), atol=1e-6)


def test_branches_are_lightgcns_that_share_their_users() -> None:
    """Each branch is the mean of dense powers; with items of zeros it is the users' part alone."""
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(4, 5, generator=generator), torch.randn(3, 2, 5, generator=generator)
    branches = convolve(weighted_interactions(small(), symmetric_weights(small())), users, items, 3)
    mean = sum(np.linalg.matrix_power(dense(), k) for k in range(4)) / 4
    for branch in range(2):
        expected = mean @ torch.cat([users, items[:, branch]]).numpy()
        np.testing.assert_allclose(branches.users[:, branch].numpy(), expected[:4], atol=1e-6)
        np.testing.assert_allclose(branches.items[:, branch].numpy(), expected[4:], atol=1e-6)
    alone = mean @ torch.cat([users, torch.zeros(3, 5)]).numpy()
    np.testing.assert_allclose(branches.users_alone.numpy(), alone[:4], atol=1e-6)
    np.testing.assert_allclose(branches.items_alone.numpy(), alone[4:], atol=1e-6)


def test_a_graph_with_dropped_edges_is_the_graph_without_them() -> None:
    graph = small()
    kept = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])
    rest = InteractionGraph(graph.users[kept > 0], graph.items[kept > 0], 4, 3)
    weights = symmetric_weights(graph, kept)
    assert torch.equal(weights[kept > 0], symmetric_weights(rest))
    assert not weights[kept == 0].any()


def test_dropping_takes_its_share_and_keeps_the_mean() -> None:
    users = torch.arange(20_000)
    graph = InteractionGraph(users, torch.zeros_like(users), 20_000, 1)
    assert 0.28 < 1 - drop_edges(graph, 0.3, torch.Generator().manual_seed(0)).mean() < 0.32
    dropped = dropout(torch.ones(20_000), 0.3, torch.Generator().manual_seed(0))
    assert 0.28 < (dropped == 0).float().mean() < 0.32
    assert 0.98 < dropped.mean() < 1.02
