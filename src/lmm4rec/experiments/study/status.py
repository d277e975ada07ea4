"""Where a study stands, and how long its cells will take at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from lmm4rec.core.device import threads
from lmm4rec.core.files import read_json
from lmm4rec.core.progress import quiet
from lmm4rec.core.types import Batch, Features
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.experiments.build.masking import masked
from lmm4rec.experiments.build.workbench import Workbench
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.run import make_recommender, make_sampler
from lmm4rec.experiments.study.cells import Cell
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.spec import StudySpec
from lmm4rec.experiments.study.stages import content_key
from lmm4rec.features.source import Frozen
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.objective import Ranking
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer

_WIDTH = 256  # of the random features that stand for an encoder's in a probe
_BATCHES = 3
_AROUND_S = 2.0  # reading, the test, the bundle, the page


Stages: TypeAlias = Mapping[str, Mapping[str, Any]]  # what is known of each


@dataclass(frozen=True)
class State:
    """Where one cell stands."""

    cell: Cell
    state: str  # "done", "failed", "running", "waiting"
    said: str = ""  # the error, or the stage that is running
    seconds: float = 0.0  # that it took
    value: float | None = None  # of the study's metric, on validation


def states(spec: StudySpec, cells: Sequence[Cell], folder: StudyFolder) -> list[State]:
    """The state of every cell, from the study folder alone."""
    failures, owners = folder.failures(), folder.claims.owners()
    return [_state(spec, cell, folder, failures, owners) for cell in cells]


def _state(spec: StudySpec, cell: Cell, folder: StudyFolder, failures: Stages, owners: Stages) -> State:
    if folder.cell(cell.name).is_finished:
        metrics = read_json(folder.cell(cell.name).metrics)
        return State(cell, "done", "", metrics["cost"]["seconds"], metrics["valid"].get(spec.options.metric))
    stages = [f"cell-{cell.name}", f"search-{cell.design_name}"]
    if "encoder" in cell.plan.tables:
        stages.append(f"content-{content_key(cell.plan)}")
    if running := next((stage for stage in stages if stage in owners), None):
        owner = owners[running]
        return State(cell, "running", f"{running.partition('-')[0]} by process {owner['pid']} on {owner['host']}")
    if failed := next((stage for stage in stages if stage in failures), None):
        return State(cell, "failed", f"{failures[failed]['error']}: {failures[failed]['message']}")
    return State(cell, "waiting")


class Estimates:
    """Seconds that cells need: those of finished cells alike, or else at most, by a probe of a few batches."""

    def __init__(self, spec: StudySpec, done: Sequence[State]) -> None:
        self._spec, self._bench = spec, Workbench()
        self._measured: dict[str, list[float]] = {}
        self._probed: dict[str, tuple[float, float]] = {}  # seconds of a batch, of a look at validation
        for state in done:
            if state.state == "done":
                self._measured.setdefault(state.cell.design_name, []).append(state.seconds)

    def cell(self, cell: Cell) -> tuple[float, bool]:
        """Seconds of a cell's run, and whether cells of the same design say so (else: all epochs, no early stop)."""
        if cell.design_name in self._measured:
            return statistics.mean(self._measured[cell.design_name]), True
        return self._at_most(cell.plan), False

    def search(self, cell: Cell) -> float:
        """Seconds of the search that the cell's design needs, at most; 0 without one."""
        if not cell.space or self._spec.search is None:
            return 0.0
        return self.cell(cell)[0] * self._spec.search.budget

    def _at_most(self, plan: Plan) -> float:
        batch, look = self._probe(plan)
        if not plan.is_trained:
            return 2 * look + _AROUND_S
        train = plan.tables["train"]
        batches = len(make_sampler(plan, self._bench.split(plan)))
        return float(train["epochs"]) * (batch * batches + look / float(train["evaluate_every"])) + _AROUND_S

    def _probe(self, plan: Plan) -> tuple[float, float]:
        key = str([plan.tables[table] for table in ("data", "split", "recommender")])
        if key not in self._probed:
            # as many as the run will have: more get in each other's way on a busy machine
            with threads(self._spec.options.threads):
                self._probed[key] = _probe(plan, self._bench)
        return self._probed[key]


def _probe(plan: Plan, bench: Workbench) -> tuple[float, float]:
    """Seconds of a batch and of a look at validation, with random features in place of the encoder's."""
    split = bench.split(plan).without_test()
    generator = torch.Generator().manual_seed(0)
    content = "encoder" in plan.tables
    sides = plan.tables["features"]["modalities"] or ("image", "text") if content else ()
    features: Features = {side: torch.randn(split.dataset.n_items, _WIDTH, generator=generator) for side in sides}
    recommender = make_recommender(plan, split, features)
    batch = _batch_seconds(recommender, features, plan, bench) if recommender.is_trained else 0.0
    evaluator = Evaluator(**plan.arguments("evaluate", Evaluator))
    began = time.monotonic()
    with torch.inference_mode():
        exclude = masked(split, "valid", **plan.arguments("evaluate", masked))
        evaluator.evaluate(recommender.embed(features), split.valid, exclude, train=split.train)
    return batch, time.monotonic() - began


def _batch_seconds(recommender: Recommender, features: Features, plan: Plan, bench: Workbench) -> float:
    few = _Few(make_sampler(plan, bench.split(plan)))
    trainer = Trainer(epochs=1, metric="none", device="cpu", learning_rate=1e-6)
    objective = Ranking(recommender, Frozen(features))
    with quiet():
        trainer.fit(objective, few, lambda: {"none": 0.0})  # the first batches are slower
        began = time.monotonic()
        trainer.fit(objective, few, lambda: {"none": 0.0})
        return (time.monotonic() - began) / len(few)


class _Few:
    """The first batches of a sampler."""

    def __init__(self, sampler: TripleSampler) -> None:
        self._sampler = sampler

    def __len__(self) -> int:
        return min(_BATCHES, len(self._sampler))

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        for _, batch in zip(range(len(self)), self._sampler.epoch(generator), strict=False):
            yield batch
