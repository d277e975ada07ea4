"""Sections of a plan: one for each table of a conf file, with every default filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, Self, TypeAlias, cast

from typing_extensions import Doc

from lmm4rec.core.registry import RECOMMENDERS, SOURCES, hyper_parameters
from lmm4rec.core.types import NonNegativeInt, PositiveInt, Share
from lmm4rec.encoding.sizing import Precision, ResolvedPrecision
from lmm4rec.experiments.conf.spec import Table
from lmm4rec.features.adapters import Adapter

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
        return cast(Component, SOURCES.get(self.name))


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

    train: Annotated[Paradigm, Doc("Paradigm: encoder as it is, fine-tuned first, or trained end to end.")] = "frozen"
    finetune: Annotated[Mapping[str, Any] | None, Doc("Table: how the encoder is fine-tuned.")] = None
    adapter: Annotated[Adapter, Doc("What trains end to end: all weights, LoRA, top blocks, a side network.")] = "none"
    end2end: Annotated[Mapping[str, Any] | None, Doc("Table: how the encoder trains end to end.")] = None
    modalities: Annotated[Sequence[str], Doc('Modalities to use, such as ["image"]; empty: all of the encoder.')] = ()
    rotate: Annotated[
        Share, Doc("Share of the frozen vectors' squares that fewer numbers hold, such as 0.999; 0: unchanged.")
    ] = 0.0
    vector_precision: Annotated[
        ResolvedPrecision, Doc("Precision of frozen vectors in products with weights; bfloat16: faster where native.")
    ] = "float32"
    batch_size: Annotated[
        PositiveInt | Literal["auto"], Doc("Items encoded at once; auto: as many as memory_mb holds.")
    ] = "auto"
    memory_mb: Annotated[PositiveInt, Doc("MiB for the activations of an automatic batch.")] = 1024
    workers: Annotated[
        NonNegativeInt | Literal["auto"],
        Doc("Processes that prepare items; auto: all cores but one, none for few items."),
    ] = "auto"
    precision: Annotated[Precision, Doc("Precision of the encoder; auto: bfloat16 where the hardware has it.")] = "auto"
    device: Annotated[str, Doc("Where to encode: auto, cpu, cuda or cuda:1.")] = "auto"
    strict: Annotated[bool, Doc("Stop at an image that cannot be read, instead of taking it as missing.")] = False

    @property
    def finetune_arguments(self) -> Mapping[str, Any]:
        """The arguments of `fit_pairs` that [features.finetune] holds."""
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

    @property
    def is_deterministic(self) -> bool:
        """Whether every seed gives the same scores."""
        return bool(self.component.is_deterministic)

    @property
    def reads_content(self) -> bool:
        """Whether the model needs features with these keys."""
        return bool(self.component.needs_features(self.table))


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """The key of [train] that names where training starts."""

    start_from: Annotated[str, Doc("Run folder with whose weights training starts; empty: drawn anew.")] = ""


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """The key of [train] that says how several processes hold the tables."""

    shard: Annotated[
        Literal["auto", "rows", "no"],
        Doc("Several processes share the tables of users and items by rows; auto: where these are large."),
    ] = "auto"


@dataclass(frozen=True)
class TrainSection(Section):
    """[train]: trainer, sampler, callbacks, `WarmStart` and `Sharding`."""

    epochs: int
    evaluate_every: int
    metric: str
    seed: int
    device: str
    start_from: str
    shard: Literal["auto", "rows", "no"]


@dataclass(frozen=True)
class EvaluateSection(Section):
    """[evaluate]: evaluator, and which known interactions are masked."""

    protocol: Literal["strict", "mmrec"]
    candidates: Literal["all", "cold"]
