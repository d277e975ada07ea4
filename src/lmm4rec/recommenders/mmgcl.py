"""MMGCL: contrastive learning with edge dropout, modality masking and challenging negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.branch_convolution import Branches, convolve, item_branches, replace_branch
from lmm4rec.nn.graph import InteractionGraph, drop_edges, pattern, symmetric_weights, weighted_interactions
from lmm4rec.nn.losses import bpr_of_vectors, info_nce, l2
from lmm4rec.nn.projections import Affine, has_content, xavier_weights
from lmm4rec.nn.tables import xavier_table
from lmm4rec.nn.weighted_matrix import WeightedMatrix
from lmm4rec.recommenders.base import Recommender

__all__ = ["MMGCL"]

_EQUAL: list[float] = []


class MMGCL(Recommender):
    """Multi-modal graph contrastive learning (Yi et al., SIGIR 2022, doi 10.1145/3477495.3532027).

    Encoder: a LightGCN (mean over layers) for each branch, over the same user table and, for the branch "id", the item
    table; for modality m the items' features, L2-normalized, times W_m plus b_m. User and item vectors are an affine
    map of their concatenated branches; score = user · item.

    Two views of the graph:

    - modality edge dropout: a share `dropout` of the edges is left out, and degrees are those of the rest;
    - modality masking: one modality, sampled by `mask_shares`, has a random vector in place of each item's content.

    Losses: BPR; `ssl_weight` times, in each view, the in-batch InfoNCE of users and their positive items
    (`temperature` t), and a loss against challenging negatives: the positive item with one modality replaced by that of
    the negative item, -log(e^(s+/t) / (e^(s+/t) + e^(s-/t))) with s the cosines to the user; `l2_weight` times
    half the squared norms of the batch's id vectors.

    Differs from the authors' code: masking acts on the sampled modality (there its place gets another's content, and a
    graph with fewer nodes instead of random vectors); each view has its InfoNCE (there the first view's is counted
    twice, so that the second has no effect); the challenging negatives count, by a bounded loss (there it is a negated
    cross-entropy, computed but never added), and any modality is replaced (there the text); scores are the plain dot
    products of the current vectors, not of earlier ones through a sigmoid; `l2_weight` is for the id vectors (there the
    configuration has a weight decay of 1e-4, of all weights, instead).
    """

    uses_content = True
    spreads_content = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user, item and content vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 3,
        dropout: Annotated[Fraction, Doc("Share of the edges that the first view lacks.")] = 0.05,
        mask_shares: Annotated[
            list[NonNegativeFloat], Doc("How often each modality is masked, such as [0.4, 0.6]; empty: equally often.")
        ] = _EQUAL,
        ssl_weight: Annotated[NonNegativeFloat, Doc("Weight of the contrastive losses.")] = 0.4,
        temperature: Annotated[PositiveFloat, Doc("Temperature of their softmax.")] = 0.2,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of a batch's id vectors.")] = 1e-4,
    ) -> None:
        """`mask_shares` has one number for each modality, in the features' order; empty: all are equally likely."""
        super().__init__(graph, features)
        shares = mask_shares or [1.0] * len(features)
        if len(shares) != len(features) or not sum(shares):
            raise ConfigError(f"mask_shares needs a number for each of {', '.join(features)}, not all 0; got {shares}")
        self.layers, self.dropout = layers, dropout
        self.ssl_weight, self.temperature, self.l2_weight = ssl_weight, temperature, l2_weight
        self.users = xavier_table(graph.n_users, dim, generator)
        self.items = xavier_table(graph.n_items, dim, generator)
        self.projections = xavier_weights(features, dim, generator)
        by_modality = dict(zip(features, shares, strict=True))
        self.mask_shares = torch.tensor([by_modality[m] for m in self.projections])  # in the order of the branches
        self.offsets = nn.ParameterDict({modality: nn.Parameter(torch.zeros(dim)) for modality in features})
        branches = 1 + len(features)
        self.read_user, self.read_item = (Affine(branches * dim, dim, generator) for _ in range(2))
        self.interactions, self.pattern = weighted_interactions(graph, symmetric_weights(graph)), pattern(graph)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, InfoNCE in the `dropped` and the `masked` view, `challenge` in both, and `l2`."""
        content = self._content(features)
        whole = convolve(self.interactions, self.users.all(), content, self.layers)
        pairs = _Pairs(*_distinct(batch.users), *_distinct(batch.positives))
        rows_of_users = pairs.users_of(whole)
        users, positives = pairs.expand(*self._vectors(pairs, rows_of_users, whole.items))
        negatives = self.read_item(whole.items[batch.negatives].flatten(2))
        fewer_edges = self._edge_dropout(content, generator)
        views = (
            (pairs.users_of(fewer_edges), fewer_edges.items),
            self._modality_masking(content, rows_of_users, whole.items, pairs, generator),
        )
        vectors = [self._vectors(pairs, *view) for view in views]
        dropped, masked = (
            info_nce(*both, pairs.user_of, pairs.item_of, temperature=self.temperature) for both in vectors
        )
        challenges = [
            self._challenge(batch, items, *pairs.expand(*both), generator)
            for (_, items), both in zip(views, vectors, strict=True)
        ]
        ids = (self.users.rows(batch.users), *self.items.rows(batch.positives, batch.negatives))
        return {
            "bpr": bpr_of_vectors(users, positives, negatives),
            "dropped": self.ssl_weight * dropped,
            "masked": self.ssl_weight * masked,
            "challenge": self.ssl_weight * torch.stack(challenges).sum(),
            "l2": self.l2_weight * l2(*ids, batch=len(users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """The maps of all branches of users and items."""
        branches = convolve(self.interactions, self.users.all(), self._content(features), self.layers)
        return Embeddings(self.read_user(branches.users.flatten(1)), self.read_item(branches.items.flatten(1)))

    def _content(self, features: Features) -> Float[Tensor, "items branches dim"]:
        """The layer-0 vectors of the items: ids first, then each modality."""
        return item_branches(self.items.all(), features, self.projections, self.offsets)

    def _edge_dropout(self, content: Float[Tensor, "items branches dim"], generator: torch.Generator) -> Branches:
        """All branches, over a graph with fewer edges."""
        weights = symmetric_weights(self.graph, drop_edges(self.graph, self.dropout, generator))
        return convolve(WeightedMatrix(self.pattern, weights), self.users.all(), content, self.layers)

    def _modality_masking(
        self,
        content: Float[Tensor, "items branches dim"],
        users: Float[Tensor, "users branches dim"],
        items: Float[Tensor, "items branches dim"],
        pairs: _Pairs,
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "users branches dim"], Float[Tensor, "items branches dim"]]:
        """The batch's users and all items of the whole graph, one modality's content replaced by random vectors.

        These have the ids' mean length.
        """
        branch = self._sample_modality(generator)
        random = torch.randn(content.shape[0], content.shape[2], generator=generator).to(content.device)
        random = F.normalize(random, dim=1) * self.items.detach().norm(dim=1).mean()
        random = random * has_content(content[:, branch])[:, None]  # a missing modality stays missing
        masked = convolve(self.interactions, self.users.all(), random[:, None], self.layers)
        users = replace_branch(users, branch, pairs.users_of(masked)[:, 0])
        return users, replace_branch(items, branch, masked.items[:, 0])

    def _challenge(
        self,
        batch: Batch,
        items: Float[Tensor, "items branches dim"],
        users: Float[Tensor, "batch dim"],
        positives: Float[Tensor, "batch dim"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The loss of positives against the same items with one modality of the negative item, in a view's items."""
        branch = self._sample_modality(generator)
        other = items[batch.negatives[:, 0], branch]
        mixed = self.read_item(replace_branch(items.index_select(0, batch.positives), branch, other).flatten(1))
        near, far = F.cosine_similarity(users, positives), F.cosine_similarity(users, mixed)
        return F.softplus((far - near) / self.temperature).mean()

    def _vectors(
        self, pairs: _Pairs, users: Float[Tensor, "users branches dim"], items: Float[Tensor, "all branches dim"]
    ) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        """The vectors of the batch's distinct users, whose branches are given, and of its distinct positive items."""
        return self.read_user(users.flatten(1)), self.read_item(items.index_select(0, pairs.items).flatten(1))

    def _sample_modality(self, generator: torch.Generator) -> int:
        """The branch of a modality, sampled by `mask_shares`."""
        return 1 + int(torch.multinomial(self.mask_shares, 1, generator=generator))


@dataclass(frozen=True)
class _Pairs:
    """A batch's positive pairs by its distinct users and items: pair i is users[user_of[i]] and items[item_of[i]]."""

    users: Int[Tensor, " users"]
    user_of: Int[Tensor, " batch"]
    items: Int[Tensor, " items"]
    item_of: Int[Tensor, " batch"]

    def users_of(self, view: Branches) -> Float[Tensor, "users branches dim"]:
        """The branches of the distinct users."""
        return view.users.index_select(0, self.users)

    def expand(
        self, users: Float[Tensor, "users dim"], items: Float[Tensor, "items dim"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """The vectors of each pair, from those of the distinct users and items."""
        return select_rows(users, self.user_of), select_rows(items, self.item_of)


def _distinct(index: Int[Tensor, " batch"]) -> tuple[Int[Tensor, " distinct"], Int[Tensor, " batch"]]:
    values, places = torch.unique(index, return_inverse=True)
    return values, places
