"""DA-MRS: item graphs of what modalities agree on, weighted feedback, and views aligned by users and by items."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.matrices import dot_each, select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.batch_nodes import distinct_nodes
from lmm4rec.nn.graph import InteractionGraph, after_steps, normalize, propagate, propagate_to
from lmm4rec.nn.item_graph import ContentGraph, Entries, consistent_neighborhoods, normalize_entries
from lmm4rec.nn.neighbor_labels import neighbor_discrimination
from lmm4rec.nn.neighborhoods import interaction_matrix, largest_entries
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.tables import node_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.recommenders.base import Recommender

__all__ = ["DAMRS"]

Views = Float[Tensor, "views items dim"]


class DAMRS(Recommender):
    """Denoising and aligning multi-modal recommender system DA-MRS (Xv et al., KDD 2024, arXiv 2406.12501).

    - Denoised content: in each modality an item has edges to its `neighbors` most similar items, itself among them, of
      those whose cosine is at least the mean over all pairs in every modality. Behavior: edges to the `item_neighbors`
      items with the most users in common, at least `common_users`, and to itself. All edges are ones, normalized by
      D^-1/2 S D^-1/2.
    - Views: h_v, the item id vectors after `item_layers` steps over each of these graphs. Users u and items g have the
      mean of the id vectors over `layers` steps over the interaction graph. Score: u · (g + mean of the h_v).
    - Denoised BPR: -p log sigmoid(s) - n log sigmoid(-s), with s the difference of scores. With q_v = sigmoid(u ·
      unit h_v) of the positive item, p = mean(q) · exp(-2 var(q)), and n = max(q) - c where mean(q) is below c, the
      mean over the batch's negatives, and else 0; both are cut to [0, 1] and have no gradient.
    - Alignment by users, `user_weight`: the Kullback-Leibler divergence between Bernoulli sigmoid(u · unit g) and
      sigmoid(u · unit of the mean of the h_v), both ways added up: (p - q)(logit p - logit q); the mean over all pairs
      of the batch's distinct users and items.
    - Alignment by items, `item_weight`: `nn/neighbor_labels.py`, of the views.

    Features only choose edges: a modality adds no weights, and an encoder cannot be trained end to end with it. An item
    that lacks a modality has no edge in its graph, and its other edges need no agreement there. The content graphs are
    rebuilt at the start of an epoch, and for ranking, where the features have changed.

    Differs from the authors' code: any set of modalities; behavior's edges are counted here (there they are read from a
    file); `labels` is at most half of the items (there near items are among the far ones where there are fewer than 20,
    and fewer than 10 fail). The divergence is computed in closed form (there by four logarithms, of which some are of 0
    in float32).
    """

    uses_content = True
    trains_content = False
    spreads_content = True
    item_graph = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        item_layers: Annotated[PositiveInt, Doc("Graph convolutions over the item graphs.")] = 1,
        neighbors: Annotated[PositiveInt, Doc("Edges of an item in each modality's graph, its own included.")] = 10,
        item_neighbors: Annotated[PositiveInt, Doc("Edges of an item in the graph of common users, at most.")] = 10,
        common_users: Annotated[PositiveInt, Doc("Users that two items have in common, at least, for an edge.")] = 2,
        labels: Annotated[PositiveInt, Doc("Near items, and far ones, that are told apart for each item.")] = 10,
        temperature: Annotated[PositiveFloat, Doc("Temperature of the alignment by items.")] = 0.2,
        user_weight: Annotated[NonNegativeFloat, Doc("Weight of the alignment of views by users.")] = 1.0,
        item_weight: Annotated[NonNegativeFloat, Doc("Weight of the alignment of views by items.")] = 1e-3,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.item_layers, self.labels, self.temperature = layers, item_layers, labels, temperature
        self.user_weight, self.item_weight = user_weight, item_weight
        self.nodes = node_table(graph.n_users, graph.n_items, dim, generator)
        self.adjacency = normalize(graph)
        self.behavior = _behavior_graph(graph, item_neighbors, common_users)
        self.content = ContentGraph(partial(_content_graphs, neighbors=neighbors))

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Rebuild the content graphs where the features have changed."""
        self.content.renew(features)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, denoised, and the alignments `by_users` and `by_items`."""
        nodes = distinct_nodes(batch)
        views = self._views(self.content.current(features))
        of_batch = nodes.users, nodes.items + self.graph.n_users
        users, graph_items = propagate_to(self.adjacency, self.nodes.all(), self.layers, *of_batch)
        units = unit_vectors(views)
        mean = select_rows(views.mean(0), nodes.items)
        of_users, of_items = nodes.rows[:, 0], nodes.rows[:, 1:] - len(nodes.users)
        losses = {"bpr": _denoised_bpr(users, graph_items + mean, units[:, nodes.items], of_users, of_items)}
        if self.user_weight:
            one, other = (users @ unit_vectors(x).T for x in (graph_items, mean))
            divergence = (one.sigmoid() - other.sigmoid()) * (one - other)
            losses["by_users"] = self.user_weight * divergence.mean()
        if self.item_weight:
            loss = neighbor_discrimination(units, nodes.items, self.labels, self.temperature)
            losses["by_items"] = self.item_weight * loss
        return losses

    def embed(self, features: Features) -> Embeddings:
        """u, and g + the mean of the views."""
        users, items = self.graph.sides(propagate(self.adjacency, self.nodes.all(), self.layers))
        return Embeddings(users, items + self._views(self.content(features)).mean(0))

    def _views(self, graphs: nn.ModuleDict) -> Views:
        """h of behavior, then of each modality."""
        views = []
        for graph in (self.behavior, *graphs.values()):
            views.append(after_steps(graph, self.graph.sides(self.nodes.all())[1], self.item_layers))
        return torch.stack(views)


def _denoised_bpr(
    users: Float[Tensor, "users dim"],
    items: Float[Tensor, "items dim"],
    units: Views,
    of_users: Tensor,
    of_items: Tensor,
) -> Float[Tensor, ""]:
    """The mean over the batch's pairs; `of_items` are its positive items, then its negatives."""
    rows = select_rows(users, of_users)
    with torch.no_grad():
        preferences = torch.einsum("bd,vbnd->vbn", rows, units[:, of_items]).sigmoid()
        positive, threshold = preferences[:, :, 0], preferences[:, :, 1:].mean()
        mean = positive.mean(0)
        certain = (mean * (-2 * positive.var(0)).exp()).clamp(0, 1)
        doubted = torch.where(mean < threshold, positive.amax(0) - threshold, 0.0).clamp(0, 1)
    scores = dot_each(rows, select_rows(items, of_items))
    difference = scores[:, :1] - scores[:, 1:]
    return (certain[:, None] * F.softplus(-difference) + doubted[:, None] * F.softplus(difference)).mean()


def _matrix(entries: Entries, items: int) -> SparseMatrix:
    """D^-1/2 S D^-1/2 with ones at the entries."""
    ones = entries._replace(values=torch.ones_like(entries.values))
    return SparseMatrix(*normalize_entries(ones, items), (items, items))


def _content_graphs(features: Features, *, neighbors: int) -> nn.ModuleDict:
    """The graph of what all modalities agree on, of each."""
    entries = consistent_neighborhoods(features, neighbors)
    return nn.ModuleDict({m: _matrix(of_modality, len(features[m])) for m, of_modality in entries.items()})


def _behavior_graph(graph: InteractionGraph, neighbors: int, common_users: int) -> SparseMatrix:
    """The graph of items with common users, and of each item with itself."""
    matrix = interaction_matrix(graph)
    rows, columns, _ = largest_entries(
        matrix.T.tocsr(), matrix, neighbors, lambda counts, *_: counts * (counts >= common_users)
    )
    own = torch.arange(graph.n_items)
    rows, columns = (torch.cat([own, part]).to(graph.users.device) for part in (rows, columns))
    return _matrix(Entries(rows, columns, torch.ones(len(rows), device=rows.device)), graph.n_items)
