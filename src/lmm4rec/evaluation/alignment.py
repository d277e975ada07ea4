"""Alignment of image and text vectors: alignment, uniformity, modality gap and retrieval recall."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.types import Features

_BLOCK = 1024
_MOST = 5_000


def alignment(
    image: Float[Tensor, "pairs dim"], text: Float[Tensor, "pairs dim"], *, power: float = 2.0
) -> Float[Tensor, ""]:
    """The mean over pairs of the distance of their two vectors to the `power` (Wang and Isola 2020, arXiv 2005.10242).

    0 where the vectors of each pair are equal; for unit vectors and power 2 at most 4, and 2 where they are orthogonal.
    """
    return (image - text).norm(dim=1).pow(power).mean()


def uniformity(vectors: Float[Tensor, "rows dim"], *, sharpness: float = 2.0) -> Float[Tensor, ""]:
    """The log of the mean over distinct pairs of rows of exp(-`sharpness` · squared distance) (arXiv 2005.10242).

    For unit vectors 0 where all are equal, and lower the more evenly they cover the sphere; NaN for one row.
    """
    rows = len(vectors)
    sums = [
        torch.exp(-sharpness * torch.cdist(block, vectors).square()).sum() for block in torch.split(vectors, _BLOCK)
    ]
    return ((torch.stack(sums).sum() - rows) / (rows * (rows - 1))).log()


def modality_gap(image: Float[Tensor, "pairs dim"], text: Float[Tensor, "pairs dim"]) -> Float[Tensor, ""]:
    """The distance between the mean image and the mean text vector (Liang et al. 2022, arXiv 2203.02053, sec. 4.1)."""
    return (image.mean(0) - text.mean(0)).norm()


def retrieval_recall(
    image: Float[Tensor, "pairs dim"], text: Float[Tensor, "pairs dim"], ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """The share of pairs whose other vector is among the `k` nearest of all, the mean of both directions.

    Equally near vectors count by their expected share in random order, so that vectors which are all equal have the
    recall of chance.
    """
    hits = torch.zeros(len(ks), dtype=torch.float64)
    for queries, answers in ((image, text), (text, image)):
        for rows in torch.split(torch.arange(len(queries), device=queries.device), _BLOCK):
            hits += _hits(queries[rows] @ answers.T, rows, ks).cpu()
    return {f"retrieval_recall@{k}": float(value) for k, value in zip(ks, hits / (2 * len(image)), strict=True)}


def _hits(
    scores: Float[Tensor, "queries answers"], own: Int[Tensor, " queries"], ks: Sequence[int]
) -> Float[Tensor, " ks"]:
    """For each k the expected number of queries whose own answer is among the k nearest."""
    mine = scores.gather(1, own[:, None])
    nearer, equal = (scores > mine).sum(1), (scores == mine).sum(1)
    return torch.stack([((k - nearer) / equal).clamp(0, 1).sum() for k in ks]).double()


def measure_alignment(features: Features, *, most: int = _MOST) -> dict[str, float]:
    """All measures of the "image" and "text" vectors of a catalog, scaled to length 1; empty where they do not apply.

    They apply to at least two items with both, in the same width. Of more than `most` such items a sample of that size,
    with a fixed seed, is measured; `pairs` is the number of items.
    """
    image, text = features.get("image"), features.get("text")
    if image is None or text is None or image.shape[1] != text.shape[1]:
        return {}
    paired = (image.any(1) & text.any(1)).nonzero().flatten()
    if len(paired) < 2:
        return {}
    if len(paired) > most:
        sampled = torch.randperm(len(paired), generator=torch.Generator().manual_seed(0))[:most]
        paired = paired[sampled.sort().values]
    image, text = (F.normalize(side[paired].float(), dim=1) for side in (image, text))
    measures = {
        "alignment": float(alignment(image, text)),
        "uniformity_image": float(uniformity(image)),
        "uniformity_text": float(uniformity(text)),
        "modality_gap": float(modality_gap(image, text)),
        **retrieval_recall(image, text),
        "pairs": len(paired),
    }
    return {name: value for name, value in measures.items() if math.isfinite(value)}
