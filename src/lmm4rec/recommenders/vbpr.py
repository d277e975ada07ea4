"""VBPR: matrix factorization with item content, under a pairwise ranking loss."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.matrices import dot_each, row_blocks, select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, Modality, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.losses import bpr, l2
from lmm4rec.nn.projections import ContentProjection, center_of, xavier_weights
from lmm4rec.nn.tables import normal_table, rows_of_tables
from lmm4rec.recommenders.base import Recommender

__all__ = ["VBPR"]


class VBPR(Recommender):
    """Visual Bayesian personalized ranking (He and McAuley, AAAI 2016, arXiv 1510.01784), for any set of modalities.

    x(u, i) = b_i + g_u · g_i + sum over modalities m of [ t_u^m · (E_m f_i^m) + c_m · f_i^m ]   (eq. 4)

    g are id vectors, t_u^m is the user's vector for modality m, E_m projects the features f of that modality, and c_m
    is its content bias (the paper's visual bias). The user bias and the global offset of eq. 4 cancel in ranking and
    are left out. An item that lacks a modality contributes nothing there. Loss: BPR plus `l2_weight` times half the
    squared norms of the batch's vectors and biases, plus `projection_l2_weight` times those of E and c.

    With `normalize`, features are centered by the mean over the items that have the modality and scaled to length 1: an
    item that lacks the modality then equals the average item (raw, zero is far from all others), and no modality
    outweighs the others by its length. The mean is recomputed at the start of each epoch.

    Without `ids`, the first two summands are left out: an item is its content alone, and new items need nothing more.

    Differs from the authors' code: mini-batches and Adam; several modalities, each with user vectors of its own (the
    paper has images only); features are centered and scaled as above (`normalize` = False: the paper's raw features); E
    and c are regularized by default: with the paper's weight of 0, wide features are overfitted, and VBPR falls below
    BPR.
    """

    uses_content = True
    splits_batches = True
    shards_tables = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the id vectors.")] = 64,
        ids: Annotated[bool, Doc("Vectors and a bias for each item id; false: content alone.")] = True,
        content_dim: Annotated[PositiveInt, Doc("Width of the users' tastes in each modality.")] = 64,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of a batch's vectors.")] = 1e-2,
        projection_l2_weight: Annotated[
            NonNegativeFloat, Doc("Weight of the projections' squared norms; wide features want more (1e-3).")
        ] = 3e-4,
        normalize: Annotated[bool, Doc("Center features and scale them to length 1; false: the paper's raw.")] = True,
        initial_std: Annotated[
            PositiveFloat, Doc("Standard deviation of the initial vectors; a small one ranks by popularity at first.")
        ] = 0.01,
    ) -> None:
        super().__init__(graph, features)
        self.l2_weight, self.projection_l2_weight, self.normalize = l2_weight, projection_l2_weight, normalize
        self.ids = ids
        if ids:
            self.users = normal_table(graph.n_users, dim, generator, std=initial_std)
            self.items = normal_table(graph.n_items, dim, generator, std=initial_std)
            self.item_bias = nn.Parameter(torch.zeros(graph.n_items))
        for modality, x in features.items():
            self.register_buffer(f"mean_{modality}", center_of(x.detach()))
        self.tastes = nn.ParameterDict(
            {modality: normal_table(graph.n_users, content_dim, generator, std=initial_std) for modality in features}
        )
        # the last column is the content bias, so that both come out of one product with the features
        self.projections = xavier_weights(features, content_dim + 1, generator)

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Recompute the means of the features."""
        for modality in self.projections:
            self.get_buffer(f"mean_{modality}").copy_(center_of(features[modality].detach()))

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` and `l2` (projections included)."""
        both = torch.cat([batch.positives[:, None], batch.negatives], dim=1)
        distinct, where = torch.unique(both, return_inverse=True)
        user_tables = [self.users, *self.tastes.values()] if self.ids else list(self.tastes.values())
        items_asked = [(self.items, distinct)] if self.ids else []
        vectors = rows_of_tables(*((table, batch.users) for table in user_tables), *items_asked)
        users, ids = torch.cat(vectors[: len(user_tables)], dim=1), vectors[len(user_tables) :]
        content, bias = self._content(features, distinct)
        items = torch.cat([*ids, content], dim=1)
        scores = dot_each(users, select_rows(items, where)) + select_rows(bias[:, None], where)[..., 0]
        regularized = [users, *(select_rows(one, where) for one in ids)]
        regularized += [self.item_bias[distinct][where]] if self.ids else []
        decay = self.l2_weight * l2(*regularized, batch=len(users))
        if self.projection_l2_weight:
            decay = decay + self.projection_l2_weight * l2(*self.projections.values(), batch=1)
        return {"bpr": bpr(scores[:, 0], scores[:, 1:]), "l2": decay}

    def embed(self, features: Features) -> Embeddings:
        """[g_u, 1, t_u, 1, ...] and [g_i, b_i, E f_i, c · f_i, ...]: ids, bias, then each modality."""
        one = next(iter(self.tastes.values())).new_ones(self.graph.n_users, 1)
        users = [self.users.all(), one] if self.ids else []
        items = [self.items.all(), self.item_bias[:, None]] if self.ids else []
        for modality, projection in self.content_projections().items():
            users += [torch.cat([self.tastes[modality].all(), one], dim=1)]
            items += [projection(features[modality])]
        names = (*(("id", "bias") if self.ids else ()), *self.projections)
        ends = list(itertools.accumulate(part.shape[1] for part in items))
        parts = {name: slice(start, end) for name, start, end in zip(names, [0, *ends], ends, strict=False)}
        return Embeddings(torch.cat(users, dim=1), torch.cat(items, dim=1), parts=parts)

    def content_projections(self) -> dict[Modality, ContentProjection]:
        """E and c of each modality."""
        return {
            modality: ContentProjection(projection, self.get_buffer(f"mean_{modality}") if self.normalize else None)
            for modality, projection in self.projections.items()
        }

    def _content(
        self, features: Features, items: Int[Tensor, " selected"]
    ) -> tuple[Float[Tensor, "selected content_dims"], Float[Tensor, " selected"]]:
        """The projected features of the given items, concatenated, and the items' total bias."""
        parts, bias = [], self.item_bias[items] if self.ids else torch.zeros(len(items), device=items.device)
        for modality, projection in self.content_projections().items():
            projected = projection.over(row_blocks(features[modality], items))
            parts.append(projected[:, :-1])
            bias = bias + projected[:, -1]
        return torch.cat(parts, dim=1), bias
