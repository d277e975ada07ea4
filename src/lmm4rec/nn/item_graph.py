"""Item-item graphs of similar items: lists of entries, whose values may carry gradient, and graphs of item features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Generic, NamedTuple, TypeAlias, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.matrices import dot_products, highest
from lmm4rec.core.types import MODALITIES, Features, Modality, NonNegativeFloat
from lmm4rec.nn.graph import nearest
from lmm4rec.nn.projections import has_content
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.sparse_product import product

ModalityWeights: TypeAlias = Annotated[
    Mapping[str, NonNegativeFloat] | None, Doc("Weights of the item graphs by modality; left out: all equal.")
]
Graph = TypeVar("Graph", bound=nn.Module)
_ROUNDING = 1e-6  # of a mean of cosines: identical items, of up to 4,096 numbers, are below it by 6e-7 at most
_ENTRY_BLOCK = 2**18  # entries whose two rows are gathered at once


class Entries(NamedTuple):
    """The entries of a sparse matrix; the values may carry gradient."""

    rows: Int[Tensor, " entries"]
    columns: Int[Tensor, " entries"]
    values: Float[Tensor, " entries"]


class EntryTable(nn.Module):
    """Constant entries that move with the model."""

    rows: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, entries: Entries) -> None:
        super().__init__()
        for name, part in entries._asdict().items():
            self.register_buffer(name, part, persistent=False)

    def forward(self) -> Entries:
        """The entries."""
        return Entries(self.rows, self.columns, self.values)


@torch.no_grad()
def neighborhood(vectors: Float[Tensor, "items dim"], k: int, *, block: int | None = None) -> Entries:
    """Each item with its `k` most similar ones, itself (similarity 1) among them; values are cosine similarities.

    An item whose vector is zero has no entry, neither as row nor as column.
    """
    vectors = vectors.float()
    others, neighbors = nearest(vectors, k - 1, block=block)
    present = torch.linalg.vector_norm(vectors, dim=1) > 0
    rows = torch.arange(len(vectors), device=vectors.device)
    columns = torch.cat([rows[:, None], neighbors], dim=1)
    values = torch.cat([others.new_ones(len(vectors), 1), others], dim=1)
    kept = present[:, None] & present[columns]
    return Entries(rows[:, None].expand_as(columns)[kept], columns[kept], values[kept])


def similarities(vectors: Float[Tensor, "items dim"], entries: Entries) -> Entries:
    """The same entries with the cosine similarities of these vectors; differentiable in the vectors."""
    unit = F.normalize(vectors, dim=1)
    values = (unit.index_select(0, entries.rows) * unit.index_select(0, entries.columns)).sum(1)
    return entries._replace(values=values)


def normalize_entries(entries: Entries, items: int) -> Entries:
    """D^-1/2 S D^-1/2 with D the sums of the rows of S; differentiable. Rows that sum to 0 or less become zero."""
    rows, columns, values = entries
    degrees = values.new_zeros(items).index_add(0, rows, values)
    scale = torch.where(degrees > 0, degrees, torch.inf).rsqrt()
    return entries._replace(values=scale[rows] * values * scale[columns])


def add(matrices: Iterable[Entries], shape: tuple[int, int]) -> Entries:
    """The sum of sparse matrices, each (row, column) pair once; differentiable in their values."""
    rows, columns, values = (torch.cat(part) for part in zip(*matrices, strict=True))
    keys, place = torch.unique(rows * shape[1] + columns, return_inverse=True)
    total = values.new_zeros(len(keys)).index_add(0, place, values)
    return Entries(keys // shape[1], keys % shape[1], total)


def entrywise_max(matrices: Iterable[Entries], shape: tuple[int, int]) -> Entries:
    """The largest value at each (row, column) pair that any of the matrices has."""
    rows, columns, values = (torch.cat(part) for part in zip(*matrices, strict=True))
    keys, place = torch.unique(rows * shape[1] + columns, return_inverse=True)
    largest = values.new_full((len(keys),), -torch.inf).scatter_reduce(0, place, values, "amax")
    return Entries(keys // shape[1], keys % shape[1], largest)


class _EntryProduct(torch.autograd.Function):
    """Sparse times dense, with the gradient of both; that of the values is computed at the given entries only."""

    @staticmethod
    def forward(
        ctx: Any, matrix: Tensor, transposed: Tensor, rows: Tensor, columns: Tensor, values: Tensor, dense: Tensor
    ) -> Tensor:
        ctx.transposed = transposed
        ctx.save_for_backward(rows, columns, dense)
        return product(matrix, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, None, Tensor, Tensor]:
        rows, columns, dense = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        blocks = zip(rows.split(_ENTRY_BLOCK), columns.split(_ENTRY_BLOCK), strict=True)
        of_values = torch.cat([(gradient[row] * dense[column]).sum(1) for row, column in blocks])
        return None, None, None, None, of_values, product(ctx.transposed, gradient)


def multiply(matrix: SparseMatrix, entries: Entries, dense: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
    """The product of `matrix` and a dense matrix, differentiable also in the values of `entries`, which are its own.

    Memory grows with the entries, never with rows × columns.
    """
    product: Tensor = _EntryProduct.apply(matrix.matrix, matrix.transposed, *entries, dense)  # type: ignore[no-untyped-call]
    return product


class ContentGraph(nn.Module, Generic[Graph]):
    """A graph built from item features, and rebuilt where the values of the features have changed."""

    def __init__(self, build: Callable[[Features], Graph]) -> None:
        super().__init__()
        self.build = build
        self.graph: Graph | None = None
        self._checksums: dict[Modality, Tensor] = {}

    def renew(self, features: Features) -> None:
        """Keep the graph of these features for the steps to come."""
        if self.graph is None or not self._is_of(features):
            self.graph, self._checksums = self.build(features), _checksums(features)

    def current(self, features: Features) -> Graph:
        """The graph that `renew` kept last, whatever the features are now; the graph of these where there is none."""
        if self.graph is None:
            self.renew(features)
        assert self.graph is not None
        return self.graph

    def forward(self, features: Features) -> Graph:
        """The graph of exactly these features; where it has to be built it is not kept."""
        return self.graph if self.graph is not None and self._is_of(features) else self.build(features)

    def _is_of(self, features: Features) -> bool:
        if self._checksums.keys() != features.keys():
            return False
        now = _checksums(features)
        return all(torch.equal(now[m], kept.to(now[m].device)) for m, kept in self._checksums.items())


def require_modalities(key: str, named: Iterable[Modality], features: Features) -> None:
    """Refuse a value of `key` that names what is no modality.

    One that the features lack may be named: a conf's `features.modalities` may leave it out.

    Raises:
        ConfigError: a name is neither that of a modality of the features nor a usual one.
    """
    for modality in named:
        if modality not in features and modality not in MODALITIES:
            raise ConfigError(
                f"recommender.{key} names '{modality}', the features have: {', '.join(features)}."
                f"{did_you_mean(modality, features)}"
            )


def graph_weights(features: Features, weights: Mapping[Modality, float]) -> dict[Modality, float]:
    """The weight of each modality's graph in `similar_items`, adding up to 1; all equal where none is given.

    Raises:
        ConfigError: a modality has no weight, all weights are 0, or a name is none of a modality.
    """
    require_modalities("modality_weights", weights, features)
    chosen = {m: float(weights.get(m, -1.0 if weights else 1.0)) for m in features}
    if missing := [m for m, weight in chosen.items() if weight < 0]:
        raise ConfigError(
            f"modality_weights names {', '.join(weights)}; it needs a weight for {', '.join(missing)} too"
        )
    if not sum(chosen.values()):
        raise ConfigError(f"modality_weights are all 0; give a positive one to any of {', '.join(chosen)}")
    return {m: weight / sum(chosen.values()) for m, weight in chosen.items()}


def similar_items(features: Features, *, neighbors: int, weights: Mapping[Modality, float]) -> SparseMatrix:
    """S = sum over modalities of weight_m · D^-1/2 S^m D^-1/2, where S^m has a 1 at each item's `neighbors` nearest.

    It is the frozen item graph of FREEDOM (arXiv 2211.06924, eq. 1-3) and of models that follow it.
    """
    parts = []
    for modality, x in features.items():
        entries = neighborhood(x.detach(), neighbors)
        normalized = normalize_entries(entries._replace(values=torch.ones_like(entries.values)), len(x))
        parts.append(normalized._replace(values=weights[modality] * normalized.values))
    shape = (len(x), len(x))
    return SparseMatrix(*add(parts, shape), shape)


def similar_by_modality(features: Features, *, neighbors: int) -> nn.ModuleDict:
    """The kNN graph of each modality, weighted by cosine similarity: D^-1/2 S D^-1/2."""
    graphs = {m: normalize_entries(neighborhood(x.detach(), neighbors), len(x)) for m, x in features.items()}
    return nn.ModuleDict({m: SparseMatrix(*entries, (len(features[m]),) * 2) for m, entries in graphs.items()})


@torch.no_grad()
def consistent_neighborhoods(features: Features, neighbors: int, *, block: int = 256) -> dict[Modality, Entries]:
    """Each item's `neighbors` most similar ones in each modality, itself among them, of those similar in all of them.

    A pair of items is similar in a modality where its cosine is at least the mean over all pairs, but for rounding; an
    item that lacks the modality is neither similar nor dissimilar in it, and has no entry there (DA-MRS, arXiv
    2406.12501). Values are cosine similarities.
    """
    units = {m: F.normalize(x.float(), dim=1) for m, x in features.items()}
    present = {m: has_content(x) for m, x in features.items()}
    means = {m: x.sum(0).square().sum() / present[m].sum().clamp(min=1) ** 2 for m, x in units.items()}
    items = len(next(iter(units.values())))
    found: dict[Modality, list[Entries]] = {m: [] for m in units}
    for rows in torch.split(torch.arange(items, device=next(iter(units.values())).device), block):
        cosines = {m: dot_products(x[rows], x) for m, x in units.items()}
        both = {m: has[rows, None] & has for m, has in present.items()}
        similar = torch.stack([(cosines[m] >= means[m] - _ROUNDING) | ~both[m] for m in units]).all(0)
        for m, values in cosines.items():
            candidates = values.masked_fill(~(similar & both[m]), -torch.inf)
            own = candidates.gather(1, rows[:, None])
            candidates.scatter_(1, rows[:, None], own.masked_fill(own > -torch.inf, torch.inf))  # before its duplicates
            top, columns = highest(candidates, min(neighbors, items))
            kept = top > -torch.inf
            top = torch.where(top == torch.inf, own, top)
            found[m].append(Entries(rows[:, None].expand_as(columns)[kept], columns[kept], top[kept]))
    return {m: Entries(*(torch.cat(part) for part in zip(*blocks, strict=True))) for m, blocks in found.items()}


def _checksums(features: Features) -> dict[Modality, Tensor]:
    """One number for each item and modality, which a different vector has only by a rare chance."""
    return {
        m: x.detach().float() @ torch.cos(torch.arange(x.shape[1], device=x.device, dtype=torch.float32))
        for m, x in features.items()
    }
