"""Training of a run's objective, and its measurement on a part of the split."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from lmm4rec.core.errors import DataError
from lmm4rec.core.sequences import SequenceScorer
from lmm4rec.core.types import Features, Scorer
from lmm4rec.data.splits import HeldOutPart, Split
from lmm4rec.distributed import process_group, sharding
from lmm4rec.evaluation.evaluator import Evaluator, ItemDescriptions, Report, masked
from lmm4rec.evaluation.known_sequences import sequences_of
from lmm4rec.experiments.build.recommenders import make_sampler, note_of_small_batches
from lmm4rec.experiments.callbacks import CostWriter, HistoryWriter, tensorboard_writer
from lmm4rec.experiments.conf.sections import EvaluateSection
from lmm4rec.experiments.environment import Cost
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan
from lmm4rec.nn.projections import center_of, centered
from lmm4rec.training.callbacks import Callback
from lmm4rec.training.history import History
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.trainer import Trainer


def train(
    plan: Plan,
    folder: RunFolder,
    objective: RankingObjective,
    split: Split,
    cost: Cost,
    *,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train an objective; the weights of the best epoch by validation are left in it. The test part is not read.

    Without a validation part all epochs are trained, and the last weights are left.
    The `callbacks` are called after those of the run itself.
    """
    recommender, source = objective.recommender, objective.source
    if not recommender.is_trained:
        return History()

    def validate() -> Mapping[str, float]:
        with cost.phase("validate"):
            source.refresh()
            with torch.inference_mode():
                means = None
                if process_group.is_first() or sharding.is_sharded():
                    scorer = recommender.embed(source())
                if process_group.is_first():
                    means = measure(plan.evaluate, scorer, split, "valid").mean
            return process_group.broadcast(means)

    own: list[Callback] = []
    if process_group.is_first():
        curves = tensorboard_writer(folder.path / "tensorboard", **plan.train.arguments(tensorboard_writer))
        own = [HistoryWriter(folder.history), CostWriter(cost), *curves]
    sampler = make_sampler(plan, split)
    if process_group.is_first() and (note := note_of_small_batches(plan, split, sampler)):
        logging.getLogger(__name__).info("%s", note)
    history = Trainer(**plan.train.arguments(Trainer)).fit(
        objective, sampler, validate if split.holds_out("valid") else None,
        state_file=folder.state, callbacks=[*own, *callbacks], description=plan.title,
        is_warm=bool(plan.train.start_from),
    )  # fmt: skip
    source.refresh(final=True)
    objective.cpu()
    return history


def require_held_out(plan: Plan, split: Split, *parts: HeldOutPart) -> None:
    """Refuse a split of which a part with a share has nothing to measure on, before anything is encoded or trained.

    Raises:
        DataError: it names the part, the reason and the key to change.
    """
    for part in filter(split.holds_out, parts):
        held_out, share = getattr(split, part), split.parameters[part]
        name, purpose = {"valid": ("validation", "no epoch can be chosen"), "test": ("test", "nothing is measured")}[
            part
        ]
        if not len(held_out):
            longest = int(np.bincount(split.dataset.interactions.users, minlength=1).max())
            raise DataError(f"the {name} part is empty, so {purpose}: {_why_empty(split.method, part, share, longest)}")
        cold = plan.evaluate.arguments(Evaluator).get("candidates") == "cold"
        if cold and split.train.item_counts(split.dataset.n_items)[held_out.items].all():
            raise DataError(
                f'the {name} part has no item without a training interaction, and candidates = "cold" ranks only '
                'such: take the split method = "cold_items", or candidates = "all"'
            )


def _why_empty(method: str, part: str, share: float, longest: int) -> str:
    if method == "labels":
        return "the file's own split has none"
    if method in ("random", "user_time") and longest < 3:
        return (
            f"'{method}' holds out interactions of users with at least 3, and none has more than {longest}. Take "
            'method = "leave_last_out" where users have 3, or "global_time" or "cold_items"'
        )
    if method == "leave_last_out":
        return (
            f"'leave_last_out' needs users with 3 interactions (one each for test, validation and training), and the "
            f'most that one has is {longest}. Take method = "global_time" or "cold_items"'
        )
    return f"its share of split.{part} = {share:g} holds no interaction of a user who is trained on; try a larger one"


def measure(
    section: EvaluateSection,
    scorer: Scorer,
    split: Split,
    part: HeldOutPart,
    items: ItemDescriptions | None = None,
) -> Report:
    """The ranking of all items by a scorer, measured on a part of the split; in detail where `items` are described.

    A scorer of sequences reads those of all interactions that are known, which are the ones that are masked.
    """
    exclude = masked(split, part, **section.arguments(masked))
    if isinstance(scorer, SequenceScorer) and part == "test":  # at validation it has those of the training part
        scorer = scorer.of_sequences(sequences_of(exclude, split.dataset.n_users))
    truth = split.valid if part == "valid" else split.test
    evaluator = Evaluator(**section.arguments(Evaluator))
    return evaluator.evaluate(scorer, truth, exclude, train=split.train, items=items, details=items is not None)


def described_items(split: Split, features: Features) -> ItemDescriptions:
    """The items of a split by their fields, and by their features, centered and scaled, as vectors."""
    fields = split.dataset.catalog.fields
    content = [centered(x, center_of(x)) for x in features.values()]
    return ItemDescriptions(
        torch.cat(content, dim=1) if content else None, {name: fields[name].to_list() for name in fields.columns}
    )
