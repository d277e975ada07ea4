"""A recommender class that is checked by contracts, built and trained on small worlds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from lmm4rec.core.types import Features, Scorer
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender
from lmm4rec.testing.probes import generator
from lmm4rec.testing.worlds import camp_features, camps
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import sampler_of
from lmm4rec.training.trainer import Trainer


def world() -> tuple[InteractionGraph, dict[str, Float[Tensor, "items _dim"]]]:
    """The training graph and the features of the camps."""
    return camps()[0], camp_features(generator())


@dataclass(frozen=True)
class Candidate:
    """A recommender class with the hyper-parameters that it is checked with."""

    component: type[Recommender]
    hyper: Mapping[str, Any] = field(default_factory=dict)

    def build(self, graph: InteractionGraph, features: Features, seed: int = 0) -> Recommender:
        """An untrained instance."""
        return self.component(graph, features, generator(seed), **self.hyper)  # type: ignore[call-arg]

    @cached_property
    def after_three_epochs(self) -> Recommender:
        """An instance after three epochs on the world of the contracts, for checks that do not change it."""
        return self.trained(*world(), epochs=3)

    def trained(
        self,
        graph: InteractionGraph,
        features: Features,
        *,
        epochs: int,
        enough: Callable[[Scorer], bool] | None = None,
    ) -> Recommender:
        """An instance after training, where it is trained at all.

        It ends before `epochs` where the scorer is `enough`, which is looked at after each epoch.
        """
        recommender = self.build(graph, features)
        if not self.component.is_trained:
            return recommender
        looks = itertools.count()

        def progress() -> dict[str, float]:
            # grows while it is not enough, so that the first look without a new best is the one after it was
            reached = enough is not None and enough(recommender.embed(features))
            return {"progress": math.inf if reached else float(next(looks))}

        trainer = Trainer(
            epochs=epochs, learning_rate=0.02, evaluate_every=1, patience=1, metric="progress", device="cpu"
        )
        sampler = sampler_of(self.component)(graph.users, graph.items, graph.n_items, batch_size=64)
        trainer.fit(RankingObjective(recommender, Frozen(features)), sampler, progress)
        return recommender
