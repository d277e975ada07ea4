"""The fit of the maps from content to vectors for a model of sequences."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.coldstart.held_out_sample import HeldOutSample, quality, recall
from lmm4rec.core.types import Embeddings, Features
from lmm4rec.nn.linear_algebra import ridge
from lmm4rec.nn.projections import ContentProjection

OWN_MAPS = "the model's own maps of content"
_ALPHAS = (0.3, 1.0, 3.0, 10.0)


def fit_sequence_items(
    scorer: Embeddings, features: Features, sample: HeldOutSample, paths: Mapping[str, ContentProjection]
) -> ContentToVectors:
    """The maps for a model of sequences, which reads item vectors where it ranks them: they have to be its own.

    They are the sum of the model's own maps, and the mean of what the vectors of its items have beside it; without own
    maps, a ridge regression to these vectors.
    """
    content, warm = ContentSpace.of(sample.features), torch.from_numpy(sample.items)
    free = torch.arange(scorer.items.shape[1])
    if paths:
        own = torch.stack([path(features[m][warm].float()) for m, path in paths.items()]).sum(0)
        offset = (scorer.items[warm] - own).mean(0)
        zeros = torch.zeros(sum(map(len, content.centers.values())), len(free))
        return ContentToVectors(content, paths, free, zeros, offset, facts={"method": OWN_MAPS})
    x, users = content(sample.features), scorer.users[torch.from_numpy(sample.users)]
    held, targets = torch.from_numpy(sample.held), scorer.items[warm]

    def recall_of(alpha: float) -> float:
        weights, mean = ridge(x[~held], targets[~held], alpha)
        return recall(users @ (x[held] @ weights + mean).T, sample.truth)

    recalls = {alpha: recall_of(alpha) for alpha in _ALPHAS}
    best = max(recalls, key=lambda alpha: recalls[alpha])
    weights, offset = ridge(x, targets, best)
    facts = {"method": f"the model's vectors by content, alpha {best:g}", **quality(sample, content, recalls[best])}
    return ContentToVectors(content, {}, free, weights, offset, facts=facts)
