"""One setting, trained and judged by the validation part; whoever works here has no test part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.progress import quiet
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.experiments.build.masking import masked
from lmm4rec.experiments.build.workbench import Workbench
from lmm4rec.experiments.callbacks import Listener
from lmm4rec.experiments.environment import Cost
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.run import make_objective, make_recommender, train


def judge(plan: Plan, folder: Path, bench: Workbench, listeners: Sequence[Listener] = ()) -> float:
    """The best validation value of a plan's metric.

    The split that everything here works on is sealed (`Split.without_test`): no call below can reach a test
    interaction. What a kill left in `folder` is gone on with.
    """
    with quiet():
        split = bench.split(plan).without_test()
        content = bench.content(plan, split.dataset.catalog)
        recommender = make_recommender(plan, split, content.features)
        if recommender.is_trained:
            objective = make_objective(plan, split, content, recommender)
            return train(plan, RunFolder(folder), objective, split, Cost(), listeners=listeners).best
        evaluator = Evaluator(**plan.arguments("evaluate", Evaluator))
        exclude = masked(split, "valid", **plan.arguments("evaluate", masked))
        with torch.inference_mode():
            values = evaluator.evaluate(
                recommender.embed(content.features), split.valid, exclude, train=split.train
            ).mean
        metric = plan.tables["train"]["metric"]
        if metric not in values:
            raise ConfigError(
                f"there is no '{metric}' to choose by.{did_you_mean(metric, values)} There are: {', '.join(values)}"
            )
        return values[metric]
