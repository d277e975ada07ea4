"""The training loop of every objective, ranking or contrastive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from typing_extensions import Doc

from lmm4rec.core.device import choose_device
from lmm4rec.core.memory import keep_freed_memory
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from lmm4rec.distributed import process_group
from lmm4rec.training.callbacks import Callback
from lmm4rec.training.epoch_losses import READ_EVERY, EpochLosses
from lmm4rec.training.history import EarlyStopping, History
from lmm4rec.training.interruption import deferred_interruption
from lmm4rec.training.lr_schedule import LearningRates, LearningRateSchedule, parameter_groups
from lmm4rec.training.objective import Batches, Objective
from lmm4rec.training.optim.adam import Adam, clip_gradients
from lmm4rec.training.state import Checkpoint, TrainingState
from lmm4rec.training.weight_average import WeightAverage

Validate = Callable[[], Mapping[str, float]]


class Trainer:
    """Minimizes an objective by mini-batches and keeps the weights that validate best."""

    def __init__(
        self,
        *,
        epochs: Annotated[PositiveInt, Doc("Passes over the training interactions, at most.")] = 200,
        optimizer: Annotated[Literal["adam", "adamw"], Doc("Adam, or AdamW with decoupled weight decay.")] = "adam",
        learning_rate: Annotated[PositiveFloat, Doc("Learning rate at its height.")] = 1e-3,
        weight_decay: Annotated[NonNegativeFloat, Doc("Weight decay; most models have an l2_weight.")] = 0.0,
        schedule: Annotated[Literal["constant", "linear", "cosine"], Doc("Learning rate after warm-up.")] = "constant",
        warmup: Annotated[Fraction, Doc("Share of all steps in which the learning rate rises.")] = 0.0,
        clip_norm: Annotated[NonNegativeFloat, Doc("Largest norm of the gradient; 0: no limit.")] = 0.0,
        metric: Annotated[str, Doc("Validation metric by which the best epoch is chosen.")] = "recall@20",
        weight_average: Annotated[
            Fraction, Doc("Share of earlier epochs in the averaged weights that are validated and kept; 0: none.")
        ] = 0.0,
        evaluate_every: Annotated[PositiveInt, Doc("Epochs between validations.")] = 1,
        patience: Annotated[NonNegativeInt, Doc("Validations without a new best before it stops; 0: never.")] = 20,
        checkpoint_every_s: Annotated[NonNegativeFloat, Doc("Seconds between two checkpoints, at least.")] = 20.0,
        seed: Annotated[NonNegativeInt, Doc("Seed of first weights, order and negatives.")] = 0,
        device: Annotated[str, Doc("Where to compute: auto, cpu, cuda or cuda:1.")] = "auto",
    ) -> None:
        self.epochs, self.optimizer, self.clip_norm = epochs, optimizer, clip_norm
        self.schedule = LearningRateSchedule(
            learning_rate=learning_rate, weight_decay=weight_decay, schedule=schedule, warmup=warmup
        )
        self.weight_average = weight_average
        self.metric, self.evaluate_every, self.patience = metric, evaluate_every, patience
        self.checkpoint_every_s, self.seed = checkpoint_every_s, seed
        self.device = choose_device(device)

    def fit(
        self,
        objective: Objective,
        batches: Batches,
        validate: Validate | None,
        *,
        state_file: Path | None = None,
        callbacks: Sequence[Callback] = (),
        description: str = "training",
        is_warm: bool = False,
    ) -> History:
        """The history of the training, which leaves the best weights in the objective.

        Where `validate` is None, no epoch is best: all of them are trained, and the last weights, or their average,
        stay.

        `is_warm` says that the objective has weights of an earlier training: they count in the averaged weights.

        With a `state_file` the state is saved there now and then, and training resumes from it where it exists. Ctrl-C
        and SIGTERM then stop it at the end of the epoch, with the state saved.

        Raises:
            KeyboardInterrupt: it was stopped by a signal.
            TrainingError: a loss or the gradient is not finite, or `validate` does not report the metric.
            CheckpointError: the state file is damaged or belongs to another model.
        """
        keep_freed_memory()
        objective.to(self.device)
        groups = parameter_groups(objective.parameters(), objective.groups(), self.schedule)
        optimizer = Adam([group.options() for group in groups], decoupled=self.optimizer == "adamw")
        learning_rates = LearningRates(optimizer, groups, epochs=self.epochs, batches=len(batches))
        generator, stopping = torch.Generator().manual_seed(self.seed), EarlyStopping(self.metric, self.patience)
        state = TrainingState(objective, optimizer, generator, stopping, WeightAverage(self.weight_average))
        if is_warm:
            state.start_average()
        unit = "sweep" if objective.is_solved else "batch"
        checkpoint = Checkpoint.resume(state, state_file, every_s=self.checkpoint_every_s)
        with (
            progress(total=self.epochs * len(batches), description=description, unit=unit) as bar,
            deferred_interruption(is_saved=state_file is not None) as interruption,
        ):
            bar.update(state.epoch * len(batches))
            for callback in callbacks:
                callback.on_train_begin(state.history)
            for epoch in state.remaining_epochs(self.epochs):
                row = {"epoch": epoch, **self._train_epoch(epoch, state, batches, learning_rates, checkpoint, bar)}
                state.update_average(epoch)
                if validate is not None and (epoch % self.evaluate_every == 0 or epoch == self.epochs):
                    with state.averaged():
                        objective.eval()
                        row |= validate()
                        if stopping.update(row):
                            state.keep_best()
                row |= objective.epoch_counts()
                state.end_epoch(row)
                bar.set_postfix(epoch=epoch, loss=f"{row['loss']:.4f}", refresh=False)
                for callback in callbacks:
                    callback.on_epoch_end(row)
                is_last = stopping.exhausted or epoch == self.epochs
                stops = interruption.is_requested() and not is_last
                checkpoint.save(last=is_last or stops)
                if stops:
                    raise KeyboardInterrupt(f"stopped after epoch {epoch}, which is saved")
        state.finish()
        objective.eval()
        return state.history

    def _train_epoch(
        self, epoch: int, state: TrainingState, batches: Batches, rates: LearningRates, checkpoint: Checkpoint, bar: Any
    ) -> dict[str, float]:
        """The learning rates and mean losses of an epoch, after its steps or its sweep."""
        objective, optimizer, generator = state.objective, state.optimizer, state.generator
        objective.train()
        objective.begin_epoch(generator)
        with EpochLosses(epoch, checkpoint, every=1 if self.device.type == "cpu" else READ_EVERY) as losses:
            if objective.is_solved:
                terms = objective.sweep(generator)
                losses.require_finite(torch.stack(list(terms.values())).sum(), "loss", 0, terms)
                losses.add(terms)
                bar.update(len(batches))
                return losses.means(1)
            for step, batch in enumerate(batches.epoch(generator), start=(epoch - 1) * len(batches)):
                current_rates = rates.set(step)
                optimizer.zero_grad()
                terms = objective.losses(batch, generator)
                loss = torch.stack(list(terms.values())).sum()
                losses.require_finite(loss, "loss", step, terms)
                loss.backward()  # type: ignore[no-untyped-call]
                process_group.average_gradients(objective.replicated_parameters())
                norms = [clip_gradients(part, self.clip_norm) for part in objective.clipped_together()]
                losses.require_finite(torch.stack(norms).sum(), "gradient", step, terms)
                optimizer.step()
                objective.after_step()
                process_group.synchronize_generator(generator)
                losses.add(terms)
                bar.update()
        optimizer.catch_up()  # the rows whose updates are deferred: validation and checkpoints read them
        return {**current_rates, **losses.means(len(batches))}
