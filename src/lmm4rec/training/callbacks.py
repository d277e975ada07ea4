"""Callbacks: hooks into `Trainer.fit`."""

from __future__ import annotations

from lmm4rec.training.history import History, Row


class Callback:
    """Called by `Trainer.fit`; a subclass overrides the methods that it needs."""

    def on_train_begin(self, history: History) -> None:
        """Called once before the first epoch; `history` has the earlier epochs where training is resumed.

        >>> class Announce(Callback):
        ...     def on_train_begin(self, history):
        ...         print(f"training starts after epoch {len(history.rows)}")
        >>> Announce().on_train_begin(History())
        training starts after epoch 0
        """

    def on_epoch_end(self, row: Row) -> None:
        """Called after each epoch and its validation, before the state is saved; an exception ends the training.

        >>> class Print(Callback):
        ...     def on_epoch_end(self, row):
        ...         print(f"epoch {row['epoch']}: loss {row['loss']:.3f}")
        >>> Print().on_epoch_end({"epoch": 1, "learning_rate": 1e-3, "loss": 0.6931})
        epoch 1: loss 0.693
        """
