"""SLMRec: graph convolution by modality, with self-supervised tasks across modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.branch_convolution import Branches, convolve, item_branches, replace_branch
from lmm4rec.nn.graph import InteractionGraph, dropout, spread, symmetric_weights, weighted_interactions
from lmm4rec.nn.losses import info_nce, match_rows
from lmm4rec.nn.projections import Affine, xavier_weights
from lmm4rec.nn.tables import xavier_table
from lmm4rec.recommenders.base import Recommender

__all__ = ["SLMRec"]


class SLMRec(Recommender):
    """Self-supervised learning for multimedia recommendation (Tao et al., TMM 2022, doi 10.1109/TMM.2022.3187556).

    Encoder: a LightGCN (mean over layers) for each branch, over the same user table and, for the branch "id", the item
    table; for modality m the items' features, L2-normalized, times W_m plus b_m. User and item vectors are an affine
    map of their concatenated branches; score = user · item.

    Losses: `match`, the in-batch InfoNCE of users and their positive items (`temperature`), plus `ssl_weight` times the
    self-supervised `task` (`ssl_temperature`):

    - "FAC", feature fine and coarse: the id branch is mapped into a space shared with the first modality (by its name),
      from there into one shared with the second, and so on, the last one of half the width; in each space an item's two
      vectors must match each other among the batch's items by their dot product.
    - "FD", feature dropout: two views of users and items, `dropout` of all numbers zeroed after each step of the graph.
    - "FM", feature masking: two views, each with another branch of all items masked; "FD+FM": both.

    The views of a user or item are contrasted by InfoNCE. An item that lacks a modality has zeros in that branch before
    the graph, and no part in that modality's space of FAC.

    Differs from the authors' code: scores are the plain dot products, since a float32 sigmoid ties the top ranks; "FD"
    and "FM" contrast the batch's distinct users and items, since a repeated one would be its own negative; the space of
    a modality that the data lack is left out (two consecutive maps are one map); "FM" needs no further propagation,
    since the graph convolution is linear.
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
        temperature: Annotated[PositiveFloat, Doc("Temperature of the softmax over the batch's items.")] = 0.2,
        task: Annotated[Literal["FAC", "FD", "FM", "FD+FM"], Doc("Self-supervised task of the paper.")] = "FAC",
        ssl_weight: Annotated[NonNegativeFloat, Doc("Weight of the self-supervised task.")] = 0.1,
        ssl_temperature: Annotated[PositiveFloat, Doc("Temperature of its softmax.")] = 0.2,
        dropout: Annotated[Fraction, Doc("Share of the numbers that FD drops after each layer.")] = 0.3,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.temperature, self.task = layers, temperature, task
        self.ssl_weight, self.ssl_temperature, self.dropout = ssl_weight, ssl_temperature, dropout
        self.users = xavier_table(graph.n_users, dim, generator)
        self.items = xavier_table(graph.n_items, dim, generator)
        self.projections = xavier_weights(features, dim, generator)
        self.offsets = nn.ParameterDict({modality: nn.Parameter(torch.zeros(dim)) for modality in features})
        branches = 1 + len(features)
        self.read_user, self.read_item = (Affine(branches * dim, dim, generator) for _ in range(2))
        if task == "FAC":
            widths = [dim] * len(features) if len(features) == 1 else [dim] * (len(features) - 1) + [dim // 2]
            inputs = [dim, *widths[:-1]]
            self.anchor_maps = nn.ModuleList(Affine(*width, generator) for width in zip(inputs, widths, strict=True))
            self.content_maps = nn.ModuleList(Affine(dim, width, generator) for width in widths)
        self.interactions = weighted_interactions(graph, symmetric_weights(graph))

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`match` of users and positive items, and `ssl`, the self-supervised task. Negatives are not used."""
        content = self._content(features)
        branches = convolve(self.interactions, self.users.all(), content, self.layers)
        distinct, user_of = torch.unique(batch.users, return_inverse=True)
        users = self.read_user(branches.users.index_select(0, distinct).flatten(1))
        distinct, item_of = torch.unique(batch.positives, return_inverse=True)
        positives = branches.items.index_select(0, distinct)
        match = info_nce(users, self.read_item(positives.flatten(1)), user_of, item_of, temperature=self.temperature)
        if self.task == "FAC":
            has = content.detach().index_select(0, distinct).ne(0).any(dim=2)
            ssl = self._fine_and_coarse(positives, has, item_of)
        else:
            ssl = self._contrast_views(batch, content, branches, generator)
        return {"match": match, "ssl": self.ssl_weight * ssl}

    def embed(self, features: Features) -> Embeddings:
        """The maps of all branches of users and items."""
        branches = convolve(self.interactions, self.users.all(), self._content(features), self.layers)
        return Embeddings(self.read_user(branches.users.flatten(1)), self.read_item(branches.items.flatten(1)))

    def _content(self, features: Features) -> Float[Tensor, "items branches dim"]:
        """The layer-0 vectors of the items: ids first, then each modality."""
        return item_branches(self.items.all(), features, self.projections, self.offsets)

    def _fine_and_coarse(
        self,
        items: Float[Tensor, "items branches dim"],
        has: Bool[Tensor, "items branches"],
        item_of: Int[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """FAC: the loss of matching each item with its own vector of each modality, in the space shared with it.

        `item_of` is the item of each pair of the batch.
        """
        anchor, total = items[:, 0], items.new_zeros(())
        for k, (to_shared, from_content) in enumerate(zip(self.anchor_maps, self.content_maps, strict=True), start=1):
            anchor = to_shared(anchor)
            pairs = item_of[has[item_of, k]]  # pairs whose item has the modality
            total = total + match_rows(anchor / self.ssl_temperature, from_content(items[:, k]), pairs, pairs)
        return total

    def _contrast_views(
        self, batch: Batch, content: Float[Tensor, "items branches dim"], branches: Branches, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """FD, FM: InfoNCE between two views of the batch's distinct users and items."""
        users, items = torch.unique(batch.users), torch.unique(batch.positives)
        masked = torch.randperm(content.shape[1], generator=generator)[:2].tolist()
        views = []
        for branch in masked:
            if self.task == "FM":
                by_user = replace_branch(branches.users[users], branch, branches.users_alone[users])
                by_item = replace_branch(branches.items[items], branch, branches.items_alone[items])
            else:
                zeros = torch.zeros_like(content[:, 0])
                view = replace_branch(content, branch, zeros) if self.task == "FD+FM" else content
                by_user, by_item = self._dropped(users, items, view, generator)
            views.append((self.read_user(by_user.flatten(1)), self.read_item(by_item.flatten(1))))
        pairs = zip(*views, strict=True)
        return torch.stack([info_nce(*pair, temperature=self.ssl_temperature) for pair in pairs]).sum()

    def _dropped(
        self,
        users: Int[Tensor, " users"],
        items: Int[Tensor, " items"],
        content: Float[Tensor, "all branches dim"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "users branches dim"], Float[Tensor, "items branches dim"]]:
        """The branches of the given rows, with dropout after each step over the graph."""
        shape = content.shape[1:]
        total = current = torch.cat([self.users.all().repeat(1, shape[0]), content.flatten(1)])
        for _ in range(self.layers):
            current = dropout(spread(self.interactions, current), self.dropout, generator)
            total = total + current
        mean = total / (self.layers + 1)
        rows = (users, items + len(self.users))
        return mean[rows[0]].view(-1, *shape), mean[rows[1]].view(-1, *shape)
