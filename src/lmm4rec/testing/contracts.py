"""Contracts: named promises that every component of a kind keeps, with what they need to be checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Subject = TypeVar("Subject")


class BrokenContractError(AssertionError):
    """A component breaks a promise of its kind."""


@dataclass(frozen=True)
class Contract(Generic[Subject]):
    """A promise, the check that raises where it is broken, and whether it is made at all."""

    check: Callable[[Subject], None]
    applies: Callable[[Subject], bool]

    @property
    def promise(self) -> str:
        """The promise in a sentence."""
        return (inspect.getdoc(self.check) or "").split("\n\n", maxsplit=1)[0].replace("\n", " ")


class Contracts(Generic[Subject]):
    """All contracts of a kind of component, by name."""

    def __init__(self) -> None:
        self._all: dict[str, Contract[Subject]] = {}

    def add(
        self, applies: Callable[[Subject], bool] = lambda _: True
    ) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        """The decorator that makes a function the contract of its name, for the subjects that it `applies` to."""

        def decorate(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
            self._all[check.__name__] = Contract(check, applies)
            return check

        return decorate

    def names(self, subject: Subject) -> list[str]:
        """The names of the contracts that a component has to keep, by what it declares."""
        return [name for name, contract in self._all.items() if contract.applies(subject)]

    def check(self, subject: Subject, title: str, only: str | None = None) -> None:
        """Check all contracts that apply, or the one that is named.

        Raises:
            BrokenContractError: it says which promise is broken, and how.
            ValueError: no contract has that name, or it does not apply.
        """
        if only is not None and not (only in self._all and self._all[only].applies(subject)):
            raise ValueError(f"no contract '{only}' for {title}; there are: {', '.join(self.names(subject))}")
        for name in self.names(subject) if only is None else [only]:
            contract = self._all[name]
            try:
                contract.check(subject)
            except Exception as error:
                raise BrokenContractError(
                    f"{title} breaks the contract '{name}': {contract.promise} ({type(error).__name__}: {error})"
                ) from error


def expect(condition: object, message: str) -> None:
    """Raise AssertionError with a message where a condition does not hold; unlike `assert`, also under `python -O`."""
    if not condition:
        raise AssertionError(message)
