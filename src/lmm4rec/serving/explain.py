"""What a score is made of: the parts of a model for its own items, the modalities for those that came later."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from lmm4rec.coldstart.content_profile import CONTENT, JOINT, without_content_columns
from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ModalityShares
from lmm4rec.core.types import Embeddings, Features, Modality, Neighbors
from lmm4rec.serving import scorer_operations
from lmm4rec.serving.bundle_state import State
from lmm4rec.serving.scorer_operations import NEW


def shares(
    state: State, user: int, item: int, lost: Mapping[Modality, Tensor], content: ContentSpace | None
) -> Mapping[str, float]:
    """What each part gives to a score; the shares add up to it.

    An item that came later: each modality, as much as the score loses without it, and what is the same for every new
    item. Of the others, the columns of the model's parts; or what the item's vector has `lost` without each modality,
    and the "rest". A single "joint" where nothing tells the parts apart.
    """
    scorer, is_new = state.scorer, item >= len(state.shelf.catalog)
    if isinstance(scorer, Neighbors) and is_new and content is not None:
        return _by_likeness(scorer, user, item, content, state.features)
    if not isinstance(scorer, Embeddings):
        return {JOINT: float(scorer.scores(torch.tensor([user]))[0, item])}
    if is_new:
        return _by_origin(scorer, user, item, state.origins)
    own = without_content_columns(scorer)
    if lost:
        rows = {modality: x[item].float() for modality, x in lost.items()}
        return _with_rest("rest", own.users[user], own.items[item], rows)
    products = own.users[user] * own.items[item]
    parts = own.parts or {JOINT: slice(0, len(products))}
    return {part: float(products[columns].sum()) for part, columns in parts.items()}


def _by_origin(scorer: Embeddings, user: int, item: int, origins: ModalityShares) -> dict[str, float]:
    """By what the item's vector has from each modality; items that came when this was not kept have no row there."""
    place = item - scorer.n_items + max((len(rows) for rows in origins.values()), default=0)
    if not origins or place < 0:
        return {CONTENT: float(scorer.users[user] @ scorer.items[item])}
    rows = {modality: x[place] for modality, x in origins.items()}
    shown = _with_rest(NEW, scorer.users[user], scorer.items[item], rows)
    return {**{modality: shown[modality] for modality in rows}, NEW: shown[NEW]}


def _with_rest(
    rest: str, user: Float[Tensor, " dim"], item: Float[Tensor, " dim"], rows: Mapping[Modality, Float[Tensor, " dim"]]
) -> dict[str, float]:
    found = {modality: float(user @ row) for modality, row in rows.items()}
    return {rest: float(user @ item) - sum(found.values()), **found}


def _by_likeness(
    scorer: Neighbors, user: int, item: int, content: ContentSpace, features: Features
) -> dict[str, float]:
    """By how much each modality makes the item like what the user has, given which items are its nearest ones."""
    start, columns = scorer.seen.crow_indices(), scorer.seen.col_indices().long()
    liked = columns[int(start[user]) : int(start[user + 1])]
    given = scorer_operations.stored_similarity(scorer.similarity, torch.tensor([item]))[0, liked]
    cosines = content.cosines({m: x[[item]] for m, x in features.items()}, {m: x[liked] for m, x in features.items()})
    total = sum(cosines.values(), torch.zeros(len(liked)))
    # a share of what is kept, so that rounded features cannot move the sum
    return {m: float((given * x / total.where(given > 0, torch.ones(()))).sum()) for m, x in cosines.items()}
