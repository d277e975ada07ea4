"""MMGCN: a graph convolution for each modality, connected by id vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph, spread, weighted_interactions
from lmm4rec.nn.losses import bpr_of_vectors, l2
from lmm4rec.nn.projections import Affine, content_product, has_content, xavier_weight, xavier_weights
from lmm4rec.nn.tables import xavier_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.recommenders.base import Recommender

__all__ = ["MMGCN"]


class MMGCN(Recommender):
    """Multi-modal graph convolution network (Wei et al., MM 2019, doi 10.1145/3343031.3351034).

    In each modality every user has a trained preference u_m and every item its features i_m; with x for either, a
    layer, with its own weights, computes

        h = LeakyReLU(mean over the neighbors j of W1 x_j)       aggregation, eq. 1 and 2
        x^ = LeakyReLU(W2 x) + id                                the bridge of the trained id vectors, eq. 5
        x <- LeakyReLU(W3 h + x^)                                combination "add", eq. 7
        x <- LeakyReLU(W3 [h, x^])                               combination "concatenate", eq. 6

    A user's and an item's vector is the sum over modalities after the last layer (eq. 8 and 9); score = u · i. Loss:
    BPR plus `l2_weight` times half the squared norms of the batch's id vectors and preferences (eq. 10). An item that
    lacks a modality is left out of the first layer's mean; from then on it is represented by its id vector. Without
    `ids`, eq. 5 has none: an item is its content, in its place in the graph.

    Differs from the authors' code: id vectors and preferences train (there they are tensors that no optimizer has);
    there are as many layers as `layers` says (three in their common script and the public toolbox, whatever is
    configured); "add" adds (there the string 'False' counts as true, so that it concatenates); every modality is
    first mapped to `content_dim` numbers without an offset (there with one, and in the common script images only, to
    256) and, as there, scaled to length 1; W1 already maps to `dim`, as in the paper; modalities are summed, as in the
    paper, not averaged; `l2_weight` is for what trains here and not there, and the maps W are not regularized (their
    scripts of a single data set give these Adam's weight decay).
    """

    uses_content = True
    spreads_content = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the id vectors and of each layer.")] = 64,
        ids: Annotated[bool, Doc("A vector for each user and item id; false: preferences and content alone.")] = True,
        content_dim: Annotated[PositiveInt, Doc("Width of preferences and projected features in each modality.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        combination: Annotated[Literal["add", "concatenate"], Doc("How node and neighborhood are combined.")] = "add",
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of ids and preferences.")] = 1e-2,
    ) -> None:
        super().__init__(graph, features)
        self.l2_weight = l2_weight
        self.ids = xavier_table(graph.n_users + graph.n_items, dim, generator) if ids else None
        self.preferences = nn.ParameterDict({m: xavier_table(graph.n_users, content_dim, generator) for m in features})
        self.projections = xavier_weights(features, content_dim, generator)
        widths = [content_dim] + [dim] * (layers - 1)
        self.layers = nn.ModuleDict(
            {
                modality: nn.ModuleList(_Layer(width, dim, combination, generator) for width in widths)
                for modality in features
            }
        )
        self.interactions = weighted_interactions(graph, torch.ones(len(graph.users)))

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` on the summed vectors, and `l2` on id vectors and preferences."""
        nodes = (batch.users, batch.positives + self.graph.n_users, batch.negatives + self.graph.n_users)
        vectors = self._vectors(features)
        users, positives, negatives = (select_rows(vectors, node) for node in nodes)
        regularized = [] if self.ids is None else [*self.ids.rows(*nodes)]
        regularized += [preference.rows(batch.users) for preference in self.preferences.values()]
        return {
            "bpr": bpr_of_vectors(users, positives, negatives),
            "l2": self.l2_weight * l2(*regularized, batch=len(users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """The summed vectors of users and items."""
        vectors = self._vectors(features)
        return Embeddings(*self.graph.sides(vectors))

    def _vectors(self, features: Features) -> Float[Tensor, "nodes dim"]:
        parts = [self._convolve(features[modality], modality) for modality in self.projections]
        return torch.stack(parts).sum(dim=0)

    def _convolve(self, features: Float[Tensor, "items width"], modality: str) -> Float[Tensor, "nodes dim"]:
        """The vectors of all nodes in one modality, after its last layer."""
        product = content_product(features, self.projections[modality])
        has = has_content(product)[:, None]
        # `where` follows the division, whose gradient at a row of zeros is huge
        items = torch.where(has, unit_vectors(product), 0.0)
        users = unit_vectors(self.preferences[modality].all())
        x = torch.cat([users, items])
        present = torch.cat([has.new_ones(len(users), 1), has]).float()
        for layer in cast(Iterable[_Layer], self.layers[modality]):
            neighbors = spread(self.interactions, present).clamp(min=1)
            h = F.leaky_relu(spread(self.interactions, x @ layer.neighbors) / neighbors, inplace=True)
            own = F.leaky_relu(layer.own(x), inplace=True)
            x = layer(h, own if self.ids is None else own + self.ids.all())
            present = torch.ones_like(present)
        return x


class _Layer(nn.Module):
    """The weights of one layer in one modality: W1 for neighbors, W2 for the node itself, W3 to combine them."""

    def __init__(self, inputs: int, dim: int, combination: str, generator: torch.Generator) -> None:
        super().__init__()
        self.concatenate = combination == "concatenate"
        self.neighbors = xavier_weight(inputs, dim, generator)
        self.own = Affine(inputs, dim, generator)
        self.joined = Affine(2 * dim if self.concatenate else dim, dim, generator)

    def forward(self, h: Float[Tensor, "nodes dim"], bridge: Float[Tensor, "nodes dim"]) -> Float[Tensor, "nodes dim"]:
        """The combination of the neighbors' message h and the node's own vector."""
        if self.concatenate:
            return F.leaky_relu(self.joined(torch.cat([h, bridge], dim=1)), inplace=True)
        return F.leaky_relu(self.joined(h) + bridge, inplace=True)
