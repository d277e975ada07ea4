"""The toy shop: that it repeats, what it holds, and that its truth is in the log where it should be, and only there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Item
from lmm4rec.toyshop.attributes import VALUES
from lmm4rec.toyshop.descriptions import SECOND_LINES, SHOP_LINES, describe
from lmm4rec.toyshop.purchases import draw_purchases
from lmm4rec.toyshop.world import World, make_pretraining_items, make_world

SMALL = {"users": 40, "items": 60, "interactions": 500}
LOOK_WORDS = re.compile(  # the words for looks, written down here once more
    r"\b(red|scarlet|orange|tangerine|yellow|green|teal|turquoise|blue|navy|purple|violet|pink|brown|gray|cream|ivory|"
    r"plain|unpatterned|solid-color|striped|stripy|banded|dotted|polka-dot|spotted|checked|checkered|chessboard|zigzag|"
    r"chevron|zigzag-patterned|starry|star-patterned|star-print|ombre|gradient|dip-dyed|floral|flowery|flower-print)\b",
    re.IGNORECASE,
)
SEASON_WORDS = {
    "spring": "spring|April|Easter",
    "summer": "summer|August",
    "autumn": "autumn|October",
    "winter": "winter|snow|December",
    "all year": "year|permanent|month",
}


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(seed=0)


def texts(items: Sequence[Item]) -> list[str]:
    return [" ".join(item.fields.values()).strip() for item in items]


def digest(world: World) -> str:
    """Of every byte that can be seen."""
    seen = hashlib.sha256()
    for item in world.items:
        seen.update(repr(item.id).encode() + repr(dict(item.fields)).encode())
        seen.update(item.image.open().tobytes() if item.image else b"none")
    for column in world.purchases:
        seen.update(column.tobytes())
    return seen.hexdigest()


@pytest.mark.long
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (digest(make_world(seed=seed, **SMALL)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_its_size_and_its_ids(world: World) -> None:
    assert (len(world.users), len(world.items), len(world.purchases.users)) == (800, 500, 12_000)
    assert (world.items[0].id, world.items[-1].id, world.users[0], world.users[-1]) == (
        "T0001",
        "T0500",
        "u001",
        "u800",
    )
    assert world.affinity.shape == (800, 500)
    assert world.affinity.dtype == np.float32
    assert set(world.attributes) == set(VALUES)


def test_who_buys_much_and_what_is_bought_much(world: World) -> None:
    users, items = world.purchases.users, world.purchases.items
    assert len(np.unique(users.astype(np.int64) * 500 + items)) == 12_000
    of_user, of_item = np.bincount(users, minlength=800), np.bincount(items, minlength=500)
    assert of_user.min() >= 5
    assert of_user.max() > 3 * np.median(of_user)
    assert 0.2 < np.sort(of_item)[-50:].sum() / 12_000 < 0.4  # a tenth of the items, which evenly spread had 0.1
    assert 1 <= (of_item == 0).sum() <= 15
    assert 10 <= (of_item < 5).sum() <= 50


def test_a_few_items_lack_the_image_and_a_few_the_text(world: World) -> None:
    without_image = np.array([item.image is None for item in world.items])
    without_words = np.array([not said for said in texts(world.items)])
    assert 10 <= without_image.sum() <= 15
    assert 8 <= without_words.sum() <= 15
    assert not (without_image & without_words).any()


def test_even_the_smallest_shop_has_items_that_lack_something() -> None:
    shop = make_world(seed=0, users=2, items=20, interactions=12)
    assert sum(item.image is None for item in shop.items) == 1
    assert sum(not text for text in texts(shop.items)) == 1
    assert len(np.unique(shop.purchases.items)) < 20


@pytest.mark.parametrize("wrong", [{"items": 19}, {"interactions": 3_999}, {"interactions": 200_001}])
def test_an_impossible_shop_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong.values())):,}"):
        make_world(**wrong)


def test_time_runs_over_two_years(world: World) -> None:
    times = world.purchases.timestamps
    assert (np.diff(times) >= 0).all()
    first, last = (datetime.fromtimestamp(time, UTC) for time in (times[0], times[-1]))
    assert (first.year, last.year) == (2023, 2024)
    assert (last - first).days > 700


@pytest.mark.parametrize(("season", "months"), [("winter", (12, 1, 2)), ("summer", (6, 7, 8))])
def test_items_of_a_season_are_bought_in_it(world: World, season: str, months: tuple[int, ...]) -> None:
    log = world.purchases
    within = np.isin([datetime.fromtimestamp(time, UTC).month for time in log.timestamps], months)
    wanted = world.attributes["season"][log.items]
    inside = within[wanted == VALUES["season"].index(season)].mean()
    assert inside > 0.45
    assert inside > 1.8 * within[wanted == VALUES["season"].index("all year")].mean()


def test_purchases_and_ratings_follow_affinity(world: World) -> None:
    log = world.purchases
    affinities = world.affinity[log.users, log.items]
    assert world.affinity.mean() == pytest.approx(0.0, abs=1e-4)
    assert affinities.mean() > 1.0  # in standard deviations of the user's affinity
    of_user = np.bincount(log.users, affinities) / np.bincount(log.users)
    assert (of_user > 0).mean() > 0.98
    assert set(np.unique(log.ratings)) <= {1, 2, 3, 4, 5}
    assert np.corrcoef(log.ratings, affinities)[0, 1] > 0.5


def agreement(world: World, kind: str, attribute: str) -> float:
    """How much more often two purchases by one user share a value than purchases by two users of that kind do.

    Only pairs of different items count, since no user buys an item twice.
    """
    of_kind = np.array(world.kinds) == kind
    bought = np.zeros((len(world.kinds), len(world.items)))
    bought[world.purchases.users, world.purchases.items] = 1
    bought = bought[of_kind]
    count = bought @ np.eye(len(VALUES[attribute]))[world.attributes[attribute]]
    size, popular = bought.sum(axis=1), bought.sum(axis=0)
    same_item = (popular * (popular - 1)).sum()
    within = (count * (count - 1)).sum() / (size * (size - 1)).sum()
    between_same = (count.sum(axis=0) ** 2).sum() - (count**2).sum() - same_item
    between = between_same / (size.sum() ** 2 - (size**2).sum() - same_item)
    return float(within / between)


@pytest.mark.parametrize(
    ("kind", "seen", "unseen"),
    [
        ("looks", ("color", "pattern"), ("material", "brand", "season", "category")),
        ("text", ("material", "brand", "season"), ("color", "pattern")),  # materials narrow the category
        ("both", ("category",), ()),
    ],
)
def test_tastes_show_where_they_should_and_only_there(
    world: World, kind: str, seen: tuple[str, ...], unseen: tuple[str, ...]
) -> None:
    for attribute in seen:
        assert agreement(world, kind, attribute) > 1.3, attribute
    for attribute in unseen:
        assert 0.95 < agreement(world, kind, attribute) < 1.06, attribute


@pytest.mark.long
def test_purchases_are_drawn_from_the_softmax_without_replacement() -> None:
    rng = np.random.default_rng(0)
    affinity, popularity = rng.normal(size=10).astype(np.float32), rng.normal(size=10)
    seasons = np.zeros(10, dtype=np.int64)
    log = draw_purchases(np.tile(affinity, (3000, 1)), popularity, seasons, interactions=15_000, rng=rng)
    chance = np.exp(1.7 * affinity + popularity)
    drawn = np.concatenate([rng.choice(10, 5, replace=False, p=chance / chance.sum()) for _ in range(3000)])
    assert np.bincount(log.items, minlength=10) / 3000 == pytest.approx(
        np.bincount(drawn, minlength=10) / 3000, abs=0.04
    )


def test_rarely_bought_items_are_found_by_their_attributes_and_not_by_company(world: World) -> None:
    log, rng = world.purchases, np.random.default_rng(0)
    held_out = rng.random(len(log.users)) < 0.2
    bought, later = np.zeros((2, 800, 500))
    bought[log.users[~held_out], log.items[~held_out]] = 1
    later[log.users[held_out], log.items[held_out]] = 1
    rare = bought.sum(axis=0) <= np.median(bought.sum(axis=0))

    def recall(scores: np.ndarray) -> float:
        top = np.argsort(-np.where(bought > 0, -np.inf, scores), axis=1)[:, :20]
        return float(np.take_along_axis(later * rare, top, axis=1).sum() / (later * rare).sum())

    def by_attributes(*names: str) -> float:
        columns = [np.eye(len(VALUES[name]))[world.attributes[name]] for name in names]
        features = np.concatenate([column - column.mean(axis=0) for column in columns], axis=1)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return recall((bought / bought.sum(axis=1, keepdims=True)) @ features @ features.T)

    together = bought.T @ bought
    np.fill_diagonal(together, 0)
    company = recall(bought @ (together / (np.sqrt(np.outer(bought.sum(0), bought.sum(0))) + 3)))
    looks, words = by_attributes("color", "pattern"), by_attributes("material", "brand", "season")
    assert by_attributes(*VALUES) > 1.2 * max(looks, words)
    assert min(looks, words) > 1.5 * company


def test_texts_always_name_what_the_image_cannot_show() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        values = {name: str(rng.choice(known)) for name, known in VALUES.items()}
        said = describe(values, lines=SHOP_LINES, mention_looks=False, rng=rng)
        text = f"{said.title} {said.description}"
        assert values["brand"] in text
        assert values["material"] in text.lower()
        assert re.search(SEASON_WORDS[values["season"]], text, re.IGNORECASE)
        assert not LOOK_WORDS.search(text), text
        assert LOOK_WORDS.search(
            " ".join(vars(describe(values, lines=SHOP_LINES, mention_looks=True, rng=rng)).values())
        )


def test_texts_mention_looks_as_often_as_asked(world: World) -> None:
    def share(items: Sequence[Item]) -> float:
        said = [text for text in texts(items) if text]
        return float(np.mean([bool(LOOK_WORDS.search(text)) for text in said]))

    assert share(world.items) == pytest.approx(0.3, abs=0.06)
    assert share(make_pretraining_items(items=600)) == pytest.approx(0.9, abs=0.04)
    assert share(make_world(mention_looks=0.0, **SMALL).items) == 0


def test_words_vary(world: World) -> None:
    said = [text for text in texts(world.items) if text]
    assert len(set(said)) == len(said)


@pytest.mark.slow
def test_no_two_images_are_alike(world: World) -> None:
    shown = [item.image for item in world.items if item.image]
    assert len({image.open().tobytes() for image in shown}) == len(shown)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_second_catalog_has_nothing_of_the_shop(seed: int) -> None:
    shop, second = make_world(seed=seed).items, make_pretraining_items(seed=seed)
    assert not set(SHOP_LINES) & set(SECOND_LINES)
    assert len(second) == 2_000
    assert all(texts(second))
    assert not {item.id for item in shop} & {item.id for item in second}
    assert not set(texts(shop)) & set(texts(second))
    drawn = {item.image.digest() for item in second if item.image}
    assert len(drawn) == 2_000
    assert not drawn & {item.image.digest() for item in shop if item.image}
