from __future__ import annotations

from pathlib import Path

import ir_measures
import numpy as np
import polars as pl
import pytest
import scipy.stats
import torch
from test_ranking import Table, by_hand, log, random_log

import lmm4rec.evaluation.evaluator as evaluator_module
from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.types import Embeddings
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.evaluation.evaluator import Evaluator, Report
from lmm4rec.evaluation.metrics import METRICS

KS = [1, 5, 20]
PEER = {"recall": "R", "ndcg": "nDCG", "precision": "P", "map": "AP", "mrr": "RR", "hit_rate": "Success"}

Pairs = set[tuple[int, int]]


def pairs(*logs: Interactions) -> Pairs:
    return {pair for part in logs for pair in zip(part.users.tolist(), part.items.tolist(), strict=True)}


def peer_values(top: np.ndarray, truth: Pairs, n_users: int) -> dict[str, dict[int, float]]:
    """The same metrics by ir-measures, which gets the rank order as scores and judges all users."""
    qrels = {str(user): {"none": 0} for user in range(n_users)}
    for user, item in truth:
        qrels[str(user)][str(item)] = 1
    run = {
        str(user): {str(item): float(-rank) for rank, item in enumerate(row) if item >= 0}
        for user, row in enumerate(top.tolist())
    }
    names = {ir_measures.parse_measure(f"{peer}@{k}"): f"{name}@{k}" for name, peer in PEER.items() for k in KS}
    values: dict[str, dict[int, float]] = {name: {} for name in names.values()}
    for metric in ir_measures.iter_calc(list(names), qrels, run):
        values[names[metric.measure]][int(metric.query_id)] = metric.value
    return values


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, Interactions, Interactions, Interactions]:
    """Scores with ties all over, a training log and a truth, of 400 users and 60 items; some users have no truth."""
    rng = np.random.default_rng(5)
    table = rng.integers(6, size=(400, 60)).astype(np.float32)
    train = random_log(rng, 400, 50, 3000)  # the last ten items are cold
    truth = random_log(rng, 350, 60, 1500)
    crowd = log(*((7, item) for item in range(45)))  # more relevant items than any k
    truth = Interactions(np.append(truth.users, crowd.users), np.append(truth.items, crowd.items))
    return table, train, truth, crowd


def test_equals_ir_measures_with_ties_and_users_without_truth(
    world: tuple[np.ndarray, Interactions, Interactions, Interactions],
) -> None:
    table, train, truth, _ = world
    report = Evaluator(ks=KS).evaluate(Table(torch.from_numpy(table)), truth, [train])
    wanted = pairs(truth) - pairs(train)
    expected = peer_values(by_hand(table, 20, [train]), wanted, 400)
    relevant = np.bincount([user for user, _ in wanted], minlength=400)
    assert report.users.tolist() == np.flatnonzero(relevant).tolist()
    assert report.users_without_truth == (relevant == 0).sum() > 50
    assert report.truth_excluded == len(pairs(truth) & pairs(train)) > 0
    for name in METRICS:
        for k in KS:
            theirs = np.array([expected[f"{name}@{k}"][user] for user in report.users])
            if name == "map":  # trec_eval divides by all relevant items
                theirs = theirs * relevant[report.users] / np.minimum(relevant[report.users], k)
            np.testing.assert_allclose(report.per_user[f"{name}@{k}"], theirs, rtol=1e-9, err_msg=f"{name}@{k}")
            assert report.mean[f"{name}@{k}"] == pytest.approx(theirs.mean(), rel=1e-9)
    assert len(report.mean) == len(METRICS) * len(KS)


@pytest.mark.long
@pytest.mark.parametrize("name", ["cold", "warm", "popular", "tail"])
def test_a_slice_has_only_its_items_as_truth_and_all_items_as_rivals(
    world: tuple[np.ndarray, Interactions, Interactions, Interactions], name: str
) -> None:
    table, train, truth, _ = world
    report = Evaluator(ks=KS).evaluate(Table(torch.from_numpy(table)), truth, [train], train=train)
    counts = np.bincount(train.items, minlength=60)
    popular = sorted(range(50), key=lambda item: (-counts[item], item))[:10]
    members = {"cold": range(50, 60), "warm": range(50), "popular": popular, "tail": set(range(50)) - set(popular)}
    wanted = {(user, item) for user, item in pairs(truth) - pairs(train) if item in members[name]}
    expected = peer_values(by_hand(table, 20, [train]), wanted, 400)
    users = sorted({user for user, _ in wanted})
    assert report.slices[name]["users"] == len(users)
    assert report.slices[name]["items"] == len(members[name])
    for metric in ("recall@5", "ndcg@20", "hit_rate@1", "mrr@20"):
        mean = np.mean([expected[metric][user] for user in users])
        assert report.slices[name][metric] == pytest.approx(mean, rel=1e-9), metric


def test_beyond_accuracy_looks_at_the_lists_of_the_ranked_users() -> None:
    # users 0 and 1 are ranked; their lists at k = 2 are (2, 1) and (2, 0): item 3 stands in none
    table = torch.tensor([[0.0, 1, 2, -1], [1, 0, 2, -1], [0, 0, 0, 9]])
    train = log((2, 0), (2, 1), (2, 2), (1, 2))
    report = Evaluator(ks=[2, 1]).evaluate(Table(table), log((0, 3), (1, 3)), train=train)
    assert report.top.tolist() == [[2, 1], [2, 0]]
    expected = {
        "coverage@2": 3 / 4,
        "coverage@1": 1 / 4,
        "gini@2": (-3 * 0 - 1 * 1 + 1 * 1 + 3 * 2) / (4 * 4),
        "gini@1": 3 / 4,
        "novelty@2": (1 + 2 + 1 + 2) / 4,
        "novelty@1": 1.0,
        "serendipity@2": 0.0,
        "serendipity@1": 0.0,
    }
    assert report.beyond == pytest.approx(expected)


def test_without_details_a_report_has_the_same_metrics_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    table, train, truth = torch.tensor([[0.0, 1, 2, 3], [1, 0, 2, 3]]), log((0, 2), (1, 2)), log((0, 3), (1, 0))
    whole = Evaluator(ks=[2]).evaluate(Table(table), truth, train=train)
    monkeypatch.setattr(evaluator_module, "exposure", None)  # it is not called
    plain = Evaluator(ks=[2]).evaluate(Table(table), truth, train=train, details=False)
    assert plain.mean == whole.mean
    assert (plain.slices, plain.beyond, plain.exposure) == ({}, {}, {})


def test_without_training_counts_there_are_no_slices_and_no_novelty() -> None:
    report = Evaluator(ks=[1]).evaluate(Table(torch.ones(1, 2)), log((0, 1)))
    assert report.slices == {}
    assert list(report.beyond) == ["coverage@1", "gini@1"]


def test_one_user_and_more_ranks_than_items() -> None:
    scorer = Embeddings(torch.ones(1, 1), torch.tensor([[1.0], [3.0], [2.0]]))
    report = Evaluator(ks=[50]).evaluate(scorer, log((0, 2)), [log((0, 1))])
    assert report.top.tolist() == [[2, 0] + [-1] * 48]
    assert report.mean["recall@50"] == report.mean["ndcg@50"] == report.mean["mrr@50"] == 1
    assert report.mean["precision@50"] == 1 / 50


def test_padding_is_no_hit_for_the_user_before() -> None:
    """User 1's list ends in -1, and the last item is relevant to user 0."""
    table = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    report = Evaluator(ks=[3]).evaluate(Table(table), log((0, 2), (1, 0)), [log((1, 1), (1, 2))])
    assert report.top.tolist() == [[2, 0, 1], [0, -1, -1]]
    assert report.per_user["precision@3"].tolist() == [1 / 3, 1 / 3]


def test_held_out_twice_counts_once_and_excluded_never() -> None:
    scorer = Table(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]))
    report = Evaluator(ks=[1]).evaluate(scorer, log((0, 1), (0, 1), (0, 0), (1, 0)), [log((0, 0), (1, 0))])
    assert report.users.tolist() == [0]
    assert report.mean["recall@1"] == 1
    assert (report.truth_excluded, report.users_without_truth) == (2, 1)


def test_per_user_values_under_external_ids() -> None:
    scorer = Table(torch.tensor([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]]))
    report = Evaluator(ks=[1, 2], metrics=["recall", "mrr"]).evaluate(scorer, log((2, 1), (0, 0)))
    expected = pl.DataFrame(
        {
            "user": ["ann", "é🙂"],
            "recall@1": [1.0, 0.0],
            "recall@2": [1.0, 1.0],
            "mrr@1": [1.0, 0.0],
            "mrr@2": [1.0, 0.5],
        }
    )
    assert report.to_frame(Vocabulary(["ann", "bob", "é🙂"], kind="user")).equals(expected)


def test_the_standard_error_is_that_of_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = log(*enumerate(torch.randint(9, (30,), generator=generator).tolist()))
    report = Evaluator(ks=[3], metrics=["ndcg"]).evaluate(Table(torch.randn(30, 9, generator=generator)), pairs)
    assert report.standard_error == pytest.approx({"ndcg@3": scipy.stats.sem(report.per_user["ndcg@3"])})
    assert Evaluator().evaluate(Table(torch.ones(1, 3)), log((0, 1))).standard_error == {}


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(DataError, match="no user has a relevant item: 2 held-out"):
        Evaluator().evaluate(Table(torch.ones(2, 2)), log((0, 1), (0, 1)), [log((0, 1))])
    with pytest.raises(DataError, match="no user has a relevant item: 0 held-out"):
        Evaluator().evaluate(Table(torch.ones(2, 2)), log())
    with pytest.raises(DataError, match="item row 2"):
        Evaluator().evaluate(Table(torch.ones(2, 2)), log((0, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"ks": []}, "ks needs"), ({"ks": [5, 5]}, "none twice"), ({"ks": [5, 0]}, "at least 1")],
)
def test_wrong_list_lengths(options: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Evaluator(**options)


@pytest.mark.long
def test_real_log_agrees_with_ir_measures(shared: Path) -> None:
    """The films' own split, ranked by training popularity: equal counts make ties at every rank."""
    frame = pl.read_csv(shared / "data/mmrec/films/films.inter", separator="\t")
    columns = (frame[name].to_numpy().astype(np.int32) for name in ("userID", "itemID"))
    everything, label = Interactions(*columns), frame["x_label"].to_numpy()
    train, test = everything.take(label == 0), everything.take(label == 2)
    n_users, n_items = int(everything.users.max()) + 1, int(everything.items.max()) + 1
    counts = train.item_counts(n_items).astype(np.float32)
    scorer = Embeddings(torch.ones(n_users, 1), torch.from_numpy(counts)[:, None])
    report: Report = Evaluator(ks=KS).evaluate(scorer, test, [train])
    expected = peer_values(by_hand(np.tile(counts, (n_users, 1)), 20, [train]), pairs(test), n_users)
    for metric in ("recall@20", "ndcg@20", "precision@5", "mrr@20"):
        theirs = np.mean([expected[metric][user] for user in report.users])
        assert report.mean[metric] == pytest.approx(theirs, rel=1e-9), metric


def test_cold_candidates_are_ranked_among_themselves(
    world: tuple[np.ndarray, Interactions, Interactions, Interactions],
) -> None:
    table, train, truth, _ = world
    alone = Evaluator(ks=KS, candidates="cold").evaluate(Table(torch.from_numpy(table)), truth, [train], train=train)
    cold = np.setdiff1d(np.arange(60), train.items)
    assert set(np.unique(alone.top)) <= {-1, *cold.tolist()}
    assert len(cold) == 10
    # the same as a world that has no other items
    kept = np.isin(truth.items, cold)
    small = Interactions(truth.users[kept], (truth.items[kept] - cold[0]).astype(np.int32))
    expected = Evaluator(ks=KS).evaluate(Table(torch.from_numpy(table[:, cold])), small)
    assert alone.users.tolist() == expected.users.tolist()
    for name, values in expected.per_user.items():
        np.testing.assert_array_equal(alone.per_user[name], values)


def test_cold_candidates_need_to_know_what_is_cold() -> None:
    with pytest.raises(ConfigError, match="needs the training part"):
        Evaluator(candidates="cold").evaluate(Table(torch.ones(1, 2)), log((0, 0)))
