"""Finds how a trained model's vectors follow from content, and judges it on items held out from the finding.

A ridge regression from content to the vector that an item's likes call for. The vector of an item with likes r (1 for
the users who like it) is v = (UᵀU + λ s I)⁻¹ Uᵀ r: the item's half of a step of alternating least squares (Hu et al.
2008, doi 10.1109/ICDM.2008.22) against the trained users U, with s the mean over columns of Σ (u - mean u)². The
model's own item vectors are the other target that is tried; they carry what ranks warm items, and say less about items
without likes. λ, the ridge's α and the target are those with the best recall on a fifth of the items, which the
regression has not seen.

What a regression predicts is less spread than what was trained, so that new items would hardly ever be recommended
beside the others. Predictions are therefore scaled and shifted: over all users, a new item's scores have the mean and
the deviation that the trained vectors give to items of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lmm4rec.core.types import Embeddings, Features, Neighbors, Scorer
from lmm4rec.data.interactions import Interactions
from lmm4rec.nn.content import ContentPath
from lmm4rec.serving.newcomers import Content, Newcomers, nearest_only
from lmm4rec.serving.space import detached

LIKES, VECTORS = "likes", "vectors"
_LAMBDAS, _ALPHAS = (0.1, 1.0, 10.0), (0.3, 1.0, 3.0, 10.0)
_NEIGHBORS = (20, 50, 200)
_MOST_ITEMS, _MOST_USERS, _MOST_HELD = 6000, 4000, 1000  # drawn where there are more: seconds, not minutes
_LEAST_ITEMS = 10
_K = 20


class _Sample(NamedTuple):
    """Items with likes, and users, drawn from the training part; a fifth of the items is held out."""

    items: Int64[np.ndarray, " sample"]
    held: Bool[np.ndarray, " sample"]
    features: Features  # of the items
    likes: sp.csr_array  # [all users, items]
    users: Int64[np.ndarray, " chosen"]

    @property
    def truth(self) -> Bool[Tensor, "chosen held"]:
        """Which of the held-out items the chosen users like."""
        return torch.from_numpy(self.likes[self.users][:, np.flatnonzero(self.held)].toarray() > 0)


class _Candidate(NamedTuple):
    name: str
    alpha: float
    target: Float[Tensor, "sample free"]


@torch.no_grad()
def fit_newcomers(
    scorer: Scorer, features: Features, train: Interactions, paths: Mapping[str, ContentPath] | None = None
) -> Newcomers | None:
    """The maps for a trained scorer; None where it has fewer than ten items with both likes and content.

    `features` are those of the scorer's items, `train` is what it was trained on, `paths` are the model's own ways
    from content to vectors (`Recommender.content_paths`).
    """
    sample = _draw(features, train, scorer)
    if len(sample.items) < _LEAST_ITEMS:
        return None
    if isinstance(scorer, Neighbors):
        return _fit_neighbors(scorer, features, sample)
    plain = detached(scorer)
    assert isinstance(plain, Embeddings)
    own = {part: _detached(path) for part, path in (paths or {}).items()}
    return _fit_map(plain, sample, own)


def _detached(path: ContentPath) -> ContentPath:
    return ContentPath(path.weights.detach(), None if path.center is None else path.center.detach())


def _draw(features: Features, train: Interactions, scorer: Scorer) -> _Sample:
    rng = np.random.default_rng(0)
    has = np.zeros(scorer.n_items, dtype=bool)
    for x in features.values():
        has |= (x != 0).any(1).numpy()
    warm = np.flatnonzero((train.item_counts(scorer.n_items) > 0) & has)
    items = np.sort(rng.choice(warm, min(len(warm), _MOST_ITEMS), replace=False))
    held = np.zeros(len(items), dtype=bool)
    held[rng.permutation(len(items))[: min(len(items) // 5, _MOST_HELD)]] = True
    entries = (np.ones(len(train), np.float32), (train.users, train.items))
    likes = sp.csr_array(entries, shape=(scorer.n_users, scorer.n_items))[:, items]
    likes.sum_duplicates()
    likes.data[:] = 1.0
    able = np.flatnonzero(np.diff(likes[:, np.flatnonzero(held)].indptr))
    users = np.sort(rng.choice(able, min(len(able), _MOST_USERS), replace=False))
    return _Sample(items, held, {m: x[items].float() for m, x in features.items()}, likes, users)


def _fit_map(scorer: Embeddings, sample: _Sample, paths: Mapping[str, ContentPath]) -> Newcomers:
    content = Content.of(sample.features)
    x = content(sample.features)
    own = torch.zeros(scorer.items.shape[1], dtype=torch.bool)
    for part in paths:
        own[scorer.parts[part]] = True
    free = (~own).nonzero()[:, 0]
    fixed = _fixed_scores(scorer, sample, paths)
    scale = _Scale.of(scorer, free, sample)
    tried = []
    for candidate, predicted in _predictions(scorer, sample, x, free):
        vectors = scale.fitted(predicted)(predicted)
        scores = fixed + scorer.users[sample.users][:, free] @ vectors.T
        tried.append((_recall(scores, sample.truth), candidate, predicted))
    best, chosen, predicted = max(tried, key=lambda one: one[0])
    weights, mean = _ridge(x, chosen.target, chosen.alpha)
    calibrate = scale.fitted(predicted)
    facts = {
        "method": f"{chosen.name} from content by ridge regression, alpha {chosen.alpha:g}",
        "columns of the model's own content": int(own.sum()),
        **_judged(sample, content, best),
    }
    return Newcomers(content, paths, free, weights * calibrate.factor, calibrate(mean[None])[0], facts=facts)


def _predictions(
    scorer: Embeddings, sample: _Sample, x: Tensor, free: Tensor
) -> Iterator[tuple[_Candidate, Float[Tensor, "held free"]]]:
    """What each choice predicts for the held-out items, from the others."""
    targets = {f"{LIKES}, lambda {one:g}": _called_for(scorer.users[:, free], sample.likes, one) for one in _LAMBDAS}
    targets[VECTORS] = scorer.items[torch.from_numpy(sample.items)][:, free]
    held = torch.from_numpy(sample.held)
    together = torch.cat(list(targets.values()), dim=1)
    for alpha in _ALPHAS:
        weights, mean = _ridge(x[~held], together[~held], alpha)
        predicted = torch.split(x[held] @ weights + mean, len(free), dim=1)
        for (name, target), rows in zip(targets.items(), predicted, strict=True):
            yield _Candidate(name, alpha, target), rows


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


class _Affine(NamedTuple):
    factor: float
    shift: Float[Tensor, " free"]

    def __call__(self, vectors: Float[Tensor, "items free"]) -> Float[Tensor, "items free"]:
        return self.factor * vectors + self.shift


class _Scale(NamedTuple):
    """What the scores of trained items are like, to which predicted vectors are brought."""

    users: Float[Tensor, "chosen free"]
    deviation: float  # of an item's scores over users, on average
    mean: float
    level: Float[Tensor, " free"]  # the vector whose score is about 1 for everybody

    @classmethod
    def of(cls, scorer: Embeddings, free: Tensor, sample: _Sample) -> _Scale:
        users = scorer.users[sample.users][:, free]
        scores = users @ scorer.items[torch.from_numpy(sample.items)][:, free].T
        gram = users.T @ users
        gram += 1e-4 * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram))
        level = torch.linalg.solve(gram, users.sum(0))
        return cls(users, float(scores.std(0, correction=0).mean()), float(scores.mean()), level)

    def fitted(self, predicted: Float[Tensor, "held free"]) -> _Affine:
        scores = self.users @ predicted.T
        deviation = float(scores.std(0, correction=0).mean())
        factor = self.deviation / deviation if deviation > 1e-12 else 1.0
        return _Affine(factor, (self.mean - factor * float(scores.mean())) * self.level)


def _fixed_scores(
    scorer: Embeddings, sample: _Sample, paths: Mapping[str, ContentPath]
) -> Float[Tensor, "chosen held"]:
    """What the model's own content gives to the held-out items."""
    held = torch.from_numpy(sample.held)
    total = torch.zeros(len(sample.users), int(held.sum()))
    for part, path in paths.items():
        total += scorer.users[sample.users][:, scorer.parts[part]] @ path(sample.features[part][held]).T
    return total


def _fit_neighbors(scorer: Neighbors, features: Features, sample: _Sample) -> Newcomers:
    held = torch.from_numpy(sample.held)
    content = Content.of(sample.features)
    alike = content.alike(
        {m: x[held] for m, x in sample.features.items()}, {m: x[~held] for m, x in sample.features.items()}
    )
    known = torch.from_numpy(sample.likes[sample.users][:, np.flatnonzero(~sample.held)].toarray())
    scores = {k: known @ nearest_only(alike, k).T for k in _NEIGHBORS}
    recalls = {k: _recall(found, sample.truth) for k, found in scores.items()}
    best = max(recalls, key=lambda k: recalls[k])
    rows = torch.from_numpy(sample.items[sample.held])
    trained = scorer.scores(torch.from_numpy(sample.users))[:, rows]
    deviation = float(scores[best].std(0, correction=0).mean())
    scale = float(trained.std(0, correction=0).mean()) / deviation if deviation > 1e-12 else 1.0
    facts = {"method": f"similar to the {best} nearest items by content", **_judged(sample, content, recalls[best])}
    return Newcomers(content, neighbors=best, scale=scale, facts=facts)


def _judged(sample: _Sample, content: Content, recall: float) -> dict[str, float]:
    """Recall on the held-out items, ranked among themselves, beside what content alone and chance reach."""
    held = torch.from_numpy(sample.held)
    alike = content.alike(
        {m: x[held] for m, x in sample.features.items()}, {m: x[~held] for m, x in sample.features.items()}
    )
    known = torch.from_numpy(sample.likes[sample.users][:, np.flatnonzero(~sample.held)].toarray())
    n_held = int(held.sum())
    k = _cutoff(n_held)
    return {
        "held-out items": float(n_held),
        f"recall@{k}": recall,
        f"recall@{k} of content neighbors": _recall(known @ nearest_only(alike, 50).T, sample.truth),
        f"recall@{k} of chance": k / n_held,
    }


def _cutoff(n_held: int) -> int:
    return max(1, min(_K, n_held // 2))


def _recall(scores: Float[Tensor, "chosen held"], truth: Bool[Tensor, "chosen held"]) -> float:
    top = scores.topk(_cutoff(scores.shape[1]), dim=1).indices
    return float((truth.gather(1, top).sum(1) / truth.sum(1)).mean())
