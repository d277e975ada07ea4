"""SMORE: content filtered and fused in the frequency domain, propagated by modality, weighed by preferences."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.batch_nodes import distinct_nodes
from lmm4rec.nn.graph import InteractionGraph, after_steps, dropout, normalize, propagate, propagate_to, user_item
from lmm4rec.nn.item_graph import (
    ContentGraph,
    entrywise_max,
    neighborhood,
    normalize_entries,
    require_modalities,
)
from lmm4rec.nn.losses import bpr_of_rows, info_nce_by_side, l2
from lmm4rec.nn.projections import Affine, Projections, xavier_weight
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.spectral import SpectralFilter, spectrum
from lmm4rec.nn.tables import node_table
from lmm4rec.recommenders.base import Recommender

__all__ = ["SMORE"]

Nodes = Float[Tensor, "nodes dim"]


class SMORE(Recommender):
    """Spectrum-based modality representation (Ong and Khong, WSDM 2025, arXiv 2412.14978), on MGCN's parts.

    - Spectrum: F_m is the Fourier transform of W_m x + b, along the vector. Each modality is filtered by trained
      complex weights, c_m = inverse of F_m ⊙ w_m; the fusion is c_f = inverse of (product over m of F_m) ⊙ w_f.
    - Item views: id vectors ⊙ sigmoid(gate(c)) of each modality and of the fusion, after `item_layers` steps over a
      graph: S^m has the cosine similarities of `neighbors` items, D^-1/2 S D^-1/2; the fusion's has the largest of them
      at each pair. Users have the sum of their items' by normalized interactions. User-item view E: the mean of the id
      vectors over `layers` steps over the interaction graph.
    - Preferences: with e_m and e_f the views of a node, p = sigmoid(P E), dropped out in training, weighs each: p_m ⊙
      softmax(Q2 tanh(Q1 e_f + b)) ⊙ e_m, the softmax over the columns of the vector, and p_f ⊙ e_f. Side vector: their
      mean.
    - Vector: E + side; score: user · item. Loss: BPR, `contrast_weight` times InfoNCE at `temperature` between side
      vector and E (of the batch's users and items), `l2_weight` times half the squared norms of the batch's vectors.

    An item that lacks a modality has no edge in its graph and a fused gate without content.

    Differs from the authors' code: any set of modalities; the features are not trained (there they are:
    `train_features`); item graphs are not cached on disk, where those of another encoder would be read; batches beyond
    2,048 are contrasted in groups (there whole). Operations on single nodes are computed for the batch's nodes alone,
    which changes no number.
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
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 3,
        item_layers: Annotated[PositiveInt, Doc("Graph convolutions over the item graphs.")] = 1,
        neighbors: Annotated[PositiveInt, Doc("Edges of an item in each modality's graph, its own included.")] = 10,
        modality_neighbors: Annotated[
            Mapping[str, PositiveInt] | None, Doc("Those of single modalities, by name, in place of `neighbors`.")
        ] = None,
        dropout: Annotated[Fraction, Doc("Share of a preference's numbers that are set to zero in training.")] = 0.1,
        temperature: Annotated[PositiveFloat, Doc("Temperature of the loss between content and behavior.")] = 0.2,
        contrast_weight: Annotated[NonNegativeFloat, Doc("Weight of that contrastive loss.")] = 1e-2,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of the batch's final vectors.")] = 1e-4,
        train_features: Annotated[bool, Doc("Train the features too, as the authors' code does.")] = False,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.item_layers, self.dropout = layers, item_layers, dropout
        self.temperature, self.contrast_weight, self.l2_weight = temperature, contrast_weight, l2_weight
        self.nodes = node_table(graph.n_users, graph.n_items, dim, generator)
        self.projections = Projections(features, dim, generator, trained=train_features)
        self.filters = nn.ModuleDict({m: SpectralFilter(dim, generator) for m in features})
        self.gates = nn.ModuleDict({m: Affine(dim, dim, generator) for m in features})
        self.preferences = nn.ModuleDict({m: Affine(dim, dim, generator) for m in features})
        self.queries = nn.ModuleDict({m: Affine(dim, dim, generator) for m in features})
        self.asked = nn.ParameterDict({m: xavier_weight(dim, dim, generator) for m in features})
        self.fusion_filter = SpectralFilter(dim, generator)
        self.fusion_gate, self.fusion_preference = Affine(dim, dim, generator), Affine(dim, dim, generator)
        self.adjacency, self.interactions = normalize(graph), user_item(graph, "symmetric")
        require_modalities("modality_neighbors", modality_neighbors or {}, features)
        by_modality = {m: (modality_neighbors or {}).get(m, neighbors) for m in features}
        self.content = ContentGraph(partial(_item_graphs, neighbors=by_modality))

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Rebuild the item graphs where the features have changed."""
        self.content.renew(features)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, `contrast` and `l2`."""
        nodes = distinct_nodes(batch)
        views = self._item_views(features, self.content.current(features))
        content = torch.cat([self.interactions.at(nodes.users, views), select_rows(views, nodes.items)])
        of_batch = torch.cat([nodes.users, nodes.items + self.graph.n_users])
        (behavior,) = propagate_to(self.adjacency, self.nodes.all(), self.layers, of_batch)
        side = self._side(behavior, content, generator)
        final = select_rows(behavior + side, nodes.rows)
        losses = {"bpr": bpr_of_rows(final), "l2": self.l2_weight * l2(final, batch=len(final))}
        if self.contrast_weight:
            contrast = info_nce_by_side(side, behavior, nodes.rows, temperature=self.temperature)
            losses["contrast"] = self.contrast_weight * contrast
        return losses

    def embed(self, features: Features) -> Embeddings:
        """E + side of all users and items."""
        views = self._item_views(features, self.content(features))
        behavior = propagate(self.adjacency, self.nodes.all(), self.layers)
        side = self._side(behavior, torch.cat([self.interactions(views), views]), None)
        return Embeddings(*self.graph.sides(behavior + side))

    def _item_views(self, features: Features, graphs: nn.ModuleDict) -> Float[Tensor, "items views_dim"]:
        """The views of all items, concatenated: each modality's, then the fusion's."""
        ids = self.graph.sides(self.nodes.all())[1]
        spectra = {m: spectrum(x) for m, x in self.projections(features).items()}
        gates = {m: self.gates[m](self.filters[m](spectra[m])) for m in spectra}
        fused = self.fusion_gate(self.fusion_filter(torch.stack(list(spectra.values())).prod(0)))
        views = []
        for gate, graph in [*((gates[m], graphs[m]) for m in gates), (fused, graphs[_FUSION])]:
            views.append(after_steps(graph, ids * gate.sigmoid(), self.item_layers))
        return torch.cat(views, dim=1)

    def _side(
        self, behavior: Nodes, content: Float[Tensor, "nodes views_dim"], generator: torch.Generator | None
    ) -> Nodes:
        """The side vectors of some nodes; with dropout where there is a generator."""
        *views, fused = content.chunk(len(self.preferences) + 1, dim=1)
        parts = [self._preference(self.fusion_preference(behavior), generator) * fused]
        for (m, preference), view in zip(self.preferences.items(), views, strict=True):
            attention = (self.queries[m](fused).tanh() @ self.asked[m]).softmax(dim=1)
            parts.append(self._preference(preference(behavior), generator) * attention * view)
        return torch.stack(parts).mean(0)

    def _preference(self, logits: Nodes, generator: torch.Generator | None) -> Nodes:
        return logits.sigmoid() if generator is None else dropout(logits.sigmoid(), self.dropout, generator)


_FUSION = "the fusion of all"  # no modality is called so


def _item_graphs(features: Features, *, neighbors: Mapping[str, int]) -> nn.ModuleDict:
    """S^m of each modality, and the entrywise maximum of all."""
    items = len(next(iter(features.values())))
    graphs = {m: normalize_entries(neighborhood(x.detach(), neighbors[m]), items) for m, x in features.items()}
    graphs[_FUSION] = entrywise_max(graphs.values(), (items, items))
    return nn.ModuleDict({m: SparseMatrix(*entries, (items, items)) for m, entries in graphs.items()})
