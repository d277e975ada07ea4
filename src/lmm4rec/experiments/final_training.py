"""Final training: on all interactions, for the epochs that validation chose in a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmm4rec.core.errors import ConfigError
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.result import read_result


def final_overrides(run: Path, plan: Plan) -> dict[str, Any]:
    """The conf keys with which a plan is trained on everything, once a run of its model has chosen the epochs.

    Raises:
        CheckpointError: there is no finished run.
        ConfigError: it has another model, or was not measured on validation.
    """
    result = read_result(run)
    before, now = result.plan.recommender, plan.recommender
    if before.table["name"] != now.table["name"]:
        raise ConfigError(f"{run} is a run of {before.label}, and the epochs that it chose say nothing of {now.label}")
    if not result.measured.valid:
        raise ConfigError(f"{run} was not measured on validation, which chooses the epochs of a final training")
    keys: dict[str, Any] = {"split.valid": 0, "split.test": 0}
    if plan.split.method == "labels":  # which would set parts aside
        keys["split.method"] = "random"
    return keys | ({"train.epochs": result.measured.chosen.epoch} if now.component.is_trained else {})
