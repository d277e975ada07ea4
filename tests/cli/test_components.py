"""Descriptions of components by their source files, and what the light commands import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lmm4rec.cli import completion
from lmm4rec.cli.app import main
from lmm4rec.cli.components import described_by_import, described_by_source, listed
from lmm4rec.core.registry import ENCODERS, RECOMMENDERS, SOURCES, Installed, Registry

OWN = [(registry, one) for registry in (RECOMMENDERS, ENCODERS, SOURCES) for one in listed(registry) if not one.plugin]
LIGHT = """
import sys
from lmm4rec.cli.app import main
from lmm4rec.cli.completion import models
for arguments in (["models"], ["--help"], ["--version"], ["recommend", "--help"]):
    try:
        main(arguments)
    except SystemExit as ended:
        assert not ended.code
assert "vbpr" in models("v")
print("imported:", sorted({"torch", "numpy", "polars", "scipy"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(("registry", "installed"), OWN, ids=[one.name for _, one in OWN])
def test_the_source_says_what_the_component_says(registry: Registry, installed: Installed) -> None:
    by_source, by_import = described_by_source(registry, installed), described_by_import(registry, installed)
    assert by_source == by_import
    assert by_source.component is by_import.component


@pytest.mark.long
def test_light_commands_import_no_library_of_numbers() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert "imported: []" in done.stdout
    assert "lmm4rec 0." in done.stdout
    assert "content_dim" in done.stdout  # of the list of models


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two conf files, a run, a bundle of its own, and a hidden folder."""
    for name in ("conf/bpr.conf", "conf/vbpr.conf", "mine.conf", "notes.txt", ".hidden/x.conf",
                 "runs/a/bundle/bundle.json", "runs/b/metrics.json", "shop/bundle.json"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_completion_of_paths_and_names(work: Path) -> None:
    assert completion.confs("") == ["conf/bpr.conf", "conf/vbpr.conf", "mine.conf"]
    assert completion.confs("co") == completion.confs("conf/") == ["conf/bpr.conf", "conf/vbpr.conf"]
    assert completion.confs("conf/v") == ["conf/vbpr.conf"]
    assert completion.confs(f"{work}/m") == [f"{work}/mine.conf"]
    assert completion.trained("") == ["runs/a", "shop"]
    assert completion.trained("runs/") == ["runs/a"]
    assert completion.trained("nowhere/") == []
    assert completion.models("LIGHT") == ["lightgcn"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("typed", "offered"),
    [("lmm4rec run co", "conf/bpr.conf"), ("lmm4rec recommend r", "runs/a"), ("lmm4rec models vb", "vbpr"),
     ("lmm4rec serve sh", "shop"), ("lmm4rec reco", "recommend")],
)  # fmt: skip
@pytest.mark.usefixtures("work")
def test_the_shell_is_answered(
    typed: str, offered: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_LMM4REC_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    with pytest.raises(SystemExit):
        main([])
    assert offered in capfd.readouterr().out.split()
