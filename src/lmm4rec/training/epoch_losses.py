"""The losses of an epoch: checked to be finite, and averaged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lmm4rec.core.errors import TrainingError
from lmm4rec.distributed import process_group
from lmm4rec.training.state import Checkpoint

READ_EVERY = 32
"""Steps of an accelerator between two reads of its numbers."""


class _Check(NamedTuple):
    """A number that has to be finite, and the losses that an error reports."""

    value: Tensor
    name: str
    step: int
    terms: Mapping[str, Tensor]


class EpochLosses:
    """The losses of an epoch's steps. A context whose end reads what is unread, also where a step has failed.

    To read a number of an accelerator is to wait until it has done all of its work, so the numbers of several steps are
    read together. The error names the step whose number is not finite; steps after it may have been made.
    """

    def __init__(self, epoch: int, checkpoint: Checkpoint, *, every: int) -> None:
        """`every`: steps between two reads; where it is 1, a number is checked at once, before the weights change."""
        self.epoch, self.checkpoint, self.every = epoch, checkpoint, every
        self._totals: dict[str, float] = {}
        self._unchecked: list[_Check] = []
        self._unread: list[Mapping[str, Tensor]] = []

    def __enter__(self) -> EpochLosses:
        return self

    def __exit__(self, *_: object) -> None:
        self._read()

    def require_finite(
        self, value: Float[Tensor, ""], name: str, step: int, terms: Mapping[str, Float[Tensor, ""]]
    ) -> None:
        """Raises TrainingError, at the latest when the epoch ends, where the value is not finite."""
        if self.every > 1:
            self._unchecked.append(_Check(value.detach(), name, step, _detached(terms)))
        elif not math.isfinite(value.item()):
            raise self._error(name, step, terms)

    def add(self, terms: Mapping[str, Float[Tensor, ""]]) -> None:
        """Add the losses of a step."""
        if self.every > 1:
            self._unread.append(_detached(terms))
            if len(self._unread) == self.every:
                self._read()
        else:
            self._sum(terms, [loss.item() for loss in terms.values()])

    def means(self, batches: int) -> dict[str, float]:
        """The mean over batches and processes of the sum, "loss", and of each term, "loss.NAME"."""
        self._read()
        totals = process_group.average_values(self._totals)
        means = {f"loss.{name}": total / batches for name, total in totals.items()}
        return {"loss": sum(means.values()), **means}

    def _read(self) -> None:
        """Check and sum what is unread."""
        unchecked, self._unchecked = self._unchecked, []
        if unchecked:
            finite = torch.stack([check.value for check in unchecked]).isfinite().tolist()
            wrong = [check for check, is_finite in zip(unchecked, finite, strict=True) if not is_finite]
            if wrong:
                raise self._error(wrong[0].name, wrong[0].step, wrong[0].terms)
        unread, self._unread = self._unread, []
        if unread:
            values = iter(torch.stack([loss for terms in unread for loss in terms.values()]).tolist())
            for terms in unread:
                self._sum(terms, values)

    def _sum(self, names: Iterable[str], values: Iterable[float]) -> None:
        for name, value in zip(names, values, strict=False):  # names first: of an iterator no value is lost
            self._totals[name] = self._totals.get(name, 0.0) + value

    def _error(self, name: str, step: int, terms: Mapping[str, Tensor]) -> TrainingError:
        losses = ", ".join(f"{term} = {loss.item():.6g}" for term, loss in terms.items())
        return TrainingError(
            f"the {name} is not finite in epoch {self.epoch}, step {step}: {losses}. {self.checkpoint}"
        )


def _detached(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: loss.detach() for name, loss in terms.items()}
