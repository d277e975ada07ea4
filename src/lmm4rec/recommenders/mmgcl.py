"""MMGCL: likes must still be found when edges are missing, a modality is masked, or an item's content is mixed up."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.branches import Branches, convolve, replace_branch
from lmm4rec.nn.graph import InteractionGraph, drop_edges, pattern, symmetric_weights, weighted_likes
from lmm4rec.nn.losses import bpr, info_nce, l2
from lmm4rec.nn.sparse import WeightedMatrix
from lmm4rec.nn.tables import Affine, project, rows, xavier_table
from lmm4rec.recommenders.base import Recommender

__all__ = ["MMGCL"]

_ALIKE: list[float] = []


class MMGCL(Recommender):
    """Multi-modal graph contrastive learning (Yi et al., SIGIR 2022, doi 10.1145/3477495.3532027).

    Encoder: a LightGCN (mean over layers) for each branch, over the same user table and, for the branch "id", the item
    table; for modality m the items' features, L2-normalized, times W_m plus b_m. Users and items are an affine map of
    their branches side by side; score = user · item.

    Two views of the graph:

    - modality edge dropout: a share `dropout` of the edges is left out and degrees are counted anew;
    - modality masking: one modality, drawn with `mask_shares`, has a random vector in place of each item's content.

    Losses: BPR; `ssl_weight` times, in each view, the in-batch InfoNCE of users and the items they liked
    (`temperature` t), and that against challenging negatives: the liked item with one modality taken from an item that
    the user has not touched, -log(e^(s+/t) / (e^(s+/t) + e^(s-/t))) with s the cosines to the user; `l2_weight` times
    half the squared norms of the batch's id vectors.

    Differs from the authors' code: masking acts on the modality that was drawn (there its place gets another's
    content, and a graph with fewer nodes instead of random vectors); each view has its InfoNCE (there the first view's
    is counted twice, so that the second has no effect); the challenging negatives count, by a bounded loss (there it is
    a negated cross-entropy, computed and left out), and any modality is swapped (there always the text); scores are the
    plain dot products of the current vectors, not of earlier ones through a sigmoid.
    """

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: PositiveInt = 64,
        layers: PositiveInt = 3,
        dropout: Fraction = 0.05,
        mask_shares: list[NonNegativeFloat] = _ALIKE,
        ssl_weight: NonNegativeFloat = 0.4,
        temperature: PositiveFloat = 0.2,
        l2_weight: NonNegativeFloat = 1e-4,
    ) -> None:
        """`mask_shares` has one number for each modality, in the features' order; empty: all are masked alike."""
        super().__init__(graph)
        if not features:
            raise ConfigError("MMGCL needs features of at least one modality: give the conf an [encoder] table")
        shares = mask_shares or [1.0] * len(features)
        if len(shares) != len(features) or not sum(shares):
            raise ConfigError(
                f"mask_shares needs a number for each of {', '.join(features)}, not all of them 0; got {shares}"
            )
        self.layers, self.dropout, self.mask_shares = layers, dropout, torch.tensor(shares)
        self.ssl_weight, self.temperature, self.l2_weight = ssl_weight, temperature, l2_weight
        self.users = xavier_table(graph.n_users, dim, generator)
        self.items = xavier_table(graph.n_items, dim, generator)
        self.projections = nn.ParameterDict(
            {modality: xavier_table(x.shape[1], dim, generator) for modality, x in features.items()}
        )
        self.offsets = nn.ParameterDict({modality: nn.Parameter(torch.zeros(dim)) for modality in features})
        branches = 1 + len(features)
        self.read_user, self.read_item = (Affine(branches * dim, dim, generator) for _ in range(2))
        self.likes, self.pattern = weighted_likes(graph, symmetric_weights(graph)), pattern(graph)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, InfoNCE in the `dropped` and the `masked` view, `challenge` in both, and `l2`."""
        content = self._content(features)
        whole = convolve(self.likes, self.users, content, self.layers)
        users, liked = self._read(batch, whole)
        other = self.read_item(whole.items[batch.negatives].flatten(2))
        dropped, masked = self._edge_dropout(content, generator), self._modality_masking(content, whole, generator)
        challenges = [self._challenge(batch, view, generator) for view in (dropped, masked)]
        ids = (rows(self.users, batch.users), rows(self.items, batch.positives), rows(self.items, batch.negatives))
        return {
            "bpr": bpr((users * liked).sum(1), torch.einsum("bd,bnd->bn", users, other)),
            "dropped": self.ssl_weight * self._contrast(batch, dropped),
            "masked": self.ssl_weight * self._contrast(batch, masked),
            "challenge": self.ssl_weight * torch.stack(challenges).sum(),
            "l2": self.l2_weight * l2(*ids, batch=len(users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """The maps of all branches of users and items."""
        branches = convolve(self.likes, self.users, self._content(features), self.layers)
        return Embeddings(self.read_user(branches.users.flatten(1)), self.read_item(branches.items.flatten(1)))

    def _content(self, features: Features) -> Float[Tensor, "items branches dim"]:
        """The layer-0 vectors of the items: ids first, then each modality."""
        projected = [project(features[m], weight, self.offsets[m]) for m, weight in self.projections.items()]
        return torch.stack([self.items, *projected], dim=1)

    def _edge_dropout(self, content: Float[Tensor, "items branches dim"], generator: torch.Generator) -> Branches:
        """All branches on a graph with fewer edges."""
        weights = symmetric_weights(self.graph, drop_edges(self.graph, self.dropout, generator))
        return convolve(WeightedMatrix(self.pattern, weights), self.users, content, self.layers)

    def _modality_masking(
        self, content: Float[Tensor, "items branches dim"], whole: Branches, generator: torch.Generator
    ) -> Branches:
        """The branches with random vectors, as long as the ids, for one modality's content; the rest is shared."""
        branch = self._draw_modality(generator)
        random = torch.randn(content.shape[0], content.shape[2], generator=generator).to(content.device)
        random = F.normalize(random, dim=1) * self.items.detach().norm(dim=1).mean()
        random = random * (content[:, branch].detach() != 0).any(dim=1, keepdim=True)  # what isn't there stays so
        masked = convolve(self.likes, self.users, random[:, None], self.layers)
        return Branches(
            replace_branch(whole.users, branch, masked.users[:, 0]),
            replace_branch(whole.items, branch, masked.items[:, 0]),
            whole.users_alone,
            whole.items_alone,
        )

    def _contrast(self, batch: Batch, view: Branches) -> Float[Tensor, ""]:
        """InfoNCE of the batch's users and the items they liked, in a view."""
        return info_nce(*self._read(batch, view), temperature=self.temperature)

    def _challenge(self, batch: Batch, view: Branches, generator: torch.Generator) -> Float[Tensor, ""]:
        """Liked items against the same with one modality of an item that the user has not touched, in a view."""
        users, liked = self._read(batch, view)
        branch = self._draw_modality(generator)
        taken = view.items[batch.negatives[:, 0], branch]
        mixed = self.read_item(replace_branch(view.items.index_select(0, batch.positives), branch, taken).flatten(1))
        near, far = F.cosine_similarity(users, liked), F.cosine_similarity(users, mixed)
        return F.softplus((far - near) / self.temperature).mean()

    def _read(self, batch: Batch, view: Branches) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """The batch's users and liked items."""
        users, items = view.users.index_select(0, batch.users), view.items.index_select(0, batch.positives)
        return self.read_user(users.flatten(1)), self.read_item(items.flatten(1))

    def _draw_modality(self, generator: torch.Generator) -> int:
        """The branch of a modality, drawn with `mask_shares`."""
        return 1 + int(torch.multinomial(self.mask_shares, 1, generator=generator))
