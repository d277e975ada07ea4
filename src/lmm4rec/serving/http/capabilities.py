"""The capabilities of a bundle: which requests it can answer."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

from PIL import Image

from lmm4rec.core.errors import DataError, LMM4RecError
from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.bundle import Bundle


def capabilities(bundle: Bundle) -> Mapping[str, bool]:
    """Whether the bundle can search, take new items, explain; searches are tried, since they depend on its encoder."""
    first = bundle.items[0]
    blank = io.BytesIO()
    Image.new("RGB", (32, 32), "gray").save(blank, "PNG")
    return {
        "search_words": _works(lambda: bundle.search(text=bundle.title(first), k=1)),
        "search_picture": _works(lambda: bundle.search(image=ImageBytes(blank.getvalue()), k=1)),
        "add_items": bundle.content_to_vectors is not None and bundle.encoder is not None,
        "explain": _works(lambda: bundle.explain(bundle.users[0], first)),
    }


def _works(request: Callable[[], object]) -> bool:
    try:
        request()
    except DataError:  # of this request; another one may have an answer
        return True
    except LMM4RecError:
        return False
    return True
