"""Tiny worlds whose right answer is known."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.nn.graph import InteractionGraph


def camps(
    *, camps: int = 3, users: int = 12, items: int = 10, held_out: int = 3
) -> tuple[InteractionGraph, Int[Tensor, "users held"]]:
    """The training graph and the held-out items of users in camps, who interact with the items of their camp alone.

    `users` and `items` are those of one camp. Each user has `held_out` items of the camp left: these must rank first
    among the items that the user has not interacted with.
    """
    met_users, met_items, held = [], [], []
    for camp in range(camps):
        for user in range(users):
            hidden = {(user + step) % items for step in range(held_out)}
            row = camp * users + user
            met = [camp * items + item for item in range(items) if item not in hidden]
            met_users += [row] * len(met)
            met_items += met
            held.append([camp * items + item for item in sorted(hidden)])
    graph = InteractionGraph(torch.tensor(met_users), torch.tensor(met_items), camps * users, camps * items)
    return graph, torch.tensor(held)


def ordered_camps(
    *, camps: int = 3, users: int = 3, items: int = 10, unseen: int = 3
) -> tuple[InteractionGraph, Int[Tensor, " users"]]:
    """The training graph and the next items of users who go through the items of a camp in the order of their rows.

    They begin at the first item or at one of the `unseen` ones after it, `users` at each, and interact with as many
    items that those who begin last have come to the end of the camp: their next item is -1. For all others it is the
    item after their last one, which must rank first.
    """
    met = items - unseen
    starts = torch.arange(unseen + 1).repeat_interleave(users).repeat(camps)
    first = torch.arange(camps).repeat_interleave(users * (unseen + 1)) * items
    sequences = (first + starts)[:, None] + torch.arange(met)
    owners = torch.arange(len(starts)).repeat_interleave(met)
    graph = InteractionGraph(owners, sequences.flatten(), len(starts), camps * items, in_order=True)
    return graph, torch.where(starts < unseen, first + starts + met, -1)


def camp_features(
    generator: torch.Generator, *, camps: int = 3, items: int = 10, dim: int = 8
) -> dict[str, Float[Tensor, "items _dim"]]:
    """Features of two modalities, "image" and "text", in which the items of a camp are similar."""
    widths = {"image": dim, "text": dim + 3}
    centers = {modality: torch.randn(camps, width, generator=generator) for modality, width in widths.items()}
    return {
        modality: center.repeat_interleave(items, 0)
        + 0.3 * torch.randn(camps * items, center.shape[1], generator=generator)
        for modality, center in centers.items()
    }


def share_found(
    scores: Float[Tensor, "users items"], graph: InteractionGraph, held_out: Int[Tensor, "users held"]
) -> float:
    """The share of held-out items among the best-ranked items that a user has not interacted with."""
    scores = scores.clone()
    scores[graph.users, graph.items] = -torch.inf
    top = scores.topk(held_out.shape[1], dim=1).indices
    return float((top.unsqueeze(2) == held_out.unsqueeze(1)).any(2).float().mean())


def share_next(scores: Float[Tensor, "users items"], graph: InteractionGraph, held_out: Int[Tensor, " users"]) -> float:
    """The share of users with a next item for whom it ranks first of those that they have not interacted with."""
    scores = scores.clone()
    scores[graph.users, graph.items] = -torch.inf
    known = held_out >= 0
    return float((scores.argmax(1)[known] == held_out[known]).float().mean())
