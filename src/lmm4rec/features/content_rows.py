"""The vectors of a catalog during extraction: each distinct content has one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lmm4rec.core.types import Item, Modality
from lmm4rec.features.store import StoredRows


class ContentRows:
    """The rows of a catalog's distinct contents, filled from the store and from the encoder until none is missing."""

    def __init__(self, items: Sequence[Item], contents: Sequence[str], dims: Mapping[Modality, int]) -> None:
        """`contents` are the digests of what the encoder reads of each item."""
        self.contents = contents
        self.first: dict[str, Item] = {}  # the first item of each content
        for item, content in zip(items, contents, strict=True):
            self.first.setdefault(content, item)
        self.missing = {content: row for row, content in enumerate(self.first)}
        self._row_of = dict(self.missing)
        self._features = {modality: torch.zeros(len(self.first), dim) for modality, dim in dims.items()}
        self._broken = torch.zeros(len(self.first), dtype=torch.bool)

    def fill(self, known: StoredRows) -> None:
        """Copy the rows that are missing here."""
        copied = {content: row for row, content in enumerate(known.contents) if content in self.missing}
        source = torch.tensor(list(copied.values()), dtype=torch.int64)
        target = torch.tensor([self.missing.pop(content) for content in copied], dtype=torch.int64)
        for modality, vectors in self._features.items():
            vectors[target] = known.features[modality][source]
        self._broken[target] = known.broken[source]

    def whole(self) -> StoredRows:
        """The vectors of all items, in the catalog's order."""
        if len(self.contents) == len(self._row_of):
            return StoredRows.of(self.contents, self._features, self._broken)
        rows = self._content_rows()
        features = {modality: vectors[rows] for modality, vectors in self._features.items()}
        return StoredRows.of(self.contents, features, self._broken[rows])

    def broken(self) -> list[int]:
        """The catalog rows of items whose image could not be read."""
        if not self._broken.any():
            return []
        return self._broken[self._content_rows()].nonzero().flatten().tolist()

    def _content_rows(self) -> torch.Tensor:
        return torch.tensor([self._row_of[content] for content in self.contents], dtype=torch.int64)
