"""Descriptions of the types of keys for users of conf files: name, allowed values, and what is wrong with a value."""

from __future__ import annotations

import inspect
import json
import math
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Lt

from lmm4rec.encoders.base import is_encoder

_TYPE_NAMES: Mapping[type, str] = {
    str: "text", bool: "bool", int: "int", float: "float", Sequence: "list", Mapping: "table",
}  # fmt: skip


def describe(annotation: Any) -> tuple[str, str]:
    """The name of a parameter's type, and the values that it may take; the latter empty where all of the type may."""
    if is_encoder(annotation):
        return "encoder", 'a table: { name = "...", ... }'
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0])[0], ", ".join(filter(None, map(_bounds, arguments[1:])))
    if origin is Literal:
        return _TYPE_NAMES[type(arguments[0])], " | ".join(json.dumps(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return _alternatives(arguments)[0]
    plain_type = origin or annotation
    for known, word in _TYPE_NAMES.items():
        if inspect.isclass(plain_type) and issubclass(plain_type, known):
            return (f"list of {describe(arguments[0])[0]}" if word == "list" and arguments else word), ""
    return getattr(annotation, "__name__", str(annotation)).lower(), ""


def expected(annotation: Any) -> str:
    """The allowed values, for a message: "int ≥ 1", '"adam" | "adamw"', "list of int ≥ 1"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        known = [part for part in arguments if describe(part) in _alternatives(arguments)]
        return " or ".join(dict.fromkeys(map(expected, known)))
    if inspect.isclass(origin) and issubclass(origin, Sequence) and arguments:
        return f"list of {expected(arguments[0])}"
    if inspect.isclass(origin) and issubclass(origin, Mapping) and arguments:
        return f"table of {expected(arguments[-1])}"
    kind, allowed = describe(annotation)
    return allowed if allowed.startswith('"') else f"{kind} {allowed}".rstrip()


def mismatch(given: Any, annotation: Any) -> str:
    """A message on a value that does not fit: the allowed values, the type of this one, and a likely remedy."""
    kind, wanted = describe(type(given))[0], describe(annotation)[0]
    is_other = kind != wanted.partition(" ")[0] and (kind, wanted.partition(" ")[0]) != ("int", "float")
    text = f"it takes {expected(annotation)}" + (f", got {kind}" if is_other else "")
    if isinstance(given, list) and "list" not in expected(annotation):
        return f"{text}; several values are compared by `lmm4rec tune` and `lmm4rec study`"
    if isinstance(given, float) and not math.isfinite(given):
        return f"{text}; it has to be finite"
    if isinstance(given, str) and wanted in ("int", "float", "bool"):
        return f"{text}; numbers, true and false stand without quotes"
    return text


def _alternatives(arguments: tuple[Any, ...]) -> list[tuple[str, str]]:
    """The types of a union that a conf file can hold: plain values, no frames; None is a key that is left out."""
    parts = [describe(part) for part in arguments if part is not type(None)]
    return [part for part in parts if part[0].partition(" ")[0] in _TYPE_NAMES.values()] or parts


def _bounds(limit: Any) -> str:
    if isinstance(limit, Interval):
        return ", ".join(filter(None, map(_bounds, limit)))
    signs = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
    return next(
        (f"{sign} {getattr(limit, name)}" for kind, (sign, name) in signs.items() if isinstance(limit, kind)), ""
    )
