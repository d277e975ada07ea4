"""The test part of a split while a model is chosen: it cannot be read."""

from __future__ import annotations

from typing import Any

from lmm4rec.core.errors import DataError
from lmm4rec.data.interactions import Interactions


class SealedPart(Interactions):
    """A placeholder of the test part that holds none of it; any access raises DataError."""

    def __init__(self) -> None:
        """It has no columns."""

    def __getattribute__(self, name: str) -> Any:
        raise _error()

    def __len__(self) -> int:
        raise _error()

    def __repr__(self) -> str:
        return "SealedPart()"


def _error() -> DataError:
    return DataError(
        "the test part is sealed: a model, an epoch or a setting is chosen by the validation part; "
        "a run reads the test part once, after the choice"
    )
