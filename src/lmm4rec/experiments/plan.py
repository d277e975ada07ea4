"""A conf file checked and completed before any work: which component each table names, and with what values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import ENCODERS, RECOMMENDERS, SOURCES, hyper_parameters
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.feature_files import read_shipped
from lmm4rec.data.filters import prepare
from lmm4rec.data.splits import split
from lmm4rec.encoders.base import Encoder
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.experiments.build.end2end import options_of
from lmm4rec.experiments.build.features import catalog_features
from lmm4rec.experiments.build.masking import masked
from lmm4rec.experiments.build.own_encoders import HasTiny, local_checkpoint
from lmm4rec.experiments.callbacks import curves
from lmm4rec.experiments.conf.signature import resolve
from lmm4rec.experiments.conf.spec import Spec, Table
from lmm4rec.features.ablation import altered
from lmm4rec.training.finetuning import fit_pairs
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer

PRECOMPUTED = "precomputed"

Component = Callable[..., Any]


@dataclass(frozen=True)
class Plan:
    """A spec with every key checked and every default filled in: what `experiment.toml` holds."""

    name: str
    title: str
    tables: Mapping[str, dict[str, Any]]

    def arguments(self, table: str, component: Component) -> dict[str, Any]:
        """The keyword arguments that a table (such as "train" or "features.end2end") holds for a component."""
        keys, holder = hyper_parameters(component), self.tables
        for name in table.split("."):
            holder = holder.get(name, {})
        return {key: value for key, value in holder.items() if key in keys}

    @property
    def recommender(self) -> str:
        """The paper's name of the model."""
        name: str = RECOMMENDERS.get(self.tables["recommender"]["name"]).__name__
        return name

    @property
    def is_trained(self) -> bool:
        """Whether the model has weights to train."""
        trained: bool = RECOMMENDERS.get(self.tables["recommender"]["name"]).is_trained
        return trained

    @property
    def encoder(self) -> str:
        """What the features come from, in a word or two; "none" where the model sees no content."""
        return _describe(self.tables["encoder"]) if "encoder" in self.tables else "none"


def make_plan(spec: Spec) -> Plan:
    """The plan of a spec.

    Raises:
        ConfigError: a name, key or value is wrong; nothing has been done yet then.
    """
    source = SOURCES.get(_name(spec.table("data"), "data"))
    recommender = RECOMMENDERS.get(_name(spec.table("recommender"), "recommender"))
    tables = {
        "data": _complete(spec.table("data"), "data", source, prepare),
        "split": _complete({"method": "random", **spec.table("split")}, "split", split, named="method"),
    }
    if "encoder" in spec.tables:
        tables["encoder"] = _encoder(spec.table("encoder"), "encoder")
        tables["features"] = _features(spec.table("features"), tables["encoder"])
    elif "features" in spec.tables:
        raise ConfigError("[features] needs an [encoder] table that says where the features come from")
    elif recommender.uses_content:
        raise ConfigError(f"{recommender.__name__} needs features: give the conf an [encoder] table")
    tables["recommender"] = _complete(spec.table("recommender"), "recommender", recommender)
    tables["train"] = _complete(spec.table("train"), "train", Trainer, TripleSampler, curves)
    tables["evaluate"] = _complete(spec.table("evaluate"), "evaluate", Evaluator, masked)
    return Plan(spec.name, spec.title, tables)


def make_encoder(table: Mapping[str, Any], catalog: Catalog) -> Encoder:
    """The encoder of a completed [encoder] table, encoders inside it included.

    The catalog is what a checkpoint that lmm4rec makes itself is made for.
    """
    arguments = {key: value for key, value in table.items() if key != "name"}
    component = ENCODERS.get(table["name"])
    for key, parameter in hyper_parameters(component).items():
        if parameter.annotation is Encoder:
            arguments[key] = make_encoder(arguments[key], catalog)
    if isinstance(component, HasTiny):
        arguments["checkpoint"] = local_checkpoint(component, arguments["checkpoint"], catalog, text=arguments["text"])
    encoder: Encoder = component(**arguments)
    return encoder


def _complete(table: Table, where: str, *components: Component, named: str = "name") -> dict[str, Any]:
    rest = {key: value for key, value in table.items() if key != named}
    nested = {Encoder: _encoder}
    complete: dict[str, Any] = {named: table[named]} if named in table else {}
    for arguments in resolve(rest, where, *components, nested=nested):
        complete |= arguments
    return complete


def _encoder(table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigError(f'{where} is an encoder: a table with its name, such as {{ name = "words" }}; got {table!r}')
    name = _name(table, where)
    component = read_shipped if name == PRECOMPUTED else ENCODERS.get(name)
    return _complete(table, where, component)


def _features(table: Table, encoder: Table) -> dict[str, Any]:
    complete = _complete(table, "features", catalog_features, altered)
    if complete["train"] == "end2end":
        if encoder["name"] == PRECOMPUTED:
            raise ConfigError(
                'features.train = "end2end" needs an encoder to train, and precomputed features come without one: name '
                'an encoder in [encoder], or take train = "frozen"'
            )
        if {"ablate", "hide"} & set(complete):
            raise ConfigError('features.ablate and features.hide need vectors that stand still: not "end2end"')
        complete["end2end"] = _complete(
            complete.get("end2end", {}), "features.end2end", *options_of(complete["adapter"])
        )
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


def _describe(table: Mapping[str, Any]) -> str:
    inner = [value["name"] for value in table.values() if isinstance(value, Mapping) and "name" in value]
    return "+".join(inner) if inner else str(table["name"])
