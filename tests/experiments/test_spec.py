"""Conf files: what is refused, and with which words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.experiments.conf.spec import load_spec, parse_override
from lmm4rec.experiments.plan import make_plan

BASE: dict[str, Any] = {"data": {"name": "mmrec", "path": "x"}, "recommender": {"name": "bpr"}}

COLOR = {"name": "color"}
PAIRED: dict[str, Any] = {"name": "paired", "text": {"name": "words"}}

END2END = {"train": "end2end"}


def plan(**tables: Any) -> Any:
    return make_plan(load_spec(BASE | tables))


def test_a_date_of_toml_is_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text('[data]\nname = "mmrec"\npath = "x"\nsince = 2024-01-31\n[recommender]\nname = "bpr"\n')
    assert load_spec(path).table("data")["since"] == "2024-01-31"
    assert parse_override("data.until=2024-02-01T10:00:00") == ("data.until", "2024-02-01T10:00:00")
    assert (
        make_plan(load_spec(path, dict([parse_override("data.since=2024-01-30")]))).data.table["since"] == "2024-01-30"
    )


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"recommender": {"name": "bpr", "dims": 3}}, "no parameter 'dims'. Did you mean 'dim'? It takes: dim, l2"),
        ({"recommender": {"name": "vpbr"}}, "unknown recommender 'vpbr'. Did you mean 'vbpr'?"),
        ({"recommender": {}}, r"\[recommender\] needs a name, one of: [a-z]"),
        ({"recommender": {"name": "bpr", "dim": "64"}}, "dim = '64' does not fit: it takes int ≥ 1, got text; numbers"),
        ({"recommender": {"name": "bpr", "dim": 0}}, "recommender.dim = 0 does not fit: it takes int ≥ 1$"),
        ({"recommender": {"name": "bpr", "dim": True}}, "dim = True does not fit: it takes int ≥ 1, got bool"),
        ({"recommender": {"name": "bpr", "dim": [3]}}, "dim = .* does not fit: it takes int ≥ 1, got list; several"),
        ({"train": {"optimizer": "adamx"}}, "optimizer = 'adamx' does not fit: it takes \"adam\" . \"adamw\"$"),
        ({"train": {"epoch": 3}}, r"\[train\] has no parameter 'epoch'. Did you mean 'epochs'\?"),
        ({"train": {"tensorboard": "False"}}, "train.tensorboard = 'False' does not fit: it takes bool, got text"),
        ({"trian": {}}, r"unknown table \[trian\]. Did you mean 'train'\?"),
        ({"train": 5}, "'train' must be a table"),
        ({"data": {"name": "mmrec", "pth": "x"}}, r"\[data\] has no parameter 'pth'. Did you mean 'path'\?"),
        ({"data": {"name": "mmrec"}}, r"\[data\] needs a value for 'path'"),
        ({"split": {"method": "random", "valid": 1.5}}, "split.valid = 1.5 does not fit: it takes float ≥ 0, < 1$"),
        ({"train": {"weight_average": 1}}, "train.weight_average = 1 does not fit: it takes float ≥ 0, < 1$"),
        ({"evaluate": {"ks": [5, 0]}}, r"ks = .* does not fit: it takes list of int ≥ 1$"),
        ({"train": {"seed": 2**63}}, "train.seed = 9223372036854775808 does not fit: integers have at most 64 bits$"),
        ({"evaluate": {"ks": []}}, "ks needs at least one value"),
        ({"evaluate": {"metrics": ["recall", "recall"]}}, "metrics needs at least one value and none twice"),
        ({"train": {"learning_rate": float("inf")}}, "= inf does not fit: it takes float > 0; it has to be finite$"),
        ({"evaluate": {"metrics": ["recal"]}}, r'metrics = .*: it takes list of "recall" . '),
        ({"encoder": COLOR, "features": {"workers": -1}}, "workers = -1 .*: it takes int ≥ 0 or \"auto\"$"),
        ({"encoder": COLOR, "features": {"modalities": "image"}}, "'image' .*: it takes list of text, got text$"),
        ({"encoder": COLOR, "features": {"hide": {"text": 2.0}}}, "hide = .*: it takes table of float ≥ 0, < 1$"),
        ({"features": {"train": "frozen"}}, r"\[features\] needs an \[encoder\] table"),
        ({"encoder": PAIRED | {"image": "color"}}, "encoder.image is an encoder: a table"),
        ({"encoder": PAIRED | {"image": {"name": "colour"}}}, "Did you mean 'color'"),
        ({"encoder": {"name": "color"}, "features": {"train": "end2"}}, "features.train = 'end2' does not fit"),
        ({"encoder": {"name": "precomputed", "image": "x"}}, r"^\[encoder\] has no parameter 'image'. It takes: files"),
        ({"encoder": {"name": "precomputed"}, "features": END2END}, "needs an encoder to train, and precomputed"),
        ({"encoder": {"name": "color"}, "features": END2END | {"end2end": {"evry": 2}}}, "Did you mean 'every'?"),
        ({"encoder": {"name": "color"}, "features": END2END | {"end2end": {"every": 0}}}, "end2end.every = 0 does not"),
    ],
)  # fmt: skip
def test_wrong_confs_say_what_is_wrong(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("'? ", r"'\? ").replace(". Did", r"\. Did")):
        plan(**tables)


def test_names_are_found_in_upper_and_lower_case() -> None:
    assert plan(recommender={"name": "LightGCN"}).recommender.label == "LightGCN"


def test_every_default_is_filled_in() -> None:
    tables = plan().tables
    assert tables["recommender"] == {"name": "bpr", "dim": 64, "l2_weight": 1e-2, "initial_std": 0.01}
    assert tables["train"]["patience"] == 20
    assert tables["split"]["method"] == "random"
    assert "encoder" not in tables


def test_an_integer_may_stand_for_a_float() -> None:
    assert plan(train={"learning_rate": 1}).train.table["learning_rate"] == 1.0


def test_overrides_reach_nested_tables_and_leave_the_callers_conf_alone() -> None:
    conf = BASE | {"train": {"epochs": 3}}
    spec = load_spec(conf, {"train.epochs": 5, "encoder.image.name": "color"})
    assert spec.table("train") == {"epochs": 5}
    assert spec.table("encoder") == {"image": {"name": "color"}}
    assert conf["train"] == {"epochs": 3}


def test_another_component_drops_the_keys_of_the_one_before() -> None:
    conf = BASE | {"recommender": {"name": "lightgcn", "layers": 4}}
    assert load_spec(conf, {"recommender.name": "bpr"}).table("recommender") == {"name": "bpr"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.epochs=5", ("train.epochs", 5)),
        ("train.learning_rate=1e-4", ("train.learning_rate", 1e-4)),
        ("evaluate.ks=[5, 10]", ("evaluate.ks", [5, 10])),
        ("data.path=../my shop", ("data.path", "../my shop")),
        ("train.tensorboard=true", ("train.tensorboard", True)),
    ],
)
def test_overrides_on_the_command_line(text: str, expected: tuple[str, Any]) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["epochs", "epochs=5", "train.epochs"])
def test_overrides_that_name_no_table_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"reads TABLE\.KEY=VALUE"):
        parse_override(text)


def test_a_missing_conf_file_offers_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "vbpr.conf").write_text("")
    with pytest.raises(ConfigError, match=r"Did you mean '.*vbpr\.conf'"):
        load_spec(tmp_path / "vpbr.conf")


def test_confs_of_editors_on_windows(tmp_path: Path) -> None:
    """With a byte order mark they are read; in UTF-16 the error says what to do."""
    text = '[data]\nname = "toyshop"\n[recommender]\nname = "bpr"\n'
    (tmp_path / "a.conf").write_text(text, encoding="utf-8-sig")
    assert load_spec(tmp_path / "a.conf").table("recommender") == {"name": "bpr"}
    (tmp_path / "a.conf").write_text(text, encoding="utf-16")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text .*: save it as UTF-8"):
        load_spec(tmp_path / "a.conf")


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("[data]\nname = toyshop\n")
    with pytest.raises(ConfigError, match=r"a\.conf is not valid TOML: .*line 2"):
        load_spec(tmp_path / "a.conf")


CONF = sorted((Path(__file__).parents[2] / "conf").glob("*.conf"))


@pytest.mark.long
@pytest.mark.parametrize("path", CONF, ids=lambda path: path.stem)
def test_the_shipped_confs_fit_and_name_every_hyper_parameter(path: Path) -> None:
    spec = load_spec(path)
    completed = make_plan(spec)
    assert spec.title != spec.name
    assert set(spec.table("recommender")) == set(completed.tables["recommender"])
    assert all(holds(completed.tables[table], keys) for table, keys in spec.tables.items())


def holds(completed: Any, given: Any) -> bool:
    """Whether a completed table has every key and value of the given one, tables in it likewise."""
    if not isinstance(given, Mapping):
        return bool(completed == given)
    return all(key in completed and holds(completed[key], value) for key, value in given.items())


@pytest.mark.parametrize(("key", "value"), [("train.metric", "recall@7"), ("evaluate.ks", [5, 10])])
def test_a_metric_that_validation_does_not_measure_stops_before_any_work(key: str, value: Any) -> None:
    conf = BASE | {"recommender": {"name": "bpr"}}
    with pytest.raises(ConfigError, match=r"train\.metric = 'recall@.*' is not among .* There are: recall@5"):
        make_plan(load_spec(conf, {key: value}))
