"""Components by name, by entry point and by import path, and what is said where one cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import ENCODERS, RECOMMENDERS, SOURCES, Registry

MODEL = """
from lmm4rec.recommenders.base import Recommender

class Mine(Recommender):
    def embed(self, features):
        ...

class Unfinished(Recommender):
    pass

def helper():
    ...

number = 3
"""


class Plugins:
    """A folder of installed packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def module(self, name: str, text: str = MODEL) -> None:
        (self.folder / f"{name}.py").write_text(text, encoding="utf-8")

    def announce(self, distribution: str, **entries: str) -> None:
        """Install a distribution that announces recommenders."""
        info = self.folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = [f"{name} = {path}" for name, path in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[lmm4rec.recommenders]", *lines]))


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Plugins(tmp_path)


def test_a_component_of_the_house_is_found_by_its_module_s_name() -> None:
    assert RECOMMENDERS.get("LightGCN").__name__ == "LightGCN"
    assert RECOMMENDERS.find("lightgcn").distribution == "lmm4rec"
    assert ENCODERS.get("clip").__name__ == "Clip"
    assert SOURCES.get("toyshop").__module__ == "lmm4rec.data.sources.toyshop"


def test_an_import_path_is_a_component_without_being_installed(plugins: Plugins) -> None:
    plugins.module("by_path")
    assert RECOMMENDERS.get("by_path:Mine").__name__ == "Mine"
    assert "by_path" not in "".join(RECOMMENDERS.names())


def test_an_entry_point_gives_a_name_and_tells_its_distribution(plugins: Plugins) -> None:
    plugins.module("announced")
    plugins.announce("some-models", **{"My-Model": "announced:Mine"})
    assert "my_model" in RECOMMENDERS.names()
    assert RECOMMENDERS.get("My-Model").__name__ == "Mine"
    assert RECOMMENDERS.find("my_model").distribution == "some-models 1.2"
    assert RECOMMENDERS.find("announced:Mine").distribution == "some-models 1.2"
    assert "my_model" not in ENCODERS.names()


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "lightgnc",
            r"unknown recommender 'lightgnc'\. Did you mean 'lightgcn'\? There are: .*bm3, .*package.module:Class",
        ),
        ("nowhere.models:Mine", r"module 'nowhere.models' raises ModuleNotFoundError: No module named 'nowhere'"),
        ("parts:Mien", r"module 'parts' has no 'Mien'\. Did you mean 'Mine'\?"),
        (
            "parts:helper",
            r"is <function helper.*>; a recommender is a subclass of lmm4rec.recommenders.base.Recommender",
        ),
        ("parts:number", r"is 3; a recommender is a subclass"),
        ("parts:Unfinished", r"is not complete: Unfinished must define embed"),
        ("lmm4rec.encoders.color:Color", r"is <class .*Color'>; a recommender is a subclass"),
        ("faulty:Mine", r"module 'faulty' raises ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_component_says_why(plugins: Plugins, name: str, message: str) -> None:
    plugins.module("parts")
    plugins.module("faulty", "1 / 0")
    with pytest.raises(ConfigError, match=message):
        RECOMMENDERS.get(name)


def test_a_source_is_a_function(plugins: Plugins) -> None:
    plugins.module("sources")
    assert SOURCES.get("sources:helper").__name__ == "helper"
    with pytest.raises(ConfigError, match="is 3; a data source is a function that returns a data set"):
        SOURCES.get("sources:number")


def test_two_of_one_name_are_refused_and_still_had_by_their_paths(plugins: Plugins) -> None:
    plugins.module("rivals")
    plugins.announce("rival", lightgcn="rivals:Mine")
    message = "2 recommenders are called 'lightgcn': .*of lmm4rec and 'rivals:Mine' of rival 1.2.*import path"
    with pytest.raises(ConfigError, match=message):
        RECOMMENDERS.get("lightgcn")
    assert RECOMMENDERS.get("rivals:Mine").__name__ == "Mine"
    assert RECOMMENDERS.get("lmm4rec.recommenders.lightgcn:LightGCN").__name__ == "LightGCN"


def test_a_broken_entry_point_names_its_distribution_and_leaves_the_others_alone(plugins: Plugins) -> None:
    plugins.announce("sick-models", sick="not_there:Mine")
    assert {"sick", "lightgcn"} <= set(RECOMMENDERS.names())
    assert RECOMMENDERS.get("lightgcn").__name__ == "LightGCN"
    with pytest.raises(ConfigError, match=r"the recommender 'sick' of sick-models 1\.2 cannot be imported"):
        RECOMMENDERS.get("sick")


def test_an_error_in_a_component_of_the_house_is_its_own() -> None:
    broken = Registry("lmm4rec", group="none", kind="room")
    with pytest.raises(AttributeError):
        broken.get("core")  # a package without `__all__`
