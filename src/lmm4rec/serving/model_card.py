"""The model card of a bundle: what it is, what it was trained on, how good it is, what it cost, whose terms apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TERMS = (
    "The vectors are made from the data and the encoder's weights; titles, texts and small images are copies of the "
    "catalog. The terms of the data and of the weights apply to this folder: see them before you pass it on. lmm4rec "
    "itself is under Apache-2.0, which says nothing about either."
)


def model_card(listed: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    """The card as Markdown, from what `bundle.json` holds and how much is in the bundle."""
    card: Mapping[str, Any] = listed["card"]
    lines = [f"# {card.get('title') or card.get('model') or 'A recommender'}", ""]
    lines += [f"A bundle of lmm4rec, version {listed['version']}: `lmm4rec.Bundle.from_pretrained(folder)`.", ""]
    facts = {
        "model": card.get("model"),
        "features": card.get("encoder"),
        "in this folder": ", ".join(f"{count:,} {name}" for name, count in sizes.items()),
        "encoder": _encoder(listed.get("encoder")),
    }
    lines += _table(("", ""), {name: value for name, value in facts.items() if value})
    lines += _section("Data", card.get("data", {}), skip=("findings",))
    lines += _section("Test part", card.get("test", {}))
    lines += _section("Cost", card.get("cost", {}))
    newcomers = listed.get("newcomers", {}).get("facts", {})
    lines += _section("New items", newcomers) if newcomers else ["## New items", "", "This bundle takes none.", ""]
    return "\n".join([*lines, "## Terms", "", _TERMS, ""])


def _encoder(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return "none: no search, and new items come with their features"
    held = "its weights are in this folder" if "copy" in told else "its weights, if any, are where the run found them"
    side = " with a side network, which is here" if "side" in told else ""
    return f"{told['encoder']}{side}; {held}"


def _section(title: str, facts: Mapping[str, Any], skip: tuple[str, ...] = ()) -> list[str]:
    plain = {name: value for name, value in facts.items() if name not in skip and not isinstance(value, list | Mapping)}
    return ["", f"## {title}", "", *_table(("", ""), plain), ""] if plain else []


def _table(head: tuple[str, str], rows: Mapping[str, Any]) -> list[str]:
    cells = [(str(name), _number(value)) for name, value in rows.items()]
    return [f"| {' | '.join(head)} |", "|---|---|", *(f"| {name} | {_escaped(value)} |" for name, value in cells)]


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
