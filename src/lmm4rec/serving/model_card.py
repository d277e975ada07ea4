"""The model card of a bundle: model, data, quality, cost and terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TERMS = (
    "The vectors are computed from the data and the encoder's weights; titles, texts and thumbnails are copies of the "
    "catalog. The terms of the data and of the weights apply to this folder: read them before you pass it on. lmm4rec "
    "itself is under Apache-2.0, which says nothing about either."
)


def model_card(listed: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    """The card as Markdown, from the content of `bundle.json` and the sizes of the bundle's parts."""
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
    new_items = listed.get("newcomers", {}).get("facts", {})
    lines += _section("New items", new_items) if new_items else ["## New items", "", "This bundle takes none.", ""]
    return "\n".join([*lines, "## Terms", "", _TERMS, ""])


def _encoder(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "none: no search, and new items need their features"
    weights = (
        "its weights are in this folder" if "copy" in record else "its weights, if any, are where the run had them"
    )
    side = " with a side network, which is in this folder" if "side" in record else ""
    return f"{record['encoder']}{side}; {weights}"


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
