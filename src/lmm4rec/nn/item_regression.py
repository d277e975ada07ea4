"""Ridge regressions of each item on all others, in closed form: Gram matrix, inverse, weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
from jaxtyping import Float, Int
from scipy.linalg import get_lapack_funcs
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, TrainingError
from lmm4rec.core.types import Features, Modality, Neighbors, NonNegativeInt, PositiveFloat
from lmm4rec.nn.csr import csr
from lmm4rec.nn.graph import InteractionGraph, histories
from lmm4rec.nn.neighborhoods import interaction_matrix
from lmm4rec.nn.projections import ContentProjection, center_of, centered

_DOUBLE_ITEMS = 10_000  # up to this number float64 takes seconds; float32 halves time and memory
_ROWS = 2048  # in a block

KeptWeights: TypeAlias = Annotated[NonNegativeInt, Doc("Largest weights kept of each item, for small bundles; 0: all.")]
MemoryLimit: TypeAlias = Annotated[
    PositiveFloat, Doc("GB that the items × items matrix may take; a larger one is refused.")
]


def dense_bytes(items: int) -> int:
    """The largest number of bytes that a dense matrix [items, items] takes while it is computed."""
    return items**2 * (12 if items <= _DOUBLE_ITEMS else 4)


def require_memory(model: str, items: int, memory_gb: float) -> None:
    """Refuse a matrix [items, items] that does not fit the memory.

    Raises:
        ConfigError: it names the sizes and the model to take instead.
    """
    needed = dense_bytes(items) / 1e9
    if needed > memory_gb:
        raise ConfigError(
            f"{model} needs a dense matrix of {items:,} × {items:,} items: {needed:.1f} GB, but memory_gb is "
            f'{memory_gb:g}. Take name = "elsa", the same model with {items:,} short vectors, or raise memory_gb where '
            "there is more memory"
        )


def gram_dtype(items: int) -> torch.dtype:
    """The precision of a matrix [items, items]: float64 for up to 10,000 items, float32 for more."""
    return torch.float64 if items <= _DOUBLE_ITEMS else torch.float32


def interaction_gram(graph: InteractionGraph) -> Float[Tensor, "items items"]:
    """XᵀX of the interaction matrix X."""
    matrix = interaction_matrix(graph)
    by_item = matrix.T.tocsr()
    gram = torch.zeros(graph.n_items, graph.n_items, dtype=gram_dtype(graph.n_items))
    for rows in blocks(graph.n_items):
        gram[rows] = torch.from_numpy((by_item[rows] @ matrix).toarray())
    return gram


def add_product_(gram: Float[Tensor, "items items"], x: Float[Tensor, "items width"], weight: float) -> None:
    """Add weight · x xᵀ to the Gram matrix, in place."""
    x = x.to(gram.dtype)
    for rows in blocks(len(gram)):
        gram[rows].addmm_(x[rows], x.T, alpha=weight)


def invert_(matrix: Float[Tensor, "items items"], l2_weight: float) -> Float[Tensor, "items items"]:
    """The inverse of matrix + `l2_weight` · I, for a symmetric matrix without negative eigenvalues, in its memory.

    By a Cholesky decomposition in place (LAPACK's potrf and potri), so that no second matrix is held.

    Raises:
        TrainingError: the matrix is singular after rounding.
    """
    rounding = torch.finfo(torch.float64).eps * float(matrix.trace()) if matrix.dtype == torch.float64 else 0.0
    matrix.diagonal().add_(max(l2_weight, rounding))
    columns = matrix.numpy().T  # LAPACK stores by columns; in a symmetric matrix these are the rows
    factorize, invert = get_lapack_funcs(("potrf", "potri"), (columns,))
    factor, failed = factorize(columns, lower=True, overwrite_a=True, clean=False)
    if failed:
        raise TrainingError(f"the Gram matrix is singular at item {failed - 1}: take a larger l2_weight")
    inverse = torch.from_numpy(invert(factor, lower=True, overwrite_c=True)[0].T)
    for rows in blocks(len(inverse)):  # LAPACK leaves the lower half as it was
        inverse[rows.stop :, rows] = inverse[rows, rows.stop :].T
        corner = inverse[rows, rows]
        corner.copy_(corner.triu() + corner.triu(1).T)
    return inverse


def regression_weights_(inverse: Float[Tensor, "items items"]) -> Float[Tensor, "items items"]:
    """The weights -P_ij / P_ii of items j (columns) for items i (rows), for the inverse P, in its memory.

    Row i is the regression of item i on the others, with 0 for itself (Steck 2019, arXiv 1905.03375, eq. 8). The matrix
    is stored by columns, since a ranking sums those of a user's items.
    """
    inverse /= -inverse.diagonal().clone()
    inverse.fill_diagonal_(0.0)
    return inverse.float().T


def history_scorer(graph: InteractionGraph, weights: Float[Tensor, "items items"], neighbors: int) -> Neighbors:
    """The scorer of the users' histories; of each item the `neighbors` largest weights by size are kept, 0: all."""
    seen = histories(graph)
    if not 0 < neighbors < graph.n_items:
        return Neighbors(seen, weights.to(graph.users.device))
    columns = torch.cat([weights[rows].abs().topk(neighbors, dim=1).indices for rows in blocks(graph.n_items)])
    rows = torch.arange(graph.n_items).repeat_interleave(neighbors)
    entries = (rows, columns.flatten(), weights.gather(1, columns).flatten())
    return Neighbors(seen, csr(*entries, (graph.n_items, graph.n_items)))


@dataclass(frozen=True)
class ContentRegression:
    """Ridge regressions of an item on all others by content alone, with K = F (FᵀF + μ I)⁻¹ Fᵀ.

    F [items, widths] holds the centered features of all modalities side by side. The weights of a new item with the
    content f are F (FᵀF + μ I)⁻¹ f; those of a known item i on the others are K_i / (1 - K_ii).
    """

    projections: Mapping[Modality, ContentProjection]  # from f to the weights; their sum over modalities
    leverage: Float[Tensor, " items"]  # the diagonal of K

    @classmethod
    def of(cls, features: Features, l2_weight: float) -> ContentRegression:
        """The regressions with μ = `l2_weight` on these items."""
        content = [centered(x, center_of(x)) for x in features.values()]
        joined = torch.cat(content, dim=1)
        transposed = joined.T.double()
        weights = (invert_(transposed @ transposed.T, l2_weight) @ transposed).float()
        maps = torch.split(weights, [x.shape[1] for x in content])
        pairs = zip(features.items(), maps, strict=True)
        return cls({m: ContentProjection(map_, center_of(x)) for (m, x), map_ in pairs}, (joined * weights.T).sum(1))

    def weights(self, items: Int[Tensor, " chosen"], features: Features) -> Float[Tensor, "chosen items"]:
        """The weights of the other items for each of the chosen ones, as if these were new."""
        rows = torch.stack([path(features[m][items].float()) for m, path in self.projections.items()]).sum(0)
        rows /= (1 - self.leverage[items, None]).clamp(min=1e-6)  # an item that no other resembles
        rows[torch.arange(len(items)), items] = 0.0
        return rows


def blocks(size: int) -> Iterator[slice]:
    """Consecutive slices of at most 2,048 rows."""
    for start in range(0, size, _ROWS):
        yield slice(start, min(start + _ROWS, size))
