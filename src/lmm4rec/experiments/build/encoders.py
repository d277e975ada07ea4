"""Encoders of [encoder] tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmm4rec.core.registry import ENCODERS, hyper_parameters
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.experiments.build.own_encoders import local_checkpoint


def make_encoder(table: Mapping[str, Any], catalog: Catalog | None) -> Encoder:
    """The encoder of an [encoder] table, the encoders inside it included.

    The catalog gives the vocabulary of a checkpoint that lmm4rec creates itself.
    """
    arguments = {key: value for key, value in table.items() if key != "name"}
    component = ENCODERS.get(table["name"])
    for key, parameter in hyper_parameters(component).items():
        if parameter.annotation is Encoder and isinstance(arguments.get(key), Mapping):
            arguments[key] = make_encoder(arguments[key], catalog)
    encoder: Encoder = component(**arguments | local_checkpoint(component, arguments, catalog))
    return encoder
