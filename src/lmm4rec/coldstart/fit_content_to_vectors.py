"""The fit of the maps from content to vectors for a trained model, and their quality on held-out items.

A ridge regression from content to the vector that fits an item's interactions. The vector of an item with the
interactions r (1 for the users who interacted with it) is v = (UᵀU + λ s I)⁻¹ Uᵀ r: the item's half of a step of
alternating least squares (Hu et al. 2008, doi 10.1109/ICDM.2008.22) against users U, with s the mean over columns of
Σ (u - mean u)². λ and the ridge's α are those with the best recall on a fifth of the items, held out from the
regression.

There are two regressions. One against the trained users gives the model's own columns of a new item; the model's item
vectors are a candidate for its target, too. One against the users' profiles by content (the sum of the content of their
items, in its principal axes) gives the columns of `ContentProfile`. The second predicts the interactions of new items
better; the first gives vectors in the model's space, where items are compared. So the profiles contribute three
quarters of the deviation of a new item's scores.

Predictions of a regression vary less than its targets, so that new items would hardly ever be recommended beside the
others. They are therefore scaled and shifted: a user's scores of new items have the deviation and the mean of the
user's scores of the model's items, plus a number of deviations with which new items have the same share of the users'
lists as of the catalog, measured on the held-out items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.coldstart.content_profile import ContentProfile, score_deviations
from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.coldstart.fit_sequence_items import OWN_MAPS, fit_sequence_items
from lmm4rec.coldstart.held_out_sample import HeldOutSample, cutoff, draw_sample, neighbor_scores, quality, recall
from lmm4rec.core.sequences import SequenceScorer
from lmm4rec.core.types import Embeddings, Features, Neighbors, Scorer
from lmm4rec.data.interactions import Interactions
from lmm4rec.nn.linear_algebra import principal_axes, ridge, solve_positive
from lmm4rec.nn.projections import ContentProjection, HiddenLayer

SimilarityAsNew: TypeAlias = Callable[[Int[Tensor, " chosen"], Features], Float[Tensor, "chosen items"]]
"""The similarities that items would have if they were new, from their rows and all features."""

_LAMBDAS, _ALPHAS = (0.1, 1.0, 10.0), (0.3, 1.0, 3.0, 10.0)
_NEIGHBORS = (20, 50, 200)
_LEAST_ITEMS = 10
_AXES = 64  # principal axes of content in the profiles
_OWN_SHARE = 0.25  # of the deviation of a new item's scores, from the model's own columns


@torch.no_grad()
def fit_content_to_vectors(
    scorer: Scorer,
    features: Features,
    train: Interactions,
    paths: Mapping[str, ContentProjection] | None = None,
    as_new: SimilarityAsNew | None = None,
) -> ContentToVectors | None:
    """The maps for a trained scorer; None where fewer than ten items have both interactions and content.

    `features` are those of the scorer's items, `train` is what it was trained on, `paths` are the model's own maps from
    content to vectors (`Recommender.content_projections`), `as_new` what they give to items that count as new
    (`Recommender.similarity_as_new`; for `Neighbors` with `paths`).
    """
    sample = draw_sample(features, train, scorer)
    if len(sample.items) < _LEAST_ITEMS:
        return None
    own = {part: _detached(path) for part, path in (paths or {}).items()}
    if isinstance(scorer, Neighbors):
        if not own or as_new is None:
            return _fit_neighbors(scorer, sample)
        rows = as_new(torch.from_numpy(sample.items[sample.held]), features)
        return _fit_scale(scorer, sample, own, rows)
    assert isinstance(scorer, Embeddings)
    if isinstance(scorer, SequenceScorer):
        return fit_sequence_items(scorer.detach(), features, sample, own)
    return _fit_maps(scorer.detach(), features, sample, own)


def _detached(path: ContentProjection) -> ContentProjection:
    center, hidden = path.center, path.hidden
    return path._replace(
        weights=path.weights.detach(),
        center=None if center is None else center.detach(),
        hidden=None if hidden is None else HiddenLayer(*(x.detach() for x in hidden)),
    )


def _fit_maps(
    scorer: Embeddings, features: Features, sample: HeldOutSample, paths: Mapping[str, ContentProjection]
) -> ContentToVectors:
    content, at = ContentSpace.of(sample.features), torch.from_numpy(sample.users)
    x = content(sample.features)
    is_own = torch.zeros(scorer.items.shape[1], dtype=torch.bool)
    for part in paths:
        is_own[scorer.parts[part]] = True
    free = (~is_own).nonzero()[:, 0]
    if not len(free):  # an item is its content alone: a new one needs no map beside the model's own
        none = torch.zeros(x.shape[1], 0)
        return ContentToVectors(content, paths, free, none, none[0], facts={"method": OWN_MAPS})
    users, items = scorer.users[:, free], scorer.items[torch.from_numpy(sample.items)][:, free]
    fixed = _path_scores(scorer, sample, paths)
    own = _best_regression(sample, x, users, users, items, fixed)
    basis = principal_axes(x, _AXES)
    # the profiles that are evaluated on held-out items must not contain these
    judging, profiles = (_profiles(sample, x @ basis, which) for which in (~sample.held, np.ones_like(sample.held)))
    by_profile = _best_regression(sample, x, judging, profiles)
    spread = torch.cov(items.T, correction=0).reshape(len(free), len(free))
    deviation = score_deviations(users[at], spread)
    own_scores = users[at] @ own.predicted.T
    profile_scores = deviation * F.normalize(judging[at], dim=1) @ by_profile.predicted.T
    own_factor, profile_factor = _factors(own_scores, profile_scores, float(deviation.mean()))
    scores = fixed + own_factor * own_scores + profile_factor * profile_scores + users[at] @ items.mean(0)[:, None]
    dim = len(is_own)
    profile = ContentProfile(
        basis,
        content(features) @ basis,
        by_profile.weights * profile_factor,
        _level(scorer, sample, scores, deviation)[None],
        torch.zeros(dim, dim).index_put((free[:, None], free), spread),
        torch.zeros(dim).index_put((free,), items.mean(0) - own_factor * own.mean),
    )
    facts = {
        "method": f"user profiles by content: {by_profile.name}; the model's columns: {own.name}",
        "columns of the model's own content": int(is_own.sum()),
        **quality(sample, content, recall(profile_scores, sample.truth)),
    }
    weights, offset = own.weights * own_factor, own.mean * own_factor
    return ContentToVectors(content, paths, free, weights, offset, profile=profile, facts=facts)


class _Regression(NamedTuple):
    """The regression from content to vectors, against some users, with the best recall on the held-out items."""

    name: str
    predicted: Float[Tensor, "held columns"]  # from the other items, less their mean
    weights: Float[Tensor, "widths columns"]  # from all items
    mean: Float[Tensor, " columns"]


def _best_regression(
    sample: HeldOutSample,
    x: Float[Tensor, "sample widths"],
    judging: Float[Tensor, "users columns"],
    users: Float[Tensor, "users columns"],
    own: Float[Tensor, "sample columns"] | None = None,
    fixed: Float[Tensor, "chosen held"] | float = 0.0,
) -> _Regression:
    """The regression selected with the user vectors `judging` and fitted to `users`; `own` are the model's items."""
    held, columns = torch.from_numpy(sample.held), judging.shape[1]
    targets: dict[float | None, Tensor] = {one: _target(judging, sample.interactions, one) for one in _LAMBDAS}
    targets |= {} if own is None else {None: own}
    together = torch.cat(list(targets.values()), dim=1)
    tried = []
    for alpha in _ALPHAS:
        weights, _ = ridge(x[~held], together[~held], alpha)
        for target, rows in zip(targets, torch.split(x[held] @ weights, columns, dim=1), strict=True):
            scores = fixed + judging[torch.from_numpy(sample.users)] @ rows.T
            tried.append((recall(scores, sample.truth), target, alpha, rows))
    _, target, alpha, predicted = max(tried, key=lambda one: one[0])
    if target is None:
        name, vectors = "vectors", targets[None]
    else:
        name, vectors = f"interactions, lambda {target:g}", _target(users, sample.interactions, target)
    return _Regression(f"{name}, alpha {alpha:g}", predicted, *ridge(x, vectors, alpha))


def _profiles(
    sample: HeldOutSample, content: Float[Tensor, "sample axes"], which: Bool[np.ndarray, " sample"]
) -> Float[Tensor, "users axes"]:
    """The sum of the content of each user's items among some; the root mean square of the sums' length is 1."""
    chosen = np.flatnonzero(which)
    sums = torch.from_numpy(sample.interactions[:, chosen] @ content.numpy()[chosen])
    return sums / sums.square().sum(1).mean().sqrt().clamp(min=1e-12)


def _target(
    users: Float[Tensor, "users free"], interactions: sp.csr_array, weight: float
) -> Float[Tensor, "sample free"]:
    """The least-squares item vectors of the interactions against these users."""
    wide = users.double()
    gram = wide.T @ wide
    spread = (wide - wide.mean(0)).square().sum(0).mean()  # what all users share is no preference
    gram += weight * spread.clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    sums = torch.from_numpy(np.ascontiguousarray(interactions.T @ wide.numpy()))
    return solve_positive(gram, sums.T).T.float()


def _deviation(scores: Float[Tensor, "users items"]) -> float:
    """The mean over users of the standard deviation of their scores."""
    return float(scores.std(1, correction=0).mean())


def _factors(
    own: Float[Tensor, "chosen held"], by_profile: Float[Tensor, "chosen held"], deviation: float
) -> tuple[float, float]:
    """The factors of both scores: their sum then has the given deviation, and the model's own its share of it."""
    own_factor, profile_factor = (
        share / max(_deviation(scores), 1e-12) if _deviation(scores) > 1e-12 else 0.0
        for share, scores in ((_OWN_SHARE, own), (1 - _OWN_SHARE, by_profile))
    )
    factor = deviation / max(_deviation(own_factor * own + profile_factor * by_profile), 1e-12)
    return own_factor * factor, profile_factor * factor


def _list_thresholds(
    scorer: Scorer, sample: HeldOutSample, scores: Float[Tensor, "chosen held"]
) -> tuple[Float[Tensor, "chosen k"], Float[Tensor, "chosen k"]]:
    """The scores that held-out items need to be in a user's list, and the scores that they have.

    The i-th best of them is in a list of k where it is above the (k + 1 - i)-th best of the other items.
    """
    rest = np.flatnonzero(~sample.held)
    others = scorer.scores(torch.from_numpy(sample.users))[:, torch.from_numpy(sample.items[rest])]
    others[sample.history(~sample.held) > 0] = -torch.inf
    k = min(cutoff(scores.shape[1]), len(rest))
    return others.topk(k, dim=1).values.flip(1), scores.topk(k, dim=1).values


def _share_quantile(sample: HeldOutSample, values: Float[Tensor, "chosen k"], otherwise: float) -> Float[Tensor, ""]:
    """The quantile of the values at the held-out items' share of the catalog; `otherwise` where there are none."""
    values = values[values.isfinite()]  # a user with nearly all other items has too few left to fill a list
    if not len(values):
        return torch.tensor(otherwise)
    return torch.quantile(values, float(sample.held.mean()), interpolation="higher")


def _level(
    scorer: Scorer, sample: HeldOutSample, scores: Float[Tensor, "chosen held"], deviation: Float[Tensor, "chosen 1"]
) -> Float[Tensor, ""]:
    """The number of deviations to add, so that held-out items have the same share of the lists as of the catalog."""
    needed, given = _list_thresholds(scorer, sample, scores)
    deviation = torch.where(deviation > 1e-12, deviation, torch.nan)  # equal scores say nothing about a level
    return _share_quantile(sample, (needed - given) / deviation, 0.0)


def _scale(scorer: Scorer, sample: HeldOutSample, scores: Float[Tensor, "chosen held"]) -> float:
    """The factor of the held-out items' scores with which they have that share; 1 where no factor gives it."""
    needed, given = _list_thresholds(scorer, sample, scores)
    factor = float(_share_quantile(sample, needed / given.clamp(min=1e-12), 1.0))
    return factor if factor > 0 else 1.0


def _path_scores(
    scorer: Embeddings, sample: HeldOutSample, paths: Mapping[str, ContentProjection]
) -> Float[Tensor, "chosen held"]:
    """The scores of the held-out items by the columns that the model itself computes from content."""
    total = torch.zeros(len(sample.users), int(sample.held.sum()))
    held = sample.features_of(sample.held)
    for part, path in paths.items():
        total += scorer.users[sample.users][:, scorer.parts[part]] @ path(held[part]).T
    return total


def _fit_neighbors(scorer: Neighbors, sample: HeldOutSample) -> ContentToVectors:
    content = ContentSpace.of(sample.features)
    # a model of sequences scores by one item, not by the sum over all of them
    share = 1 / sample.history(~sample.held).sum(1, keepdim=True).clamp(min=1)
    factor = share if isinstance(scorer, SequenceScorer) else 1.0
    scores = {k: factor * neighbor_scores(sample, content, k) for k in _NEIGHBORS}
    recalls = {k: recall(found, sample.truth) for k, found in scores.items()}
    best = max(recalls, key=lambda k: recalls[k])
    facts = {"method": f"similar to the {best} nearest items by content", **quality(sample, content, recalls[best])}
    return ContentToVectors(content, neighbors=best, scale=_scale(scorer, sample, scores[best]), facts=facts)


def _fit_scale(
    scorer: Neighbors,
    sample: HeldOutSample,
    paths: Mapping[str, ContentProjection],
    rows: Float[Tensor, "held items"],
) -> ContentToVectors:
    """The model's own maps; `rows` are the similarities of the held-out items, each as if it were new."""
    content = ContentSpace.of(sample.features)
    scores = Neighbors(scorer.seen, rows).scores(torch.from_numpy(sample.users))
    facts = {
        "method": "the model's own similarities by content",
        **quality(sample, content, recall(scores, sample.truth)),
    }
    return ContentToVectors(content, paths, scale=_scale(scorer, sample, scores), facts=facts)
