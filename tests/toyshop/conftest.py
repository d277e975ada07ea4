"""The toy shop's images are drawn here as they are in a run."""

from __future__ import annotations

import inspect

import pytest

from lmm4rec.toyshop.drawing import Drawing


@pytest.fixture(autouse=True)
def _drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image is drawn whenever it is opened."""
    monkeypatch.setattr(Drawing, "draw", inspect.unwrap(Drawing.draw))
