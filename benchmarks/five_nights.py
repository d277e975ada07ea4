"""Five nights of a shop whose tastes drift and whose catalog grows: a refreshed bundle beside a frozen one.

    python benchmarks/five_nights.py [--seeds 3] [--drift 0.8] [--new-items 0.3]

The toy shop's tastes drift from the first day to the last, and a part of its items comes on sale on the way. Its first
70 % of interactions make the first bundle. Each night `refresh` then learns from another 5 %, and all bundles are
measured on the next 5 %, which none has seen: the live one, the first one (frozen), and EASE and Popular computed anew
each night from the same interactions. EASE's l2_weight is chosen on the newest tenth before the first night. Recall@20
is over the users of the next 5 % whom the frozen bundle knows; a wanted item that a bundle lacks is a miss for it, and
what a user had before is in no list. Seeds are of the shop and of the training.
"""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from _results import HERE, write
from lmm4rec.core.files import atomic, read_json
from lmm4rec.core.progress import quiet
from lmm4rec.data.images import open_for_display
from lmm4rec.experiments.night.refresh import refresh
from lmm4rec.experiments.report.figure_style import COLORS, GRAY, MARKERS, WIDE, ReportFigure, figure_settings
from lmm4rec.experiments.run import run
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.bundle_comparison import compare_bundles
from lmm4rec.toyshop.world import World, make_world

USERS, ITEMS, INTERACTIONS = 800, 500, 24_000
BEFORE, NIGHTS, SHARE = 0.70, 5, 0.05  # shares of the interactions
K = 20
L2_WEIGHTS = (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
IMAGES = {"name": "paired", "image": {"name": "color"}, "text": {"name": "words"}}
TRAIN = {"epochs": 100, "batch_size": 1024, "learning_rate": 3e-3, "patience": 10}
NOTHING_HELD_OUT = {"split.valid": 0, "split.test": 0}
LINES = ("live", "frozen", "EASE", "Popular")
LABELS = {
    "live": "live: refreshed each night",
    "frozen": "frozen: the bundle of the first night",
    "EASE": "EASE, computed each night",
    "Popular": "Popular, computed each night",
}


@dataclass(frozen=True)
class Shop:
    """A world as tables in a folder, up to a moment."""

    world: World
    folder: Path
    model: str

    def write_images(self) -> None:
        """The images of all items."""
        (self.folder / "images").mkdir(parents=True)
        for item in self.world.items:
            if item.image is not None:
                open_for_display(item.image, 192).save(self.folder / f"images/{item.id}.png")

    def log(self, first: float, last: float) -> pl.DataFrame:
        """The interactions from one share of all to another."""
        users, items, _, times = self.world.purchases
        start, end = (round(share * len(users)) for share in (first, last))
        ids = [one.id for one in self.world.items]
        rows = {
            "user_id": [self.world.users[row] for row in users[start:end]],
            "item_id": [ids[row] for row in items[start:end]],
            "timestamp": times[start:end],
        }
        return pl.DataFrame(rows)

    def write(self, share: float) -> None:
        """The tables after this share of the interactions: with the items that are on sale by then."""
        log = self.log(0, share)
        times = self.world.purchases.timestamps
        now = (times[round(share * len(times)) - 1] - times[0]) / (times[-1] - times[0])
        released = np.zeros(len(self.world.items)) if self.world.released is None else self.world.released
        sold = set(log["item_id"])
        rows = [
            {"item_id": one.id, **one.fields, "image": f"images/{one.id}.png" if one.image is not None else ""}
            for one, at in zip(self.world.items, released, strict=True)
            if at <= now or one.id in sold
        ]
        pl.DataFrame(rows).write_csv(self.folder / "items.csv")
        log.write_csv(self.folder / "interactions.csv")

    def conf(self, model: str, seed: int, **keys: Any) -> dict[str, Any]:
        """The conf of a model on the tables as they are."""
        return {
            "data": {"name": "table", "path": str(self.folder)},
            "split": {"method": "global_time"},
            "encoder": IMAGES,
            "recommender": {"name": model, **keys},
            "train": {"seed": seed, **(TRAIN if model == self.model else {})},
        }

    def closed_form(self, model: str, out: Path, **keys: Any) -> Bundle:
        """A model without training, of all interactions so far."""
        return run(self.conf(model, 0, **keys), NOTHING_HELD_OUT, out=out).bundle()


def best_l2_weight(shop: Shop, place: Path) -> float:
    """That of the highest recall on the newest tenth of the interactions so far."""
    recall = {
        weight: run(shop.conf("ease", 0, l2_weight=weight), out=place / f"ease-{weight:g}").metrics["valid"][
            "recall@20"
        ]
        for weight in L2_WEIGHTS
    }
    return max(recall, key=recall.__getitem__)


def one_shop(seed: int, model: str, drift: float, new_items: float, place: Path) -> dict[str, Any]:
    """The nights of one world: what was decided, and each line's recall on the next interactions."""
    world = make_world(seed=seed, users=USERS, items=ITEMS, interactions=INTERACTIONS, drift=drift, new_items=new_items)
    shop, live = Shop(world, place / "shop", model), place / "live"
    shop.write_images()
    shop.write(BEFORE)
    conf = shop.conf(model, seed)
    refresh(conf, live)
    frozen, l2_weight = Bundle.load(live), best_l2_weight(shop, place)
    nights = []
    for night in range(NIGHTS + 1):
        share = BEFORE + night * SHARE
        record: dict[str, Any] = {"decision": "first"}
        if night:
            shop.write(share)
            done = refresh(conf, live)
            record = {"decision": done.decision, "why": done.why, "rows": done.rows, "seconds": done.seconds}
            record |= {"epochs": done.epochs, "overlap": (done.comparison or {}).get("overlap")}
        if night < NIGHTS:  # else no day is left
            day = shop.log(share, share + SHARE).rename({"user_id": "user", "item_id": "item"})
            bundles = {
                "live": Bundle.load(live),
                "EASE": shop.closed_form("ease", place / f"ease-night-{night}", l2_weight=l2_weight),
                "Popular": shop.closed_form("popular", place / f"popular-night-{night}"),
            }
            record["measured"] = measured(frozen, bundles, day)
        nights.append({"learned": round(share, 2), **record})
    return {"seed": seed, "l2_weight": l2_weight, "nights": nights}


def measured(frozen: Bundle, bundles: dict[str, Bundle], day: pl.DataFrame) -> dict[str, Any]:
    """Recall of each bundle on a day's interactions, with its error over users; and differences to the frozen one."""
    found: dict[str, Any] = {}
    for name, bundle in bundles.items():
        recent = compare_bundles(frozen, bundle, K, recent=day).recent
        assert recent is not None
        one = recent.all_items
        found["frozen"] = {"users": one.users, "recall": one.before, "error": one.before_error}
        found[name] = {"users": one.users, "recall": one.after, "error": one.after_error}
        found[name] |= {"difference": one.difference, "difference_error": one.standard_error}
    return found


def over_seeds(shops: list[dict[str, Any]]) -> dict[str, list[dict[str, float]]]:
    """Each line's mean recall by day, with the half width of its 95 % interval over the users of all shops."""

    def mean(values: list[dict[str, float]], name: str, error: str) -> dict[str, float]:
        center = sum(one[name] for one in values) / len(values)
        half = 1.96 * math.sqrt(sum(one[error] ** 2 for one in values)) / len(values)
        return {"mean": round(center, 5), "half_width": round(half, 5)}

    lines: dict[str, list[dict[str, float]]] = {}
    for day in range(NIGHTS):
        measured = [shop["nights"][day]["measured"] for shop in shops]
        for line in LINES:
            values = [one[line] for one in measured]
            point = mean(values, "recall", "error")
            if line != "frozen":
                point |= {f"difference_{n}": x for n, x in mean(values, "difference", "difference_error").items()}
            lines.setdefault(line, []).append(point)
    return lines


def draw(lines: dict[str, list[dict[str, float]]], path: Path, title: str) -> None:
    """The figure: recall by day, with intervals over users."""
    with figure_settings():
        import matplotlib.figure

        figure = matplotlib.figure.Figure(figsize=(WIDE, 3.4), layout="constrained")
        axes = figure.subplots()
        for at, name in enumerate(LINES):
            points = lines[name]
            days = [1 + day + 0.05 * (at - 1.5) for day in range(len(points))]
            axes.errorbar(
                days, [one["mean"] for one in points], [one["half_width"] for one in points],
                color=COLORS[at] if name != "Popular" else GRAY, marker=MARKERS[at], markersize=5, linewidth=1.6,
                elinewidth=0.9, capsize=2, linestyle="-" if name in ("live", "frozen") else "--", label=LABELS[name],
            )  # fmt: skip
        axes.set(
            xlabel="days since the first bundle",
            ylabel=f"Recall@{K} on the day's interactions",
            xticks=range(1, NIGHTS + 1),
            title=title,
        )
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower left", ncols=2)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as beside:
            beside.write_bytes(ReportFigure("five_nights", "", "", figure).content("png"))


def main() -> None:
    parser = argparse.ArgumentParser(description="A refreshed bundle beside a frozen one, over five nights")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="vbpr", help="the trained model of the live bundle")
    parser.add_argument("--drift", type=float, default=0.8)
    parser.add_argument("--new-items", type=float, default=0.3)
    parser.add_argument("--draw", action="store_true", help="only draw the figure of the results")
    given = parser.parse_args()
    if not given.draw:
        shops = []
        for seed in range(given.seeds):
            with TemporaryDirectory() as place:
                os.environ["LMM4REC_CACHE"] = f"{place}/cache"
                with quiet():
                    shops.append(one_shop(seed, given.model, given.drift, given.new_items, Path(place)))
        settings = {"model": given.model, "drift": given.drift, "new_items": given.new_items, "learned_first": BEFORE}
        settings |= {
            "users": USERS,
            "items": ITEMS,
            "interactions": INTERACTIONS,
            "a_day": SHARE,
            "metric": f"recall@{K}",
        }
        write("five_nights", {**settings, "lines": over_seeds(shops), "shops": shops})
    values = read_json(HERE / "results/five_nights.json")["values"]
    draw(values["lines"], HERE.parent / "docs/images/five_nights.png", "A shop whose tastes drift and catalog grows")


if __name__ == "__main__":
    main()
