"""Plan of a run: a conf file with every key checked and every default filled in, a typed section for each table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.data.splits import HeldOutPart
from lmm4rec.encoders.base import Encoder
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.experiments.conf.keys import components
from lmm4rec.experiments.conf.sections import (
    Component,
    DataSection,
    EncoderSection,
    EvaluateSection,
    FeaturesSection,
    RecommenderSection,
    SplitSection,
    TrainSection,
)
from lmm4rec.experiments.conf.signature import resolve
from lmm4rec.experiments.conf.spec import Spec, Table
from lmm4rec.training.recipes import PLAIN_KEYS


@dataclass(frozen=True)
class Plan:
    """A spec with every key checked and every default filled in: what `experiment.toml` holds."""

    name: str
    title: str
    data: DataSection
    split: SplitSection
    encoder: EncoderSection | None
    features: FeaturesSection  # of no use without an encoder
    recommender: RecommenderSection
    train: TrainSection
    evaluate: EvaluateSection

    @property
    def tables(self) -> dict[str, Table]:
        """The tables as a conf file holds them."""
        sections = {
            "data": self.data, "split": self.split, "encoder": self.encoder,
            "features": self.features if self.encoder else None,
            "recommender": self.recommender, "train": self.train, "evaluate": self.evaluate,
        }  # fmt: skip
        return {name: section.table for name, section in sections.items() if section is not None}

    def holds_out(self, part: HeldOutPart) -> bool:
        """Whether interactions are held out for a part: its share is above 0, or the file's own labels say which."""
        return self.split.method == "labels" or bool(self.split.table[part])

    def require_share(self, part: HeldOutPart, purpose: str) -> None:
        """Refuse a split that holds nothing out for a part.

        Raises:
            ConfigError: it names the key and the purpose.
        """
        if not self.holds_out(part):
            raise ConfigError(f"split.{part} = 0, but {purpose}; set it above 0, such as 0.1")

    @property
    def encoder_label(self) -> str:
        """The name of the encoder for reports; "none" where the model gets no features."""
        return self.encoder.label if self.encoder else "none"


def make_plan(spec: Spec) -> Plan:
    """The plan of a spec.

    Raises:
        ConfigError: a name, key or value is wrong; nothing has been done yet then.
    """
    tables = spec.tables
    data = _complete(spec.table("data"), "data", *components("data", tables))
    split = _complete(
        {"method": "random", **spec.table("split")}, "split", *components("split", tables), name_key="method"
    )
    recommender: Any
    (recommender,) = components("recommender", tables)
    encoder = None
    if "encoder" in spec.tables:
        encoder = EncoderSection.of(_encoder(spec.table("encoder"), "encoder"))
    elif "features" in spec.tables:
        raise ConfigError("[features] needs an [encoder] table that says where the features come from")
    features = _features(spec.table("features"), encoder)
    if features.get("train") == "end2end" and not recommender.trains_content:
        raise ConfigError(
            f'features.train = "end2end" trains the encoder, but features only choose the edges of graphs in '
            f'{recommender.__name__}: take "frozen" or "finetuned"'
        )
    model = _complete(spec.table("recommender"), "recommender", recommender)
    if encoder is None and recommender.needs_features(model):
        raise ConfigError(f"{recommender.__name__} needs features: give the conf an [encoder] table")
    train, evaluate = (_complete(spec.table(name), name, *components(name, tables)) for name in ("train", "evaluate"))
    evaluation = EvaluateSection.of(evaluate)
    Evaluator(**evaluation.arguments(Evaluator))  # refuses what a signature cannot: an empty list, a k twice
    if recommender.is_trained:
        check_metric("train.metric", train["metric"], evaluate)
    return Plan(
        spec.name,
        spec.title,
        data=DataSection.of(data),
        split=SplitSection.of(split),
        encoder=encoder,
        features=FeaturesSection.of(features),
        recommender=RecommenderSection.of(model),
        train=TrainSection.of(train),
        evaluate=evaluation,
    )


def check_metric(key: str, metric: str, evaluate: Table) -> None:
    """Refuse a metric that a key names and a complete [evaluate] table does not measure.

    Raises:
        ConfigError: it names the key and the metrics that there are.
    """
    measured = [f"{name}@{k}" for name in evaluate["metrics"] for k in evaluate["ks"]]
    if metric not in measured:
        raise ConfigError(
            f"{key} = '{metric}' is not among the metrics of [evaluate].{did_you_mean(metric, measured)} There "
            f"are: {', '.join(measured)}"
        )


def _complete(table: Table, where: str, *signatures: Component, name_key: str = "name") -> dict[str, Any]:
    """The table with the defaults of its components filled in."""
    keys = {key: value for key, value in table.items() if key != name_key}
    complete: dict[str, Any] = {name_key: table[name_key]} if name_key in table else {}
    for arguments in resolve(keys, where, *signatures, nested={Encoder: _encoder, Encoder | None: _encoder}):
        complete |= arguments
    return complete


def _encoder(table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigError(f'{where} is an encoder: a table with its name, such as {{ name = "words" }}; got {table!r}')
    return _complete(table, where, *components("encoder", {"encoder": table}, where))


def _features(table: Table, encoder: EncoderSection | None) -> dict[str, Any]:
    complete = _complete(table, "features", *components("features", {}))
    if complete["train"] == "end2end":
        if encoder and encoder.is_precomputed:
            raise ConfigError(
                'features.train = "end2end" needs an encoder to train, and precomputed features come without one: name '
                'an encoder in [encoder], or take train = "frozen"'
            )
        if {"ablate", "hide"} & set(complete):
            raise ConfigError('features.ablate and features.hide need vectors that do not change: not "end2end"')
        if complete["rotate"] or complete["vector_precision"] != "float32":
            raise ConfigError(
                'features.rotate and features.vector_precision need vectors that do not change: not "end2end"'
            )
        parts = components("features.end2end", {"features": complete})
        complete["end2end"] = _complete(complete.get("end2end", {}), "features.end2end", *parts)
    elif complete["adapter"] != "none":
        raise ConfigError(
            f'features.adapter = "{complete["adapter"]}" is for train = "end2end", but train is "{complete["train"]}"'
        )
    if complete["train"] == "finetuned" or "finetune" in complete:
        finetune = _complete(complete.get("finetune", {}), "features.finetune", *components("features.finetune", {}))
        complete["finetune"] = (PLAIN_KEYS if finetune["recipe"] == "plain" else {}) | finetune
    return complete
