"""What words or an image find among the items."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import ConfigError, LMM4RecError
from lmm4rec.core.types import Features, ItemImage, Modality
from lmm4rec.serving.bundle_encoder import Reader

_AGAINST = ("image", "text")  # what a query can be compared with
_POOL = 10  # times k: how many of the most relevant items a personal search puts in order


def query(reader: Reader, text: str | None, image: ItemImage | None) -> dict[Modality, Float[Tensor, " dim"]]:
    """The vectors of what is asked, by the modality of the question.

    Raises:
        ConfigError: nothing is asked.
    """
    asked: dict[Modality, Tensor] = {}
    if text is not None:
        asked["text"] = reader.words(text)
    if image is not None:
        asked["image"] = reader.image(image)
    if not asked:
        raise ConfigError("search needs words (text), an image (image), or both")
    return asked


def relevance(
    asked: Mapping[Modality, Float[Tensor, " dim"]], features: Features, *, joint: bool
) -> Float[Tensor, " items"]:
    """How well each item fits what is asked; minus infinity where an item has nothing to compare.

    `features` have rows of length 1, or zeros.

    The cosine with the items' vectors of the same modality, and in a joint space with those of the other one too. Words
    and images keep to regions of their own in such a space (Liang et al. 2022, arXiv 2203.02053), so where there are
    several comparisons, each is standardized over the items before an item's mean over its comparisons is taken.

    Raises:
        LMM4RecError: the bundle holds no vectors of a kind that the question could be compared with.
    """
    compared = [
        _cosines(vector, features[against])
        for modality, vector in asked.items()
        for against in (_AGAINST if joint else (modality,))
        if against in features
    ]
    if not compared:
        raise LMM4RecError(f"the bundle holds no vectors to compare {' or '.join(asked)} with; export it with features")
    if len(compared) == 1:
        return compared[0].nan_to_num(nan=-torch.inf)
    scores = torch.stack([_standard(cosines) for cosines in compared])
    counts = scores.isfinite().sum(0)
    means = scores.nan_to_num(nan=0.0).sum(0) / counts.clamp(min=1)
    return means.masked_fill(counts == 0, -torch.inf)


def personal(relevance: Float[Tensor, " items"], scores: Float[Tensor, " items"], k: int) -> Float[Tensor, " items"]:
    """The most relevant items in the order of relevance plus the user's scores, both standardized over them."""
    pool = relevance.topk(min(_POOL * k, len(relevance)))
    chosen = pool.indices[pool.values.isfinite()]
    together = torch.full_like(relevance, -torch.inf)
    together[chosen] = _standard(relevance[chosen]) + _standard(scores[chosen].float())
    return together


def _cosines(vector: Float[Tensor, " dim"], rows: Float[Tensor, "items dim"]) -> Float[Tensor, " items"]:
    """The cosines with rows of length 1; NaN where a row is zero."""
    cosines = rows @ F.normalize(vector, dim=0)
    lacking = (cosines == 0).nonzero()[:, 0]  # few: only these have to be looked at
    cosines[lacking[~rows[lacking].any(1)]] = torch.nan
    return cosines


def _standard(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The values with mean 0 and deviation 1 over those that are numbers."""
    known = values[~values.isnan()]
    return (values - known.mean()) / known.std(correction=0).clamp(min=1e-6) if len(known) else values
