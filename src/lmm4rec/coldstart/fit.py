"""Finds how a trained model's vectors follow from content, and judges it on items held out from the finding.

A ridge regression from content to the vector that an item's likes call for. The vector of an item with likes r (1 for
the users who like it) is v = (UᵀU + λ s I)⁻¹ Uᵀ r: the item's half of a step of alternating least squares (Hu et al.
2008, doi 10.1109/ICDM.2008.22) against users U, with s the mean over columns of Σ (u - mean u)². λ and the ridge's α
are those with the best recall on a fifth of the items, which the regression has not seen.

This is done twice. Against the trained users it gives the model's own columns of a new item; the model's item vectors
are tried as a target there too. Against what people like by content (the sum of the content of their items, in its
principal axes) it gives the columns of `Profile`. These say more about items without likes, and the first say it in
the model's space, where items are compared; so the tastes get three quarters of what a new item's scores vary by.

What a regression predicts is less spread than what was trained, so that new items would hardly ever be recommended
beside the others. Predictions are therefore scaled and shifted: a user's scores of new items are as spread as those of
the model's items and begin at their mean; and all get so many of these deviations more that new items have the share
of the users' lists that they are of the catalog, as measured on the held-out ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.coldstart.content_vectors import Content, Newcomers, Profile, deviations, nearest_only
from lmm4rec.coldstart.sample import Sample, cutoff, draw, recall
from lmm4rec.core.types import Embeddings, Features, Neighbors, Scorer
from lmm4rec.data.interactions import Interactions
from lmm4rec.nn.content_layers import ContentPath
from lmm4rec.serving.scorer_space import detached

LIKES, VECTORS = "likes", "vectors"
_LAMBDAS, _ALPHAS = (0.1, 1.0, 10.0), (0.3, 1.0, 3.0, 10.0)
_NEIGHBORS = (20, 50, 200)
_LEAST_ITEMS = 10
_AXES = 64  # of content, in which tastes are told
_OWN = 0.25  # of the deviation of a new item's scores is from the model's own columns


@torch.no_grad()
def fit_newcomers(
    scorer: Scorer, features: Features, train: Interactions, paths: Mapping[str, ContentPath] | None = None
) -> Newcomers | None:
    """The maps for a trained scorer; None where it has fewer than ten items with both likes and content.

    `features` are those of the scorer's items, `train` is what it was trained on, `paths` are the model's own ways
    from content to vectors (`Recommender.content_paths`).
    """
    sample = draw(features, train, scorer)
    if len(sample.items) < _LEAST_ITEMS:
        return None
    if isinstance(scorer, Neighbors):
        return _fit_neighbors(scorer, features, sample)
    plain = detached(scorer)
    assert isinstance(plain, Embeddings)
    own = {part: _detached(path) for part, path in (paths or {}).items()}
    return _fit_map(plain, features, sample, own)


def _detached(path: ContentPath) -> ContentPath:
    return ContentPath(path.weights.detach(), None if path.center is None else path.center.detach())


def _fit_map(scorer: Embeddings, features: Features, sample: Sample, paths: Mapping[str, ContentPath]) -> Newcomers:
    content, at = Content.of(sample.features), torch.from_numpy(sample.users)
    x = content(sample.features)
    is_own = torch.zeros(scorer.items.shape[1], dtype=torch.bool)
    for part in paths:
        is_own[scorer.parts[part]] = True
    free = (~is_own).nonzero()[:, 0]
    users, items = scorer.users[:, free], scorer.items[torch.from_numpy(sample.items)][:, free]
    fixed = _fixed_scores(scorer, sample, paths)
    own = _fitted(sample, x, users, users, items, fixed)
    basis = torch.linalg.eigh(x.T @ x).eigenvectors[:, -_AXES:].contiguous()
    # who judges held-out items must not have looked at them
    before, after = (_liked_content(sample, x @ basis, which) for which in (~sample.held, np.ones_like(sample.held)))
    taste = _fitted(sample, x, before, after)
    spread = torch.cov(items.T, correction=0).reshape(len(free), len(free))
    deviation = deviations(users[at], spread)
    predicted = (users[at] @ own.predicted.T, deviation * F.normalize(before[at], dim=1) @ taste.predicted.T)
    of_own, of_taste = _factors(*predicted, float(deviation.mean()))
    scores = fixed + of_own * predicted[0] + of_taste * predicted[1] + users[at] @ items.mean(0)[:, None]
    dim = len(is_own)
    profile = Profile(
        basis,
        content(features) @ basis,
        taste.weights * of_taste,
        _level(scorer, sample, scores, deviation)[None],
        torch.zeros(dim, dim).index_put((free[:, None], free), spread),
        torch.zeros(dim).index_put((free,), items.mean(0) - of_own * own.mean),
    )
    facts = {
        "method": f"tastes by content: {taste.name}; the model's columns: {own.name}",
        "columns of the model's own content": int(is_own.sum()),
        **_judged(sample, content, recall(predicted[1], sample.truth)),
    }
    return Newcomers(content, paths, free, own.weights * of_own, own.mean * of_own, profile=profile, facts=facts)


class _Fitted(NamedTuple):
    """The regression from content to vectors against some users that does best on the held-out items."""

    name: str
    predicted: Float[Tensor, "held columns"]  # from the other items, less their mean
    weights: Float[Tensor, "widths columns"]  # from all items
    mean: Float[Tensor, " columns"]


def _fitted(
    sample: Sample,
    x: Float[Tensor, "sample widths"],
    judging: Float[Tensor, "users columns"],
    users: Float[Tensor, "users columns"],
    own: Float[Tensor, "sample columns"] | None = None,
    fixed: Float[Tensor, "chosen held"] | float = 0.0,
) -> _Fitted:
    """Chosen with `judging` in the place of the users, and found with `users`; `own` are the model's vectors."""
    held, columns = torch.from_numpy(sample.held), judging.shape[1]
    targets: dict[float | None, Tensor] = {one: _called_for(judging, sample.likes, one) for one in _LAMBDAS}
    targets |= {} if own is None else {None: own}
    together = torch.cat(list(targets.values()), dim=1)
    tried = []
    for alpha in _ALPHAS:
        weights, _ = _ridge(x[~held], together[~held], alpha)
        for target, rows in zip(targets, torch.split(x[held] @ weights, columns, dim=1), strict=True):
            scores = fixed + judging[torch.from_numpy(sample.users)] @ rows.T
            tried.append((recall(scores, sample.truth), target, alpha, rows))
    _, target, alpha, predicted = max(tried, key=lambda one: one[0])
    if target is None:
        name, found = VECTORS, targets[None]
    else:
        name, found = f"{LIKES}, lambda {target:g}", _called_for(users, sample.likes, target)
    return _Fitted(f"{name}, alpha {alpha:g}", predicted, *_ridge(x, found, alpha))


def _liked_content(
    sample: Sample, content: Float[Tensor, "sample axes"], which: Bool[np.ndarray, " sample"]
) -> Float[Tensor, "users axes"]:
    """The sum of what each user likes of some items; the root mean square of its length is 1 however many they are."""
    chosen = np.flatnonzero(which)
    sums = torch.from_numpy(sample.likes[:, chosen] @ content.numpy()[chosen])
    return sums / sums.square().sum(1).mean().sqrt().clamp(min=1e-12)


def _called_for(users: Float[Tensor, "users free"], likes: sp.csr_array, weight: float) -> Float[Tensor, "sample free"]:
    """The item vectors that the likes call for against these users."""
    wide = users.double()
    gram = wide.T @ wide
    spread = (wide - wide.mean(0)).square().sum(0).mean()  # of tastes: what all users share is no measure for them
    gram += weight * spread.clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    fans = torch.from_numpy(np.ascontiguousarray(likes.T @ users.numpy()))
    return torch.linalg.solve(gram, fans.double().T).T.float()


def _ridge(
    x: Float[Tensor, "n widths"], y: Float[Tensor, "n free"], alpha: float
) -> tuple[Float[Tensor, "widths free"], Float[Tensor, " free"]]:
    """The weights W that minimize |x W + b - y|² + alpha |W|², and b, the mean of y (`x` is centered already)."""
    mean = y.mean(0)
    if len(x) <= x.shape[1]:  # the same weights, from the smaller of two systems
        gram = x @ x.T + alpha * torch.eye(len(x))
        return x.T @ torch.cholesky_solve(y - mean, torch.linalg.cholesky(gram)), mean
    gram = x.T @ x + alpha * torch.eye(x.shape[1])
    return torch.cholesky_solve(x.T @ (y - mean), torch.linalg.cholesky(gram)), mean


def _spread(scores: Float[Tensor, "users items"]) -> float:
    """The deviation of a user's scores, on average."""
    return float(scores.std(1, correction=0).mean())


def _factors(
    own: Float[Tensor, "chosen held"], taste: Float[Tensor, "chosen held"], spread: float
) -> tuple[float, float]:
    """By what to multiply both so that their sum is as spread as wanted, and a part of it is the model's own."""
    of_own, of_taste = (
        share / max(_spread(scores), 1e-12) if _spread(scores) > 1e-12 else 0.0
        for share, scores in ((_OWN, own), (1 - _OWN, taste))
    )
    factor = spread / max(_spread(of_own * own + of_taste * taste), 1e-12)
    return of_own * factor, of_taste * factor


def _at_the_border(
    scorer: Scorer, sample: Sample, scores: Float[Tensor, "chosen held"]
) -> tuple[Float[Tensor, "chosen k"], Float[Tensor, "chosen k"]]:
    """What held-out items must have to be on a user's list, and what the user gives them.

    The i-th best of them is on a list of k where it is above the (k + 1 - i)-th best of the other items.
    """
    rest = np.flatnonzero(~sample.held)
    others = scorer.scores(torch.from_numpy(sample.users))[:, torch.from_numpy(sample.items[rest])]
    others[torch.from_numpy(sample.likes[sample.users][:, rest].toarray() > 0)] = -torch.inf  # what they have already
    k = min(cutoff(scores.shape[1]), len(rest))
    return others.topk(k, dim=1).values.flip(1), scores.topk(k, dim=1).values


def _share(sample: Sample, values: Float[Tensor, "chosen k"], otherwise: float) -> Float[Tensor, ""]:
    """The value under which the held-out items' share of the catalog lies; `otherwise` where there are none."""
    values = values[values.isfinite()]  # who has nearly all of the others gets too few of them to fill a list
    if not len(values):
        return torch.tensor(otherwise)
    return torch.quantile(values, float(sample.held.mean()), interpolation="higher")


def _level(
    scorer: Scorer, sample: Sample, scores: Float[Tensor, "chosen held"], deviation: Float[Tensor, "chosen 1"]
) -> Float[Tensor, ""]:
    """How many deviations held-out items must get on top for a share of the lists as large as that of the catalog."""
    needed, given = _at_the_border(scorer, sample, scores)
    return _share(sample, (needed - given) / deviation.clamp(min=1e-12), 0.0)


def _factor(scorer: Scorer, sample: Sample, scores: Float[Tensor, "chosen held"]) -> float:
    """By what to multiply held-out items' scores, which are at least 0, for that share."""
    needed, given = _at_the_border(scorer, sample, scores)
    return float(_share(sample, needed / given.clamp(min=1e-12), 1.0)) or 1.0


def _fixed_scores(scorer: Embeddings, sample: Sample, paths: Mapping[str, ContentPath]) -> Float[Tensor, "chosen held"]:
    """What the model's own content gives to the held-out items."""
    held = torch.from_numpy(sample.held)
    total = torch.zeros(len(sample.users), int(held.sum()))
    for part, path in paths.items():
        total += scorer.users[sample.users][:, scorer.parts[part]] @ path(sample.features[part][held]).T
    return total


def _fit_neighbors(scorer: Neighbors, features: Features, sample: Sample) -> Newcomers:
    held = torch.from_numpy(sample.held)
    content = Content.of(sample.features)
    alike = content.alike(
        {m: x[held] for m, x in sample.features.items()}, {m: x[~held] for m, x in sample.features.items()}
    )
    known = torch.from_numpy(sample.likes[sample.users][:, np.flatnonzero(~sample.held)].toarray())
    scores = {k: known @ nearest_only(alike, k).T for k in _NEIGHBORS}
    recalls = {k: recall(found, sample.truth) for k, found in scores.items()}
    best = max(recalls, key=lambda k: recalls[k])
    scale = _factor(scorer, sample, scores[best])
    facts = {"method": f"similar to the {best} nearest items by content", **_judged(sample, content, recalls[best])}
    return Newcomers(content, neighbors=best, scale=scale, facts=facts)


def _judged(sample: Sample, content: Content, reached: float) -> dict[str, float]:
    """Recall on the held-out items, ranked among themselves, beside what content alone and chance reach."""
    held = torch.from_numpy(sample.held)
    alike = content.alike(
        {m: x[held] for m, x in sample.features.items()}, {m: x[~held] for m, x in sample.features.items()}
    )
    known = torch.from_numpy(sample.likes[sample.users][:, np.flatnonzero(~sample.held)].toarray())
    n_held = int(held.sum())
    k = cutoff(n_held)
    return {
        "held-out items": float(n_held),
        f"recall@{k}": reached,
        f"recall@{k} of content neighbors": recall(known @ nearest_only(alike, 50).T, sample.truth),
        f"recall@{k} of chance": k / n_held,
    }
