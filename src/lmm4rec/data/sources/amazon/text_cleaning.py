"""Texts of items, cleaned of the markup of the pages that they were taken from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any, TypeAlias

Meta: TypeAlias = Mapping[str, Any]  # one item as published

_HIDDEN = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z!][^<>]*>")


def text_fields(meta: Meta) -> dict[str, str]:
    """An item's title, brand, categories, description and features, whatever its edition calls them."""
    return {
        "title": "" if is_script(meta.get("title")) else _clean(meta.get("title")),
        "brand": _clean(meta.get("brand") or meta.get("store")).removeprefix("by "),
        "categories": ", ".join(_categories(meta)),
        "description": _joined(meta.get("description")),
        "features": _joined(meta.get("features") or meta.get("feature")),
    }


def is_script(title: Any) -> bool:
    """Whether a title is in fact the page's script, as in some items of 2018."""
    return isinstance(title, str) and ("getTime(" in title or "var aPageStart" in title)


def _categories(meta: Meta) -> list[str]:
    """Each category once; in 2014 an item has several paths, in 2018 some lists end in the markup of a page."""
    found: dict[str, None] = {}
    paths = meta.get("categories") or meta.get("category") or meta.get("main_category") or []
    for path in paths if isinstance(paths, list | tuple) else [paths]:
        for name in [path] if isinstance(path, str) else strings(path):
            if "</" in name:
                return list(found)
            found |= {_clean(name): None} if _clean(name) else {}
    return list(found)


def _joined(texts: Any) -> str:
    return " ".join(filter(None, map(_clean, [texts] if isinstance(texts, str) else strings(texts))))


def strings(value: Any) -> list[str]:
    """The texts in a list; none where there is no list."""
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list | tuple) else []


def _clean(text: Any) -> str:
    """Text without markup, entities and repeated space."""
    if not isinstance(text, str):
        return ""
    if "&" in text:
        text = unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", _HIDDEN.sub(" ", text))
    return " ".join(text.split())
