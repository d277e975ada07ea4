"""MENTOR: modalities whose distributions are aligned by the id vectors, under feature masking and graph noise."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import (
    Batch,
    Embeddings,
    Features,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from lmm4rec.nn.graph import InteractionGraph, after_steps, dropout, normalize
from lmm4rec.nn.item_graph import ContentGraph, ModalityWeights, graph_weights, similar_items
from lmm4rec.nn.losses import bpr_of_rows, cosine_distance, info_nce, l2
from lmm4rec.nn.projections import Affine, DeepProjections
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.tables import node_table, xavier_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.nn.views import moment_gaps, orthant_noise
from lmm4rec.recommenders.base import Recommender

__all__ = ["MENTOR"]

Branches = Float[Tensor, "nodes branches dim"]


class MENTOR(Recommender):
    """Multi-level self-supervised learning (Xu et al., AAAI 2025, arXiv 2402.19407).

    - Branches: ids, and each modality m with a table of users and the items LeakyReLU(x W_m + b_m) V_m + c_m. Rows are
      scaled to length 1, then summed over 0 to `layers` steps over the interaction graph (symmetric normalization).
      Items get `item_layers` steps over the frozen item graph of FREEDOM added: h_b for branch b.
    - Fused vectors r: the h_m beside each other, those of users times a trained weight for each user and modality.
      Score: r_u · r_i. The id branch guides training only.
    - `gap`, the multi-level cross-modal alignment: |variance - variance| + |mean - mean|, summed over all pairs of r,
      the ids and the modalities.
    - `mask`, feature masking: 1 - cos(f(r), dropout(r)) with an affine map f, of users and of items; the dropped side
      is a target without gradient.
    - `contrast`, graph perturbation: InfoNCE at `temperature` of two copies of r, of users and of items, each with
      noise of length `noise` after every step (as in SimGCL).
    - BPR, and `l2`, half the squared norms of the batch's user tables and weights.

    An item that lacks a modality has zeros in its branch before the graph.

    Differs from the authors' code: there the masking loss is computed without gradient, so that it trains nothing, and
    the noisy copies come from graph networks of their own with own weights, so that the contrast does not reach what
    ranks; here both train the model, as in the paper. `mask` and `contrast` are means over the batch's distinct nodes
    (there over all, a matrix of users × users); the logarithm of BPR is the natural one (there base 2); the ids enter
    the graph as they are (there through a map like that of features); ranking computes the vectors anew (there it has
    those of the last training batch, before its step). The features are not trained, there neither.
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
        dim: Annotated[PositiveInt, Doc("Width of the vectors in each branch.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        item_layers: Annotated[NonNegativeInt, Doc("Graph convolutions over the item graph.")] = 1,
        neighbors: Annotated[PositiveInt, Doc("Edges of an item in each modality's graph, its own included.")] = 10,
        modality_weights: ModalityWeights = None,
        gap_weight: Annotated[NonNegativeFloat, Doc("Weight of the gaps between branches.")] = 0.1,
        mask_weight: Annotated[NonNegativeFloat, Doc("Weight of the prediction of masked vectors.")] = 1.5,
        dropout: Annotated[Fraction, Doc("Share of a vector's numbers that are masked.")] = 0.5,
        contrast_weight: Annotated[NonNegativeFloat, Doc("Weight of the contrast of noisy copies.")] = 1e-3,
        temperature: Annotated[PositiveFloat, Doc("Temperature of that contrast.")] = 0.2,
        noise: Annotated[NonNegativeFloat, Doc("Length of the noise after each graph convolution.")] = 0.1,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of user tables and weights.")] = 1e-3,
        train_features: Annotated[bool, Doc("Train the features too.")] = False,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.item_layers, self.dropout = layers, item_layers, dropout
        self.gap_weight, self.mask_weight, self.contrast_weight = gap_weight, mask_weight, contrast_weight
        self.temperature, self.noise, self.l2_weight = temperature, noise, l2_weight
        self.ids = node_table(graph.n_users, graph.n_items, dim, generator)
        self.users = nn.ParameterDict({m: xavier_table(graph.n_users, dim, generator) for m in features})
        self.projections = DeepProjections(features, dim, generator, trained=train_features)
        shares = xavier_table(graph.n_users, len(features), generator).detach().softmax(1)
        self.user_weights = nn.Parameter(shares)
        self.predictor = Affine(len(features) * dim, len(features) * dim, generator)
        self.adjacency = normalize(graph)
        weights = graph_weights(features, modality_weights or {})
        self.similar_items = ContentGraph(partial(similar_items, neighbors=neighbors, weights=weights))

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Rebuild the item graph where the features have changed."""
        self.similar_items.renew(features)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, `l2`, `gap`, `mask` and `contrast`."""
        item_graph, start = self.similar_items.current(features), self._start(features)
        steps = self._steps(start)
        branches = self._add_similar(torch.stack(steps).sum(0), item_graph)
        fused = self._fuse(branches[:, 1:])
        candidates = torch.cat([batch.positives[:, None], batch.negatives], dim=1) + self.graph.n_users
        rows = select_rows(fused, torch.cat([batch.users[:, None], candidates], dim=1))
        tables = [table.rows(batch.users) for table in self.users.values()]
        losses = {
            "bpr": bpr_of_rows(rows),
            "l2": self.l2_weight * l2(*tables, self.user_weights[batch.users], batch=len(rows)),
        }
        sides = (torch.unique(batch.users), torch.unique(candidates))
        if self.gap_weight:
            losses["gap"] = self.gap_weight * moment_gaps([fused, *branches.unbind(1)])
        if self.mask_weight:
            masked = [self._mask(select_rows(fused, nodes), generator) for nodes in sides]
            losses["mask"] = self.mask_weight * torch.stack(masked).sum()
        if self.contrast_weight:
            by_modality = [step[:, 1:] for step in steps]
            noises = [self._add_similar(self._noise(by_modality, generator), item_graph) for _ in range(2)]
            copies = [self._fuse(branches[:, 1:] + noise) for noise in noises]
            contrast = [
                info_nce(*(select_rows(copy, nodes) for copy in copies), temperature=self.temperature)
                for nodes in sides
            ]
            losses["contrast"] = self.contrast_weight * torch.stack(contrast).sum()
        return losses

    def embed(self, features: Features) -> Embeddings:
        """The fused vectors, without noise."""
        total = torch.stack(self._steps(self._start(features)[:, 1:])).sum(0)
        fused = self._fuse(self._add_similar(total, self.similar_items(features)))
        return Embeddings(*self.graph.sides(fused))

    def _start(self, features: Features) -> Branches:
        """The vectors of length 1 before the graph: ids first, then each modality."""
        content = [torch.cat([self.users[m].all(), x]) for m, x in self.projections(features).items()]
        return unit_vectors(torch.stack([self.ids.all(), *content], dim=1))

    def _steps(self, start: Branches) -> list[Branches]:
        """The vectors after 0 to `layers` steps over the interaction graph."""
        steps = [start]
        for _ in range(self.layers):
            steps.append(self._step(steps[-1]))
        return steps

    @torch.no_grad()
    def _noise(self, steps: list[Branches], generator: torch.Generator) -> Branches:
        """What noise after each step changes in the sum over steps.

        Noise is a constant and steps are linear, so the noisy copies need no gradient of their own.
        """
        total = drift = torch.zeros_like(steps[0])
        for number, step in enumerate(steps[1:]):
            drift = self._step(drift) if number else drift
            noise = orthant_noise((step + drift).flatten(0, 1), generator, self.noise)
            drift = drift + noise.view_as(drift)
            total = total + drift
        return total

    def _step(self, nodes: Branches) -> Branches:
        return self.adjacency(nodes.flatten(1)).view_as(nodes)

    def _add_similar(self, nodes: Branches, item_graph: SparseMatrix) -> Branches:
        """The vectors, those of items with their steps over the item graph added."""
        users, items = self.graph.sides(nodes.flatten(1))
        return torch.cat([users, items + after_steps(item_graph, items, self.item_layers)]).view_as(nodes)

    def _fuse(self, modalities: Branches) -> Float[Tensor, "nodes width"]:
        """r: the modalities beside each other, those of users weighted."""
        users, items = modalities[: self.graph.n_users], modalities[self.graph.n_users :]
        return torch.cat([users * self.user_weights[:, :, None], items]).flatten(1)

    def _mask(self, rows: Float[Tensor, "rows width"], generator: torch.Generator) -> Float[Tensor, ""]:
        """1 - cos of the predicted and the masked rows."""
        target = dropout(rows.detach(), self.dropout, generator)
        return cosine_distance(self.predictor(rows), target)
