"""The contracts of data sources: checks that every one of them has to pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lmm4rec.data.dataset import Dataset
from lmm4rec.testing.contracts import Contracts, expect

CONTRACTS: Contracts[Callable[[], Dataset]] = Contracts()


def check_source(load: Callable[[], Dataset], /, *, contract: str | None = None) -> None:
    """Check that a source keeps the promises of its kind, or the one that `contract` names.

    `load` is the source with its arguments: `lambda: load_mine(path="...")`.

    Raises:
        BrokenContractError: it says which promise is broken, and how.
    """
    CONTRACTS.check(load, getattr(load, "__name__", type(load).__name__), contract)


def source_contracts(load: Callable[[], Dataset], /) -> list[str]:
    """The names of the contracts that a source has to keep."""
    return CONTRACTS.names(load)


@CONTRACTS.add()
def returns_a_data_set(load: Callable[[], Dataset]) -> None:
    """It returns a Dataset with users, items and interactions, and its name."""
    dataset = load()
    expect(isinstance(dataset, Dataset), f"it returns {type(dataset).__name__}, expected Dataset")
    expect(dataset.name, "the data set has no name")
    expect(dataset.n_users and dataset.n_items and len(dataset.interactions), "there are no users, items, interactions")


@CONTRACTS.add()
def interactions_are_rows_of_users_and_items(load: Callable[[], Dataset]) -> None:
    """Users and items of the log are rows of the vocabularies; every user has an interaction."""
    dataset = load()
    log = dataset.interactions
    for kind, rows, size in (("user", log.users, dataset.n_users), ("item", log.items, dataset.n_items)):
        expect(rows.min() >= 0 and rows.max() < size, f"{kind} rows go from {rows.min()} to {rows.max()} of {size}")
    idle = dataset.n_users - len(np.unique(log.users))
    expect(idle == 0, f"{idle} users have no interaction")


@CONTRACTS.add()
def negative_signals_are_rows_of_users_and_items(load: Callable[[], Dataset]) -> None:
    """Users, items and kinds of negative signals are rows of the vocabularies and of the names of kinds."""
    dataset = load()
    signals = dataset.negatives
    sizes = {"users": dataset.n_users, "items": dataset.n_items, "kinds": len(signals.names)}
    for name, size in sizes.items():
        rows = getattr(signals, name)
        expect(len(rows) == len(signals), f"{len(rows)} {name} of {len(signals)} negative signals")
        expect(not len(rows) or (rows.min() >= 0 and rows.max() < size), f"negative {name} are not rows of {size}")


@CONTRACTS.add()
def reading_twice_gives_the_same(load: Callable[[], Dataset]) -> None:
    """Ids, their order and the log are the same in each reading: splits and stored features rely on it."""
    first, second = load(), load()
    expect(first.fingerprint == second.fingerprint, "two readings differ")
    expect(list(first.catalog.fields.columns) == list(second.catalog.fields.columns), "the columns of texts differ")


@CONTRACTS.add()
def items_can_be_read(load: Callable[[], Dataset]) -> None:
    """Every item has its id and texts, and an image that is there can be identified by its content."""
    dataset = load()
    for row in range(min(20, dataset.n_items)):
        item = dataset.catalog[row]
        expect(item.id == dataset.items[row], f"item {row} is '{item.id}', the vocabulary says '{dataset.items[row]}'")
        expect(all(isinstance(text, str) for text in item.fields.values()), f"item '{item.id}' has a field of no text")
        expect(item.image is None or item.image.digest(), f"the image of item '{item.id}' has an empty digest")
