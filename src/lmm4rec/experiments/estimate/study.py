"""Estimates of a study's cells and searches: the times of finished cells of the same design, or else a trial."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace

from lmm4rec.core.device import threads
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.estimate.estimate import Estimate
from lmm4rec.experiments.estimate.run import random_features
from lmm4rec.experiments.estimate.training import estimate_training
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.study.cells import Cell
from lmm4rec.experiments.study.spec import StudySpec
from lmm4rec.training.sampler import sampler_of

_DIM = 256  # of the random features that stand for an encoder's
_AROUND_S = 2.0  # for reading data, the test, the bundle and the report


class StudyEstimates:
    """The estimates of one study; cells of one recommender with the same data, split and batches share a trial.

    They leave out what an encoder takes: encoding, fine-tuning, and its part of end-to-end training.
    """

    def __init__(self, spec: StudySpec, measured: Mapping[str, list[float]]) -> None:
        """`measured` are the seconds of finished cells, by the name of their design."""
        self._spec, self._measured = spec, measured
        self._data = DataCache()
        self._trials: dict[str, Estimate] = {}

    def is_measured(self, cell: Cell) -> bool:
        """Whether cells of the same design are finished."""
        return cell.design_name in self._measured

    def cell(self, cell: Cell) -> Estimate:
        """The estimate of a cell's run: the mean of finished cells of its design, else that of all epochs."""
        if self.is_measured(cell):
            return Estimate(cell.name, seconds=statistics.mean(self._measured[cell.design_name]))
        trial = self._trial(cell.plan)
        return replace(trial, what=cell.name, seconds=trial.seconds + _AROUND_S)

    def search(self, cell: Cell) -> Estimate:
        """The estimate of the search that the cell's design needs; 0 seconds without one."""
        budget = self._spec.search.budget if cell.space and self._spec.search else 0
        seconds = self.cell(cell).seconds * budget if budget else 0.0
        return Estimate(f"search for {cell.design_name}", seconds=seconds)

    def _trial(self, plan: Plan) -> Estimate:
        modalities = (plan.features.modalities or ("image", "text")) if plan.encoder else ()
        batches = plan.train.arguments(sampler_of(plan.recommender.component)), plan.features.train == "end2end"
        train = (plan.train.epochs, plan.train.evaluate_every, batches)
        key = str([plan.data.table, plan.split.table, plan.recommender.table, modalities, train])
        if key not in self._trials:
            split = self._data.split(plan)
            features = random_features(dict.fromkeys(modalities, _DIM), split.dataset.n_items)
            # as many threads as the run will have: more get in each other's way on a busy machine
            with threads(self._spec.options.threads):
                self._trials[key] = estimate_training(plan, split, features)
        return self._trials[key]
