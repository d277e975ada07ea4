"""Scorers as the named tensors that a bundle stores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.types import Embeddings, Neighbors, Scorer
from lmm4rec.nn.neighborhoods import UserNeighbors
from lmm4rec.nn.sparse import csr_matrix


def scorer_tensors(scorer: Scorer) -> tuple[dict[str, Tensor], str]:
    """The tensors of a scorer by name, and its kind: "embeddings", "neighbors" or "user_neighbors".

    Raises:
        LMM4RecError: it is of another kind.
    """
    if isinstance(scorer, Embeddings):
        return {"users": scorer.users.contiguous(), "items": scorer.items.contiguous()}, "embeddings"
    if isinstance(scorer, Neighbors):
        tensors = _matrix_parts("seen", scorer.seen) | _matrix_parts("similarity", scorer.similarity)
        if not isinstance(scorer, UserNeighbors):
            return tensors, "neighbors"
        options = {
            "neighbors": torch.tensor(scorer.neighbors),
            "shrinkage": torch.tensor(scorer.shrinkage, dtype=torch.float64),
        }
        tensors |= _matrix_parts("nearest", scorer.nearest)
        return tensors | {"item_weights": scorer.item_weights.contiguous(), **options}, "user_neighbors"
    raise LMM4RecError(f"cannot save a {type(scorer).__name__}: a bundle holds embeddings or neighbors")


def read_scorer(
    tensors: Mapping[str, Tensor], kind: str, parts: Mapping[str, slice], sizes: tuple[int, int, int]
) -> Scorer:
    """The scorer of a kind with these tensors; `sizes` are users, items, and items of the catalog.

    Raises:
        KeyError, ValueError: a tensor is missing, or its shape is wrong.
    """
    n_users, n_items, n_catalog = sizes
    if kind == "embeddings":
        users, items = tensors["users"], tensors["items"]
        if (len(users), len(items)) != (n_users, n_items):
            raise ValueError(f"{len(users)} and {len(items)} vectors for {n_users} users and {n_items} items")
        return Embeddings(users, items, parts=parts)
    shapes = {"seen": (n_users, n_catalog), "similarity": (n_items, n_catalog)}
    seen, similarity = (_matrix(tensors, name, shape) for name, shape in shapes.items())
    if kind == "neighbors":
        return Neighbors(seen, similarity)
    nearest, weights = _matrix(tensors, "nearest", (n_users, n_users)), tensors["item_weights"]
    return UserNeighbors(seen, similarity, nearest, weights, int(tensors["neighbors"]), float(tensors["shrinkage"]))


def _matrix_parts(name: str, matrix: Tensor) -> dict[str, Tensor]:
    if matrix.layout == torch.strided:
        return {name: matrix.contiguous()}
    parts = {"crow": matrix.crow_indices(), "columns": matrix.col_indices(), "values": matrix.values()}
    return {f"{name}.{part}": tensor.contiguous() for part, tensor in parts.items()}


def _matrix(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, int]) -> Tensor:
    if name in tensors:
        if tensors[name].shape != shape:
            raise ValueError(f"the matrix '{name}' is {tuple(tensors[name].shape)}, expected {shape}")
        return tensors[name]
    crow, columns, values = (tensors[f"{name}.{part}"] for part in ("crow", "columns", "values"))
    return csr_matrix(crow, columns, values, shape, check=True)
