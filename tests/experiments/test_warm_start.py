"""Warm starts: rows found by id, rows of new users and items by hand, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
import tomli_w
import torch

from lmm4rec.cli.app import main
from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.experiments.build.warm_start import _Fill, _Rows
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.final_training import final_overrides
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.result import read_result
from lmm4rec.experiments.run import run


def write_week(folder: Path, users: range, items: range, days: int) -> dict[str, Any]:
    """Users who buy the items of their own half of the catalog, one a day, and those of the other half rarely."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", 1_700_000_000 + 86_400 * day + user)
        for user in users
        for day, item in enumerate(rng.permutation([item for item in items if item % 2 == user % 2])[:days])
    ]
    folder.mkdir()
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_csv(folder / "interactions.csv")
    return {
        "data": {"name": "table", "path": str(folder)},
        "split": {"method": "global_time"},
        "recommender": {"name": "lightgcn", "dim": 8, "l2_weight": 1e-4},
        "train": {"epochs": 30, "learning_rate": 0.02, "batch_size": 64, "metric": "recall@5"},
        "evaluate": {"ks": [5]},
    }


@pytest.mark.long
def test_a_run_starts_with_the_rows_of_an_earlier_one_and_says_how_many(tmp_path: Path) -> None:
    monday = run(write_week(tmp_path / "monday", range(30), range(40), 10), out=tmp_path / "first")
    conf = write_week(tmp_path / "tuesday", range(2, 33), range(1, 43), 11)
    cold = run(conf, out=tmp_path / "cold")
    warm = run(conf, {"train.start_from": str(monday.folder.path)}, out=tmp_path / "warm")
    (note,) = [line for line in warm.measured.data.findings if "training starts with" in line]
    assert "users: 28 kept, 3 new, 2 gone; items: 39 kept, 3 new, 1 gone" in note
    assert warm.history[0]["recall@5"] > cold.history[0]["recall@5"]
    assert warm.history[0]["loss"] < 0.7 * cold.history[0]["loss"]
    (warning,) = [line for line in warm.measured.data.findings if "were in the data of" in line]
    assert "Hold out newer ones" in warning
    same = run(
        write_week(tmp_path / "again", range(30), range(40), 10),
        {"train.start_from": str(monday.folder.path), "train.epochs": 1}, out=tmp_path / "same",
    )  # fmt: skip
    assert not any("were in the data of" in line for line in same.measured.data.findings)  # it held out the same
    assert same.history[0]["recall@5"] > max(row["recall@5"] for row in monday.history) - 0.1


def test_rows_by_id_by_neighbors_and_by_content() -> None:
    """New user c has item x, of the known users a and b alone; item y is new and of c alone; z is new and of nobody."""
    users = _Rows.of(Vocabulary(["gone", "a", "b"]), Vocabulary(["b", "c", "a"]), np.arange(3), 3)
    items = _Rows.of(Vocabulary(["x", "w"]), Vocabulary(["w", "y", "x", "z"]), np.arange(2), 2)
    assert (str(users), str(items)) == ("2 kept, 1 new, 1 gone", "2 kept, 2 new, 0 gone")
    matrix = sp.csr_array(np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]], dtype=np.float32))
    content = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])  # z looks like w
    fill = _Fill(users, items, matrix, {"text": content})
    saved = torch.tensor([[9.0, 9.0], [2.0, 0.0], [0.0, 2.0]])
    initial = torch.full((3, 2), 7.0)
    rows = fill("users", saved, initial)
    assert rows[0].tolist() == [0, 2]
    assert rows[2].tolist() == [2, 0]
    mean_length = float(saved.norm(dim=1).mean())
    assert rows[1].tolist() == pytest.approx([mean_length / 2**0.5] * 2)  # the mean of a and b: (1, 1)
    old_items = torch.tensor([[0.0, 3.0], [3.0, 0.0]])  # x, w
    rows = fill("items", old_items, torch.full((4, 2), 7.0))
    assert rows[0].tolist() == [3, 0]
    assert rows[2].tolist() == [0, 3]
    assert rows[1].tolist() == pytest.approx([0, 3])  # c's one known item is x
    assert rows[3][0] > rows[3][1]  # w's side
    assert float(rows[3].norm()) == pytest.approx(3)
    nodes = fill("nodes", torch.cat([saved, old_items]), torch.full((7, 2), 7.0))
    assert torch.equal(nodes[3:], rows)
    bias = fill("bias", torch.tensor([1.0, 2.0]), torch.zeros(4))
    assert bias[[0, 1, 2]].tolist() == [2, 1, 1]
    assert torch.equal(fill("projection", torch.ones(5, 6), torch.zeros(5, 6)), torch.ones(5, 6))
    with pytest.raises(ConfigError, match=r"'projection' have the shape \[5, 6\] in the earlier run and \[5, 7\] now"):
        fill("projection", torch.ones(5, 6), torch.zeros(5, 7))
    alone = _Fill(users, items, sp.csr_array((3, 4), dtype=np.float32), {})
    assert alone("users", saved, initial)[1].tolist() == [7, 7]  # nothing to go by: the initial row


@pytest.mark.long
def test_rows_of_erased_users_are_passed_over(tmp_path: Path) -> None:
    conf = write_week(tmp_path / "data", range(12), range(16), 6)
    conf["train"]["epochs"] = 1
    first = run(conf, out=tmp_path / "first")
    bundle = first.bundle()
    names = list(bundle.users)
    bundle.forget_users([names[3]])
    bundle.forget_users([names[4], names[-1]])
    bundle.save(first.folder.bundle)
    read = first.bundle()
    assert (list(read.erased_rows), read.trained_rows.tolist()) == ([3, 4, 11], [0, 1, 2, 5, 6, 7, 8, 9, 10])
    rows = _Rows.of(read.users, Vocabulary([names[5], names[3], names[0]]), read.trained_rows, 12)
    assert rows.earlier.tolist() == [5, -1, 0]
    warm = run(conf, {"train.start_from": str(first.folder.path)}, out=tmp_path / "second")
    assert any("users: 9 kept, 3 new, 3 gone" in line for line in warm.measured.data.findings)


@pytest.mark.long
def test_what_cannot_start_is_refused_before_any_work(tmp_path: Path) -> None:
    conf = write_week(tmp_path / "data", range(12), range(16), 6)
    conf["train"]["epochs"] = 1
    first = run(conf, out=tmp_path / "first")
    start = {"train.start_from": str(first.folder.path)}
    with pytest.raises(CheckpointError, match="is no folder of a finished run"):
        run(conf, {"train.start_from": str(tmp_path)}, out=tmp_path / "second")
    with pytest.raises(ConfigError, match="is a run of LightGCN, and this one trains BPR"):
        run({**conf, "recommender": {"name": "bpr"}}, start, out=tmp_path / "second")
    with pytest.raises(ConfigError, match=r"have the shape \[28, 8\] in the earlier run and \[28, 4\] now"):
        run(conf, {**start, "recommender.dim": 4}, out=tmp_path / "second")
    exact = run({**conf, "recommender": {"name": "ease"}}, start, out=tmp_path / "ease")
    assert any("train.start_from is not used" in line for line in exact.measured.data.findings)
    first.folder.state.unlink()
    with pytest.raises(CheckpointError, match=r"the weights of .* are gone"):
        run(conf, start, out=tmp_path / "second")
    assert not (tmp_path / "second").exists()


@pytest.mark.long
def test_the_final_training_takes_the_epochs_that_validation_chose(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    conf = write_week(tmp_path / "data", range(12), range(16), 6)
    (tmp_path / "shop.conf").write_text(tomli_w.dumps(conf))
    chosen = run(conf, {"train.patience": 2}, out=tmp_path / "chosen").measured.chosen

    def final(of: str, out: str) -> object:
        with pytest.raises(SystemExit) as ended:
            main(["run", str(tmp_path / "shop.conf"), "-o", str(tmp_path / out), "--final", str(tmp_path / of)])
        return ended.value.code

    assert final("chosen", "final") == 0
    measured = read_result(tmp_path / "final").measured
    assert (measured.chosen.epochs, measured.data.train) == (chosen.epoch, measured.data.interactions)
    assert (measured.valid, measured.test) == ({}, {})
    (tmp_path / "shop.conf").write_text(tomli_w.dumps({**conf, "recommender": {"name": "bpr"}}))
    assert final("chosen", "other") == 2
    assert "is a run of LightGCN, and the epochs that it chose say nothing of BPR" in capfd.readouterr().err
    (tmp_path / "shop.conf").write_text(tomli_w.dumps(conf))
    labels = final_overrides(tmp_path / "chosen", make_plan(load_spec({**conf, "split": {"method": "labels"}})))
    assert labels["split.method"] == "random"  # of the conf that is trained, whose labels would set parts aside
    assert final("final", "again") == 2
    assert "was not measured on validation" in " ".join(capfd.readouterr().err.split())
    with pytest.raises(SystemExit):
        main(["run", str(tmp_path / "shop.conf"), "-o", str(tmp_path / "next"), "--from", str(tmp_path / "final")])
    assert read_result(tmp_path / "next").plan.train.start_from == str(tmp_path / "final")
