"""What the documentation says works exactly as written: its code, its conf files, its commands, its links."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from blocks import GUIDES, ROOT, WRITTEN, Block, blocks, commands, name

from lmm4rec.cli.app import app
from lmm4rec.experiments.conf.keys import TABLE_MEANINGS
from lmm4rec.experiments.conf.spec import load_spec, parse_override
from lmm4rec.experiments.example_shop import CONF
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.study.spec import load_study
from lmm4rec.features.source import Frozen
from lmm4rec.recommenders.base import Recommender
from lmm4rec.serving.rules import RuleSet
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer
from worlds import camps, share_found

PYTHON = {name(path): blocks(path, "python") for path in GUIDES}
FAST = [page for page, code in PYTHON.items() if code and not any(block.slow for block in code)]
SLOW = [page for page, code in PYTHON.items() if any(block.slow for block in code)]
TOML = [block for path in GUIDES for block in blocks(path, "toml")]
GENERATED = re.compile(r"reference/|notebooks/|components\.md|decisions/index\.md")  # by docs/hooks; mkdocs checks them
# What a conf block that shows a few keys only is added to.
WHOLE = {"data": {"name": "toyshop"}, "encoder": {"name": "words"}, "recommender": {"name": "vbpr"}}


@pytest.mark.long
@pytest.mark.parametrize("page", FAST)
def test_the_python_of_a_page_runs(page: str, shop: Path) -> None:
    _execute(PYTHON[page])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", SLOW)
def test_the_python_of_a_page_with_slow_blocks_runs(page: str, trained_shop: Path) -> None:
    _execute(PYTHON[page])


def _execute(code: list[Block]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in code:
        exec(compile(block.source, block.page, "exec"), names)


@pytest.mark.parametrize("block", TOML, ids=[f"{block.page}:{block.line}" for block in TOML])
def test_conf_blocks_are_confs(block: Block) -> None:
    tables = tomllib.loads(block.code)
    if tables.keys().isdisjoint(TABLE_MEANINGS | {"axes": "", "title": ""}):
        assert [RuleSet.of(name, table) for name, table in tables.items()]
        return
    if "axes" in tables:
        load_study({**WHOLE, **tables})
        return
    if "search" in tables:
        SearchOptions.of(tables.pop("search"))
    make_plan(load_spec({**WHOLE, **tables}))


@pytest.mark.long
@pytest.mark.parametrize("path", GUIDES, ids=name)
def test_command_lines_are_understood(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    whole: Any = typer.main.get_command(app)
    for arguments in commands(path):
        command = whole
        rest = list(arguments)
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, f"no command {arguments}"
            command = command.commands[rest.pop(0)]
        values = command.make_context(command.name, rest).params  # raises where an option is unknown
        conf, settings = values.get("conf"), dict(map(parse_override, values.get("settings") or []))
        if conf is not None and conf.parts[0] == "conf":
            load_study(conf, settings) if conf.parts[1] == "studies" else make_plan(load_spec(conf, settings))


def test_the_conf_of_the_readme_is_the_one_that_the_example_writes() -> None:
    (block,) = blocks(ROOT / "README.md", "toml")
    assert block.code == CONF.format(path="my_shop")


@pytest.mark.long
def test_the_recommender_of_contributing_learns() -> None:
    names: dict[str, Any] = {"__name__": "mymodel"}
    block = next(block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if "class MyModel" in block.code)
    exec(compile(block.source, "CONTRIBUTING.md", "exec"), names)
    graph, rest = camps()
    recommender: Recommender = names[names["__all__"][0]](graph, {}, torch.Generator().manual_seed(0), dim=16)
    sampler = TripleSampler(graph.users, graph.items, graph.n_items, batch_size=64)
    trainer = Trainer(epochs=40, learning_rate=0.02, evaluate_every=40, metric="loss", device="cpu")
    trainer.fit(RankingObjective(recommender, Frozen({})), sampler, dict)
    with torch.no_grad():
        scores = recommender.embed({}).scores(torch.arange(graph.n_users))
    assert share_found(scores, graph, rest) > 0.95


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_links_and_file_names_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("http") and not GENERATED.search(target):
            assert (path.parent / target).exists(), target
    for file in re.findall(r"`((?:\w+/)+\w+\.(?:py|conf))`", text):
        if "/my" not in file:  # the reader's own
            assert any((root / file).exists() for root in (ROOT, ROOT / "src" / "lmm4rec")), file


@pytest.mark.parametrize("path", [path for path in WRITTEN if path.name != "CONTRIBUTING.md"], ids=name)
def test_lines_are_at_most_100_columns(path: Path) -> None:
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"))
    long = [line for line in prose.splitlines() if len(line) > 100 and line[:1] not in "|!"]
    assert not long


def test_the_tables_of_the_guide_hold_every_component() -> None:
    spec = importlib.util.spec_from_file_location("components_hook", ROOT / "docs" / "hooks" / "components.py")
    assert spec is not None
    assert spec.loader is not None
    hook: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    for page, kind, folder in (("models", "recommender", "recommenders"), ("encoders", "encoder", "encoders")):
        text = hook.on_page_markdown((ROOT / "docs" / "guide" / f"{page}.md").read_text(encoding="utf-8"), None)
        assert "<!-- table" not in text
        modules = (ROOT / "src" / "lmm4rec" / folder).glob("[a-z]*.py")
        assert all(f"| `{module.stem}` |" in text for module in modules if module.stem != "base"), kind
    ease = "A linear model from each item to all others, in closed form. | Steck 2019, [arXiv 1905.03375]"
    assert f"| `ease` | {ease}(https://arxiv.org/abs/1905.03375) |" in hook.table("recommender")


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_a_list_begins_after_an_empty_line(path: Path) -> None:
    """Else the site shows it as part of the paragraph above."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert not re.findall(r"^(?!(?:[-*]|\d+\.) |[|<#\s]).+\n(?:[-*]|\d+\.) .*", text, re.M)
