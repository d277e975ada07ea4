"""Warm start: a training begins with the weights of an earlier run, whose users and items are found by their ids.

What was there keeps its rows. A new user's row is the mean of the rows of users with the same items, a new item's that
of items with the same users, both over two steps in the interaction graph; a new item without interactions has the row
that its content predicts (a ridge regression on the known items). Means are scaled to the mean length of known rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.core.types import Features
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.findings import Finding, agreeing, counted
from lmm4rec.data.splits import Split
from lmm4rec.evaluation.ranking import interaction_matrix
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.result import RunMetrics
from lmm4rec.nn.linear_algebra import principal_axes, ridge
from lmm4rec.nn.tables import Table
from lmm4rec.serving.bundle import Bundle
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.saved_tensors import is_saved, read_saved

_AXES, _ALPHA = 64, 10.0  # principal axes of content, and the weight of the ridge


class _Rows(NamedTuple):
    """The users or the items: the earlier row of each (-1 for a new one), and the number of earlier rows."""

    earlier: Int64[np.ndarray, " rows"]
    before: int

    @classmethod
    def of(cls, before: Vocabulary, now: Vocabulary, trained: Int64[np.ndarray, " before"], total: int) -> _Rows:
        """The rows of ids now; `trained` are those of the earlier ids among the `total` rows of the weights."""
        earlier = np.array([trained[before.row(id_)] if id_ in before else -1 for id_ in now], dtype=np.int64)
        return cls(earlier, total)

    @property
    def kept(self) -> int:
        return int((self.earlier >= 0).sum())

    def __str__(self) -> str:
        new, gone = len(self.earlier) - self.kept, self.before - self.kept
        return f"{self.kept:,} kept, {new:,} new, {gone:,} gone"


def start_from(
    run: Path, plan: Plan, objective: RankingObjective, split: Split, features: Features
) -> tuple[Finding, ...]:
    """Load the weights of an earlier run into the plan's objective; what was taken from it, and what it knew already.

    Raises:
        ConfigError: the run has another model, or weights of other shapes.
        CheckpointError: there is no finished run, or its weights are damaged or gone.
    """
    if not plan.recommender.component.is_trained:
        message = f"{plan.recommender.label} is computed anew from all interactions: train.start_from is not used"
        return (Finding("warm-start", "note", 0, message),)
    saved, bundle = earlier_weights(run, plan), Bundle.load(run)
    n_users, n_items = len(bundle.users) + len(bundle.erased_rows), len(bundle.items)
    users = _Rows.of(bundle.users, split.dataset.users, bundle.trained_rows, n_users)
    items = _Rows.of(bundle.items, split.dataset.items, np.arange(n_items), n_items)
    size = {"n_users": split.dataset.n_users, "n_items": split.dataset.n_items}
    fill = _Fill(users, items, interaction_matrix([split.train], **size).astype(np.float32), features)
    trained = {name: one for name, one in objective.named_parameters() if one.requires_grad}
    drawn = [name for name in trained if name not in saved]  # such as those of another modality
    with torch.no_grad():
        for name, parameter in trained.items():
            if name in saved and isinstance(parameter, Table):
                parameter.assign(fill(name, saved[name], parameter.all()))
            elif name in saved:
                parameter.copy_(fill(name, saved[name], parameter))
    copied = len(trained) - len(drawn)
    message = f"training starts with the weights of {run}; users: {users}; items: {items}"
    message += f"; it lacks {', '.join(drawn)}, drawn anew" if drawn else ""
    return Finding("warm-start", "note", copied, message), *_known_before(run, bundle, split, users, items)


def earlier_weights(run: Path, plan: Plan) -> Mapping[str, Tensor]:
    """The trained weights of a finished run of the same model, by name.

    Raises:
        ConfigError: the run has another model.
        CheckpointError: there is no finished run, or its weights are damaged or gone.
    """
    folder = RunFolder(run)
    if not folder.experiment.exists() or not folder.is_finished:
        raise CheckpointError(f"train.start_from = '{run}' is no folder of a finished run")
    before, now = folder.plan().recommender, plan.recommender
    if before.table["name"] != now.table["name"]:
        raise ConfigError(f"train.start_from = '{run}' is a run of {before.label}, and this one trains {now.label}")
    if not is_saved(folder.state):
        raise CheckpointError(f"the weights of {run} are gone: {folder.state} is missing; run it again")
    tensors, _ = read_saved(folder.state)
    prefix = "best." if any(name.startswith("best.") for name in tensors) else "weights."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _known_before(run: Path, bundle: Bundle, split: Split, users: _Rows, items: _Rows) -> tuple[Finding, ...]:
    """A warning where held-out interactions were in the data of the earlier run, unless it held out the same ones."""
    if RunMetrics.read(RunFolder(run).metrics).data.split_fingerprint == split.fingerprint:
        return ()
    seen = bundle.trained_rows[bundle.seen.users] * items.before + bundle.seen.items
    known = total = 0
    for part in (split.valid, split.test):
        rows = users.earlier[part.users], items.earlier[part.items]
        there = (rows[0] >= 0) & (rows[1] >= 0)
        known += int(np.isin(rows[0][there] * items.before + rows[1][there], seen).sum())
        total += len(part)
    if not known:
        return ()
    message = (
        f"{known:,} of {counted(total, 'held-out interaction')} {agreeing(known, 'were')} in the data of {run}, which "
        "may have been trained on them: the metrics of this run are too high then. Hold out newer ones, by time"
    )
    return (Finding("known-before", "warning", known, message),)


class _Fill:
    """Weights of an earlier run as those of a new one."""

    def __init__(self, users: _Rows, items: _Rows, matrix: sp.csr_array, features: Features) -> None:
        self.users, self.items, self.matrix = users, items, matrix
        self.content = None
        if features:
            content = ContentSpace.of(features)(features)
            self.content = content @ principal_axes(content, _AXES)

    def __call__(self, name: str, saved: Tensor, initial: Tensor) -> Tensor:
        """The weights of a parameter: by row where it has one for each user, item or node, else as they were.

        Raises:
            ConfigError: it has another shape.
        """
        users, items = self.users, self.items
        if saved.shape[1:] == initial.shape[1:] and saved.dim():
            rows = len(saved), len(initial)
            if rows == (users.before, len(users.earlier)):
                return self._user_rows(saved, initial)
            if rows == (items.before, len(items.earlier)):
                return self._item_rows(saved, initial)
            if rows == (users.before + items.before, len(users.earlier) + len(items.earlier)):
                parts = torch.split(initial, [len(users.earlier), len(items.earlier)])
                before = torch.split(saved, [users.before, items.before])
                return torch.cat([self._user_rows(before[0], parts[0]), self._item_rows(before[1], parts[1])])
        if saved.shape != initial.shape:
            raise ConfigError(
                f"the weights '{name}' have the shape {list(saved.shape)} in the earlier run and {list(initial.shape)} "
                "now: keep the keys of [recommender], [encoder] and [features], or begin anew: without "
                "train.start_from, in a night with --cold"
            )
        return saved

    def _user_rows(self, saved: Tensor, initial: Tensor) -> Tensor:
        return _placed(self.users.earlier, saved, initial, _two_steps(self.matrix, self.users.earlier, saved))

    def _item_rows(self, saved: Tensor, initial: Tensor) -> Tensor:
        earlier = self.items.earlier
        filled = _two_steps(self.matrix.T.tocsr(), earlier, saved)
        if self.content is not None and self.items.kept:
            known = torch.from_numpy(earlier >= 0)
            x, y = self.content[known], saved[torch.from_numpy(earlier[earlier >= 0])].reshape(int(known.sum()), -1)
            weights, mean = ridge(x, y, _ALPHA)
            predicted = self.content @ weights + mean
            has_content = (self.content != 0).any(1)
            lacking = ~filled.reshape(len(filled), -1).isfinite().all(1) & has_content
            filled = torch.where(lacking.reshape(-1, *[1] * (saved.dim() - 1)), predicted.reshape(filled.shape), filled)
        return _placed(earlier, saved, initial, filled)


def _two_steps(
    matrix: sp.csr_array, earlier: Int64[np.ndarray, " rows"], saved: Float[Tensor, "before ..."]
) -> Float[Tensor, "rows ..."]:
    """The mean over neighbors of the mean of their known neighbors' earlier values; NaN where there are none."""
    known = np.flatnonzero(earlier >= 0)
    values = saved[torch.from_numpy(earlier[known])].float().reshape(len(known), -1).numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        to_known = matrix[known]
        degrees = to_known.sum(0)
        means = np.nan_to_num((to_known.T @ values) / degrees[:, None])
        filled = (matrix @ means) / (matrix @ (degrees > 0).astype(np.float32))[:, None]
    return torch.from_numpy(np.asarray(filled, dtype=np.float32)).reshape(len(earlier), *saved.shape[1:])


def _placed(earlier: Int64[np.ndarray, " rows"], saved: Tensor, initial: Tensor, filled: Tensor) -> Tensor:
    """Earlier rows where there are any; else the filled ones, at the mean length of the earlier rows; else initial."""
    rows = torch.from_numpy(earlier)
    if saved.dim() > 1:
        length = saved.norm(dim=-1).mean()
        filled = filled * (length / filled.norm(dim=-1, keepdim=True).clamp(min=1e-12))
    column = (-1, *[1] * (saved.dim() - 1))
    new = torch.where(filled.isfinite(), filled.to(initial.dtype), initial)
    return torch.where((rows >= 0).reshape(column), saved[rows.clamp(min=0)], new)
