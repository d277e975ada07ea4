"""LightGCN over several branches, ids and modalities, with the same users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lmm4rec.core.types import Features
from lmm4rec.nn.projections import project
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.weighted_matrix import WeightedMatrix


@dataclass(frozen=True)
class Branches:
    """The vectors of LightGCN for each of several tables of items (branches) and one table of users.

    The graph convolution is linear, so the parts that come from users and from items are propagated separately: the
    users' part is the same in all branches, and each step of one part needs half of the edges.
    """

    users: Float[Tensor, "users branches dim"]
    items: Float[Tensor, "items branches dim"]
    users_alone: Float[Tensor, "users dim"]  # `users` in a branch whose items are all zero
    items_alone: Float[Tensor, "items dim"]  # `items` in such a branch


def item_branches(
    ids: Float[Tensor, "items dim"], features: Features, weights: nn.ParameterDict, offsets: nn.ParameterDict
) -> Float[Tensor, "items branches dim"]:
    """The layer-0 vectors of items: the ids, then each modality's normalized features, projected."""
    return torch.stack([ids, *(project(features[m], weight, offsets[m]) for m, weight in weights.items())], dim=1)


def replace_branch(
    nodes: Float[Tensor, "rows branches dim"], branch: int, instead: Float[Tensor, "rows dim"]
) -> Float[Tensor, "rows branches dim"]:
    """The vectors with one branch replaced."""
    chosen = torch.arange(nodes.shape[1], device=nodes.device)[:, None] == branch
    return torch.where(chosen, instead[:, None], nodes)


def convolve(
    interactions: SparseMatrix | WeightedMatrix,
    users: Float[Tensor, "users dim"],
    items: Float[Tensor, "items branches dim"],
    layers: int,
) -> Branches:
    """The mean over layers 0, 1, ..., `layers` of each branch's vectors (He 2020, eq. 4 and 8)."""
    own_users, far_items = _one_sided(interactions.reverse, interactions, users, layers)
    own_items, far_users = _one_sided(interactions, interactions.reverse, items.flatten(1), layers)
    return Branches(
        own_users[:, None] + far_users.view(len(users), *items.shape[1:]),
        own_items.view_as(items) + far_items[:, None],
        own_users,
        far_items,
    )


def _one_sided(
    away: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], sent: Tensor, layers: int
) -> tuple[Tensor, Tensor]:
    """The part from one side, a mean over layers: on that side (even layers) and on the other side (odd layers)."""
    here, there = sent, sent.new_zeros(())
    for layer in range(layers):
        if layer % 2:
            sent = back(sent)
            here = here + sent
        else:
            sent = away(sent)
            there = there + sent
    return here / (layers + 1), there / (layers + 1)
