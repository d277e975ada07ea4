"""The state of a training, and its checkpoint: complete or absent, and never a pickle."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmm4rec.core.errors import CheckpointError
from lmm4rec.distributed import process_group, sharding
from lmm4rec.nn.tables import ShardedTable
from lmm4rec.training.history import EarlyStopping, History, Row
from lmm4rec.training.objective import Objective
from lmm4rec.training.optim.adam import Adam
from lmm4rec.training.saved_tensors import is_saved, read_saved, save_parts, save_whole
from lmm4rec.training.weight_average import WeightAverage


@dataclass
class TrainingState:
    """All that a training needs to resume as if it had never stopped."""

    objective: Objective
    optimizer: Adam
    generator: torch.Generator
    stopping: EarlyStopping
    average: WeightAverage = field(default_factory=WeightAverage)
    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict)  # weights at the best evaluation; empty before the first

    def __post_init__(self) -> None:
        self._row_added = time.monotonic()

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.history.rows)

    def remaining_epochs(self, epochs: int) -> Iterator[int]:
        """The numbers of the next epochs, up to `epochs`, until early stopping."""
        while self.epoch < epochs and not self.stopping.exhausted:
            yield self.epoch + 1

    def end_epoch(self, row: Row) -> None:
        """Add the row of a finished epoch to the history, and the time since the one before."""
        now = time.monotonic()
        self.history.rows.append(row)
        self.history.seconds += now - self._row_added
        self._row_added = now

    def start_average(self) -> None:
        """Begin the average with the weights of an earlier training, which the objective has."""
        self.average.start(self._weights())

    def update_average(self, epoch: int) -> None:
        """Take the weights after an epoch into their average."""
        self.average.update(self._weights(), epoch)

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the objective has the average of its weights, where one is kept."""
        return self.average.in_place_of(self._weights())

    def keep_best(self) -> None:
        """Keep a copy of the objective's weights as the best so far."""
        self.best = {name: tensor.detach().clone() for name, tensor in self._weights().items()}

    def finish(self) -> None:
        """Load the best weights into the objective; where no epoch was validated, the average, if one is kept."""
        if kept := self.best or self.average.tensors:
            self._load_weights({**self._weights(), **kept})
        self.history.best_epoch, self.history.best = self.stopping.best_epoch, self.stopping.best

    def save(self, path: Path) -> None:
        """Write the state, of sharded tables by all processes; a kill leaves the previous state or the new one."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"weights.{name}": tensor for name, tensor in self._weights().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        tensors["generator"] = self.generator.get_state()
        for number, moments in optimizer["state"].items():
            tensors |= {f"optimizer.{number}.{name}": moment for name, moment in moments.items()}
        facts = {"history": asdict(self.history), "stopping": asdict(self.stopping)}
        facts["optimizer"] = {"groups": optimizer["param_groups"], "plain": {}}
        if tables := self._tables():
            bounds = {name: table.bounds for name, table in tables.items() if name in tensors}
            save_parts(path, tensors, facts, bounds, version=self.epoch)
        else:
            save_whole(path, tensors, facts)

    def load(self, path: Path) -> None:
        """Resume from the state in a file.

        Raises:
            CheckpointError: the file is missing, damaged, or of another model.
        """
        tensors, facts = read_saved(path, {name: table.range for name, table in self._tables().items()})
        moments: dict[int, dict[str, Any]] = {}
        for name, tensor in _under("optimizer.", tensors).items():
            number, key = name.split(".", 1)
            moments.setdefault(int(number), {})[key] = tensor
        try:
            self._load_weights(_under("weights.", tensors))
            self.optimizer.load_state_dict({"state": moments, "param_groups": facts["optimizer"]["groups"]})
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{path} belongs to another model ({error}); delete it to train from the start"
            ) from error
        self.best, self.average.tensors = _under("best.", tensors), _under("average.", tensors)
        self.generator.set_state(tensors["generator"].to(torch.uint8))
        for target, values in ((self.stopping, facts["stopping"]), (self.history, facts["history"])):
            for name, value in values.items():
                setattr(target, name, value)

    def _weights(self) -> dict[str, Tensor]:
        """The objective's state without frozen parameters, which whoever built the objective has."""
        frozen = {name for name, weight in self.objective.named_parameters() if not weight.requires_grad}
        return {name: tensor for name, tensor in self.objective.state_dict().items() if name not in frozen}

    def _tables(self) -> dict[str, ShardedTable]:
        """The sharded tables by the names of the tensors that are saved of them."""
        named: dict[str, ShardedTable] = {}
        numbers = {weight: number for number, weight in enumerate(self.optimizer.parameters)}
        for name, weight in self.objective.named_parameters():
            if isinstance(weight, ShardedTable):
                saved = [f"weights.{name}", f"best.{name}", f"average.{name}"]
                saved += [f"optimizer.{numbers[weight]}.{moment}" for moment in ("exp_avg", "exp_avg_sq")]
                named |= dict.fromkeys(saved, weight)
        return named

    def _load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Raises RuntimeError where they belong to another objective."""
        frozen = {name: weight for name, weight in self.objective.named_parameters() if not weight.requires_grad}
        self.objective.load_state_dict({**frozen, **weights})


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


_SMALLER = "a lower learning_rate (bprsgd: recommender.step_size)"
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
        if path is not None and is_saved(path):
            state.load(path)
            checkpoint.epoch = state.epoch
        return checkpoint

    def save(self, *, last: bool) -> None:
        """Save the state where it is due; always after the `last` epoch.

        Of several processes the first one decides and writes; with sharded tables all write.
        """
        began = time.monotonic()
        is_due = last or began - self._saved_at >= self.every_s
        if self.path is None:
            return
        if sharding.is_sharded():
            is_due = process_group.broadcast(is_due)
        elif not process_group.is_first():
            return
        if not is_due:
            return
        self.state.save(self.path)
        self.epoch, self._saved_at = self.state.epoch, time.monotonic()
        if self.every_s:
            self.every_s = max(self.every_s, (self._saved_at - began) / _TIME_SHARE)

    def __str__(self) -> str:
        """From where training can be resumed."""
        if not self.epoch:
            return f"No state was saved yet: start again with smaller steps: {_SMALLER}"
        return f"The last good state, after epoch {self.epoch}, is in {self.path}. Try smaller steps: {_SMALLER}"
