"""A data set: users, catalog, interactions, negative signals, and the findings of reading and filtering them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool

from lmm4rec.core.errors import DataError
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.findings import Finding
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.negative_signals import NegativeSignals


@dataclass(frozen=True)
class Dataset:
    """Users, items and interactions; `interactions.items` are rows of `catalog`."""

    name: str
    users: Vocabulary
    catalog: Catalog
    interactions: Interactions
    findings: tuple[Finding, ...] = ()
    negatives: NegativeSignals = field(default_factory=NegativeSignals)

    def __repr__(self) -> str:
        counts = f"{self.n_users:,} users, {self.n_items:,} items, {len(self.interactions):,} interactions"
        return f"Dataset('{self.name}': {counts})"

    @property
    def items(self) -> Vocabulary:
        """The external ids of the items."""
        return self.catalog.ids

    @property
    def n_users(self) -> int:
        """The number of users."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """The number of items, those without interactions included."""
        return len(self.catalog)

    @property
    def fingerprint(self) -> str:
        """A digest of the ids and the interactions, not of texts and images, on which only features depend."""
        return fingerprint(self.users.fingerprint, self.items.fingerprint, self.interactions.fingerprint)

    def with_findings(self, *findings: Finding) -> Dataset:
        """The same data with more findings."""
        return replace(self, findings=(*self.findings, *findings))

    def keep(self, users: Bool[np.ndarray, " users"], items: Bool[np.ndarray, " items"]) -> Dataset:
        """The data set of the chosen users and items, with all interactions and signals between them, renumbered.

        Raises:
            DataError: no user or no item is left.
        """
        if not users.any() or not items.any():
            raise DataError(f"nothing is left of '{self.name}': {users.sum()} users and {items.sum()} items")
        log = self.interactions
        log = log.take(users[log.users] & items[log.items])
        new_user = np.cumsum(users, dtype=np.int32) - 1
        new_item = np.cumsum(items, dtype=np.int32) - 1
        return replace(
            self,
            users=self.users if users.all() else self.users.select(np.flatnonzero(users).tolist()),
            catalog=self.catalog if items.all() else self.catalog.select(np.flatnonzero(items)),
            interactions=replace(log, users=new_user[log.users], items=new_item[log.items]),
            negatives=self.negatives.keep(users, items),
        )
