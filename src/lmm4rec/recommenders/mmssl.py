"""MMSSL: relations of users and items by modality that a critic cannot tell from real ones, and contrast with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.critic import RowCritic, product_of_rows
from lmm4rec.nn.csr import entries_of
from lmm4rec.nn.graph import InteractionGraph, dropout, histories, normalize, propagate
from lmm4rec.nn.losses import bpr_of_vectors, contrast_views, l2
from lmm4rec.nn.projections import Projections, xavier_weight
from lmm4rec.nn.relations import Relations, nearest_items
from lmm4rec.nn.tables import xavier_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.recommenders.base import Recommender, require_divisible

__all__ = ["MMSSL"]


class MMSSL(Recommender):
    """Multi-modal self-supervised learning (Wei et al., WWW 2023, arXiv 2302.10632).

    - Content of modality m: users f_u = sum of x W_m + b_m (under `dropout`) over their items / sqrt(items), items
      f_i = sum of f_u over their users / sqrt(users).
    - Relations by modality: every user's `relations` items with the highest cosine of f_u and f_i, chosen anew in each
      epoch. Over them e_u = sum of item ids / sqrt(relations of u), e_i likewise of user ids.
    - Attention of modalities, with `heads`: a = softmax over n of (Q e_m) · (K e_n) / sqrt(dim / heads) in each head's
      columns, z_m = the sums of a · e_n of all heads beside each other, times a matrix; z is their mean over m.
    - Vectors: LightGCN with `layers` from id + `relation_weight` · z / |z|, plus `content_weight` · f_m / |f_m| for
      each m.
    - `adversarial`: minus the critic's mean score of the batch's users' rows of cosines of f_u and all f_i, row length
      1; its weights are constants there. `critic`: that score less the one of real rows, plus `penalty` times the
      gradient penalty (WGAN-GP). A real row is the softmax over the user's own items of `relation_noise` · Gumbel
      noise, plus `signal` · the row of cosines of the final vectors, row length 1.
    - `contrast`, over the batch's users: -log(exp(c(e_u, h_u) / t) / (sum over v of exp(c(e_u, h_v) / t) and over v ≠ u
      of exp(c(e_u, e_v) / t))) for each m, h the final vectors. BPR, and `l2`, half the squared norms of the batch's
      vectors and of all content (over the items).

    Differs from the authors' code: there relations are empty from the third step of every epoch on (and always with
    fewer than 10,000 items, of which a share of 0.0001 is taken); keys are copied from queries; the last layer is a
    softmax over its numbers; the critic's `LeakyReLU(True)` has slope 1, is linear; generated rows are 0 at the user's
    items, which the critic then sees at once; the ids are propagated by 1 / sqrt(d_u) alone. The critic has
    `critic_dim` hidden numbers (there a quarter of the items: 84 million weights for Sports), and both are trained in
    one step instead of in turns. Rows over all items are never built: products with the critic's weights are computed
    from their factors.

    The critic's loss and gradient may be a million times those of the rest. So nearly all of the reported `loss` is
    `critic`, which says nothing about the ranking (`loss.bpr` does), and `train.clip_norm` bounds the critic's gradient
    by its own norm, and that of all other weights by theirs.
    """

    uses_content = True
    spreads_content = True

    own_items: Tensor

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions of the ids over the interaction graph.")] = 2,
        heads: Annotated[PositiveInt, Doc("Heads of the attention of modalities; a divisor of dim.")] = 4,
        relations: Annotated[PositiveInt, Doc("Items that a user is related to in each modality.")] = 10,
        relation_weight: Annotated[NonNegativeFloat, Doc("Weight of related ids beside a node's own.")] = 0.36,
        content_weight: Annotated[NonNegativeFloat, Doc("Weight of each modality's content in the vectors.")] = 0.55,
        dropout: Annotated[Fraction, Doc("Share of the projected features' numbers set to zero.")] = 0.2,
        adversarial_weight: Annotated[NonNegativeFloat, Doc("Weight of the critic's scores; 0: no critic.")] = 1e-4,
        critic_dim: Annotated[PositiveInt, Doc("Hidden numbers of the critic; half as many follow.")] = 64,
        critic_dropout: Annotated[Fraction, Doc("Share of the critic's hidden numbers set to zero.")] = 0.3,
        penalty: Annotated[NonNegativeFloat, Doc("Weight of the critic's gradient penalty.")] = 0.3,
        relation_noise: Annotated[NonNegativeFloat, Doc("Size of the Gumbel noise on real rows.")] = 2e-3,
        signal: Annotated[NonNegativeFloat, Doc("Weight of the final vectors' cosines in real rows.")] = 100.0,
        contrast_weight: Annotated[NonNegativeFloat, Doc("Weight of the contrast of relations and vectors.")] = 0.03,
        temperature: Annotated[PositiveFloat, Doc("Temperature of that contrast.")] = 0.5,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of vectors and content.")] = 1e-5,
        train_features: Annotated[bool, Doc("Train the features too.")] = False,
    ) -> None:
        super().__init__(graph, features)
        require_divisible(dim, heads)
        self.layers, self.heads, self.relations, self.dropout = layers, heads, relations, dropout
        self.relation_weight, self.content_weight = relation_weight, content_weight
        self.adversarial_weight, self.penalty, self.signal = adversarial_weight, penalty, signal
        self.relation_noise, self.contrast_weight = relation_noise, contrast_weight
        self.temperature, self.l2_weight = temperature, l2_weight
        self.user_ids = xavier_table(graph.n_users, dim, generator)
        self.item_ids = xavier_table(graph.n_items, dim, generator)
        self.projections = Projections(features, dim, generator, trained=train_features)
        self.queries, self.keys = (xavier_weight(dim, dim, generator) for _ in range(2))
        self.joined_heads = xavier_weight(heads * dim, dim, generator)
        self.critic = RowCritic(graph.n_items, critic_dim, critic_dropout, generator) if adversarial_weight else None
        self.adjacency, self.observed = normalize(graph), Relations(graph.users, graph.items, graph)
        self.register_buffer("own_items", histories(graph), persistent=False)
        self.by_modality: list[Relations] | None = None  # None: the next batch chooses them

    def adversary(self) -> RowCritic | None:
        """The critic."""
        return self.critic

    @classmethod
    def check_parameters(cls, parameters: Mapping[str, Any]) -> None:
        """Refuse a `dim` that `heads` does not divide."""
        require_divisible(parameters["dim"], parameters["heads"])

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Let the next batch choose the relations."""
        self.by_modality = None

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, `l2`, `contrast`, and `adversarial` and `critic`."""
        content = self._content(features, generator)
        if self.by_modality is None:
            self.by_modality = nearest_items(*content, self.graph, self.relations)
        vectors = self._vectors(*content, self.by_modality)
        users = select_rows(vectors.users, batch.users)
        positives, negatives = (select_rows(vectors.items, rows) for rows in (batch.positives, batch.negatives))
        losses = {
            "bpr": bpr_of_vectors(users, positives, negatives),
            "l2": self.l2_weight
            * (l2(users, positives, negatives, batch=len(users)) + l2(*content, batch=self.graph.n_items)),
        }
        chosen = torch.unique(batch.users)
        if self.contrast_weight:
            contrast = [contrast_views(e[chosen], vectors.users[chosen], self.temperature) for e in vectors.related]
            losses["contrast"] = self.contrast_weight * torch.stack(contrast).sum()
        if self.critic is not None:
            losses |= self._adversarial(self.critic, chosen, content, vectors, generator)
        return losses

    def embed(self, features: Features) -> Embeddings:
        """The vectors over the relations of the current weights and these features."""
        content = self._content(features, None)
        vectors = self._vectors(*content, nearest_items(*content, self.graph, self.relations))
        return Embeddings(vectors.users, vectors.items)

    def _content(
        self, features: Features, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "users modalities dim"], Float[Tensor, "items modalities dim"]]:
        """f of all users and items; with dropout where there is a generator."""
        projected = torch.stack(list(self.projections(features).values()), dim=1)
        if generator is not None and self.dropout:
            projected = dropout(projected, self.dropout, generator)
        users = self.observed.to_users(projected)
        return users, self.observed.to_items(users)

    def _vectors(
        self,
        users: Float[Tensor, "users modalities dim"],
        items: Float[Tensor, "items modalities dim"],
        by_modality: list[Relations],
    ) -> _Vectors:
        """The final vectors, and e_u of each modality, from all content and the relations."""
        related_users = torch.stack([each.to_users(self.item_ids.all()) for each in by_modality], dim=1)
        related_items = torch.stack([each.to_items(self.user_ids.all()) for each in by_modality], dim=1)
        related = self._attend(torch.cat([related_users, related_items]))
        ids = torch.cat([self.user_ids.all(), self.item_ids.all()])
        ids = propagate(self.adjacency, ids + self.relation_weight * unit_vectors(related), self.layers)
        content = unit_vectors(torch.cat([users, items])).sum(1)
        final = self.graph.sides(ids + self.content_weight * content)
        return _Vectors(*final, list(related_users.unbind(1)))

    def _attend(self, views: Float[Tensor, "nodes modalities dim"]) -> Float[Tensor, "nodes dim"]:
        """z: the mean over modalities is taken of the attention, which is shorter than what it weighs."""
        queries, keys = ((views @ w).view(*views.shape[:2], self.heads, -1) for w in (self.queries, self.keys))
        logits = torch.einsum("nmhc,nlhc->nhml", queries, keys) / queries.shape[3] ** 0.5
        attended = torch.einsum("nhl,nld->nhd", logits.softmax(3).mean(2), views)
        return attended.flatten(1) @ self.joined_heads

    def _adversarial(
        self,
        critic: RowCritic,
        chosen: Int[Tensor, " chosen"],
        content: tuple[Tensor, Tensor],
        vectors: _Vectors,
        generator: torch.Generator,
    ) -> dict[str, Float[Tensor, ""]]:
        """`adversarial` trains the content, `critic` the critic alone."""
        pairs = [
            (users.index_select(0, chosen), unit_vectors(items))
            for users, items in zip(content[0].unbind(1), content[1].unbind(1), strict=True)
        ]
        generated = torch.cat([product_of_rows(*pair, critic.first.detach()) for pair in pairs])
        fake = torch.cat([product_of_rows(left.detach(), right.detach(), critic.first) for left, right in pairs])
        real = self._real(critic, chosen, vectors, generator).repeat(len(pairs), 1)
        return {
            "adversarial": -self.adversarial_weight * critic.judge(generated, generator).mean(),
            "critic": critic.loss(real, fake, generator, penalty=self.penalty),
        }

    def _real(
        self, critic: RowCritic, chosen: Int[Tensor, " chosen"], vectors: _Vectors, generator: torch.Generator
    ) -> Float[Tensor, "chosen width"]:
        """The products of the real rows with the critic's first weights."""
        users, items = vectors.users[chosen].detach(), unit_vectors(vectors.items.detach())
        rows, entries = entries_of(self.own_items, chosen)
        own = self.own_items.col_indices()[entries].long()
        uniform = torch.rand(len(own), generator=generator).clamp(1e-20, 1 - 1e-7).to(own.device)
        shares = (-self.relation_noise * (-uniform.log()).log()).exp()
        shares = shares / shares.new_zeros(len(chosen)).index_add_(0, rows, shares)[rows]
        lengths = ((users @ (items.T @ items)) * users).sum(1)
        cosines = (users[rows] * items[own]).sum(1) / lengths.clamp(min=1e-12).sqrt()[rows]
        squares = shares.new_zeros(len(chosen)).index_add_(0, rows, shares * (shares + 2 * self.signal * cosines))
        sparse = critic.first.new_zeros(users.shape[0], critic.first.shape[1])
        sparse = sparse.index_add(0, rows, shares[:, None] * critic.first.index_select(0, own))
        total = sparse + self.signal * product_of_rows(users, items, critic.first)
        return total / (squares + self.signal**2).clamp(min=1e-12).sqrt()[:, None]


class _Vectors(NamedTuple):
    """The final vectors, and the users' related ids by modality."""

    users: Float[Tensor, "users dim"]
    items: Float[Tensor, "items dim"]
    related: list[Float[Tensor, "users dim"]]
