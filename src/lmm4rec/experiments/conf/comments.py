"""Comments of conf files, written from the `Doc` texts in the signatures.

`python -m lmm4rec.experiments.conf.comments conf/*.conf` writes those of whole files anew; values stay as they are.
"""

from __future__ import annotations

import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import write_text
from lmm4rec.experiments.conf.keys import TABLE_MEANINGS, Key, table_keys

_COLUMN, _WIDTH = 30, 120


def with_comments(conf: str) -> str:
    """The text of a conf file whose tables and keys have the comments of their signatures.

    Comments that begin in the first column stay, and so do tables and keys that no signature has.
    """
    tables = tomllib.loads(conf)
    lines: list[str] = []
    keys: dict[str, Key] = {}
    for line in conf.splitlines():
        if line.startswith(" ") and line.strip().startswith("#"):
            continue  # a continued comment, which is written anew
        if line.startswith("["):
            name = line[1 : line.index("]")]
            keys = _known(name, tables)
            lines += _commented(f"[{name}]", TABLE_MEANINGS[name]) if keys else [line]
        elif (key := keys.get(line.partition("=")[0].strip())) and (code := _without_comment(line)):
            lines += _commented(code, _text(key))
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _known(table: str, tables: dict[str, Any]) -> dict[str, Key]:
    """The keys of a table; none where the component is not known, as in a study that compares several."""
    try:
        return table_keys(table, tables) if table in TABLE_MEANINGS else {}
    except ConfigError:
        return {}


def _without_comment(line: str) -> str:
    """A line `key = value` without its comment; empty where the value goes on in the next line."""
    ends = [at for at, sign in enumerate(line) if sign == "#"]
    for end in (*ends, len(line)):  # the first # that does not stand inside a text
        try:
            tomllib.loads(line[:end])
        except tomllib.TOMLDecodeError:
            continue
        return line[:end].rstrip()
    return ""


def _text(key: Key) -> str:
    choices = key.allowed.replace('"', "") if "|" in key.allowed else ""
    return f"{key.meaning.removesuffix('.')} ({choices})." if choices else key.meaning


def _commented(code: str, comment: str) -> list[str]:
    column = max(_COLUMN, len(code) + 2)
    first, *rest = textwrap.wrap(comment, max(_WIDTH - column - 2, 40), break_on_hyphens=False) or [""]
    return [f"{code:{column}}# {first}".rstrip(" #"), *(f"{'':{column}}# {line}" for line in rest)]


def main(paths: list[str]) -> None:
    """Write the comments of the files anew."""
    for path in map(Path, paths):
        write_text(path, with_comments(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
