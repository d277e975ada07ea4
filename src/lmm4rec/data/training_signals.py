"""The negative signals that may train beside a split: none from after the training part, none against a positive."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64

from lmm4rec.data.dataset import Dataset
from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.negative_signals import NegativeSignals

_NO_LIMIT = np.iinfo(np.int64).max


def training_signals(
    dataset: Dataset, method: str, train: Interactions, *, held_out: Bool[np.ndarray, " n"]
) -> tuple[NegativeSignals, tuple[Finding, ...]]:
    """The negative signals that may train (docs/decisions/0032), and a note on the others.

    They are earlier than what is held out, where the split has an order in time, and none is of a training pair.
    `held_out` marks the interactions of the data set that are not for training.
    """
    signals = dataset.negatives
    if not len(signals):
        return signals, ()
    early = signals
    if signals.timestamps is not None and dataset.interactions.timestamps is not None:
        limits = _time_limits(dataset, method, held_out)
        early = signals.take(signals.timestamps < limits[signals.users])
    used = early.without(train, dataset.n_items)
    later, contradicted = len(signals) - len(early), len(early) - len(used)
    message = f"{counted(len(used), 'negative signal')} can train ({used.summary() or 'none'})"
    if later:
        message += f"; not used: {later:,} later than the training part"
    if contradicted:
        message += f"; not used: {contradicted:,} against a positive interaction in training, which counts"
    return used, (Finding("negative-signals", "note", len(used), message),)


def _time_limits(dataset: Dataset, method: str, held_out: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, " users"]:
    """The time before which a user's negative signals may train."""
    log, times = dataset.interactions, dataset.interactions.timestamps
    assert times is not None
    limits = np.full(dataset.n_users, _NO_LIMIT)
    if method == "global_time" and held_out.any():
        limits[:] = times[held_out].min()
    elif method in ("user_time", "leave_last_out"):
        np.minimum.at(limits, log.users[held_out], times[held_out])
    elif method == "labels":  # the file's parts may lie in time: nothing after the user's last training interaction
        limits[np.unique(log.users[held_out])] = 0
        np.maximum.at(limits, log.users[~held_out], times[~held_out] + 1)
    return limits
