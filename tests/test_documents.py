"""What the documents say works exactly as written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import lmm4rec
from lmm4rec.experiments.example_shop import CONF, write_example
from lmm4rec.features.source import Frozen
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.objective import Ranking
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer
from worlds import camps, share_found

ROOT = Path(__file__).parents[1]


def block(document: str, language: str, holding: str) -> str:
    """The first code block of a document in a language that holds some words."""
    text = re.sub(r"(?m)^   (?=.*$)", "", (ROOT / document).read_text(encoding="utf-8"))
    blocks = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    return next(code for code in blocks if holding in code)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the example shop and the conf of the README."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    write_example(Path("my_shop"))
    Path("my_shop.conf").write_text(block("README.md", "toml", "my own shop"), encoding="utf-8")
    return tmp_path


def test_the_conf_of_the_readme_is_the_one_that_the_example_writes(tmp_path: Path) -> None:
    assert block("README.md", "toml", "my own shop") == CONF.format(path="my_shop")


def test_one_s_own_table_and_the_python_of_the_readme(shop: Path) -> None:
    names: dict[str, Any] = {}
    code = block("README.md", "python", "load_dataset")
    exec(compile(code, "README.md", "exec"), names)
    assert names["features"]["text"].shape == (500, 128)
    assert names["result"].metrics["test"]["recall@20"] > 0.05
    assert len(names["bundle"].recommend(["u001"], k=10)["u001"]) == 10
    assert isinstance(names["bundle"], lmm4rec.Bundle)
    assert "my own shop" in (shop / "runs" / "quick" / "report.html").read_text(encoding="utf-8")


def test_the_recommender_of_contributing_learns() -> None:
    names: dict[str, Any] = {"__name__": "mymodel"}
    exec(compile(block("CONTRIBUTING.md", "python", "class MyModel"), "CONTRIBUTING.md", "exec"), names)
    graph, rest = camps()
    recommender: Recommender = names[names["__all__"][0]](graph, {}, torch.Generator().manual_seed(0), dim=16)
    sampler = TripleSampler(graph.users, graph.items, graph.n_items, batch_size=64)
    trainer = Trainer(epochs=40, learning_rate=0.02, evaluate_every=40, metric="loss", device="cpu")
    trainer.fit(Ranking(recommender, Frozen({})), sampler, dict)
    with torch.no_grad():
        scores = recommender.embed({}).scores(torch.arange(graph.n_users))
    assert share_found(scores, graph, rest) > 0.95


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", *(str(p) for p in Path("docs").glob("*.md"))])
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert ((ROOT / document).parent / target).exists(), target
