"""Tastes of the users: the affinities that a recommender has to find."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Float64, Int64

from lmm4rec.toyshop.attributes import LOOKS, TEXT_ATTRIBUTES, VALUES

ATTRIBUTE_WEIGHTS = {  # of each kind of user; 0 for attributes that are not listed
    "looks": dict.fromkeys(LOOKS, 1.0),
    "text": dict.fromkeys(TEXT_ATTRIBUTES, 1.0),
    "both": {"category": 2.0, **dict.fromkeys(LOOKS, 0.6), **dict.fromkeys(TEXT_ATTRIBUTES, 0.5)},
}
_SHARES = {"looks": 0.34, "text": 0.34, "both": 0.32}
_FAVORITES = {"color": 2, "pattern": 2, "category": 3, "material": 2, "brand": 2, "season": 1}
_EVENNESS = 6.0  # of a user's weights: small values make users of one kind differ more


def draw_kinds(users: int, rng: np.random.Generator) -> tuple[str, ...]:
    """The kind of each user: "looks", "text" or "both"."""
    kinds = [str(kind) for kind in rng.choice(list(_SHARES), size=users, p=list(_SHARES.values()))]
    return tuple(kinds)


def draw_affinity(
    kinds: tuple[str, ...], attributes: Mapping[str, Int64[np.ndarray, " items"]], rng: np.random.Generator
) -> Float64[np.ndarray, "users items"]:
    """The affinity of each user to each item: a weighted sum of favorite values, of mean 0 and deviation 1 per user."""
    weights = draw_attribute_weights(kinds, rng)
    affinity = np.zeros((len(kinds), len(attributes["color"])))
    for attribute, values in attributes.items():
        favorite = _draw_favorites(len(kinds), len(VALUES[attribute]), _FAVORITES[attribute], rng)
        share = _FAVORITES[attribute] / len(VALUES[attribute])
        surprise = (favorite - share) / np.sqrt(share * (1 - share))  # a rare match counts for more
        affinity += weights[attribute][:, None] * surprise[:, values]
    affinity -= affinity.mean(axis=1, keepdims=True)
    spread = affinity.std(axis=1, keepdims=True)
    return affinity / np.where(spread > 0, spread, 1.0)


def drifted(
    affinity: Float32[np.ndarray, "users items"], other: Float32[np.ndarray, "users items"], drift: float
) -> Float32[np.ndarray, "users items"]:
    """The affinity that has drifted towards another one of the same users: sqrt(1 - drift^2) of it and drift of that.

    The deviation stays about 1, since the two are independent but for the users' kinds.
    """
    mixed: Float32[np.ndarray, "users items"] = (np.sqrt(1 - drift**2) * affinity + drift * other).astype(np.float32)
    return mixed


def draw_attribute_weights(
    kinds: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Float64[np.ndarray, " users"]]:
    """The weight of each attribute for each user: that of the kind, varied by user."""
    table = np.array([[ATTRIBUTE_WEIGHTS[kind].get(attribute, 0.0) for attribute in VALUES] for kind in kinds])
    mixed = table * rng.gamma(_EVENNESS, 1 / _EVENNESS, size=table.shape)
    return dict(zip(VALUES, mixed.T, strict=True))


def _draw_favorites(
    users: int, values: int, favorites: int, rng: np.random.Generator
) -> Float64[np.ndarray, "users values"]:
    """1 for each user's favorite values, else 0."""
    rank = rng.random((users, values)).argsort(axis=1).argsort(axis=1)
    return (rank < favorites).astype(np.float64)
