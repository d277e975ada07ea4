"""When the state of a training is saved."""

from __future__ import annotations

import time
from pathlib import Path

from lmm4rec.distributed import process_group
from lmm4rec.training.state import TrainingState

_TIME_SHARE = 0.1  # of the time that may go into writing


class Checkpoint:
    """The file in which a training state is saved, at most every `every_s` seconds.

    A large state takes seconds to write: where `every_s` is not 0, writing takes at most a tenth of the time.
    """

    def __init__(self, state: TrainingState, path: Path | None, *, every_s: float) -> None:
        """Without a `path` nothing is saved."""
        self.state, self.path, self.every_s = state, path, every_s
        self.epoch = 0  # the last one in the file
        self._saved_at = time.monotonic()

    @classmethod
    def resume(cls, state: TrainingState, path: Path | None, *, every_s: float) -> Checkpoint:
        """The checkpoint of a state, into which the file was loaded where it exists."""
        checkpoint = cls(state, path, every_s=every_s)
        if path is not None and path.exists():
            state.load(path)
            checkpoint.epoch = state.epoch
        return checkpoint

    def save(self, *, last: bool) -> None:
        """Save the state where it is due; always after the `last` epoch. Of several processes the first one writes."""
        began = time.monotonic()
        if self.path is None or not process_group.is_first() or not (last or began - self._saved_at >= self.every_s):
            return
        self.state.save(self.path)
        self.epoch, self._saved_at = self.state.epoch, time.monotonic()
        if self.every_s:
            self.every_s = max(self.every_s, (self._saved_at - began) / _TIME_SHARE)

    def __str__(self) -> str:
        """From where training can be resumed."""
        if not self.epoch:
            return "No state was saved yet: start again with a lower learning_rate"
        return f"The last good state, after epoch {self.epoch}, is in {self.path}. Try a lower learning_rate"
