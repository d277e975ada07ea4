"""The losses that recommenders and encoders share."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.matrices import dot_each, select_rows
from lmm4rec.nn.unit_vectors import unit_vectors

_LARGEST_GROUP = 2048  # pairs in a softmax: the field's batch size


def bpr(positives: Float[Tensor, " batch"], negatives: Float[Tensor, "batch negatives"]) -> Float[Tensor, ""]:
    """The mean of -log sigmoid(positive - negative) over all pairs (Rendle 2009, arXiv 1205.2618, BPR-Opt)."""
    return F.softplus(negatives - positives[:, None]).mean()


def bpr_of_vectors(
    users: Float[Tensor, "batch dim"], positives: Float[Tensor, "batch dim"], negatives: Float[Tensor, "batch n dim"]
) -> Float[Tensor, ""]:
    """`bpr` on the dot products of user and item vectors."""
    return bpr((users * positives).sum(1), dot_each(users, negatives))


def bpr_of_rows(rows: Float[Tensor, "batch nodes dim"]) -> Float[Tensor, ""]:
    """`bpr` on the dot products of a user's vector, the first of each row, with a positive's and the negatives'."""
    scores = dot_each(rows[:, 0], rows[:, 1:])
    return bpr(scores[:, 0], scores[:, 1:])


def cosine_distance(
    predicted: Float[Tensor, "batch dim"], target: Float[Tensor, "batch dim"], has: Bool[Tensor, " batch"] | None = None
) -> Float[Tensor, ""]:
    """The mean of 1 - cos over the rows (those where `has` is True); 0 where there are none."""
    distance = 1 - F.cosine_similarity(predicted, target, dim=1)
    return distance.mean() if has is None else (distance * has).sum() / has.sum().clamp(min=1)


def l2(*tables: Float[Tensor, ...], batch: int) -> Float[Tensor, ""]:
    """Half the sum of squares of all given entries, for each of `batch` examples."""
    total = torch.stack([cast(Tensor, _Squares.apply(table)) for table in tables]).sum()  # type: ignore[no-untyped-call]
    return total / (2 * batch)


class _Squares(torch.autograd.Function):
    """The sum of the squares of all entries, in half of the passes over them."""

    @staticmethod
    def forward(ctx: Any, table: Tensor) -> Tensor:
        ctx.save_for_backward(table)
        if table.ndim < 2:
            return table.square().sum()
        # row by row: the norm of all entries has a relative error of 1e-4
        return torch.linalg.vector_norm(table, dim=-1).square().sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (table,) = ctx.saved_tensors
        return table * (2 * gradients[0])


def contrastive(
    left: Float[Tensor, "batch dim"], right: Float[Tensor, "batch dim"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The symmetric cross-entropy of matching row i of one side with row i of the other (CLIP, arXiv 2103.00020).

    Both sides are unit vectors; `scale` is the inverse temperature.
    """
    logits = scale * left @ right.T
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def match_rows(
    left: Float[Tensor, "left dim"],
    right: Float[Tensor, "right dim"],
    left_of: Int[Tensor, " batch"] | None = None,
    right_of: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, ""]:
    """The mean cross-entropy of a pair's row of `right` among those of all pairs, by dot product with that of `left`.

    Pair i is row `left_of[i]` of `left` and row `right_of[i]` of `right` (row i of either where they are not given). A
    row that is in several pairs counts as often in the softmax, but is multiplied once: the value is that of
    `left[left_of]` and `right[right_of]`, at the cost of the distinct rows.

    More than 2,048 pairs are split into groups of at most that size: cost and number of candidates do not grow with the
    batch. 0 where there are no pairs.
    """
    left_of = torch.arange(len(left), device=left.device) if left_of is None else left_of
    right_of = torch.arange(len(right), device=right.device) if right_of is None else right_of
    pairs = len(left_of)
    if not pairs:
        return (left.sum() + right.sum()) * 0.0
    groups = -(-pairs // _LARGEST_GROUP)
    totals = [
        _match(left, right, one, other)
        for one, other in zip(left_of.tensor_split(groups), right_of.tensor_split(groups), strict=True)
    ]
    return torch.stack(totals).sum() / pairs


def _match(left: Tensor, right: Tensor, left_of: Tensor, right_of: Tensor) -> Float[Tensor, ""]:
    """The summed cross-entropy of one group's pairs."""
    lefts, left_place, left_count = torch.unique(left_of, return_inverse=True, return_counts=True)
    rights, right_place, right_count = torch.unique(right_of, return_inverse=True, return_counts=True)
    left, right = select_rows(left, lefts), select_rows(right, rights)
    logits = torch.addmm(right_count.to(left.dtype).log(), left, right.T)
    normalizers = torch.logsumexp(logits, dim=1) * left_count
    return normalizers.sum() - (select_rows(left, left_place) * select_rows(right, right_place)).sum()


def info_nce(
    left: Float[Tensor, "left dim"],
    right: Float[Tensor, "right dim"],
    left_of: Int[Tensor, " batch"] | None = None,
    right_of: Int[Tensor, " batch"] | None = None,
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """The mean of -log(exp(l_i · r_i / t) / sum over j of exp(l_i · r_j / t)), rows scaled to length 1.

    Pairs are those of `match_rows` (van den Oord 2018, arXiv 1807.03748).
    """
    # scaled before the product: a pass over rows × dim numbers instead of rows × rows
    return match_rows(unit_vectors(left) / temperature, unit_vectors(right), left_of, right_of)


def info_nce_by_side(
    left: Float[Tensor, "nodes dim"],
    right: Float[Tensor, "nodes dim"],
    rows: Int[Tensor, "batch nodes_of_triple"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """The sum of `info_nce` of two views over a batch's users and over its positives, the first columns of `rows`."""
    sides = [info_nce(left, right, side, side, temperature=temperature) for side in (rows[:, 0], rows[:, 1])]
    return torch.stack(sides).sum()


def matching(pairs: Float[Tensor, "pairs 2"], others: Float[Tensor, "others 2"]) -> Float[Tensor, ""]:
    """The mean cross-entropy of classifying `pairs` as 1 and `others` as 0, all with equal weight."""
    logits = torch.cat([pairs, others])
    targets = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    targets[: len(pairs)] = 1
    return F.cross_entropy(logits, targets)


def contrast_views(
    anchors: Float[Tensor, "batch dim"], others: Float[Tensor, "batch dim"], temperature: float
) -> Float[Tensor, ""]:
    """The mean of -log of the own pair's share among all pairs with an anchor, those of two anchors included.

    exp(c(a_i, o_i) / t) / (sum over j of exp(c(a_i, o_j) / t) + sum over j ≠ i of exp(c(a_i, a_j) / t)), one side of
    GRACE (arXiv 2006.04131, eq. 1), with c the cosine; rows are compared in groups of 2,048.
    """
    anchors, others, losses = unit_vectors(anchors), unit_vectors(others), []
    for a, b in zip(torch.split(anchors, _LARGEST_GROUP), torch.split(others, _LARGEST_GROUP), strict=True):
        own = torch.eye(len(a), dtype=torch.bool, device=a.device)
        logits = torch.cat([a @ b.T / temperature, (a @ a.T / temperature).masked_fill(own, -torch.inf)], dim=1)
        losses.append(logits.logsumexp(1) - (a * b).sum(1) / temperature)
    return torch.cat(losses).mean()


def binary_cross_entropy(
    positives: Float[Tensor, " batch"], negatives: Float[Tensor, "batch negatives"], power: float = 1.0
) -> Float[Tensor, ""]:
    """The mean of -log(sigmoid(positive)^power) and -log(1 - sigmoid(negative)) over all of these scores.

    With a `power` below 1 it is gBCE (Petrov and Macdonald 2023, arXiv 2308.07192, eq. 10).
    """
    losses = power * F.softplus(-positives) + F.softplus(negatives).sum(1)
    return losses.mean() / (1 + negatives.shape[1])


def gbce_power(sampling_rate: float, calibration: float) -> float:
    """The power β of gBCE, α (t (1 - 1/α) + 1/α) for the sampling rate α and the calibration t (eq. 13).

    With t = 0 it is 1, which is binary cross-entropy; with t = 1 it is α, with which the scores of the best fit are
    those of full cross-entropy, however many negatives are sampled.
    """
    return sampling_rate * (calibration * (1 - 1 / sampling_rate) + 1 / sampling_rate)


def sampled_softmax(
    positives: Float[Tensor, " batch"],
    negatives: Float[Tensor, "batch negatives"],
    log_expected: Float[Tensor, "batch negatives"],
) -> Float[Tensor, ""]:
    """The mean of -log(exp(s) / (exp(s) + sum over negatives of exp(s_j - log e_j))), with logQ correction.

    e_j is the number of times that negative j is drawn for the positive on average (Bengio and Senécal 2008,
    doi 10.1109/TNN.2007.912312). The sum is then an unbiased estimate of that over all items but the positive, which is
    not sampled and gets no correction.
    """
    logits = torch.cat([positives[:, None], negatives - log_expected], dim=1)
    return (torch.logsumexp(logits, dim=1) - positives).mean()
