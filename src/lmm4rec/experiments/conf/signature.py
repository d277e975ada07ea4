"""Keyword arguments from a table: the signature gives the keys, their types, ranges and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.registry import hyper_parameters
from lmm4rec.experiments.conf.annotations import mismatch

Component = Callable[..., Any]
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def resolve(
    table: Mapping[str, Any], where: str, *components: Component, nested: Mapping[Any, Component] | None = None
) -> list[dict[str, Any]]:
    """The checked keyword arguments of each component, defaults filled in; each key goes to the component that has it.

    `nested` maps a parameter's type to the function that resolves its table (an encoder inside an encoder).

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type or range.
    """
    check_names(table, where, *components)
    signatures = [hyper_parameters(component) for component in components]
    return [
        {
            name: _value(table, name, parameter, where, nested or {})
            for name, parameter in signature.items()
            if name in table or parameter.default is not None
        }
        for signature in signatures
    ]


def check_names(table: Mapping[str, Any], where: str, *components: Component) -> None:
    """Refuse keys that no component has.

    Raises:
        ConfigError: it names the key, the nearest known one, and all that there are.
    """
    known = [name for component in components for name in hyper_parameters(component)]
    is_component = where in ("recommender", "encoder") and inspect.isclass(components[0])
    title = components[0].__name__ if is_component else f"[{where}]"
    for key in table:
        if key not in known:
            takes = ", ".join(dict.fromkeys(known)) or "none"
            raise ConfigError(f"{title} has no parameter '{key}'.{did_you_mean(key, known)} It takes: {takes}")


def _value(
    table: Mapping[str, Any], name: str, parameter: inspect.Parameter, where: str, nested: Mapping[Any, Component]
) -> Any:
    if name not in table:
        if parameter.default is inspect.Parameter.empty:
            raise ConfigError(f"[{where}] needs a value for '{name}'")
        return parameter.default
    if parameter.annotation in nested:
        return nested[parameter.annotation](table[name], f"{where}.{name}")
    if isinstance(table[name], int) and not -(2**63) <= table[name] < 2**63:  # TOML has no others, tomllib reads them
        raise ConfigError(f"{where}.{name} = {table[name]} does not fit: integers have at most 64 bits")
    try:
        return _adapter(parameter.annotation).validate_python(table[name])
    except ValidationError:
        problem = mismatch(table[name], parameter.annotation)
        raise ConfigError(f"{where}.{name} = {table[name]!r} does not fit: {problem}") from None


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        hash(annotation)
    except TypeError:  # a plugin's `Annotated` may hold anything
        return _new_adapter(annotation)
    return _cached_adapter(annotation)


def _new_adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=_STRICT)


_cached_adapter = cache(_new_adapter)  # a study reads the same annotations in each of its cells
