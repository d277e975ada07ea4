"""Study confs: which cells there are, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import SOURCES, hyper_parameters
from lmm4rec.experiments.conf.sections import FeaturesSection
from lmm4rec.experiments.conf.spec import load_spec, read_conf
from lmm4rec.experiments.study.cells import Cell, make_cells
from lmm4rec.experiments.study.spec import load_study

BASE: dict[str, Any] = {
    "data": {"name": "toyshop"},
    "encoder": {"name": "color"},
    "features": {"train": "frozen"},
}
BPR = {"recommender.name": "bpr", "without": ["encoder", "modalities"]}
VBPR = {"recommender.name": "vbpr"}


def cells(**tables: Any) -> list[Cell]:
    return make_cells(load_study(BASE | tables))


def test_every_combination_is_a_cell_once() -> None:
    """BPR has nothing to do with modalities, so it is there once a seed: 2 seeds x (BPR + 2 of VBPR)."""
    found = cells(axes={"seed": [0, 7], "modalities": ["image", "shuffled"], "recommender": {"BPR": BPR, "VBPR": VBPR}})
    assert [cell.name for cell in found] == [
        "seed-0_bpr", "seed-0_image_vbpr", "seed-0_shuffled_vbpr", "seed-7_bpr", "seed-7_image_vbpr",
        "seed-7_shuffled_vbpr",
    ]  # fmt: skip
    assert dict(found[1].axes) == {"seed": "0", "modalities": "image", "recommender": "VBPR"}
    assert found[1].design_name == found[4].design_name == "image_vbpr"
    assert found[4].plan.train.seed == 7
    assert found[4].plan.features.modalities == ["image"]
    assert found[5].plan.tables["features"]["ablate"] == {"image": "shuffle", "text": "shuffle"}


def test_a_cell_is_an_ordinary_conf_and_tables_it_does_without_are_gone() -> None:
    bpr, _ = cells(axes={"recommender": {"BPR": {**BPR, "without": ["encoder"]}, "VBPR": VBPR}})
    assert set(bpr.conf) == {"title", "data", "recommender"}
    assert load_spec(bpr.conf).title == "BPR"
    assert bpr.plan.encoder_label == "none"


def test_the_name_of_a_component_is_set_before_its_keys() -> None:
    (cell,) = cells(
        recommender={"name": "lightgcn", "layers": 4},
        axes={"recommender": {"VBPR": {"recommender.dim": 8, "recommender.name": "vbpr"}}},
    )
    assert cell.plan.tables["recommender"]["name"] == "vbpr"
    assert cell.plan.tables["recommender"]["dim"] == 8


def test_skipped_combinations_are_not_there() -> None:
    found = cells(
        study={"skip": [{"recommender": "VBPR", "seed": ["1", "2"]}]},
        axes={"seed": [0, 1, 2], "recommender": {"BPR": {"recommender.name": "bpr"}, "VBPR": VBPR}},
    )
    assert [cell.name for cell in found] == ["seed-0_bpr", "seed-0_vbpr", "seed-1_bpr", "seed-2_bpr"]


def test_shares_of_hidden_content_are_presets() -> None:
    none, some = cells(recommender={"name": "vbpr"}, axes={"hide_image_test": [0, 0.3]})
    assert "hide" not in none.plan.tables["features"]
    assert some.plan.tables["features"]["hide"] == {"image": 0.3}
    assert some.plan.tables["features"]["hide_at"] == "test"
    assert some.name == "hide-image-test-0.3"


def test_spaces_of_values_add_to_that_of_the_search_and_models_that_only_count_have_none() -> None:
    popular, vbpr = cells(
        search={"budget": 3, "train.learning_rate": [1e-3, 1e-2]},
        axes={
            "recommender": {
                "Popular": {"recommender.name": "popular"},
                "VBPR": {**VBPR, "search": {"recommender.dim": [8, 16]}},
            }
        },
    )
    assert popular.space == {}
    assert set(vbpr.space) == {"train.learning_rate", "recommender.dim"}


AXES = {"recommender": {"BPR": BPR, "VBPR": VBPR}, "modalities": ["both"]}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, r"needs an \[axes\] table"),
        ({"axes": AXES, "serach": {}}, r"unknown table \[serach\]. Did you mean 'search'\?"),
        ({"axes": AXES, "study": {"worker": 2}}, r"\[study\] has no parameter 'worker'. Did you mean 'workers'\?"),
        ({"axes": {"seed": ["a"]}}, "axes.seed lists whole numbers from 0; got 'a'"),
        ({"axes": {"seed": []}}, "axes.seed lists no value"),
        ({"axes": {"modalities": ["bth"]}}, "no preset 'bth'. Did you mean 'both'?"),
        ({"axes": {"hide_text_test": [1.0]}}, "lists shares from 0 to below 1; got 1.0"),
        ({"axes": {"encoder": ["clip"]}}, r"write a table \[axes.encoder\]|Write a table \[axes.encoder\]"),
        ({"axes": {"recommender": {"BPR": {"recommender": "bpr"}}}}, "sets 'recommender'; expected TABLE.KEY in"),
        ({"axes": {"recommender": {"BPR": {"recomender.name": "bpr"}}}}, "sets 'recomender.name'; expected TABLE.KEY"),
        ({"axes": AXES | {"x": {"A": {"without": ["encodr"]}}}}, "`without` names 'encodr'. Did you mean 'encoder'"),
        ({"axes": AXES, "study": {"skip": [{"recommender": "BRP"}]}}, "study.skip: recommender names 'BRP'"),
        ({"axes": AXES, "study": {"skip": [{"recommender": ["BPR", "VBPR"]}]}}, "study.skip leaves no cell"),
        ({"axes": {"a": {"X": VBPR}, "b": {"X": {"recommender.name": "bpr"}}}}, "axes set 'recommender.name'"),
        ({"axes": {"a": {"X!": VBPR, "X?": VBPR}}}, "are both named 'x'; rename a value"),
        ({"axes": {"recommender": {"V": {**VBPR, "recommender.dims": 3}}}}, "cell 'v': VBPR has no parameter 'dims'"),
        ({"axes": {"recommender": {"V": {**VBPR, "search": {"recommender.dim": [8]}}}}}, r"is no \[search\] table"),
        (
            {"axes": {"recommender": {"V": {**VBPR, "search": {"recommender.dim": [8, 0]}}}}, "search": {}},
            "cell 'v': the search space of recommender.dim: recommender.dim = 0 does not fit",
        ),
        ({"axes": AXES, "study": {"metric": "recal@20"}}, "study.metric = 'recal@20' is not among .* mean 'recall@20'"),
        ({"axes": AXES, "evaluate": {"ks": [10]}, "train": {"metric": "recall@10"}}, "cell 'bpr': study.metric = 're"),
        ({"axes": AXES, "search": {"sampler": "bayes"}}, "search.sampler = 'bayes' does not fit"),
        ({"axes": AXES, "search": {"recommender": {"dim": [8]}}}, "put dotted keys in quotes"),
    ],
)  # fmt: skip
def test_wrong_studies_say_what_is_wrong(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(
        ConfigError, match=message.replace("'bth'. Did", r"'bth'\. Did").replace("'both'?", r"'both'\?")
    ):
        cells(**tables)


def test_overrides_reach_axes_and_fixed_tables() -> None:
    spec = load_study(
        BASE | {"axes": {"seed": [0, 1], "recommender": ["popular"]}}, {"axes.seed": [5], "data.users": 9}
    )
    (cell,) = make_cells(spec)
    assert cell.name == "seed-5_popular"
    assert cell.plan.tables["data"]["users"] == 9


def test_a_study_conf_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[axes\] is of a study or a search: `lmm4rec study` carries out"):
        load_spec(BASE | {"axes": AXES})


STUDIES = sorted((Path(__file__).parents[2] / "conf" / "studies").glob("*.conf"))


@pytest.mark.long
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_shipped_studies_fit(path: Path) -> None:
    """Every cell of every conf is checked, its search space included; one seed stands for all."""
    _, conf = read_conf(path)
    conf["axes"]["seed"] = conf["axes"]["seed"][:1]
    _leave_out_what_this_checkout_lacks(conf)
    found = make_cells(load_study(conf))
    assert len({cell.name for cell in found}) == len(found) >= 5
    assert load_study(path).title != path.stem


def _leave_out_what_this_checkout_lacks(conf: dict[str, Any]) -> None:
    parameters = hyper_parameters(FeaturesSection)
    adapters = ("none", *(get_args(parameters["adapter"].annotation) if "adapter" in parameters else ()))
    if isinstance(named := conf["axes"].get("paradigm"), dict):
        conf["axes"]["paradigm"] = {n: v for n, v in named.items() if v.get("features.adapter", "none") in adapters}
    if "amazon" not in SOURCES.names():
        conf["data"] = {"name": "toyshop"}
        conf["axes"].pop("data", None)
    if "end2end" not in get_args(hyper_parameters(FeaturesSection)["train"].annotation):
        paradigms = conf["axes"].get("paradigm", [])
        kept = [name for name in paradigms if not name.startswith("end2end")]
        if kept:
            conf["axes"]["paradigm"] = {n: paradigms[n] for n in kept} if isinstance(paradigms, dict) else kept
        for rule in conf.get("study", {}).get("skip", []):
            if "paradigm" in rule:
                rule["paradigm"] = [name for name in rule["paradigm"] if name != "end2end"]
