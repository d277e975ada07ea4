"""What is done to a bundle before it serves: its added items are taken in, and what it can do is found out."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from lmm4rec.core.errors import DataError, LMM4RecError
from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.added_items import AddedItem
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle

logger = logging.getLogger(__name__)
_RESTORED = 256  # added items that are encoded at a time


def restore(bundle: Bundle, items: Sequence[AddedItem]) -> list[str]:
    """Add what was added before; returns the ids that the bundle does not take."""
    failed: list[str] = []
    for start in range(0, len(items), _RESTORED):
        some = [_new(item) for item in items[start : start + _RESTORED]]
        try:
            bundle.add_items(some)
        except LMM4RecError:
            failed += [item.id for item in some if not _taken(bundle, item)]
    return failed


def _taken(bundle: Bundle, item: NewItem) -> bool:
    try:
        bundle.add_items([item])
    except LMM4RecError as error:
        logger.warning("the added item '%s': %s", item.id, error)
        return False
    return True


def _new(item: AddedItem) -> NewItem:
    return NewItem(item.id, item.fields, None if item.image is None else ImageBytes(item.image, f"of item {item.id}"))


def abilities(bundle: Bundle) -> Mapping[str, bool]:
    """What the bundle can do: its search is tried, since that depends on its encoder."""
    first = bundle.items[0]
    blank = io.BytesIO()
    Image.new("RGB", (32, 32), "gray").save(blank, "PNG")
    return {
        "search_words": _works(lambda: bundle.search(text=bundle.title(first), k=1)),
        "search_picture": _works(lambda: bundle.search(image=ImageBytes(blank.getvalue()), k=1)),
        "add_items": bundle.content_to_vectors is not None and bundle.encoder is not None,
        "explain": _works(lambda: bundle.explain(bundle.users[0], first)),
    }


def _works(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except DataError:  # this question had no sense, another may
        return True
    except LMM4RecError:
        return False
    return True


def field_names(bundle: Bundle) -> list[str]:
    """The text columns of the catalog."""
    return list(bundle.fields(bundle.items[0]))
