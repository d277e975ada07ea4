"""The night job: read, retrain warm, compare with yesterday's bundle on the newest interactions, swap if not worse.

1. The data are read: the conf's source, and what was posted to the live folder's service: interactions, and the items
   that they name and that the source lacks.
2. What yesterday's bundle did not learn from is new. The newest of these interactions are measured, those before them
   choose the epochs, and a candidate learns from all others, beginning with yesterday's weights.
3. Both are measured on the newest interactions, which neither has seen. Yesterday's bundle has the added items as the
   service has them.
4. Unless the candidate is worse, the model is trained in the same way on everything, and its bundle is served.

Whatever fails, yesterday's bundle stays in service.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from annotated_types import Ge, Gt, Lt
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.types import NonNegativeFloat, NonNegativeInt
from lmm4rec.data.buckets import is_remote
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.findings import counted
from lmm4rec.data.splits import TEST, TRAIN, VALID
from lmm4rec.distributed.pool import Pool
from lmm4rec.evaluation.metrics import Metric
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.conf.spec import Table, load_spec
from lmm4rec.experiments.final_training import final_overrides
from lmm4rec.experiments.night.live_folder import LiveFolder, NightFolder
from lmm4rec.experiments.night.night_data import Changes, NightData, labeled, pairs_with, read_data
from lmm4rec.experiments.night.record import NightRecord
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.experiments.result import Result, read_result
from lmm4rec.experiments.run import run
from lmm4rec.serving.added_items import restore, write_learned_items
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.bundle_comparison import compare_bundles
from lmm4rec.serving.comparison_results import Measured

logger = logging.getLogger(__name__)
_NAMED = 20  # items whose interactions are left out
_AGAIN = "What was served stays, and the same command begins the night anew"


@dataclass(frozen=True, kw_only=True)
class RefreshOptions:
    """Options of the night job."""

    tolerance: Annotated[NonNegativeFloat, Doc("How much worse is not worse, as a share of yesterday's value.")] = 0.02
    measured: Annotated[float, Gt(0), Lt(1), Doc("Share of the new interactions that are measured.")] = 0.4
    least_users: Annotated[NonNegativeInt, Doc("Fewest users with measured interactions for a decision.")] = 30
    keep: Annotated[int, Ge(2), Doc("Nights that are kept, the served one besides.")] = 7
    rate: Annotated[float, Gt(0), Doc("Learning rate of a warm training, as a share of the conf's.")] = 1.0
    cold: Annotated[bool, Doc("Train from nothing instead of from yesterday's weights.")] = False
    force: Annotated[bool, Doc("Go on where rows or columns are gone, and swap where too little is new.")] = False


def refresh(
    conf: str | Path | Table,
    live: str | Path,
    overrides: Table | None = None,
    options: RefreshOptions | None = None,
    *,
    pool: Pool | None = None,
) -> NightRecord:
    """One night of a live folder; returns its record, which is the last line of `nights.jsonl`, too.

    The workers of a pool encode new items, where the conf's encoder is frozen.

    Raises:
        ConfigError: the conf is wrong, the folder is in an object store, or another process refreshes it.
        DataError: the data cannot be read, or lost columns or most of its rows since yesterday.
        LMM4RecError: the training, or writing, fails. All are logged, and yesterday's bundle stays in service.
    """
    if is_remote(live) or is_remote(str(live).replace(":/", "://", 1)):  # as it stands in a Path
        raise ConfigError(f"a live folder lies on this machine, got {live}: name a folder of this machine")
    folder, options = LiveFolder(Path(live).absolute()), options or RefreshOptions()
    with folder.locked():
        folder.recover()
        removed = folder.remove_erased()  # also where the night fails
        night = folder.new_night()
        record = NightRecord.begin(night.name, "" if isinstance(conf, dict) else str(conf))
        try:
            _Night(folder, night, record, conf, overrides or {}, options, pool).work()
        except BaseException as error:
            failed = isinstance(error, Exception)
            record.decide("failed" if failed else "interrupted", " ".join(str(error).split()) or "interrupted")
            record.error, record.serving = type(error).__name__, record.yesterday
            folder.log(record)
            raise
        folder.log(record)
        if removed := [*removed, *folder.remove_old(options.keep), *folder.remove_erased()]:
            logger.info("removed the nights %s", ", ".join(removed))
        return record


@dataclass
class _Night:
    folder: LiveFolder
    night: NightFolder
    record: NightRecord
    conf: str | Path | Table
    overrides: Table
    options: RefreshOptions
    pool: Pool | None

    def work(self) -> None:
        """Do the night's work; the last step replaces the bundle."""
        plan = make_plan(load_spec(self.conf, self.overrides))
        self.record.model = plan.recommender.label
        served = self.folder.served()
        with self.record.step("read"):
            yesterday = None if served is None else Bundle.load(served.final.path)
            self.record.yesterday = self.record.serving = served.name if served else ""
            data = read_data(plan, self.folder)
            self._log_left_out(plan, data)
        if self.pool is not None and plan.encoder is not None and plan.features.train == "frozen":
            with self.record.step("encode"):
                load_features(plan, data.source_catalog, pool=self.pool)  # a worker knows no other items
        if yesterday is None or served is None:
            self._count(data.dataset)
            self.record.rows |= _read_rows(data)
            self._first(plan, data)
        else:
            changes = Changes.since(yesterday, data.dataset)
            self.record.rows |= {**changes.rows, **_read_rows(data)}
            if not self.options.force:
                changes.require_sound()
            self._again(plan, data, served, yesterday, changes)

    def _log_left_out(self, plan: Plan, data: NightData) -> None:
        """Log and record which posted interactions nothing can be learned from."""
        self.record.left_out = dict(list(data.left_out.items())[:_NAMED])
        if data.left_out:
            named = ", ".join(f"'{item}' ({count:,})" for item, count in self.record.left_out.items())
            files = plan.encoder is not None and plan.encoder.is_precomputed
            logger.warning(
                "left out: %s with %s that neither the conf's source has nor the service%s: %s%s. Add them to the "
                "source's items; the interactions are kept, and count from the next night on",
                counted(data.posted.unknown_items, "posted interaction"), counted(len(data.left_out), "item"),
                " (an item that was added there has no row in the feature files)" if files else "", named,
                ", ..." if len(data.left_out) > _NAMED else "",
            )  # fmt: skip

    def _count(self, dataset: Dataset) -> None:
        counts = {"users": dataset.n_users, "items": dataset.n_items, "interactions": len(dataset.interactions)}
        self.record.rows |= {name: {"kept": 0, "new": count, "gone": 0} for name, count in counts.items()}

    def _first(self, plan: Plan, data: NightData) -> None:
        """The first night: the conf's own split chooses the epochs, and there is nothing to compare with."""
        keys: dict[str, Any] = {"split.valid": 0, "split.test": 0}
        if plan.holds_out("valid"):
            self._train("candidate", self.night.candidate, data.dataset, {})
            keys = final_overrides(self.night.candidate, plan)
        result = self._train("final", self.night.final.path, data.dataset, keys)
        self._serve("first", "there was no bundle before", result, data)

    def _again(self, plan: Plan, data: NightData, served: NightFolder, yesterday: Bundle, changes: Changes) -> None:
        start = {} if self.options.cold else self._warm(plan, served)
        dataset = data.dataset
        dataset = labeled(dataset, changes.new, self.options.measured) if changes.new.any() else dataset
        problem = self._too_little(dataset, yesterday, changes)
        if problem and not self.options.force:
            self.record.decide("kept", problem)
            return
        if problem:
            epochs = read_result(served.final.path).measured.chosen.epochs
            keys = {"train.epochs": epochs} if plan.recommender.is_trained else {}
            why = f"not compared ({problem}), but --force"
        else:
            candidate = self._train("candidate", self.night.candidate, dataset, {**start, "split.method": "labels"})
            if yesterday.content_to_vectors is not None:
                restore(yesterday, [item for item in data.added if item.id not in yesterday.items])
            worse, why = self._compare(plan, dataset, yesterday, candidate)
            if worse:
                self.record.decide("kept", why)
                self.folder.write_record(self.night, self.record)
                return
            keys = final_overrides(self.night.candidate, plan)
        everything = {"split.valid": 0, "split.test": 0, "split.method": "random"}
        result = self._train("final", self.night.final.path, dataset, {**start, **keys, **everything})
        with self.record.step("overlap"):
            comparison = compare_bundles(yesterday, result.bundle()).to_json()
        self.record.comparison = {name: value for name, value in comparison.items() if name != "recent"}
        self._serve("swapped", why, result, data)

    def _warm(self, plan: Plan, served: NightFolder) -> dict[str, Any]:
        """The keys of a training that begins with yesterday's weights."""
        model = plan.recommender.component
        if self.options.rate != 1 and (model.is_solved or not model.is_trained):
            logger.warning(
                "--rate %g has no effect: %s has no train.learning_rate", self.options.rate, plan.recommender.label
            )
        rate = plan.train.table.get("learning_rate")
        keys: dict[str, Any] = {} if rate is None else {"train.learning_rate": self.options.rate * rate}
        return keys | {"train.start_from": str(served.final.path)}

    def _too_little(self, dataset: Dataset, yesterday: Bundle, changes: Changes) -> str:
        """Why nothing can be decided; empty where there is enough to measure."""
        if not changes.new.any():
            return "no interaction is new"
        learned, validating, measuring = (set(pairs_with(label, dataset)["user"]) for label in (TRAIN, VALID, TEST))
        measured = sum(user in yesterday.users for user in measuring & learned)
        new, least = counted(int(changes.new.sum()), "new interaction"), max(1, self.options.least_users)
        if measured < least:
            return (
                f"{new}, the newest with {counted(measured, 'user')} whom yesterday's bundle knows; a decision takes "
                f"{least:,} (--least-users)"
            )
        if not validating & learned:
            return f"{new}, and beside the newest none with a user of earlier ones, to validate with"
        return ""

    def _compare(self, plan: Plan, dataset: Dataset, yesterday: Bundle, candidate: Result) -> tuple[bool, str]:
        """Whether the candidate is worse than yesterday's bundle on the newest interactions, and the numbers."""
        name, k = plan.train.metric.split("@")
        with self.record.step("compare"):
            compared = compare_bundles(
                yesterday, candidate.bundle(), int(k), recent=pairs_with(TEST, dataset), metric=cast(Metric, name)
            )
        self.record.recent = compared.to_json()["recent"]
        assert compared.recent is not None
        measured = compared.recent.all_items
        if not measured.users:
            raise DataError("no user of the newest interactions is known to both bundles, so they cannot be compared")
        worse = is_worse(measured, self.options.tolerance)
        how = "worse by more than" if worse else "not worse by more than"
        return worse, (
            f"{compared.recent.metric} on the {compared.recent.interactions:,} newest interactions of "
            f"{measured.users:,} users is {measured.after:.4f}, yesterday's bundle has {measured.before:.4f} "
            f"({measured.difference:+.4f} ± {measured.standard_error:.4f}): {how} {self.options.tolerance:.0%} and "
            "two standard errors"
        )

    def _train(self, step: str, out: Path, dataset: Dataset, keys: Table) -> Result:
        """A run on a data set that is loaded already."""
        logger.info("%s:", step)
        overrides = {**self.overrides, **keys}
        data = DataCache()
        data.hold(make_plan(load_spec(self.conf, overrides)), dataset)
        with self.record.step(step):
            try:
                return run(self.conf, overrides, out=out, data=data)
            except Exception as error:
                if hasattr(error, "__notes__"):  # the run's: to go on with it, which would not read what was posted
                    error.__notes__ = [_AGAIN]
                raise

    def _serve(self, decision: Any, why: str, result: Result, data: NightData) -> None:
        """Serve the bundle of tonight's run."""
        write_learned_items(self.night.final.path, data.added)
        self.record.epochs = result.measured.chosen.epochs
        self.record.decide(decision, why)
        self.record.serving = self.night.name
        self.folder.write_record(self.night, self.record)
        self.folder.serve(self.night)


def _read_rows(data: NightData) -> dict[str, dict[str, int]]:
    """The numbers of interactions that were posted, and of those that erased users had."""
    rows = {"posted": vars(data.posted)}
    return rows | {"of erased users": {"interactions": data.erased}} if data.erased else rows


def is_worse(measured: Measured, tolerance: float) -> bool:
    """Whether the later bundle is worse: by more than the tolerance, and by more than two standard errors."""
    return measured.difference < -tolerance * measured.before and measured.difference < -2 * measured.standard_error
