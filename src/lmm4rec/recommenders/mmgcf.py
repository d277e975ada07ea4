"""MMGCF: LightGCN whose item vectors are fused with projected content after the convolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveInt
from lmm4rec.nn.batch_nodes import distinct_nodes
from lmm4rec.nn.graph import InteractionGraph, propagate, propagate_to, prune_edges
from lmm4rec.nn.graph import normalize as normalize_graph
from lmm4rec.nn.losses import bpr_of_rows, l2
from lmm4rec.nn.projections import Affine, Projections
from lmm4rec.nn.tables import node_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.recommenders.base import Recommender

__all__ = ["MMGCF"]

Items = Float[Tensor, "items dim"]


class MMGCF(Recommender):
    """Multimodal graph collaborative filtering (UMAP 2026, doi 10.1145/3774935.3806158), as its authors' code has it.

    The code is that in the public MMRec toolbox (github.com/enoche/MMRec).

    Users and items have the mean of their id vectors over `layers` steps over the interaction graph (LightGCN). Only
    then content joins the items: with h_i the vector and c_m = W_m x + b for each modality m, `fusion` combines (mean,
    sum, or a linear map of the concatenation), by `weighting`

    - "equal": fuse(h_i, fuse(c_1, c_2, ...)); a single modality is not fused first;
    - "learned": fuse(a h_i, (1 - a) c_1, (1 - a) c_2, ...), with a = sigmoid of one trained number;
    - "normalized": fuse(M · unit h_i, unit c_1, ..., unit c_M), of M modalities.

    Score: user · item. Each epoch trains on floor(edges · (1 - `dropout`)) edges, sampled without replacement by
    1 / sqrt(d_u · d_i) and normalized anew; ranking uses all. Loss: BPR plus `l2_weight` times half the squared norms
    of the batch's id vectors. An item that lacks a modality has zeros there.

    With `normalize`, x is centered by the mean over the items that have the modality and scaled to length 1; each epoch
    computes the mean anew. Without `ids`, items start the convolution from zeros: what they have is their content
    and what users bring over the graph.

    Differs from the authors' code: any set of modalities; content is projected for the batch's items alone, which
    changes no number; features are normalized (`normalize` = False: theirs are raw; TikTok's images have length 33, of
    which 30 are the mean of all items, so that every item's vector is nearly the same, and 200 times as long as its id
    vector).
    """

    uses_content = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        fusion: Annotated[Literal["mean", "sum", "concatenate"], Doc("How ids and content are combined.")] = "mean",
        ids: Annotated[bool, Doc("A vector for each item id; false: content and users' vectors alone.")] = True,
        normalize: Annotated[bool, Doc("Center features and scale them to length 1; false: the authors' raw.")] = True,
        weighting: Annotated[
            Literal["equal", "learned", "normalized"], Doc("Weights of ids and content before that.")
        ] = "equal",
        dropout: Annotated[Fraction, Doc("Share of interactions left out in an epoch, popular nodes' first.")] = 0.2,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of id vectors.")] = 1e-3,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.weighting, self.dropout, self.l2_weight, self.ids = layers, weighting, dropout, l2_weight, ids
        self.takes_mean = fusion == "mean"
        self.nodes = node_table(graph.n_users, graph.n_items if ids else 0, dim, generator)
        self.projections = Projections(features, dim, generator, centered=normalize)
        if weighting == "learned":
            self.id_share = nn.Parameter(torch.zeros(1))
        parts = {"content": len(features), "all": 2} if weighting == "equal" else {"all": len(features) + 1}
        joins = {name: Affine(count * dim, dim, generator) for name, count in parts.items() if count > 1}
        self.joins = nn.ModuleDict(joins if fusion == "concatenate" else {})
        self.adjacency = self.pruned = normalize_graph(graph)

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Prune the interaction graph, and compute the features' means anew."""
        self.projections.renew(features)
        if self.dropout:
            self.pruned = normalize_graph(prune_edges(self.graph, self.dropout, generator))

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, and `l2` on the id vectors."""
        first_item = self.graph.n_users
        nodes = distinct_nodes(batch)
        of_batch = nodes.users, nodes.items + first_item
        users, items = propagate_to(self.pruned, self._starts(), self.layers, *of_batch)
        content = list(self.projections(features, nodes.items).values())
        vectors = torch.cat([users, self._fuse(items, content)])
        rows = [batch.users, batch.positives + first_item, batch.negatives + first_item]
        regularized = [self.nodes.rows(one) for one in (rows if self.ids else rows[:1])]
        return {
            "bpr": bpr_of_rows(select_rows(vectors, nodes.rows)),
            "l2": self.l2_weight * l2(*regularized, batch=len(batch.users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """LightGCN's users, and its items fused with content."""
        users, items = self.graph.sides(propagate(self.adjacency, self._starts(), self.layers))
        return Embeddings(users, self._fuse(items, list(self.projections(features).values())))

    def _starts(self) -> Float[Tensor, "nodes dim"]:
        """The id vectors of users and items; zeros for items without."""
        vectors = self.nodes.all()
        return vectors if self.ids else F.pad(vectors, (0, 0, 0, self.graph.n_items))

    def _fuse(self, ids: Items, content: Sequence[Items]) -> Items:
        if self.weighting == "equal":
            fused = self._combine("content", content) if len(content) > 1 else content[0]
            return self._combine("all", [ids, fused])
        if self.weighting == "learned":
            share = self.id_share.sigmoid()
            return self._combine("all", [share * ids, *((1 - share) * x for x in content)])
        return self._combine("all", [len(content) * unit_vectors(ids), *(unit_vectors(x) for x in content)])

    def _combine(self, name: str, parts: Sequence[Items]) -> Items:
        if self.joins:
            joined: Tensor = self.joins[name](torch.cat(list(parts), dim=1))
            return joined
        stacked = torch.stack(list(parts))
        return stacked.mean(0) if self.takes_mean else stacked.sum(0)
