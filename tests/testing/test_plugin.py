"""A package brings components: announced, or installed by pip, named in a conf, and missed where it is gone."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lmm4rec
from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.experiments.result import read_result

PROJECT = Path(__file__).parents[1] / "plugin"
CONF = PROJECT / "contentbpr.conf"


@contextmanager
def announced(site: Path) -> Iterator[None]:
    """This process sees the plugin, as if installed: its sources, and the entry points of its pyproject.toml."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, version = project["name"], project["version"]
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{entry} = {path}" for entry, path in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.syspath_prepend(str(PROJECT / "src"))
        yield
    for module in [module for module in sys.modules if module.startswith("lmm4rec_example_plugin")]:
        del sys.modules[module]


@pytest.mark.slow
def test_a_conf_names_its_components_and_where_it_is_gone_the_run_says_what_to_install(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with announced(tmp_path / "site"):
        lmm4rec.run(CONF, {"data.users": 30, "data.items": 40, "data.interactions": 300}, out=folder)
        bundle = lmm4rec.Bundle.load(folder)
        item = bundle.items[0]
        assert item in [found.item for found in bundle.search(bundle.title(item), k=3)]
    assert len(lmm4rec.Bundle.load(folder).recommend([user := bundle.users[0]], k=3)[user]) == 3  # without the plugin
    with pytest.raises(CheckpointError, match=r"install lmm4rec-example-plugin 0.1.0, which it came with"):
        lmm4rec.Bundle.load(folder).search("a red mug")
    with pytest.raises(ConfigError, match=r"unknown recommender 'contentbpr'.*made with lmm4rec-example-plugin==0.1.0"):
        read_result(folder)


class Installed:
    """A folder with the plugin in it, and commands that see it."""

    def __init__(self, root: Path) -> None:
        self.root, self.site = root, root / "site"
        shutil.copytree(PROJECT, root / "project")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
        self._run([*pip, "--disable-pip-version-check", "--target", str(self.site), str(root / "project")])
        self.run_folder = root / "run"
        self.lmm4rec("run", str(root / "project" / "contentbpr.conf"), "-o", str(self.run_folder))

    def lmm4rec(self, *arguments: str) -> str:
        return self._run([sys.executable, "-m", "lmm4rec.cli.app", *arguments])

    def pytest(self, folder: Path) -> str:
        return self._run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)])

    def _run(self, command: list[str]) -> str:
        paths = [str(self.site), *(path for path in sys.path if path)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "LMM4REC_CACHE": str(self.root / "cache")}
        environment |= {"COLUMNS": "200", "PYTHONWARNINGS": "default"}
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    pytest.importorskip("hatchling")
    return Installed(tmp_path_factory.mktemp("plugin"))


@pytest.mark.slow
def test_a_conf_that_names_its_components_runs_and_its_bundle_recommends(plugin: Installed) -> None:
    assert (plugin.run_folder / "bundle" / "bundle.json").exists()
    bundle = lmm4rec.Bundle.load(plugin.run_folder)
    user = bundle.users[0]
    recommended = plugin.lmm4rec("recommend", str(plugin.run_folder), user, "-k", "3")
    assert bundle.recommend([user], k=1)[user][0].item in recommended
    title = bundle.title(bundle.items[0])
    assert bundle.items[0] in plugin.lmm4rec("search", str(plugin.run_folder), title, "-k", "3")


@pytest.mark.slow
def test_the_list_of_models_says_where_each_is_from(plugin: Installed) -> None:
    lines = plugin.lmm4rec("models").splitlines()
    named = [(one.split()[:1], other.split()[:2]) for one, other in itertools.pairwise(lines)]
    for name in ("cooccurrence", "contentbpr", "letters"):
        assert ([name], ["lmm4rec-example-plugin", "0.1.0"]) in named
    assert "popularity_penalty" in plugin.lmm4rec("models", "cooccurrence")
    assert "popularity_penalty" in plugin.lmm4rec("models", "lmm4rec_example_plugin.cooccurrence:Cooccurrence")


@pytest.mark.slow
def test_a_component_by_import_path_overrides_the_conf_s(plugin: Installed) -> None:
    out = plugin.root / "by_path"
    path = "lmm4rec_example_plugin.cooccurrence:Cooccurrence"
    conf = str(plugin.root / "project" / "contentbpr.conf")
    assert "Cooccurrence" in plugin.lmm4rec("run", conf, "-s", f"recommender.name={path}", "-o", str(out))
    assert f'name = "{path}"' in (out / "experiment.toml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_its_own_tests_pass_in_three_lines(plugin: Installed) -> None:
    assert "1 passed" in plugin.pytest(plugin.root / "project" / "tests")
