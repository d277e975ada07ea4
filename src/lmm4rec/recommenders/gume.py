"""GUME: edges between similar items in the interaction graph, and two kinds of user vectors by modality that agree."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.batch_nodes import distinct_nodes
from lmm4rec.nn.graph import InteractionGraph, after_steps, propagate, propagate_to
from lmm4rec.nn.item_graph import ContentGraph, neighborhood, similar_by_modality
from lmm4rec.nn.losses import bpr_of_rows, info_nce, info_nce_by_side, l2
from lmm4rec.nn.projections import Affine, Projections, xavier_weight
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.tables import node_table, xavier_table
from lmm4rec.nn.views import moment_gaps, perturbed, shared_and_specific
from lmm4rec.recommenders.base import Recommender

__all__ = ["GUME"]

Nodes = Float[Tensor, "nodes dim"]


class GUME(Recommender):
    """Graphs and user modalities enhancement (Lin et al., CIKM 2024, arXiv 2407.12338).

    - Graph: interactions, and an edge from item i to j where j is among the `neighbors` nearest of i in every modality;
      A = D^-1/2 (both) D^-1/2, D the sums of the rows. E and X below are means over `layers` steps over A.
    - Explicit items of modality m: id vectors ⊙ sigmoid(gate_m(W_m x + b)), after `item_layers` steps over the kNN
      graph of m (cosine similarities). Explicit users: the sum of their items' by A. Together P_m.
    - Behavior E, of the id vectors. Extended interests X, of a user table of its own and the mean over m of the
      explicit items.
    - Integration G: with attention a = softmax over m of q · tanh(Q p_m) and s = sum of a_m · p_m, the mean of s and of
      sigmoid(B_m E) ⊙ (P_m - s) for each m. Vector: E + G.
    - Loss: BPR; `gap`, |variance - variance| + |mean - mean| of P_m and P_n, for each pair; `behavior`, InfoNCE of G
      and E over users and items; `interests`, InfoNCE of X and G and of two noisy copies each of G and of X, over users
      (noise as in SimGCL, of length 0.1); `l2`, half the squared norms of the batch's vectors, and of its positives' X.

    An item that lacks a modality has zeros in it and no edge to other items.

    Differs from the authors' code, whose equations these are, in few points: the item edges follow `neighbors` (there,
    lists of 10 are assumed whatever the neighborhood, so that k = 20 drops and mixes edges); the interests of users are
    one table instead of one for each modality, since only their mean counts; X is computed once, from the mean of the
    modalities (propagation is linear); the features are not trained (there they are: `train_features`); batches beyond
    2,048 are contrasted in groups (there whole).
    """

    uses_content = True
    spreads_content = True
    item_graph = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the enhanced interaction graph.")] = 3,
        item_layers: Annotated[PositiveInt, Doc("Graph convolutions over the item graphs.")] = 1,
        neighbors: Annotated[PositiveInt, Doc("Edges of an item in each modality's graph, its own included.")] = 10,
        gap_weight: Annotated[NonNegativeFloat, Doc("Weight of the gap between modalities.")] = 1e-2,
        behavior_weight: Annotated[NonNegativeFloat, Doc("Weight of the contrast of content and behavior.")] = 1e-2,
        behavior_temperature: Annotated[PositiveFloat, Doc("Temperature of that contrast.")] = 0.2,
        interest_weight: Annotated[NonNegativeFloat, Doc("Weight of the contrasts of users' interests.")] = 1e-2,
        interest_temperature: Annotated[PositiveFloat, Doc("Temperature of those contrasts.")] = 0.1,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of the batch's final vectors.")] = 1e-5,
        interest_l2_weight: Annotated[NonNegativeFloat, Doc("The same of the positives' extended vectors.")] = 0.1,
        train_features: Annotated[bool, Doc("Train the features too, as the authors' code does.")] = False,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.item_layers = layers, item_layers
        self.gap_weight, self.behavior_weight, self.interest_weight = gap_weight, behavior_weight, interest_weight
        self.behavior_temperature, self.interest_temperature = behavior_temperature, interest_temperature
        self.l2_weight, self.interest_l2_weight = l2_weight, interest_l2_weight
        self.nodes = node_table(graph.n_users, graph.n_items, dim, generator)
        self.interests = xavier_table(graph.n_users, dim, generator)
        self.projections = Projections(features, dim, generator, trained=train_features)
        self.gates = nn.ModuleDict({m: Affine(dim, dim, generator) for m in features})
        self.preferences = nn.ModuleDict({m: Affine(dim, dim, generator) for m in features})
        self.query, self.asked = Affine(dim, dim, generator), xavier_weight(dim, 1, generator)
        self.content = ContentGraph(partial(_Graphs, graph, neighbors=neighbors))

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Rebuild the graphs where the features have changed."""
        self.content.renew(features)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, `gap`, `behavior`, `interests` and `l2`."""
        graphs = self.content.current(features)
        explicit = self._explicit(features, graphs)
        own, first_item = self.nodes.all(), self.graph.n_users
        start = torch.cat([self.interests.all(), explicit[first_item:].mean(1)])
        distinct = distinct_nodes(batch)
        nodes, where = torch.cat([distinct.users, distinct.items + first_item]), distinct.rows
        (both,) = propagate_to(graphs.adjacency, torch.cat([own, start], dim=1), self.layers, nodes)
        behavior, extended = both.chunk(2, dim=1)
        integrated = self._integrate(behavior, explicit.index_select(0, nodes))
        final = select_rows(behavior + integrated, where)
        losses = {
            "bpr": bpr_of_rows(final),
            "l2": self.l2_weight * l2(final, batch=len(final))
            + self.interest_l2_weight * l2(select_rows(extended, where[:, 1]), batch=len(final)),
        }
        if self.gap_weight and explicit.shape[1] > 1:
            losses["gap"] = self.gap_weight * moment_gaps(explicit.unbind(1))
        if self.behavior_weight:
            contrast = info_nce_by_side(integrated, behavior, where, temperature=self.behavior_temperature)
            losses["behavior"] = self.behavior_weight * contrast
        if self.interest_weight:
            losses["interests"] = self.interest_weight * self._contrast_users(
                extended, integrated, where[:, 0], generator
            )
        return losses

    def embed(self, features: Features) -> Embeddings:
        """E + G of all users and items."""
        graphs = self.content(features)
        behavior = propagate(graphs.adjacency, self.nodes.all(), self.layers)
        return Embeddings(*self.graph.sides(behavior + self._integrate(behavior, self._explicit(features, graphs))))

    def _contrast_users(
        self, extended: Nodes, integrated: Nodes, users: Int[Tensor, " batch"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """X and G of the batch's users against each other, and each against itself under noise."""
        distinct, of = torch.unique(users, return_inverse=True)
        x, g = select_rows(extended, distinct), select_rows(integrated, distinct)
        noisy = [(perturbed(view, generator), perturbed(view, generator)) for view in (g, x)]
        pairs = [(x, g), *noisy]
        return torch.stack([info_nce(*pair, of, of, temperature=self.interest_temperature) for pair in pairs]).sum()

    def _explicit(self, features: Features, graphs: _Graphs) -> Float[Tensor, "nodes modalities dim"]:
        """P_m of all nodes in each modality."""
        ids = self.graph.sides(self.nodes.all())[1]
        views = []
        for modality, projected in self.projections(features).items():
            items = ids * self.gates[modality](projected).sigmoid()
            views.append(after_steps(graphs.by_modality[modality], items, self.item_layers))
        of_items = torch.cat(views, dim=1)
        return torch.cat([graphs.interactions(of_items), of_items]).view(-1, len(views), ids.shape[1])

    def _integrate(self, behavior: Nodes, explicit: Float[Tensor, "nodes modalities dim"]) -> Nodes:
        """G of some nodes."""
        shared, specific = shared_and_specific(explicit, self.query, self.asked)
        gates = torch.stack([prefer(behavior) for prefer in self.preferences.values()], dim=1).sigmoid()
        return (shared + (gates * specific).sum(1)) / (explicit.shape[1] + 1)


class _Graphs(nn.Module):
    """The kNN graph of each modality, the enhanced adjacency A, and its block of users and items."""

    def __init__(self, graph: InteractionGraph, features: Features, *, neighbors: int) -> None:
        super().__init__()
        self.by_modality = similar_by_modality(features, neighbors=neighbors)
        n_users, n_items = graph.n_users, graph.n_items
        keys = torch.cat([_neighbor_keys(x, neighbors) for x in features.values()])
        edges, times = torch.unique(keys, return_counts=True)
        common = edges[times == len(features)]
        users, items = graph.users, graph.items + n_users
        rows = torch.cat([users, items, common // n_items + n_users])
        columns = torch.cat([items, users, common % n_items + n_users])
        scale = torch.bincount(rows, minlength=n_users + n_items).clamp(min=1).float().rsqrt()
        self.adjacency = SparseMatrix(rows, columns, scale[rows] * scale[columns], (n_users + n_items,) * 2)
        self.interactions = SparseMatrix(users, graph.items, scale[users] * scale[items], (n_users, n_items))


def _neighbor_keys(x: Float[Tensor, "items width"], neighbors: int) -> Int[Tensor, " edges"]:
    """row · items + column of each item's neighbors in one modality, itself left out."""
    rows, columns, _ = neighborhood(x.detach(), neighbors)
    other = rows != columns
    return rows[other] * len(x) + columns[other]
