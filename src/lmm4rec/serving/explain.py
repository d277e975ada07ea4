"""Explanations of an item's score for a user: the summands of the score, and the most similar items of the user."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lmm4rec.coldstart.content_profile import CONTENT, JOINT, without_content_columns
from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.core.types import Embeddings, Modality, Neighbors, Scorer
from lmm4rec.serving.answers import Explanation
from lmm4rec.serving.bundle_state import BundleState
from lmm4rec.serving.scorer_operations import NEW, similarity_columns, without_scale

_NEAREST = 5  # items of the user in an explanation


def explain(
    state: BundleState,
    scorer: Scorer,
    user: int,
    item: int,
    history: Int64[np.ndarray, " items"],
    lost: Mapping[Modality, Tensor],
    maps: ContentToVectors | None,
) -> Explanation:
    """The explanation of the score of an item for a user with this history; both are rows of the scorer."""
    shares = score_shares(state, scorer, user, item, lost, maps.content if maps else None)
    others = np.setdiff1d(history, [item])
    top = state.similarity_to(item, others).topk(min(_NEAREST, len(others)))
    nearest = torch.from_numpy(others)[top.indices]
    values = without_scale(scorer, top.values[None], torch.tensor([item]), nearest[None], maps.scale if maps else 1.0)
    return Explanation(sum(shares.values()), shares, state.recommendations(nearest.tolist(), values[0].tolist()))


def score_shares(
    state: BundleState,
    scorer: Scorer,
    user: int,
    item: int,
    lost: Mapping[Modality, Tensor],
    content: ContentSpace | None,
) -> Mapping[str, float]:
    """The summands of a score, by part.

    For an added item: each modality, as much as the score loses without it, and what is the same for every new item.
    For an item of the training: the columns of the model's parts; or what the item's vector has `lost` without each
    modality, and the "rest". A single "joint" for a model without separate parts.
    """
    is_new = item >= len(state.catalog.catalog)
    if isinstance(scorer, Neighbors) and is_new and state.modality_shares:
        row, history = item - scorer.n_items, _history(scorer, user)
        return {modality: float(x[row, history].sum()) for modality, x in state.modality_shares.items()}
    if isinstance(scorer, Neighbors) and is_new and content is not None:
        return _shares_of_neighbors(state, scorer, user, item, content)
    if not isinstance(scorer, Embeddings):
        return {JOINT: float(scorer.scores(torch.tensor([user]))[0, item])}
    if is_new:
        return _shares_of_new_item(state, scorer, user, item)
    own = without_content_columns(scorer)
    if lost:
        rows = {modality: x[item].float() for modality, x in lost.items()}
        return _with_rest("rest", own.users[user], own.items[item], rows)
    products = own.users[user] * own.items[item]
    parts = own.parts or {JOINT: slice(0, len(products))}
    return {part: float(products[columns].sum()) for part, columns in parts.items()}


def _shares_of_new_item(state: BundleState, scorer: Embeddings, user: int, item: int) -> dict[str, float]:
    """The shares of the summands of the item's vector; items added before bundles kept summands have one share."""
    kept = state.modality_shares
    row = item - scorer.n_items + max((len(rows) for rows in kept.values()), default=0)
    if not kept or row < 0:
        return {CONTENT: float(scorer.users[user] @ scorer.items[item])}
    rows = {modality: x[row] for modality, x in kept.items()}
    shares = _with_rest(NEW, scorer.users[user], scorer.items[item], rows)
    return {**{modality: shares[modality] for modality in rows}, NEW: shares[NEW]}


def _with_rest(
    rest: str, user: Float[Tensor, " dim"], item: Float[Tensor, " dim"], rows: Mapping[Modality, Float[Tensor, " dim"]]
) -> dict[str, float]:
    shares = {modality: float(user @ row) for modality, row in rows.items()}
    return {rest: float(user @ item) - sum(shares.values()), **shares}


def _shares_of_neighbors(
    state: BundleState, scorer: Neighbors, user: int, item: int, content: ContentSpace
) -> dict[str, float]:
    """The part of each modality in the sum of the item's similarities to the user's items."""
    history = _history(scorer, user)
    similarity = similarity_columns(scorer.similarity, torch.tensor([item]))[0, history]
    one, others = ({m: x[rows] for m, x in state.features.items()} for rows in ([item], history))
    cosines = content.cosines(one, others)
    total = sum(cosines.values(), torch.zeros(len(history)))
    # shares of the stored similarity, so that rounded features cannot change the sum
    return {m: float((similarity * x / total.where(similarity > 0, torch.ones(()))).sum()) for m, x in cosines.items()}


def _history(scorer: Neighbors, user: int) -> Int64[Tensor, " history"]:
    """The rows of the items that the user has interacted with."""
    start, columns = scorer.seen.crow_indices(), scorer.seen.col_indices().long()
    return columns[int(start[user]) : int(start[user + 1])]
