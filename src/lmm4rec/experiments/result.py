"""Result of a finished run: its folder, its plan and its metrics, as types and as `metrics.json` holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, TypeAlias

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import read_json, write_json
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan
from lmm4rec.serving.bundle import Bundle

Values: TypeAlias = Mapping[str, float]  # by name of the metric, such as "recall@20"


@dataclass(frozen=True)
class DataFacts:
    """The data set and the sizes of its parts."""

    name: str
    users: int
    items: int
    interactions: int
    train: int
    valid: int
    test: int
    split: str  # the method
    split_fingerprint: str
    findings: Sequence[str]


@dataclass(frozen=True)
class ChosenModel:
    """The epoch whose weights are kept, by validation; the last one where there is none."""

    metric: str
    epoch: int
    epochs: int  # trained in all


@dataclass(frozen=True)
class RunMetrics:
    """The measurements of a run: what `metrics.json` holds. Before the test the last six are empty.

    Metrics of a part for which nothing is held out are empty.
    """

    data: DataFacts
    features: Mapping[str, Any]  # "precision" and "broken_images"; empty where nothing was encoded
    chosen: ChosenModel
    valid: Values
    slices: Mapping[str, Values] = field(default_factory=dict)  # test metrics of "cold", "tail", "brand: Acme", ...
    beyond: Values = field(default_factory=dict)  # "coverage@20", "gini@20", "novelty@20", ...
    exposure: Mapping[str, Mapping[str, Values]] = field(default_factory=dict)  # "brand" -> "Acme" -> "lists", ...
    alignment: Mapping[str, Any] = field(
        default_factory=dict
    )  # of image and text vectors; "before" and "after" where an encoder trained
    cost: Values = field(default_factory=dict)  # "seconds", "peak_memory_mb", "parameters", ...
    test: Values = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The metric that ranks runs: that of the training, or another where a model without training lacks it."""
        wanted, measured = self.chosen.metric, self.test or self.valid
        return wanted if wanted in measured else next(iter(measured), wanted)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The metrics in a file."""
        content = read_json(path)
        data, chosen = DataFacts(**content.pop("data")), ChosenModel(**content.pop("chosen"))
        return cls(data=data, chosen=chosen, **{"features": {}, **content})

    def write(self, path: Path) -> None:
        """Write them as JSON."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The mapping that the file holds; what is not measured yet, or cannot be, is left out."""
        optional = ("slices", "beyond", "exposure", "alignment", "cost") + (() if self.cost else ("test",))
        return {name: value for name, value in asdict(self).items() if value or name not in optional}


@dataclass(frozen=True)
class Result:
    """A finished run."""

    folder: RunFolder
    plan: Plan
    measured: RunMetrics

    def __repr__(self) -> str:
        test = ", ".join(f"{name} {value:.4f}" for name, value in list(self.measured.test.items())[:2])
        return f"Result({self.plan.recommender.label} in {self.folder.path}{': ' + test if test else ''})"

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The metrics as in `metrics.json`: `metrics["test"]["recall@20"]`."""
        return self.measured.to_json()

    @property
    def history(self) -> list[dict[str, float]]:
        """One row an epoch; empty for a model without training."""
        return self.folder.history_rows()

    def bundle(self) -> Bundle:
        """The trained model, ready to recommend."""
        return Bundle.load(self.folder.path)


def read_result(folder: Path) -> Result:
    """The finished run in a folder.

    Raises:
        CheckpointError: there is none.
    """
    place = RunFolder(folder)
    if not place.experiment.exists() or not place.is_finished:
        raise CheckpointError(
            f"there is no finished run in {folder}: expected experiment.toml and metrics.json with test"
        )
    return Result(place, place.plan(), RunMetrics.read(place.metrics))
