"""Specs: conf files as they are written, with dotted keys overridden; tables are checked, their keys are not yet."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import ConfigError, did_you_mean

Table = Mapping[str, Any]

TABLES = ("data", "split", "encoder", "features", "recommender", "train", "evaluate")
REQUIRED = ("data", "recommender")
STUDIES = ("study", "axes", "search")  # tables of confs that describe several runs


@dataclass(frozen=True)
class Spec:
    """A conf file, before any default is filled in."""

    name: str  # the file's stem
    title: str
    tables: Mapping[str, Table]

    def table(self, name: str) -> Table:
        """The keys of a table; empty where the conf file has none."""
        return self.tables.get(name, {})


def load_spec(conf: str | Path | Table, overrides: Table | None = None) -> Spec:
    """The spec of a conf file (or of the same as a mapping), with dotted keys overridden.

    Raises:
        ConfigError: the file is missing or no TOML, a table is unknown or missing, an override names no table.
    """
    name, content = read_conf(conf, overrides)
    if found := [table for table in STUDIES if table in content]:
        raise ConfigError(
            f"[{found[0]}] is of a study or a search: `lmm4rec study` carries out a conf with [axes], `lmm4rec tune` "
            "one with [search]"
        )
    title = take_title(content, name, TABLES)
    for key in REQUIRED:
        if key not in content:
            raise ConfigError(f"the conf has no [{key}] table; it needs at least [data] and [recommender]")
    return Spec(name, title, content)


def take_title(content: dict[str, Any], name: str, known: Sequence[str]) -> str:
    """The title of a conf file (else its name), removed from its content, in which known tables must remain.

    Raises:
        ConfigError: something else is left, or the title is no text.
    """
    title = content.pop("title", name)
    if not isinstance(title, str):
        raise ConfigError(f"title must be text, got {title!r}")
    for key, table in content.items():
        if key not in known:
            raise ConfigError(f"unknown table [{key}].{did_you_mean(key, known)} There are: {', '.join(known)}")
        if not isinstance(table, Mapping):
            raise ConfigError(f"'{key}' must be a table: write [{key}] on a line of its own, got {table!r}")
    return title


def read_conf(conf: str | Path | Table, overrides: Table | None = None) -> tuple[str, dict[str, Any]]:
    """The name (the file's stem) and the tables of a conf file, or of the same as a mapping, dotted keys overridden.

    `name` in it, which `experiment.toml` has, comes before both. Nothing else is checked.

    Raises:
        ConfigError: the file is missing or no TOML, an override names no table.
    """
    if isinstance(conf, Mapping):
        name, content = "run", {key: _copy(value) for key, value in conf.items()}
    else:
        name, content = Path(conf).stem, _read(Path(conf))
    if isinstance(content.get("name"), str):  # experiment.toml of a run folder
        name = content.pop("name")
    for dotted, value in (overrides or {}).items():
        _override(content, dotted, value)
    return name, content


def parse_override(text: str) -> tuple[str, Any]:
    """The dotted key and the value of a `key=value` argument; a value that is no TOML is taken as text.

    Raises:
        ConfigError: there is no `=`, or no table in the key.
    """
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise ConfigError(f"an override reads TABLE.KEY=VALUE, such as train.epochs=5; got '{text}'")
    try:
        return key.strip(), _plain(tomllib.loads(f"value = {value}")["value"])
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _plain(value: Any) -> Any:
    """The value with the dates of TOML, in all its tables and lists, as text."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value


def _read(path: Path) -> dict[str, Any]:
    try:
        # editors on Windows begin a file with a mark
        content: dict[str, Any] = _plain(tomllib.loads(path.read_text(encoding="utf-8-sig")))
        return content
    except FileNotFoundError:
        near = sorted(str(other) for other in path.parent.glob("*.conf")) if path.parent.is_dir() else []
        hint = did_you_mean(str(path), near)
        kind = "conf file" if path.suffix == ".conf" else "file"
        raise ConfigError(f"there is no {kind} {path}.{hint}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _override(content: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    if not path:
        raise ConfigError(f"an override names TABLE.KEY, such as 'train.epochs'; got '{dotted}'")
    table = content
    for key in path:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override '{dotted}': '{key}' is a value ({table!r}), not a table")
    if last == "name" and table.get("name") not in (None, value):
        table.clear()  # another component has other keys
    table[last] = _copy(value)


def _copy(value: Any) -> Any:
    """Nested plain tables, so that an override never changes what the caller holds."""
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, list) else value
