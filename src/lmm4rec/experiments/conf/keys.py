"""Keys of conf files: which components a table's keys belong to, and what each key means."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import ENCODERS, RECOMMENDERS, SOURCES, hyper_parameters, meanings
from lmm4rec.data.feature_files import read_shipped
from lmm4rec.data.filters import prepare
from lmm4rec.data.splits import METHODS, split
from lmm4rec.evaluation.evaluator import Evaluator, masked
from lmm4rec.experiments.callbacks import tensorboard_writer
from lmm4rec.experiments.conf.annotations import describe
from lmm4rec.experiments.conf.sections import PRECOMPUTED, Component, FeaturesSection, Sharding, WarmStart
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.study.spec import StudyOptions
from lmm4rec.experiments.trackers import Trackers
from lmm4rec.features.ablation import altered
from lmm4rec.features.adapters import ADAPTERS, Adapter
from lmm4rec.features.live import Live
from lmm4rec.training.finetuning import fit_pairs
from lmm4rec.training.lr_schedule import LearningRateSchedule
from lmm4rec.training.sampler import TripleSampler, sampler_of
from lmm4rec.training.trainer import Trainer

TABLE_MEANINGS = {
    "data": "Items, users and interactions.",
    "split": "Training, validation and test parts of the interactions.",
    "encoder": "From images and text to vectors.",
    "features": "How the vectors reach the recommender.",
    "features.finetune": "Fine-tuning of the encoder on the catalog's pairs of image and text.",
    "features.end2end": "Training of the encoder together with the recommender.",
    "recommender": "The model.",
    "train": "The training loop.",
    "evaluate": "Full ranking over all items, nothing sampled.",
    "study": "What the study compares, and how it is carried out.",
    "search": "Search of settings by validation, for each design with the same budget.",
}
_NAMES = {  # keys that choose a component and belong to none
    ("data", "name"): "Data source; `lmm4rec models` lists all.",
    ("encoder", "name"): "Encoder, or precomputed (feature files); `lmm4rec models` lists all.",
    ("recommender", "name"): "Recommender; `lmm4rec models` lists all.",
    ("split", "method"): f"Method of the split: {' | '.join(METHODS)}.",
}
_REGISTRIES = {"data": SOURCES, "encoder": ENCODERS, "recommender": RECOMMENDERS}


@dataclass(frozen=True)
class Key:
    """A key of a conf file, described for users."""

    name: str
    kind: str  # the name of the type
    default: str  # as TOML; "needed" where there is none, empty where the default is None
    allowed: str  # the range or the choices; empty: anything of the type
    meaning: str


def components(table: str, tables: Mapping[str, Any], where: str = "") -> tuple[Component, ...]:
    """The components whose keyword-only arguments are the keys of a table ("train", "features.end2end").

    `tables` are those of the conf, in which components are named; errors call the table `where`, if given.

    Raises:
        ConfigError: a name is missing or unknown.
    """
    if table in _REGISTRIES:
        name = tables.get(table, {}).get("name")
        if not isinstance(name, str):
            known = ", ".join(_REGISTRIES[table].names())
            raise ConfigError(f"[{where or table}] needs a name, one of: {known}; got {name!r}")
        component = read_shipped if (table, name) == ("encoder", PRECOMPUTED) else _REGISTRIES[table].get(name)
        return (component, prepare) if table == "data" else (component,)
    if table == "train":
        named = tables.get("recommender", {}).get("name")
        sampler = sampler_of(components("recommender", tables)[0]) if named else TripleSampler
        return Trainer, sampler, tensorboard_writer, Trackers, WarmStart, Sharding
    if table == "features.end2end":
        return end2end_components(tables.get("features", {}).get("adapter", "none"))
    return {
        "split": (split,),
        "features": (FeaturesSection, altered),
        "features.finetune": (fit_pairs,),
        "evaluate": (Evaluator, masked),
        "search": (SearchOptions,),
        "study": (StudyOptions,),
    }[table]


def end2end_components(adapter: Adapter) -> tuple[Component, ...]:
    """The components whose keyword-only arguments are the keys of [features.end2end]."""
    return LearningRateSchedule, Live, ADAPTERS[adapter]


def keys_of(*parts: Component) -> Iterator[Key]:
    """The keys of components, in the order of their signatures."""
    for component in parts:
        texts = meanings(component)
        for name, parameter in hyper_parameters(component).items():
            kind, allowed = describe(parameter.annotation)
            yield Key(name, kind, _default(parameter), allowed, texts[name])


def table_keys(table: str, tables: Mapping[str, Any]) -> dict[str, Key]:
    """The keys of a table of a conf file by their names, the one that names its component first."""
    named = [Key(name, "text", "needed", "", meaning) for (at, name), meaning in _NAMES.items() if at == table]
    found: dict[str, Key] = {}
    for key in (*named, *keys_of(*components(table, tables))):
        found.setdefault(key.name, key)
    return found


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "needed"
    return "" if parameter.default is None else json.dumps(parameter.default, ensure_ascii=False, default=str)
