"""Pools for tests."""

from __future__ import annotations

from lmm4rec.distributed.pool import Outcome, SerialPool


class LastFirst(SerialPool):
    """A pool of three workers whose last job ends first."""

    slots = 3

    def wait(self) -> Outcome:
        """The outcome of the job that was begun last."""
        self._jobs.reverse()
        return super().wait()
