"""LGMRec: local graph convolution by ids and modalities, and global convolution over hyperedges."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.matrices import dot_each, select_rows
from lmm4rec.core.types import (
    Batch,
    Embeddings,
    Features,
    Fraction,
    Modality,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from lmm4rec.nn.graph import InteractionGraph, dropout, normalize, propagate, user_item
from lmm4rec.nn.losses import bpr, info_nce, l2
from lmm4rec.nn.projections import Projections, has_content
from lmm4rec.nn.tables import node_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.recommenders.base import Recommender

__all__ = ["LGMRec"]

Nodes = Float[Tensor, "nodes dim"]


class LGMRec(Recommender):
    """Local and global graph learning (Guo et al., AAAI 2024, arXiv 2312.16400).

    - Local, collaborative: the mean of the id vectors over `layers` steps over the interaction graph, E.
    - Local, by modality: items carry x W_m, users the mean of their items'; after `content_layers` steps over the
      interaction graph they are F_m.
    - Global, by modality: items depend on `hyperedges` hyperedges by H_i = x V_m, users by the sum of their items';
      both become softmax((H + g) / `temperature`) along the hyperedges, g Gumbel noise, followed by dropout. Item
      vectors (of E) are propagated to the hyperedges and back, `hyper_layers` times, and from there to users: G_m.
    - Vector: E + sum over m of F_m / |F_m| + `global_weight` · G / |G|, with G the sum of G_m.

    Loss: BPR; `contrast_weight` times InfoNCE at `temperature` between the G_m of any two modalities, of users and of
    items; `l2_weight` times half the squared norms of the batch's vectors.

    Ranking uses neither noise nor dropout. An item that lacks a modality has a zero vector there and no
    hyperedge.

    Differs from the authors' code: no noise in ranking (there, two rankings by one model differ); InfoNCE is a mean
    over the batch's distinct users and items, against each other (there, and in the paper, a sum over the batch against
    all: their weight 1e-4 at batch 2,048 is 0.2 here); l2 is squared (there, unsquared norms). Features are frozen in
    both, here by default.
    """

    uses_content = True
    spreads_content = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions of the id vectors over the interaction graph.")] = 2,
        content_layers: Annotated[NonNegativeInt, Doc("Graph convolutions of the projected features.")] = 2,
        hyper_layers: Annotated[PositiveInt, Doc("Rounds from items to hyperedges and back.")] = 1,
        hyperedges: Annotated[PositiveInt, Doc("Hyperedges in each modality.")] = 4,
        dropout: Annotated[Fraction, Doc("Share of memberships in hyperedges set to zero in training.")] = 0.5,
        temperature: Annotated[PositiveFloat, Doc("Temperature of memberships and of the contrastive loss.")] = 0.2,
        global_weight: Annotated[NonNegativeFloat, Doc("Weight of the hyperedges' vectors beside the graph's.")] = 0.3,
        contrast_weight: Annotated[NonNegativeFloat, Doc("Weight of the modalities' contrastive loss.")] = 0.2,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of the batch's final vectors.")] = 1e-4,
        train_features: Annotated[bool, Doc("Train the features too; the authors' code does not.")] = False,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.content_layers, self.hyper_layers = layers, content_layers, hyper_layers
        self.dropout, self.temperature, self.global_weight = dropout, temperature, global_weight
        self.contrast_weight, self.l2_weight, self.widths = contrast_weight, l2_weight, [dim, hyperedges]
        self.nodes = node_table(graph.n_users, graph.n_items, dim, generator)
        # W_m and V_m are concatenated: one product with the features
        self.projections = Projections(features, dim + hyperedges, generator, bias=False, trained=train_features)
        self.adjacency = normalize(graph)
        self.mean_of_items, self.sum_of_items = (user_item(graph, "mean"), user_item(graph, "sum"))

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, `contrast` and `l2`."""
        first_item = self.graph.n_users
        vectors, by_modality = self._vectors(features, generator)
        both = torch.cat([batch.positives[:, None], batch.negatives], dim=1) + first_item
        users, items = select_rows(vectors, batch.users), select_rows(vectors, both)
        scores = dot_each(users, items)
        losses = {"bpr": bpr(scores[:, 0], scores[:, 1:]), "l2": self.l2_weight * l2(users, items, batch=len(users))}
        if self.contrast_weight and len(by_modality) > 1:
            contrast = [
                info_nce(select_rows(one, nodes), select_rows(other, nodes), temperature=self.temperature)
                for nodes in (torch.unique(batch.users), torch.unique(batch.positives) + first_item)
                for one, other in itertools.combinations(by_modality.values(), 2)
            ]
            losses["contrast"] = self.contrast_weight * torch.stack(contrast).sum()
        return losses

    def embed(self, features: Features) -> Embeddings:
        """The vectors, without noise and dropout."""
        vectors, _ = self._vectors(features, None)
        return Embeddings(*self.graph.sides(vectors))

    def _vectors(self, features: Features, generator: torch.Generator | None) -> tuple[Nodes, dict[Modality, Nodes]]:
        """All nodes' final vectors, and their global ones by modality; noise where there is a generator."""
        projected = self.projections(features)
        ids = propagate(self.adjacency, self.nodes.all(), self.layers)
        contents, dependencies = zip(*(x.split(self.widths, dim=1) for x in projected.values()), strict=True)
        local = ids + torch.stack([unit_vectors(x) for x in self._by_content(contents)]).sum(0)
        by_modality = self._by_hyperedges(dependencies, self.graph.sides(ids)[1], generator)
        total = torch.stack(by_modality).sum(0)
        return local + self.global_weight * unit_vectors(total), dict(zip(projected, by_modality, strict=True))

    def _by_content(self, contents: Sequence[Float[Tensor, "items dim"]]) -> Sequence[Nodes]:
        """F_m of each modality; all are propagated in one product with the graph."""
        items = torch.cat(list(contents), dim=1)
        nodes = torch.cat([self.mean_of_items(items), items])
        for _ in range(self.content_layers):
            nodes = self.adjacency(nodes)
        return nodes.chunk(len(contents), dim=1)

    def _by_hyperedges(
        self,
        dependencies: Sequence[Float[Tensor, "items hyperedges"]],
        vectors: Float[Tensor, "items dim"],
        generator: torch.Generator | None,
    ) -> list[Nodes]:
        """G_m of each modality."""
        nodes = []
        by_users = self.sum_of_items(torch.cat(list(dependencies), dim=1)).chunk(len(dependencies), dim=1)
        for of_users, of_items in zip(by_users, dependencies, strict=True):
            user_shares = self._shares(of_users, generator)
            item_shares = torch.where(has_content(of_items)[:, None], self._shares(of_items, generator), 0.0)
            items = vectors
            for _ in range(self.hyper_layers):
                edges = item_shares.T @ items
                items = item_shares @ edges
            nodes.append(torch.cat([user_shares @ edges, items]))
        return nodes

    def _shares(
        self, dependencies: Float[Tensor, "nodes hyperedges"], generator: torch.Generator | None
    ) -> Float[Tensor, "nodes hyperedges"]:
        """The share of each hyperedge in each node; the rows add up to 1 before dropout."""
        if generator is None:
            return (dependencies / self.temperature).softmax(1)
        uniform = torch.rand(dependencies.shape, generator=generator).to(dependencies.device)
        gumbel = -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()
        return dropout(((dependencies + gumbel) / self.temperature).softmax(1), self.dropout, generator)
