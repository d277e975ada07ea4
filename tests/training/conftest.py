"""How Adam updates the rows of a table, for the tests of both ways."""

from __future__ import annotations

import pytest

from lmm4rec.training.optim import compiled_rows


@pytest.fixture(params=["pytorch", "numba"])
def way_of_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates by PyTorch, as of all small tables, and by the loop that Numba compiles for large ones."""
    if request.param == "numba":
        pytest.importorskip("numba")
        monkeypatch.setattr(compiled_rows, "_LARGE", 0)
