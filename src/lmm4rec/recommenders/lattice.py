"""LATTICE: graph convolution over an item-item graph that is learned from item content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Literal, TypeAlias

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph, after_steps, normalize, propagate, propagate_to
from lmm4rec.nn.item_graph import (
    ContentGraph,
    Entries,
    EntryTable,
    add,
    multiply,
    neighborhood,
    normalize_entries,
    similarities,
)
from lmm4rec.nn.losses import bpr_of_vectors, l2
from lmm4rec.nn.projections import Projections
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.tables import node_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.recommenders.base import Recommender

__all__ = ["LATTICE"]

ContentGraphs: TypeAlias = nn.ModuleDict  # of an EntryTable a modality


class LATTICE(Recommender):
    """Latent structure mining (Zhang et al., MM 2021, arXiv 2104.09036), with LightGCN beneath.

    - kNN graph of vectors (eq. 1-3): cosine similarities, each row's `neighbors` largest kept (the item itself among
      them), D^-1/2 S D^-1/2. S^m is that of the features of modality m; A^m is that of W_m x + b (eq. 4).
    - Mixed (eq. 5-6): A = sum over m of a_m · [skip · S^m + (1 - skip) · A^m], a = softmax of trained weights.
    - h = A^item_layers · id vectors (eq. 7); an item's vector is its mean over `layers` steps over the interaction
      graph plus h / |h| (eq. 8). Score: user · item (eq. 9). Loss: BPR plus `l2_weight` times half the squared norms of
      the batch's final vectors.

    A is rebuilt once in an epoch, as by the authors: the epoch's first batch builds it and trains W, b and a through it
    (and the encoder where features are live); the other batches use it as a constant. For ranking it is built from the
    current weights. S^m is rebuilt where the features have changed. No item×item matrix is ever dense: memory is
    `neighbors` entries an item, and blocks of similarities. An item that lacks a modality has no edge there.

    Differs from the authors' code: LightGCN's symmetric interaction graph (`likes = "row"`: theirs, D^-1 (A + I)); each
    A^m normalized on its own as in eq. 3 (`normalize_mix`: theirs, the sum of a_m times the similarities normalized
    as one); the features are not trained (there they are: `train_features`). As there, a negative similarity among
    the `neighbors` largest keeps its sign (the paper sets it to 0).
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
        content_dim: Annotated[PositiveInt, Doc("Width of projected features that the learned graph compares.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        item_layers: Annotated[PositiveInt, Doc("Graph convolutions over the item graph.")] = 1,
        neighbors: Annotated[PositiveInt, Doc("Edges of an item in each modality's graph, its own included.")] = 10,
        skip: Annotated[
            float, Interval(ge=0, le=1), Doc("Share of the item graph of the features; the rest is the learned one.")
        ] = 0.9,
        likes: Annotated[Literal["symmetric", "row"], Doc("Normalization of the interaction graph.")] = "symmetric",
        normalize_mix: Annotated[bool, Doc("Normalize the learned graphs as one, as the authors' code does.")] = False,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of the batch's final vectors.")] = 1e-4,
        train_features: Annotated[bool, Doc("Train the features too, as the authors' code does.")] = False,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.item_layers, self.neighbors = layers, item_layers, neighbors
        self.skip, self.normalize_mix, self.l2_weight = skip, normalize_mix, l2_weight
        self.nodes = node_table(graph.n_users, graph.n_items, dim, generator)
        self.projections = Projections(features, content_dim, generator, trained=train_features)
        self.importance = nn.ParameterDict({m: nn.Parameter(torch.zeros(1)) for m in features})
        self.adjacency = normalize(graph, likes, self_loops=likes == "row")
        self.content = ContentGraph(partial(_content_graphs, neighbors=neighbors))
        self.mixed: SparseMatrix | None = None  # None: the next batch builds it

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Let the next batch build the item graph; rebuild the graphs S^m where the features have changed."""
        self.content.renew(features)
        self.mixed = None

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` and `l2`."""
        if self.mixed is None:
            entries = self._mix(features, self.content.current(features))
            self.mixed = self._matrix(entries)
            similar = self._similar(partial(multiply, self.mixed, entries))
        else:
            similar = self._similar(self.mixed)
        of_batch = (batch.users, *(side + self.graph.n_users for side in (batch.positives, batch.negatives)))
        users, *items = propagate_to(self.adjacency, self.nodes.all(), self.layers, *of_batch)
        positives, negatives = (
            own + select_rows(similar, side)
            for own, side in zip(items, (batch.positives, batch.negatives), strict=True)
        )
        return {
            "bpr": bpr_of_vectors(users, positives, negatives),
            "l2": self.l2_weight * l2(users, positives, negatives, batch=len(users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """The vectors over the item graph of the current weights and these features."""
        users, items = self.graph.sides(propagate(self.adjacency, self.nodes.all(), self.layers))
        return Embeddings(users, items + self._similar(self._matrix(self._mix(features, self.content(features)))))

    def _similar(self, step: Callable[[Tensor], Tensor]) -> Float[Tensor, "items dim"]:
        """What items gather from similar ones (eq. 7-8), where `step` is one step of vectors over the item graph."""
        return unit_vectors(after_steps(step, self.nodes.all()[self.graph.n_users :], self.item_layers))

    def _mix(self, features: Features, content: ContentGraphs) -> Entries:
        """The entries of A (eq. 1-6); differentiable in the projections, the importance and the features."""
        projected = self.projections(features)
        importance = torch.cat([self.importance[modality] for modality in projected]).softmax(0)
        fixed, learned = [], []
        for (modality, vectors), share in zip(projected.items(), importance.unbind(), strict=True):
            graph = similarities(vectors, neighborhood(vectors, self.neighbors))
            if not self.normalize_mix:
                graph = normalize_entries(graph, self.graph.n_items)
            learned.append(_times(graph, share))
            fixed.append(_times(content[modality](), self.skip * share))
        shape = (self.graph.n_items, self.graph.n_items)
        mixed = add(learned, shape)
        if self.normalize_mix:
            mixed = normalize_entries(mixed, self.graph.n_items)
        return add([*fixed, _times(mixed, 1 - self.skip)], shape)

    def _matrix(self, entries: Entries) -> SparseMatrix:
        return SparseMatrix(entries.rows, entries.columns, entries.values.detach(), (self.graph.n_items,) * 2)


def _content_graphs(features: Features, *, neighbors: int) -> ContentGraphs:
    """S^m of each modality."""
    graphs = {m: normalize_entries(neighborhood(x.detach(), neighbors), len(x)) for m, x in features.items()}
    return nn.ModuleDict({m: EntryTable(entries) for m, entries in graphs.items()})


def _times(entries: Entries, factor: Tensor | float) -> Entries:
    return entries._replace(values=factor * entries.values)
