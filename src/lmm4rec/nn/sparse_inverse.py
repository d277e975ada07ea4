"""The inverse of a Gram matrix of interactions: items that share no users are eliminated first, the rest is dense."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.nn.csr import csr_matrix
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.item_regression import blocks, dense_bytes, gram_dtype, interaction_gram, invert_
from lmm4rec.nn.neighborhoods import interaction_matrix
from lmm4rec.nn.sparse_product import product

_LEAST_SHARE = 0.02  # of the rows must be eliminated at once, or the rest is inverted as a dense matrix
_MOST_ENTRIES = 0.1  # of a matrix whose rows are still eliminated


def inverse_of_gram(graph: InteractionGraph, l2_weight: float, memory_gb: float) -> Float[Tensor, "items items"]:
    """(XᵀX + λ I)⁻¹ of the interaction matrix X, with λ = `l2_weight`; float64 for up to 10,000 items.

    Time is that of a dense inverse of the items that are left after elimination. It takes twice the memory of the
    inverse; where that is above `memory_gb`, the whole matrix is inverted in place.

    Raises:
        TrainingError: the matrix is singular after rounding.
    """
    if 2 * dense_bytes(graph.n_items) > memory_gb * 1e9:
        return invert_(interaction_gram(graph), l2_weight)
    matrix = interaction_matrix(graph).astype(np.float64)
    gram = sp.csr_array(matrix.T @ matrix + l2_weight * sp.eye_array(graph.n_items))
    inverse, order = _inverse(gram, gram_dtype(graph.n_items))
    places = torch.argsort(order)
    ordered = torch.empty_like(inverse)
    for rows in blocks(len(inverse)):
        ordered[rows] = inverse[places[rows]][:, places]
    return ordered


def _inverse(matrix: sp.csr_array, dtype: torch.dtype) -> tuple[Float[Tensor, "n n"], Int[Tensor, " n"]]:
    """The inverse of a positive matrix with its rows and columns in another order, and this order.

    Rows E without entries among them but the diagonal D are eliminated, R are the others: with C = matrix[E, R] and
    M = D⁻¹ C, the inverse has the blocks Q = (matrix[R, R] - Cᵀ M)⁻¹, -M Q and D⁻¹ + M Q Mᵀ (Schur complement).
    """
    eliminated, count = _independent_rows(matrix), matrix.shape[0]
    if len(eliminated) <= _LEAST_SHARE * count or matrix.nnz > _MOST_ENTRIES * count**2:
        return invert_(_dense(matrix, dtype), 0.0), torch.arange(count)
    rest = np.setdiff1d(np.arange(count), eliminated)
    pivots, coupling = matrix.diagonal()[eliminated], matrix[eliminated][:, rest]
    multipliers = sp.csr_array(sp.diags_array(1 / pivots) @ coupling)
    inner, order = _inverse(sp.csr_array(matrix[rest][:, rest] - coupling.T @ multipliers), dtype)
    inverse = _with_eliminated(inner, _torch_csr(multipliers[:, order.numpy()], dtype), torch.from_numpy(1 / pivots))
    return inverse, torch.cat([torch.from_numpy(rest)[order], torch.from_numpy(eliminated)])


def _independent_rows(matrix: sp.csr_array) -> Int[np.ndarray, " rows"]:
    """Rows of a symmetric matrix without entries among them but the diagonal, those with few entries first."""
    starts, columns = matrix.indptr, matrix.indices
    excluded = np.zeros(matrix.shape[0], bool)
    found = []
    for row in np.argsort(np.diff(starts), kind="stable"):
        if not excluded[row]:
            found.append(row)
            excluded[columns[starts[row] : starts[row + 1]]] = True
    return np.array(found, np.int64)


def _with_eliminated(
    inner: Float[Tensor, "rest rest"], multipliers: Tensor, reciprocals: Float[Tensor, " eliminated"]
) -> Float[Tensor, "n n"]:
    """The inverse with the eliminated rows and columns behind those of the others: Q, M and 1 / D are given."""
    kept = len(inner)
    inverse = inner.new_empty(kept + len(reciprocals), kept + len(reciprocals))
    for rows in blocks(kept):
        inverse[rows, :kept] = inner[rows]
        coupled = product(multipliers, inner[:, rows]).neg_()
        inverse[kept:, rows], inverse[rows, kept:] = coupled, coupled.T
    for rows in blocks(len(reciprocals)):
        eliminated = slice(kept + rows.start, kept + rows.stop)
        inverse[kept:, eliminated] = product(multipliers, inverse[:kept, eliminated].neg())
    inverse.diagonal()[kept:] += reciprocals.to(inner.dtype)
    return inverse


def _dense(matrix: sp.csr_array, dtype: torch.dtype) -> Float[Tensor, "n n"]:
    dense = torch.empty(matrix.shape, dtype=dtype)
    for rows in blocks(len(dense)):
        dense[rows] = torch.from_numpy(matrix[rows].toarray())
    return dense


def _torch_csr(matrix: sp.csr_array, dtype: torch.dtype) -> Tensor:
    starts, columns = (torch.from_numpy(x.astype(np.int64)) for x in (matrix.indptr, matrix.indices))
    return csr_matrix(starts, columns, torch.from_numpy(matrix.data).to(dtype), matrix.shape)
