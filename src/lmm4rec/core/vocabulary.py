"""External ids and the rows that stand for them inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Int

from lmm4rec.core.errors import DataError, nearest_id
from lmm4rec.core.fingerprint import fingerprint


class Vocabulary(Sequence[str]):
    """The external ids of users or items, in row order. Ids are text; numbers are looked up by their text."""

    def __init__(self, ids: Iterable[object], *, kind: str = "item") -> None:
        """Raises DataError where an id occurs twice."""
        self.kind = kind
        self._ids = [str(id_) for id_ in ids]
        self._rows = {id_: row for row, id_ in enumerate(self._ids)}
        if len(self._rows) < len(self._ids):
            seen: set[str] = set()
            twice = next(id_ for id_ in self._ids if id_ in seen or seen.add(id_))  # type: ignore[func-returns-value]
            raise DataError(f"{kind} id '{twice}' occurs twice; every {kind} needs an id of its own")

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self._ids[:3]))
        return f"Vocabulary({len(self):,} {self.kind}s: {shown}{', …' if len(self) > 3 else ''})"

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __contains__(self, id_: object) -> bool:
        return str(id_) in self._rows

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        """The id of a row (or the ids of a slice of rows)."""
        return self._ids[row]

    def row(self, id_: object) -> int:
        """The row of an external id.

        Raises:
            DataError: the id is unknown; the nearest known one is offered.
        """
        try:
            return self._rows[str(id_)]
        except KeyError:
            hint = nearest_id(str(id_), self._ids) if len(self) <= 100_000 else ""
            raise DataError(f"unknown {self.kind} '{id_}' among {len(self):,} {self.kind}s.{hint}") from None

    def rows(self, ids: Iterable[object]) -> Int[np.ndarray, " ids"]:
        """The rows of several external ids."""
        return np.array([self.row(id_) for id_ in ids], dtype=np.int64)

    def select(self, rows: Iterable[int]) -> Vocabulary:
        """The vocabulary of the given rows, renumbered in the given order."""
        return Vocabulary([self._ids[row] for row in rows], kind=self.kind)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the ids and their order."""
        return fingerprint(self._ids)
