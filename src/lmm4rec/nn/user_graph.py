"""The user co-occurrence graph: users who interacted with the same items."""

from __future__ import annotations

from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.neighborhoods import interaction_matrix, largest_entries
from lmm4rec.nn.sparse import SparseMatrix


def co_occurrence(graph: InteractionGraph, neighbors: int) -> SparseMatrix:
    """The matrix [users, users] of each user's `neighbors` others with the most items in common, at least one.

    A row's weights are the softmax of these counts (DualGNN, doi 10.1109/TMM.2021.3138298); the row of a user who
    shares no item is empty. Which of equal counts at the last place are kept is undefined.
    """
    matrix = interaction_matrix(graph)
    rows, columns, counts = largest_entries(matrix, matrix.T.tocsr(), neighbors, lambda counts, *_: counts)
    largest = counts.new_zeros(graph.n_users).scatter_reduce_(0, rows, counts, "amax")
    shares = (counts - largest[rows]).exp()
    totals = shares.new_zeros(graph.n_users).index_add_(0, rows, shares)
    shares = shares / totals[rows]
    device = graph.users.device
    return SparseMatrix(rows.to(device), columns.to(device), shares.to(device), (graph.n_users, graph.n_users))
