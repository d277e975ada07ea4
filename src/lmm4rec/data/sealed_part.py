"""A part of a split that cannot be read."""

from __future__ import annotations

from typing import Any

from lmm4rec.core.errors import DataError
from lmm4rec.data.interactions import Interactions


class Sealed(Interactions):
    """Stands where the test part stands, holds nothing of it, and raises whatever is asked of it."""

    def __init__(self) -> None:
        """It has no columns."""

    def __getattribute__(self, name: str) -> Any:
        raise _error()

    def __len__(self) -> int:
        raise _error()

    def __repr__(self) -> str:
        return "Sealed()"


def _error() -> DataError:
    return DataError(
        "the test part is sealed: whoever chooses a model, an epoch or a setting chooses by the validation part; "
        "the test part is read by a run, once, after the choice"
    )
