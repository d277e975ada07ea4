"""The losses that recommenders and encoders share."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_LARGEST_GROUP = 2048  # rows that are told apart: the field's batch


def bpr(positives: Float[Tensor, " batch"], negatives: Float[Tensor, "batch negatives"]) -> Float[Tensor, ""]:
    """The mean of -log sigmoid(positive - negative) over all pairs (Rendle 2009, arXiv 1205.2618, BPR-Opt)."""
    return F.softplus(negatives - positives[:, None]).mean()


def l2(*tables: Float[Tensor, ...], batch: int) -> Float[Tensor, ""]:
    """Half the sum of squares of all given entries, for each of `batch` examples."""
    total = torch.stack([table.square().sum() for table in tables]).sum()
    return total / (2 * batch)


def contrastive(
    left: Float[Tensor, "batch dim"], right: Float[Tensor, "batch dim"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The symmetric cross-entropy of matching row i of one side with row i of the other (CLIP, arXiv 2103.00020).

    Both sides are unit vectors; `scale` is the inverse temperature.
    """
    logits = scale * left @ right.T
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def match_rows(left: Float[Tensor, "batch dim"], right: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """The mean cross-entropy of picking row i of `right` for row i of `left`, by their products.

    More than 2,048 rows pick in groups of at most so many: cost and the number of rows to choose from do not grow with
    the batch. 0 where there is nothing to pick from.
    """
    groups = max(1, -(-len(left) // _LARGEST_GROUP))
    losses = [
        _match(one @ other.T) * (len(one) / max(len(left), 1))
        for one, other in zip(left.tensor_split(groups), right.tensor_split(groups), strict=True)
    ]
    return torch.stack(losses).sum()


def _match(logits: Float[Tensor, "batch batch"]) -> Float[Tensor, ""]:
    if len(logits) < 2:
        return logits.sum() * 0.0
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def info_nce(
    left: Float[Tensor, "batch dim"], right: Float[Tensor, "batch dim"], *, temperature: float
) -> Float[Tensor, ""]:
    """The mean of -log(exp(l_i · r_i / t) / sum over j of exp(l_i · r_j / t)), rows scaled to length 1.

    Row i of `left` is to find row i of `right` among the rows of `match_rows` (van den Oord 2018, arXiv 1807.03748).
    """
    # scaled before the product: a pass over batch × dim numbers instead of batch × batch
    return match_rows(F.normalize(left, dim=1) / temperature, F.normalize(right, dim=1))


def matching(pairs: Float[Tensor, "pairs 2"], others: Float[Tensor, "others 2"]) -> Float[Tensor, ""]:
    """The mean cross-entropy of telling `pairs` (class 1) from `others` (class 0), all of equal weight."""
    logits = torch.cat([pairs, others])
    targets = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    targets[: len(pairs)] = 1
    return F.cross_entropy(logits, targets)
