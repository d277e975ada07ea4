"""Finished runs made by hand, and a page read back by a parser that knows nothing of the templates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from lmm4rec.core.errors import ImageError
from lmm4rec.experiments.report.collect import labeled_runs
from lmm4rec.experiments.report.run_report import RunPage, run_page
from lmm4rec.experiments.report.user_examples import ItemCard, UserExample
from lmm4rec.experiments.result import ChosenModel, DataFacts, RunMetrics


@dataclass(frozen=True)
class Plain:
    """An image of one color."""

    color: tuple[int, int, int] = (200, 30, 30)
    size: tuple[int, int] = (64, 64)

    def open(self) -> Image.Image:
        return Image.new("RGB", self.size, self.color)

    def digest(self) -> str:
        return hashlib.sha256(f"{self.color}{self.size}".encode()).hexdigest()


@dataclass(frozen=True)
class Noise(Plain):
    """An image that compresses about as badly as images can."""

    seed: int = 0

    def open(self) -> Image.Image:
        pixels = np.random.default_rng(self.seed).integers(0, 256, (300, 300, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    def digest(self) -> str:
        return f"noise {self.seed}"


class Drawn(Plain):
    """An image that is drawn at any size."""

    def draw(self, side: int) -> Image.Image:
        return Image.new("RGB", (side, side), self.color)


class Broken(Plain):
    """An image that cannot be read."""

    def open(self) -> Image.Image:
        raise ImageError("no image in here")


@dataclass
class PageReader(HTMLParser):
    """The elements of a page: (tag, attributes), and the text under each tag."""

    source: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in {"meta", "link", "input", "img", "br"}:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag, "elements nest and are closed"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open_tags[-1] if self.open_tags else "", data.strip()))

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag
            and all(value in attributes.get(key.rstrip("_"), "").split() for key, value in wanted.items())
        ]

    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in {"style", "script"})


def make_result(
    recall: float,
    *,
    valid: float | None = None,
    encoder: str = "none",
    epochs: int = 0,
    **metrics: Any,
) -> Any:
    """What a finished run leaves behind: its plan, its metrics and its history."""
    plan = SimpleNamespace(
        encoder=None if encoder == "none" else SimpleNamespace(name=encoder),
        encoder_label=encoder,
        features=SimpleNamespace(label="frozen"),
        train=SimpleNamespace(seed=0),
        holds_out=lambda part: True,
    )
    measured = {
        "data": DataFacts("shop", 800, 500, 12_000, 9_000, 1_500, 1_500, "random", "0123", []),
        "features": {},
        "chosen": ChosenModel("recall@20", epoch=epochs, epochs=epochs),
        "valid": {"recall@20": recall if valid is None else valid},
        "test": {"recall@20": recall, "ndcg@20": recall / 2},
        "slices": {"cold": {"recall@20": recall / 10}},
        "beyond": {"coverage@20": 0.5},
        "cost": {"seconds": 125.0, "parameters": 83_200, "peak_memory_mb": 1500.0},
    }
    return SimpleNamespace(
        plan=plan,
        measured=RunMetrics(**(measured | metrics)),
        history=[{"epoch": e, "loss": 1.0 / e, "recall@20": recall * e / epochs} for e in range(1, epochs + 1)],
    )


def three_results() -> dict[str, Any]:
    """Three results by label."""
    return {
        "Popular": make_result(0.0613),
        "BPR": make_result(0.0978, epochs=5),
        "VBPR": make_result(0.1224, encoder="clip", epochs=4),
    }


def anna(labels: Sequence[str]) -> UserExample:
    """A user with two known items, whose held-out item every run finds."""
    known = [ItemCard("a", "Red mug", Plain()), ItemCard("b", "Blue lamp", Plain((0, 0, 200)))]
    found = ItemCard("c", "Green chair", Plain((0, 200, 0)), hit=True)
    held_out = [ItemCard("c", "Green chair", Plain((0, 200, 0)))]
    return UserExample("anna", "two items", known, {label: [found, known[0]] for label in labels}, held_out)


def make_page(results: Mapping[str, Any] | None = None, **changes: Any) -> RunPage:
    """The page on some results; without `users` with one example user."""
    results = three_results() if results is None else results
    collection = labeled_runs(changes.pop("title", "A title"), list(results.values()), list(results))
    content: dict[str, Any] = {"subtitle": "a subtitle", "facts": {"Users": "800"}, "users": [anna(list(results))]}
    return run_page(collection, **(content | changes))
