"""Search among the items by text or an image: relevance, and personal relevance."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import ConfigError, LMM4RecError
from lmm4rec.core.types import Features, ItemImage, Modality
from lmm4rec.serving.content_encoder import ContentEncoder

_COMPARABLE = ("image", "text")  # modalities of the items that a query in a joint space is compared with
_POOL = 10  # times k: the most relevant items that a personal search sorts


def query(encoder: ContentEncoder, text: str | None, image: ItemImage | None) -> dict[Modality, Float[Tensor, " dim"]]:
    """The vectors of a query by text, by an image, or by both.

    Raises:
        ConfigError: it has neither.
    """
    query: dict[Modality, Tensor] = {}
    if text is not None:
        query["text"] = encoder.encode_text(text)
    if image is not None:
        query["image"] = encoder.encode_image(image)
    if not query:
        raise ConfigError("search needs a text (text), an image (image), or both")
    return query


def relevance(
    query: Mapping[Modality, Float[Tensor, " dim"]], features: Features, *, joint: bool
) -> Float[Tensor, " items"]:
    """The relevance of each item to a query; minus infinity where an item lacks all that is compared.

    `features` have rows of length 1, or zeros. The relevance is the cosine with the items' vectors of the same
    modality, and in a joint space with those of the other one, too. Text and images lie in separate regions of such a
    space (Liang et al. 2022, arXiv 2203.02053), so of several cosines each is standardized over the items before an
    item's mean over its cosines is taken.

    Raises:
        LMM4RecError: the bundle holds no vectors of a modality that the query could be compared with.
    """
    all_cosines = [
        _cosines(vector, features[compared_with])
        for modality, vector in query.items()
        for compared_with in (_COMPARABLE if joint else (modality,))
        if compared_with in features
    ]
    if not all_cosines:
        raise LMM4RecError(f"the bundle holds no vectors to compare {' or '.join(query)} with; export it with features")
    if len(all_cosines) == 1:
        return all_cosines[0].nan_to_num(nan=-torch.inf)
    scores = torch.stack([_standardized(cosines) for cosines in all_cosines])
    counts = scores.isfinite().sum(0)
    means = scores.nan_to_num(nan=0.0).sum(0) / counts.clamp(min=1)
    return means.masked_fill(counts == 0, -torch.inf)


def personal_relevance(
    relevance: Float[Tensor, " items"], scores: Float[Tensor, " items"], k: int
) -> Float[Tensor, " items"]:
    """The sum of relevance and the user's scores, standardized over the most relevant items; the others are out."""
    pool = relevance.topk(min(_POOL * k, len(relevance)))
    chosen = pool.indices[pool.values.isfinite()]
    summed = torch.full_like(relevance, -torch.inf)
    summed[chosen] = _standardized(relevance[chosen]) + _standardized(scores[chosen].float())
    return summed


def _cosines(vector: Float[Tensor, " dim"], rows: Float[Tensor, "items dim"]) -> Float[Tensor, " items"]:
    """The cosines with rows of length 1; NaN where a row is zero."""
    cosines = rows @ F.normalize(vector, dim=0)
    lacking = (cosines == 0).nonzero()[:, 0]  # few, so that the check of their rows is quick
    cosines[lacking[~rows[lacking].any(1)]] = torch.nan
    return cosines


def _standardized(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The values with mean 0 and deviation 1 over those that are not NaN."""
    known = values[~values.isnan()]
    return (values - known.mean()) / known.std(correction=0).clamp(min=1e-6) if len(known) else values
