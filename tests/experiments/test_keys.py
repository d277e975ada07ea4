"""Every key of a conf file has its meaning once, in a signature; conf files and `lmm4rec models` show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lmm4rec.cli.models import show_models
from lmm4rec.core.registry import ENCODERS, RECOMMENDERS, SOURCES, hyper_parameters, meanings
from lmm4rec.experiments.conf.comments import with_comments
from lmm4rec.experiments.conf.keys import TABLE_MEANINGS, table_keys
from lmm4rec.features.adapters import ADAPTERS

CONFS = sorted((Path(__file__).parents[2] / "conf").rglob("*.conf"))

_NAMED = {"data": SOURCES, "encoder": ENCODERS, "recommender": RECOMMENDERS}
TABLES: list[tuple[str, dict[str, Any]]] = [
    *((table, {table: {"name": name}}) for table, registry in _NAMED.items() for name in registry.names()),
    *((table, {}) for table in TABLE_MEANINGS if table not in _NAMED),
    *(("features.end2end", {"features": {"adapter": adapter}}) for adapter in ADAPTERS),
]


@pytest.mark.parametrize(("table", "tables"), TABLES, ids=str)
def test_every_key_has_a_meaning(table: str, tables: dict[str, Any]) -> None:
    for key in table_keys(table, tables).values():
        assert key.meaning.endswith("."), f"{table}.{key.name} needs Annotated[..., Doc(...)] in the signature"


@pytest.mark.long
@pytest.mark.parametrize("path", CONFS, ids=lambda path: path.stem)
def test_the_comments_of_conf_files_are_those_of_the_signatures(path: Path) -> None:
    conf = path.read_text(encoding="utf-8")
    assert conf == with_comments(conf), "run: make conf"


def test_comments_are_written_anew_and_values_stay() -> None:
    conf = (
        '# My shop\ntitle = "a # b"\n[recommender]  # old\nname = "bpr" # old\ndim = 32\n' + " " * 30 + "# old, too\n"
    )
    lines = with_comments(conf).splitlines()
    assert lines[:2] == ["# My shop", 'title = "a # b"']
    assert lines[4] == f"{'dim = 32':30}# {meanings(RECOMMENDERS.get('bpr'))['dim']}"
    assert len(lines) == 5
    assert not any("old" in line for line in lines)


@pytest.mark.long
@pytest.mark.parametrize("name", RECOMMENDERS.names())
def test_models_shows_the_meaning_of_each_key(name: str) -> None:
    console = Console(record=True, width=400)
    show_models(console, name)
    shown = console.export_text()
    for key in hyper_parameters(RECOMMENDERS.get(name)):
        assert meanings(RECOMMENDERS.get(name))[key] in shown
