"""Trial of a search: a setting, trained and validated without the test part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.progress import quiet
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.build.recommenders import make_objective, make_recommender
from lmm4rec.experiments.environment import Cost
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.train import measure, train
from lmm4rec.training.callbacks import Callback


def validate_setting(plan: Plan, folder: Path, data: DataCache, callbacks: Sequence[Callback] = ()) -> float:
    """The best validation value of the plan's metric; an interrupted training in `folder` is continued.

    The split is sealed (`Split.without_test`): nothing below can read a test interaction.
    """
    with quiet():
        split = data.split(plan).without_test()
        features = load_features(plan, split.dataset.catalog)
        recommender = make_recommender(plan, split, features.features)
        if recommender.is_trained:
            objective = make_objective(plan, split, features, recommender)
            return train(plan, RunFolder(folder), objective, split, Cost(), callbacks=callbacks).best
        with torch.inference_mode():
            values = measure(plan.evaluate, recommender.embed(features.features), split, "valid").mean
        metric = plan.train.metric
        if metric not in values:
            raise ConfigError(
                f"there is no '{metric}' to choose by.{did_you_mean(metric, values)} There are: {', '.join(values)}"
            )
        return values[metric]
