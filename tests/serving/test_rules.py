"""Rule sets on six items whose scores are 6 to 1: each rule by hand, what it changed, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from lmm4rec.cli.app import main
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Embeddings, Neighbors, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.rule_ranking import RuledList
from lmm4rec.serving.rules import RuleSet
from lmm4rec.serving.scorer_operations import similarity_among, similarity_columns

ITEMS = torch.tensor([[6.0, 0.0], [5.0, 0.0], [4.0, 4.0], [3.0, 0.0], [2.0, 0.0], [1.0, -1.0]])
ATTRIBUTES = pl.DataFrame({"brand": ["X", "X", "X", "Y", "Y", ""], "price": [10.0, 20, 30, 40, 50, 60]})


def shop(scorer: Scorer | None = None) -> Bundle:
    """User u has seen nothing, user v has seen item a."""
    scorer = scorer or Embeddings(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), ITEMS)
    seen = Interactions(np.array([1], np.int32), np.array([0], np.int32))
    return Bundle(
        scorer, Vocabulary("uv", kind="user"), Vocabulary("abcdef"), list("ABCDEF"), seen, {}, attributes=ATTRIBUTES
    )


def ruled(k: int = 3, user: str = "u", bundle: Bundle | None = None, **rules: Any) -> RuledList:
    return (bundle or shop()).recommend_by_rules([user], k, RuleSet.of("test", rules))[user]


def ids(found: RuledList) -> str:
    return "".join(one.item for one in found.items)


def test_without_rules_it_is_the_list_of_recommend() -> None:
    for user in "uv":
        found = ruled(4, user)
        plain = shop().recommend([user], 4)[user]
        assert found == (plain, {}, {}, [one.item for one in plain])


def test_filters_and_the_never_show_list_say_what_they_left_out() -> None:
    found = ruled(where=["price>=20", "price<60"], never=["b", "gone"])
    assert ids(found) == "cde"
    assert found.left_out == {"a": "only price>=20", "b": "never shown"}


def test_at_most_so_many_of_one_value_and_any_number_without_one() -> None:
    found = ruled(most={"brand": 1})
    assert ids(found) == "adf"
    assert found.left_out == {"b": "at most 1 of brand=X", "c": "at most 1 of brand=X"}
    assert ids(ruled(5, most={"brand": 2})) == "abdef"


def test_a_boost_is_in_deviations_of_the_candidates_and_scores_stay() -> None:
    deviation = float(np.std([6, 5, 4, 3, 2, 1]))
    found = ruled(boost=[{"where": ["brand=Y"], "by": 2.1 / deviation}])  # d: 5.1, e: 4.1
    assert ids(found) == "adb"
    assert [one.score for one in found.items] == [6, 3, 5]
    assert found.reasons == {"d": [f"boost brand=Y by {2.1 / deviation:g}"]}
    assert found.left_out == {"c": "others rank above it by the rules"}
    assert ids(ruled(boost=[{"where": ["brand=X"], "by": -9}])) == "def"


def test_fresh_items_have_the_first_places_where_there_are_any() -> None:
    found = ruled(fresh={"where": ["price>=50"], "places": 1})
    assert ids(found) == "eab"
    assert found.reasons == {"e": ["fresh"]}
    assert ids(ruled(4, fresh={"where": ["price>=50"], "places": 3})) == "efab"
    assert ids(ruled(fresh={"where": ["price>=500"], "places": 2})) == "abc"


def row_of(brands: list[str], **more: list[Any]) -> Bundle:
    """Items 0, 1, … of these brands, with the scores n, n - 1, … 1 for user u."""
    count = len(brands)
    items = torch.arange(count, 0, -1).float()[:, None]
    return Bundle(
        Embeddings(torch.ones(1, 1), items), Vocabulary("u", kind="user"), Vocabulary(map(str, range(count))),
        [""] * count, Interactions(np.empty(0, np.int32), np.empty(0, np.int32)), {},
        attributes=pl.DataFrame({"brand": brands, **more}),
    )  # fmt: skip


def numbers(found: RuledList) -> list[int]:
    return [int(one.item) for one in found.items]


def test_boosted_and_fresh_items_are_found_behind_any_number_of_others() -> None:
    bundle = row_of(["X"] * 1999 + ["Y"])
    assert ruled(bundle=bundle, boost=[{"where": ["brand=Y"], "by": 1000}]).items[0].item == "1999"
    assert ruled(bundle=bundle, fresh={"where": ["brand=Y"]}).items[0].item == "1999"


def test_a_value_that_reaches_its_cap_makes_room_for_items_further_down() -> None:
    bundle = row_of(["X"] * 150 + ["Y"] * 150 + ["Z", "", ""])
    found = ruled(10, bundle=bundle, most={"brand": 2})
    assert numbers(found) == [0, 1, 150, 151, 300, 301, 302]
    assert found.left_out == {str(row): "at most 2 of brand=X" for row in range(2, 10)}
    assert numbers(ruled(3, bundle=bundle, most={"brand": 2}, diversity=0.1)) == [0, 1, 150]
    fresh = {"where": ["title="], "places": 3}
    assert numbers(ruled(4, bundle=bundle, most={"brand": 1}, fresh=fresh)) == [0, 150, 300, 301]


def test_fresh_places_go_to_fresh_items_further_down_where_caps_forbid_the_best() -> None:
    bundle = row_of(["X"] * 300 + ["Y"] * 10, listed=[1] * 100 + [2] * 210)
    found = ruled(3, bundle=bundle, most={"brand": 1}, fresh={"where": ["listed=2"], "places": 2})
    assert numbers(found) == [100, 300]


def test_boosts_of_any_sign_and_number_count_for_every_item() -> None:
    """By hand: scores are 1,000 to 1, their deviation is 288.7."""
    colors = ["red"] * 400 + ["blue"] * 200 + [""] * 200 + [""] * 199 + ["blue"]
    bundle = row_of([""] * 600 + ["Y"] * 200 + [""] * 199 + ["Y"], color=colors)
    down = [{"where": ["color=red"], "by": -100.0}]
    assert numbers(ruled(bundle=bundle, boost=down)) == [400, 401, 402]
    # only 999 is blue and of brand Y: 1 + 2 · 3 · 288.7 = 1733; 400 has 600 + 866, and 0 has 1000
    up = [{"where": ["color=blue"], "by": 3}, {"where": ["brand=Y"], "by": 3}]
    assert numbers(ruled(bundle=bundle, boost=up)) == [999, 400, 401]
    assert numbers(ruled(bundle=bundle, boost=[*up, {"where": ["brand=Y"], "by": -1e12}])) == [400, 401, 402]


@pytest.mark.parametrize("index", ["exact", "hnsw"])
@pytest.mark.parametrize("k", [10, 50, 300])
def test_a_boost_is_as_large_in_a_list_of_any_length(k: int, index: Any, tmp_path: Path) -> None:
    """By hand: scores 300 to 1 have the deviation ((300² - 1) / 12)^½ = 86.60; 200 has 100 + 2.305 · 86.60 = 299.6."""
    row_of(["X"] * 200 + ["Y"] + ["X"] * 99).save_pretrained(tmp_path)
    bundle = Bundle.from_pretrained(tmp_path, index=index)
    assert numbers(ruled(k, bundle=bundle, boost=[{"where": ["brand=Y"], "by": 2.305}]))[:4] == [0, 200, 1, 2]


def test_diversity_is_maximal_marginal_relevance() -> None:
    """By hand, λ = .5: s = 1, .8, .6, .4, .2, 0; after a, b has .4 - .5 and c .3 - .5 cos 45°."""
    found = ruled(diversity=0.5)
    assert ids(found) == "acb"
    assert found.left_out == {}
    assert ids(ruled(2, diversity=0.5)) == "ac"
    assert ruled(2, diversity=0.5).left_out == {"b": "others rank above it by the rules"}


def test_diversity_alone_begins_with_the_best_item_and_breaks_ties_by_score() -> None:
    """By hand: scores -6, -5, 4, -3, -2, -3; c is orthogonal to f, and a, b, d, e have the same direction."""
    bundle = shop(Embeddings(torch.tensor([[-1.0, 2.0], [1.0, 0.0]]), ITEMS))
    found = ruled(4, bundle=bundle, diversity=1)
    assert ids(found) == "cfed"
    assert found.reasons == {"f": ["diversity 1"]}


def test_a_scorer_without_vectors_takes_rules_too() -> None:
    similarity = torch.tensor([[0, 1, 2, 3, 0, 0.0]] + [[0.0] * 6] * 5).T.contiguous().to_sparse_csr()
    histories = torch.tensor([[0.0] * 6, [1.0, 0, 0, 0, 0, 0]]).to_sparse_csr()
    bundle = shop(Neighbors(histories, similarity))
    assert ids(ruled(2, "v", bundle)) == "dc"
    assert ids(ruled(3, "v", bundle, most={"brand": 1})) == "dcf"


def test_diversity_without_vectors_is_by_the_users_of_the_items() -> None:
    """By hand: b and c have the same two users, d has one of them; s = 1, .83, .67, and 0 for a, which nobody has."""
    similarity = torch.tensor([[0, 6, 5, 4, 0, 0.0]] + [[0.0] * 6] * 5).T.contiguous().to_sparse_csr()
    histories = torch.tensor([[1.0] + [0.0] * 5] * 4).to_sparse_csr()
    seen = Interactions(np.array([1, 2, 1, 2, 1, 3], np.int32), np.array([1, 1, 2, 2, 3, 4], np.int32))
    bundle = Bundle(
        Neighbors(histories, similarity), Vocabulary("uvwx", kind="user"), Vocabulary("abcdef"), list("ABCDEF"), seen,
        {},
    )  # fmt: skip
    assert bundle._state.cosines(np.array([1, 2, 3, 4])) == pytest.approx(
        np.array([[1, 1, 0.5**0.5, 0], [1, 1, 0.5**0.5, 0], [0.5**0.5, 0.5**0.5, 1, 0], [0, 0, 0, 1]])
    )
    assert ids(ruled(3, bundle=bundle)) == "bcd"
    assert ids(ruled(3, bundle=bundle, diversity=0.45)) == "bdc"  # after b: c .458 - .45, d .367 - .318, a 0
    assert ids(ruled(2, bundle=bundle, diversity=0.5)) == "ba"


def test_diversity_by_content() -> None:
    """By hand: the images of a and b are the same, c has none, d's is orthogonal; λ = .5 as above."""
    image = torch.tensor([[2.0, 0], [1, 0], [0, 0], [0, 1], [1, 0], [1, 0]])
    text = torch.tensor([[1.0, 0], [1, 0], [1, 1], [1, 0], [1, 0], [1, 0]])
    seen = Interactions(np.empty(0, np.int32), np.empty(0, np.int32))
    scorer = Embeddings(torch.tensor([[1.0, 0.0]]), ITEMS)
    more = {"features": {"image": image, "text": text}}
    bundle = Bundle(scorer, Vocabulary("u", kind="user"), Vocabulary("abcdef"), list("ABCDEF"), seen, {}, **more)
    # after a: b .4 - .5 (1 + 1) / 2, c .3 - .5 (0 + .71) / 2 = .12, d .2 - .5 (0 + 1) / 2
    assert ids(ruled(2, bundle=bundle, diversity=0.5, diversity_by="content")) == "ac"
    assert bundle.check_rules(RuleSet.of("x", {"diversity": 0.5, "diversity_by": "content"})) == 6
    with pytest.raises(ConfigError, match="needs the features of the items"):
        shop().check_rules(RuleSet.of("x", {"diversity": 0.5, "diversity_by": "content"}))


def test_where_nothing_passes_the_list_is_empty_and_says_why() -> None:
    found = ruled(2, where=["price>1000"])
    assert found.items == []
    assert found.left_out == {"a": "only price>1000", "b": "only price>1000"}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"mots": {"brand": 1}}, "rule set 'test' has no rule 'mots'. Did you mean 'most'?"),
        (
            {"where": "price<=50"},
            "rule set 'test': where must be a list, such as where = [\"price<=50\"]; got 'price<=50'",
        ),
        ({"where": ["price"]}, "'price' is no filter"),
        ({"where": ["prize<=50"]}, "the catalog has no column 'prize'. Did you mean 'price'?"),
        ({"most": {"maker": 2}}, "the catalog has no column 'maker'"),
        ({"most": {"brand": 0}}, "most takes whole numbers from 1; got 0"),
        ({"most": 2}, "most must be a table, such as most = { brand = 2 }; got 2"),
        ({"diversity": 1.5}, "diversity takes a number from 0 to 1; got 1.5"),
        ({"diversity": float("nan")}, "diversity takes a number from 0 to 1; got nan"),
        ({"boost": [{"where": ["brand=X"]}]}, "rule set 'test', boost: by takes a number; got None"),
        ({"boost": [{"by": 1}]}, "rule set 'test', boost needs where"),
        ({"boost": [{"where": ["brand=X"], "by": float("inf")}]}, "by takes a number; got inf"),
        ({"fresh": {"where": ["price>1"], "days": 3}}, "rule set 'test', fresh has no rule 'days'"),
        ({"never": "a"}, "never must be a list"),
        ({"diversity_by": "looks"}, "diversity_by is vectors or content; got 'looks'"),
        ({"diversity": 0.5, "diversity_by": "content"}, "needs the features of the items"),
    ],
)
def test_wrong_rules_are_named(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        ruled(**rules)


@pytest.mark.long
def test_the_command_takes_a_file_of_rule_sets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shop().save(tmp_path / "shop")
    (tmp_path / "rules.toml").write_text("[summer]\nmost = { brand = 1 }\n[new]\nfresh = { where = ['price>=50'] }\n")

    def command(*more: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            main(["recommend", str(tmp_path / "shop"), "u", "-k", "2", "-o", "-", *more])
        captured = capfd.readouterr()
        return ended.value.code, captured.out + " ".join(captured.err.split())

    file = str(tmp_path / "rules.toml")
    code, text = command("--rules", f"{file}:summer", "--where", "price>10")
    assert (code, [line.split(",")[2] for line in text.splitlines()[1:]]) == (0, ["b", "d"])
    code, text = command("--rules", f"{file}:new")
    assert (code, text.splitlines()[1].split(",")[-1]) == (0, "fresh")
    assert "rules.toml needs a name" in command("--rules", file)[1]
    assert (
        "has no rule set 'sumer'. Did you mean 'summer'? Its rule sets: summer, new"
        in command("--rules", f"{file}:sumer")[1]
    )
    assert command("--rules", f"{tmp_path / 'no.toml'}:new")[0] == 2
    assert "neither --history, --only nor --seen-too" in command("--rules", file, "--seen-too")[1]


@pytest.mark.parametrize("layout", ["csr", "dense"])
def test_similarities_among_a_few_are_the_entries_of_the_whole(layout: str) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(7, 5, generator=generator).relu()  # the last two rows are of added items
    whole = matrix.to_sparse_csr() if layout == "csr" else matrix
    at, others = torch.tensor([6, 0, 3, 5]), torch.tensor([1, 6, 0, 4, 5, 3])
    expected = [[matrix[j, i] if i < 5 else matrix[i, j] if j < 5 else 0.0 for j in others] for i in at.tolist()]
    assert torch.equal(similarity_among(whole, at, others), torch.tensor(expected))
    columns = similarity_columns(whole, at[1:3])[:, others]
    assert torch.allclose(similarity_among(whole, at[1:3], others), columns)
