"""Rule sets over HTTP: chosen by name, reported in the answer, checked at load, kept where an edit is wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from shops import HERE, add

from lmm4rec.cli.rule_files import read_rule_sets
from lmm4rec.core.errors import ConfigError
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.metrics import SHARED
from lmm4rec.serving.http.served_rules import RefusedRulesError, ServedRules, tell_others_of
from lmm4rec.serving.http.settings import Settings
from lmm4rec.serving.rules import RuleSet

RULES = """
[lamps]
where = ["title~lamp"]

[week]
never = ["{first}", "T9999"]
boost = [{{ where = ["title~kite"], by = 9 }}]
most = {{ title = 1 }}
diversity = 0.2
"""


@pytest.fixture(scope="module")
def first(shops: Path) -> str:
    """The first item of u001's list."""
    return Bundle.load(shops / "whole").recommend(["u001"], 1)["u001"][0].item


@pytest.fixture
def file(tmp_path: Path, first: str) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES.format(first=first))
    return path


@pytest.fixture
def ruled(runs: list[Path], file: Path) -> Iterator[TestClient]:
    settings = Settings(hosts=HERE, token="t", rules=partial(read_rule_sets, file))
    with TestClient(make_app(runs, settings)) as client:
        yield client


def ids(answer: Mapping[str, Any]) -> list[str]:
    return [one["id"] for one in answer["items"]]


def test_the_sets_are_listed_with_what_they_do(ruled: TestClient) -> None:
    answer = ruled.get("/rules").json()
    lamps, week = answer["rules"]
    total = ruled.get("/items", params={"q": "lamp", "limit": 500}).json()
    assert lamps == {"name": "lamps", "does": ["only title~lamp"], "items": total["total"]}
    assert week["items"] == 39
    assert week["does"] == [
        "never 2 items", "boost title~kite by 9 standard deviations of the scores", "at most 1 of one title",
        "diversity 0.2: items less like those above",
    ]  # fmt: skip
    assert answer["error"] is None
    assert answer["bundle"] == "whole"


def test_an_answer_says_which_rules_changed_it(ruled: TestClient, runs: list[Path], first: str) -> None:
    answer = ruled.get("/recommend/u001", params={"k": 5, "rules": "week", "reasons": True}).json()
    plain = ids(ruled.get("/recommend/u001", params={"k": 5}).json())
    sets = {"week": RuleSet.of("week", {"never": [first], "boost": [{"where": ["title~kite"], "by": 9}],
                                        "most": {"title": 1}, "diversity": 0.2})}  # fmt: skip
    expected = Bundle.load(runs[0]).recommend_by_rules(["u001"], 5, sets["week"])["u001"]
    assert ids(answer) == [one.item for one in expected.items]
    assert [one["rules"] for one in answer["items"]] == [expected.reasons.get(item, []) for item in ids(answer)]
    places = [plain.index(item) + 1 if item in plain else None for item in ids(answer)]
    assert [one["place_without_rules"] for one in answer["items"]] == places
    assert all(one["reason"] for one in answer["items"])
    applied = answer["rules"]
    assert applied["name"] == "week"
    never = next(one for one in applied["left_out"] if one["id"] == first)
    assert (never["place"], never["rule"], never["picture"] is not None) == (1, "never shown", True)
    counts = {one["rule"]: one for one in applied["changes"]}
    assert counts["never shown"] == {"rule": "never shown", "removed": 1, "moved": 0}
    assert sum(one["removed"] for one in applied["changes"]) == len(applied["left_out"])
    boosted = [at for at, one in enumerate(answer["items"]) if "boost title~kite by 9" in one["rules"]]
    moved = [at for at in boosted if answer["items"][at]["place_without_rules"] != at + 1]
    assert counts["boost title~kite by 9"]["moved"] == len(moved) > 0


def test_users_by_history_and_filters_of_the_request(ruled: TestClient) -> None:
    lamps = {one["id"] for one in ruled.get("/items", params={"q": "lamp", "limit": 500}).json()["items"]}
    body = {"history": ["T0001", "T0002"], "k": 4, "rules": "lamps"}
    by_history = ruled.post("/recommend", json=body).json()
    assert set(ids(by_history)) <= lamps
    assert by_history["rules"]["name"] == "lamps"
    answer = ruled.post("/recommend", json={"history": ["T0001"], "where": ["title~lamp"]}).json()
    assert set(ids(answer)) == lamps - {"T0001"}
    answer = ruled.get("/recommend/u001", params={"where": ["title~lamp"], "exclude_seen": False, "k": 500}).json()
    assert set(ids(answer)) == lamps
    some = sorted(lamps)[:2]
    both = {"rules": "lamps", "where": [f"title!={lamp}" for lamp in "x"], "only": [*some, "T0001"]}
    assert set(ids(ruled.get("/recommend/u001", params=both | {"exclude_seen": False}).json())) == set(some)
    nothing = ruled.get("/recommend/u001", params={"where": "title=submarine"}).json()
    assert nothing["items"] == []
    assert "no item passes the filters (items that pass each: title=submarine: 0)" in nothing["note"]


def test_what_is_wrong_is_named(ruled: TestClient) -> None:
    answer = ruled.get("/recommend/u001", params={"rules": "wek"})
    assert answer.status_code == 404
    assert "no rule set is called 'wek'. Did you mean 'week'? There are: lamps, week" in answer.json()["detail"]
    for ask, where in (
        (partial(ruled.get, "/recommend/u001", params={"where": "prize<5"}), "query.where"),
        (partial(ruled.get, "/recommend/u001", params={"where": "prize<5", "rules": "week"}), "query.where"),
        (partial(ruled.post, "/recommend", json={"history": ["T0001"], "where": ["prize<5"]}), "body.where"),
    ):
        answer = ask()
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["where"] == where
        assert "no column 'prize'" in answer.json()["detail"]
    assert "is no filter" in ruled.get("/recommend/u001", params={"where": "cheap"}).json()["detail"]


def test_added_items_take_part_and_removed_ones_do_not(ruled: TestClient) -> None:
    token = {"authorization": "Bearer t"}
    before = ruled.get("/rules").json()["rules"][1]["items"]
    assert add(ruled, headers=token).status_code == 201
    assert ruled.get("/rules").json()["rules"][1]["items"] == before + 1
    ruled.delete("/items/mug-7", headers=token)
    assert ruled.get("/rules").json()["rules"][1]["items"] == before


def test_a_good_edit_counts_after_a_reload_and_a_bad_one_keeps_the_old_rules(ruled: TestClient, file: Path) -> None:
    token = {"authorization": "Bearer t"}
    file.write_text("[cups]\nwhere = ['title~cup']\n")
    assert ruled.post("/reload", headers=token).status_code == 200
    assert [one["name"] for one in ruled.get("/rules").json()["rules"]] == ["cups"]
    for wrong, words in (
        ("[cups]\nwhere = ['prize<5']", "rule set 'cups' does not fit the bundle 'whole': the catalog has no column"),
        ("[cups]\nwhree = []", "rule set 'cups' has no rule 'whree'. Did you mean 'where'?"),
        ("[cups", "rules.toml"),
    ):
        file.write_text(wrong)
        refused = ruled.post("/reload", headers=token)
        assert refused.status_code == 409
        assert words in refused.json()["detail"]
        answer = ruled.get("/rules").json()
        assert [one["name"] for one in answer["rules"]] == ["cups"]
        assert words in answer["error"]
        health = ruled.get("/health")
        assert (health.status_code, health.json()) == (200, {"status": "ok", "rules_error": answer["error"]})
        assert ruled.get("/recommend/u001", params={"rules": "cups"}).status_code == 200


def test_a_process_says_that_its_successor_refused_the_rules(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED, str(tmp_path))
    bundle, answers = Bundle.load(runs[1]), [{}, {"good": RuleSet()}]
    rules = ServedRules("bare", answers.pop)
    rules.use(rules.read_for(bundle))
    assert rules.error is None
    time.sleep(0.02)  # the clock of files is coarse
    tell_others_of(RefusedRulesError("rule set 'x' is wrong"))
    assert rules.error == "rule set 'x' is wrong"
    assert list(rules.sets) == ["good"]
    time.sleep(0.02)
    rules.use(rules.read_for(bundle))  # such as after `POST /reload`
    assert rules.error is None


def test_rules_that_do_not_fit_stop_the_start(runs: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    def start(run: Path, **rules: Any) -> None:
        sets = {"one": RuleSet.of("one", rules)}
        with TestClient(make_app([run], Settings(hosts=HERE, rules=lambda: sets))) as client:
            assert client.get("/rules").json()["rules"][0]["items"] == 0

    with pytest.raises(ConfigError, match="rule set 'one' does not fit the bundle 'whole': the catalog has no column"):
        start(runs[0], most={"brand": 2})
    with caplog.at_level(logging.WARNING):
        start(runs[1], where=["title=submarine"])
    assert "bare: the rule set 'one' leaves no item" in caplog.text


def test_without_rules_it_says_so(client: TestClient) -> None:
    assert client.get("/rules").json() == {"bundle": "whole", "rules": [], "error": None}
    assert "started without rules" in client.get("/recommend/u001", params={"rules": "x"}).json()["detail"]
