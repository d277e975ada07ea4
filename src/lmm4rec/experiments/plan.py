"""Plan of a run: a conf file with every key checked and every default filled in, a typed section for each table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeAlias

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import ENCODERS, RECOMMENDERS, SOURCES, hyper_parameters
from lmm4rec.core.types import NonNegativeInt, PositiveInt
from lmm4rec.data.feature_files import read_shipped
from lmm4rec.data.filters import prepare
from lmm4rec.data.splits import split
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.sizing import Precision
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.evaluation.masking import masked
from lmm4rec.experiments.callbacks import tensorboard_writer
from lmm4rec.experiments.conf.signature import resolve
from lmm4rec.experiments.conf.spec import Spec, Table
from lmm4rec.features.ablation import altered
from lmm4rec.features.adapters import ADAPTERS, Adapter
from lmm4rec.features.live import Live
from lmm4rec.training.finetuning import fit_pairs
from lmm4rec.training.lr_schedule import LearningRateSchedule
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer

PRECOMPUTED = "precomputed"

Component = Callable[..., Any]
Paradigm: TypeAlias = Literal["frozen", "finetuned", "end2end"]


@dataclass(frozen=True)
class Section:
    """A table of the conf file with every default filled in; subclasses name the keys that the package itself reads."""

    table: Table  # as `experiment.toml` holds it

    @classmethod
    def of(cls, table: Table) -> Self:
        """The section of a complete table."""
        return cls(table, **{field.name: table[field.name] for field in fields(cls) if field.name in table})

    def arguments(self, component: Component) -> dict[str, Any]:
        """The keyword arguments that the table holds for a component."""
        keys = hyper_parameters(component)
        return {key: value for key, value in self.table.items() if key in keys}


@dataclass(frozen=True)
class DataSection(Section):
    """[data]: the source of the data set, and the filters."""

    name: str

    @property
    def source(self) -> Component:
        """The data source."""
        source: Component = SOURCES.get(self.name)
        return source


@dataclass(frozen=True)
class SplitSection(Section):
    """[split]: how interactions are divided into train, valid and test."""

    method: str


@dataclass(frozen=True)
class EncoderSection(Section):
    """[encoder]: the encoder, or the files that features are read from."""

    name: str

    @property
    def is_precomputed(self) -> bool:
        """Whether features are read from files."""
        return self.name == PRECOMPUTED

    @property
    def label(self) -> str:
        """The name for reports; an encoder made of others goes by their names: "color+words"."""
        inner = [value["name"] for value in self.table.values() if isinstance(value, Mapping) and "name" in value]
        return "+".join(inner) if inner else self.name


@dataclass(frozen=True, kw_only=True)
class FeaturesSection(Section):
    """[features]: how the encoder's vectors are computed, and what of the encoder trains.

    Its keys are the fields and those of `altered`; from `batch_size` on the fields are arguments of `extract`.
    """

    train: Paradigm = "frozen"
    finetune: Mapping[str, Any] | None = None  # the arguments of `fit_pairs`
    adapter: Adapter = "none"
    end2end: Mapping[str, Any] | None = None  # the arguments of `end2end_components`
    modalities: Sequence[str] = ()  # those used; empty: all that the encoder gives
    batch_size: PositiveInt | Literal["auto"] = "auto"
    memory_mb: PositiveInt = 1024
    workers: NonNegativeInt | Literal["auto"] = "auto"
    precision: Precision = "auto"
    device: str = "auto"
    strict: bool = False

    @property
    def fine_tuning(self) -> Mapping[str, Any]:
        """The arguments of `fit_pairs`."""
        return self.finetune or {}

    def end2end_arguments(self, component: Component) -> dict[str, Any]:
        """The keyword arguments that [features.end2end] holds for a component."""
        return Section(self.end2end or {}).arguments(component)

    @property
    def label(self) -> str:
        """The paradigm for reports, with the adapter of end-to-end training."""
        return self.train if self.adapter == "none" else f"{self.train}, {self.adapter}"


@dataclass(frozen=True)
class RecommenderSection(Section):
    """[recommender]: the model."""

    name: str

    @property
    def component(self) -> Any:
        """The model's class."""
        return RECOMMENDERS.get(self.name)

    @property
    def label(self) -> str:
        """The paper's name of the model."""
        return str(self.component.__name__)

    @property
    def is_trained(self) -> bool:
        """Whether the model has weights to train."""
        return bool(self.component.is_trained)


@dataclass(frozen=True)
class TrainSection(Section):
    """[train]: trainer, sampler and callbacks."""

    epochs: int
    evaluate_every: int
    metric: str
    seed: int
    device: str


@dataclass(frozen=True)
class EvaluateSection(Section):
    """[evaluate]: evaluator, and which known interactions are masked."""

    protocol: Literal["strict", "mmrec"]
    candidates: Literal["all", "cold"]


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

    @property
    def encoder_label(self) -> str:
        """The name of the encoder for reports; "none" where the model gets no features."""
        return self.encoder.label if self.encoder else "none"


def make_plan(spec: Spec) -> Plan:
    """The plan of a spec.

    Raises:
        ConfigError: a name, key or value is wrong; nothing has been done yet then.
    """
    source = SOURCES.get(_name(spec.table("data"), "data"))
    recommender = RECOMMENDERS.get(_name(spec.table("recommender"), "recommender"))
    data = _complete(spec.table("data"), "data", source, prepare)
    division = _complete({"method": "random", **spec.table("split")}, "split", split, named="method")
    encoder = None
    if "encoder" in spec.tables:
        encoder = EncoderSection.of(_encoder(spec.table("encoder"), "encoder"))
    elif "features" in spec.tables:
        raise ConfigError("[features] needs an [encoder] table that says where the features come from")
    elif recommender.uses_content:
        raise ConfigError(f"{recommender.__name__} needs features: give the conf an [encoder] table")
    features = _features(spec.table("features"), encoder)
    model = _complete(spec.table("recommender"), "recommender", recommender)
    train = _complete(spec.table("train"), "train", Trainer, TripleSampler, tensorboard_writer)
    evaluate = _complete(spec.table("evaluate"), "evaluate", Evaluator, masked)
    return Plan(
        spec.name,
        spec.title,
        data=DataSection.of(data),
        split=SplitSection.of(division),
        encoder=encoder,
        features=FeaturesSection.of(features),
        recommender=RecommenderSection.of(model),
        train=TrainSection.of(train),
        evaluate=EvaluateSection.of(evaluate),
    )


def end2end_components(adapter: Adapter) -> tuple[Component, ...]:
    """The components whose keyword arguments are the keys of [features.end2end]."""
    return (LearningRateSchedule, Live, ADAPTERS[adapter])


def _complete(table: Table, where: str, *components: Component, named: str = "name") -> dict[str, Any]:
    """The table with the defaults of its components filled in."""
    keys = {key: value for key, value in table.items() if key != named}
    complete: dict[str, Any] = {named: table[named]} if named in table else {}
    for arguments in resolve(keys, where, *components, nested={Encoder: _encoder}):
        complete |= arguments
    return complete


def _encoder(table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigError(f'{where} is an encoder: a table with its name, such as {{ name = "words" }}; got {table!r}')
    name = _name(table, where)
    component = read_shipped if name == PRECOMPUTED else ENCODERS.get(name)
    return _complete(table, where, component)


def _features(table: Table, encoder: EncoderSection | None) -> dict[str, Any]:
    complete = _complete(table, "features", FeaturesSection, altered)
    if complete["train"] == "end2end":
        if encoder and encoder.is_precomputed:
            raise ConfigError(
                'features.train = "end2end" needs an encoder to train, and precomputed features come without one: name '
                'an encoder in [encoder], or take train = "frozen"'
            )
        if {"ablate", "hide"} & set(complete):
            raise ConfigError('features.ablate and features.hide need vectors that do not change: not "end2end"')
        components = end2end_components(complete["adapter"])
        complete["end2end"] = _complete(complete.get("end2end", {}), "features.end2end", *components)
    elif complete["adapter"] != "none":
        raise ConfigError(
            f'features.adapter = "{complete["adapter"]}" is for train = "end2end", but train is "{complete["train"]}"'
        )
    if complete["train"] == "finetuned" or "finetune" in complete:
        complete["finetune"] = _complete(complete.get("finetune", {}), "features.finetune", fit_pairs)
    return complete


def _name(table: Table, where: str) -> str:
    name = table.get("name")
    if not isinstance(name, str):
        registry = {"data": SOURCES, "recommender": RECOMMENDERS}.get(where, ENCODERS)
        raise ConfigError(f"[{where}] needs a name, one of: {', '.join(registry.names())}; got {name!r}")
    return name
