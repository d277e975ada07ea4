"""The one loop that trains every objective, ranking or contrastive."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lmm4rec.core.device import choose_device
from lmm4rec.core.errors import CheckpointError, TrainingError
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from lmm4rec.distributed import process_group
from lmm4rec.training import state as states
from lmm4rec.training.early_stopping import EarlyStopping
from lmm4rec.training.lr_schedule import LearningRateSchedule
from lmm4rec.training.objective import Batches, Objective, ParameterGroup
from lmm4rec.training.optim.adam import Adam

Row = Mapping[str, float | int]
Validate = Callable[[], Mapping[str, float]]


@dataclass
class History:
    """What happened, one row an epoch: the losses, the learning rate, and validation metrics where they were taken."""

    rows: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best: float = float("nan")
    seconds: float = 0.0  # training and validation, of all sittings


class NotFiniteError(TrainingError):
    """A loss or the gradient is infinite or NaN."""


class Trainer:
    """Minimizes an objective by mini-batches, keeps the weights that validate best, and can go on after a kill."""

    def __init__(
        self,
        *,
        epochs: PositiveInt = 200,
        optimizer: Literal["adam", "adamw"] = "adam",
        learning_rate: PositiveFloat = 1e-3,
        weight_decay: NonNegativeFloat = 0.0,
        schedule: Literal["constant", "linear", "cosine"] = "constant",
        warmup: Fraction = 0.0,
        clip_norm: NonNegativeFloat = 0.0,
        metric: str = "recall@20",
        evaluate_every: PositiveInt = 1,
        patience: NonNegativeInt = 20,
        checkpoint_every_s: NonNegativeFloat = 20.0,
        seed: NonNegativeInt = 0,
        device: str = "auto",
    ) -> None:
        """`warmup` is the share of all steps; `clip_norm` 0 clips nothing; `patience` 0 never stops early."""
        self.epochs, self.optimizer, self.clip_norm = epochs, optimizer, clip_norm
        self.schedule = LearningRateSchedule(
            learning_rate=learning_rate, weight_decay=weight_decay, schedule=schedule, warmup=warmup
        )
        self.metric, self.evaluate_every, self.patience = metric, evaluate_every, patience
        self.checkpoint_every_s, self.seed = checkpoint_every_s, seed
        self.device = choose_device(device)

    def fit(
        self,
        objective: Objective,
        batches: Batches,
        validate: Validate,
        *,
        state_file: Path | None = None,
        listeners: Sequence[Callable[[Row], None]] = (),
        description: str = "training",
    ) -> History:
        """Train and leave the best weights in the objective.

        With a `state_file` the state is kept there, and training goes on from it where it is already there. Each
        finished epoch's row goes to the `listeners`, those of earlier sittings first.

        Raises:
            TrainingError: a loss or the gradient is not finite, or `validate` does not give the metric.
            CheckpointError: the state file is damaged or of another model.
        """
        objective.to(self.device)
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = self._make_optimizer(objective)
        stopping = EarlyStopping(self.metric, self.patience)
        history, best = History(), dict[str, Tensor]()
        if state_file is not None and state_file.exists():
            best = _restore(states.load(state_file), state_file, objective, optimizer, generator, stopping, history)
        for row in history.rows:
            for listen in listeners:
                listen(row)
        saved = began = time.monotonic()
        pause = self.checkpoint_every_s
        already = history.seconds
        bar = progress(total=self.epochs * len(batches), description=description, unit="batch")
        bar.update(len(history.rows) * len(batches))
        for epoch in range(len(history.rows) + 1, self.epochs + 1):
            if stopping.exhausted:
                break
            try:
                row = self._epoch(epoch, objective, batches, optimizer, generator, bar)
            except NotFiniteError as error:
                raise TrainingError(f"{error}. {_last_good(state_file)}") from None
            if epoch % self.evaluate_every == 0 or epoch == self.epochs:
                objective.eval()
                row |= validate()
                if stopping.update(epoch, self._value(row)):
                    best = {name: tensor.detach().clone() for name, tensor in _weights(objective).items()}
            row |= objective.facts()
            history.rows.append(row)
            history.seconds = already + time.monotonic() - began
            for listen in listeners:
                listen(row)
            last = epoch == self.epochs or stopping.exhausted
            due = last or time.monotonic() - saved >= pause
            if state_file is not None and due and process_group.is_first():
                began_saving = time.monotonic()
                _save(state_file, objective, best, optimizer, generator, stopping, history)
                saved = time.monotonic()
                if pause:  # a large state takes seconds to write: not more than a tenth of the time
                    pause = max(self.checkpoint_every_s, 10 * (saved - began_saving))
        bar.close()
        if best:
            _load_weights(objective, best)
        objective.eval()
        history.best_epoch, history.best = stopping.best_epoch, stopping.best
        return history

    def _epoch(
        self,
        epoch: int,
        objective: Objective,
        batches: Batches,
        optimizer: Adam,
        generator: torch.Generator,
        bar: Any,
    ) -> dict[str, float | int]:
        objective.train()
        objective.begin_epoch(generator)
        groups = self._groups(objective)
        totals: dict[str, float] = {}
        for index, batch in enumerate(batches.epoch(generator)):
            step = (epoch - 1) * len(batches) + index
            rates = self._set_rates(optimizer, groups, step, len(batches))
            optimizer.zero_grad()
            terms = objective.losses(batch, generator)
            loss = torch.stack(list(terms.values())).sum()
            _check_finite(loss, terms, epoch, step)
            loss.backward()  # type: ignore[no-untyped-call]
            process_group.average_gradients(objective.parameters())
            self._check_gradient(objective, terms, epoch, step)
            optimizer.step()
            objective.after_step()
            process_group.synchronize_generator(generator)
            for name, term in terms.items():
                totals[name] = totals.get(name, 0.0) + float(term.detach())
            bar.update()
        optimizer.catch_up()
        totals = process_group.average_values(totals)
        means = {f"loss.{name}": total / len(batches) for name, total in totals.items()}
        shown = {name.removeprefix("loss."): f"{value:.4f}" for name, value in means.items()}
        bar.set_postfix(epoch=epoch, **shown, refresh=False)
        return {"epoch": epoch, **rates, "loss": sum(means.values()), **means}

    def _groups(self, objective: Objective) -> list[ParameterGroup]:
        """All that trains: first what learns at the trainer's own rates, named "", then the objective's groups."""
        special = [group for group in objective.groups() if group.parameters]
        apart = {id(weight) for group in special for weight in group.parameters}
        rest = [weight for weight in objective.parameters() if weight.requires_grad and id(weight) not in apart]
        return [ParameterGroup("", tuple(rest), self.schedule), *special] if rest else special

    def _check_gradient(self, objective: Objective, terms: Mapping[str, Tensor], epoch: int, step: int) -> None:
        """Refuse a gradient that is not finite, by one norm over all of it; clip it where that is asked for."""
        gradients = [_values(weight) for weight in objective.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise NotFiniteError(f"the gradient is not finite in epoch {epoch}, step {step}: {_listed(terms)}")
        if self.clip_norm:
            scale = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(scale)

    def _make_optimizer(self, objective: Objective) -> Adam:
        groups = self._groups(objective)
        if not groups:
            raise TrainingError("the objective has no parameter to train")
        options = [
            {
                "params": list(group.parameters),
                "lr": group.schedule.learning_rate,
                "weight_decay": group.schedule.weight_decay,
            }
            for group in groups
        ]
        return Adam(options, decoupled=self.optimizer == "adamw")

    def _set_rates(
        self, optimizer: Adam, groups: Sequence[ParameterGroup], step: int, batches: int
    ) -> dict[str, float]:
        """Set each group's learning rate for a step; they are given by "learning_rate" and the group's name."""
        rates = {}
        for group, options in zip(groups, optimizer.param_groups, strict=True):
            before = group.warm_start * batches
            rate = 0.0 if step < before else group.schedule.at(step - before, self.epochs * batches - before)
            options["lr"] = rate
            rates[f"learning_rate.{group.name}".removesuffix(".")] = rate
        return rates

    def _value(self, row: Row) -> float:
        if self.metric not in row:
            given = ", ".join(name for name in row if "@" in name) or "none"
            raise TrainingError(f"validation gives no '{self.metric}' to stop by; it gives: {given}")
        return row[self.metric]


def _values(weight: nn.Parameter) -> Tensor:
    """The numbers of a gradient; a sparse one is coalesced, so that each row is there once."""
    assert weight.grad is not None
    if not weight.grad.is_sparse:
        return weight.grad
    weight.grad = weight.grad.coalesce()
    return weight.grad.values()


def _check_finite(loss: Tensor, terms: Mapping[str, Tensor], epoch: int, step: int) -> None:
    if not torch.isfinite(loss):
        raise NotFiniteError(f"the loss is not finite in epoch {epoch}, step {step}: {_listed(terms)}")


def _listed(terms: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} = {float(term.detach()):.6g}" for name, term in terms.items())


def _last_good(state_file: Path | None) -> str:
    """What is left to go on from."""
    if state_file is None or not state_file.exists():
        return "No state was kept yet: start again with a lower learning_rate"
    epochs = len(states.load(state_file).facts["history"]["rows"])
    return f"The last good state, that after epoch {epochs}, is in {state_file}. Try a lower learning_rate"


def _weights(objective: Objective) -> dict[str, Tensor]:
    """The state without the parameters that never change, which whoever made the objective has."""
    fixed = {name for name, weight in objective.named_parameters() if not weight.requires_grad}
    return {name: tensor for name, tensor in objective.state_dict().items() if name not in fixed}


def _load_weights(objective: Objective, weights: Mapping[str, Tensor]) -> None:
    """Raises RuntimeError where they are of another objective."""
    fixed = {name: weight for name, weight in objective.named_parameters() if not weight.requires_grad}
    objective.load_state_dict({**fixed, **weights})


def _save(
    path: Path,
    objective: Objective,
    best: Mapping[str, Tensor],
    optimizer: Adam,
    generator: torch.Generator,
    stopping: EarlyStopping,
    history: History,
) -> None:
    facts = {"history": asdict(history), "stopping": asdict(stopping)}
    saved = states.State(_weights(objective), best, optimizer.state_dict(), generator.get_state(), facts)
    states.save(path, saved)


def _restore(
    state: states.State,
    path: Path,
    objective: Objective,
    optimizer: Adam,
    generator: torch.Generator,
    stopping: EarlyStopping,
    history: History,
) -> dict[str, Tensor]:
    try:
        _load_weights(objective, state.weights)
        optimizer.load_state_dict(dict(state.optimizer))
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} belongs to another model ({error}); delete it to train from the start"
        ) from error
    generator.set_state(state.generator)
    for target, values in ((stopping, state.facts["stopping"]), (history, state.facts["history"])):
        for name, value in values.items():
            setattr(target, name, value)
    return dict(state.best)
