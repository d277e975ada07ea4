"""Hard negatives from a conf: drawn from the log's signals, and refused before any work where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.experiments.run import run


def conf(folder: Path, *, kinds: bool) -> dict[str, Any]:
    """A log in which user u likes the items of their half and dislikes the rest; half of each is in the log."""
    rng, lines = np.random.default_rng(0), ["user_id,item_id,timestamp,kind"]
    for user in range(12):
        items = rng.permutation(20)[:10]
        kind = ["like" if kinds is False or (item < 10) == (user < 6) else "dislike" for item in items]
        lines += [f"{user},{item},{step},{kind[step]}" for step, item in enumerate(items)]
    folder.mkdir()
    (folder / "interactions.csv").write_text("\n".join(lines))
    return {
        "data": {"name": "table", "path": str(folder)},
        "split": {"method": "leave_last_out"},
        "recommender": {"name": "bpr", "dim": 4},
        "train": {"epochs": 2, "hard_negatives": 0.5},
    }


@pytest.mark.long
def test_a_run_draws_them_and_its_bundle_leaves_disliked_items_out(tmp_path: Path) -> None:
    result = run(conf(tmp_path / "shop", kinds=True), out=tmp_path / "run")
    assert any("negative signals can train" in finding for finding in result.measured.data.findings)
    bundle = result.bundle()
    for user, items in bundle.recommend(bundle.users, k=20).items():
        row = bundle.users.row(user)
        disliked = bundle.disliked.items[bundle.disliked.users == row].tolist()
        assert disliked
        assert not {bundle.items[item] for item in disliked} & {one.item for one in items}
    plain = run(conf(tmp_path / "again", kinds=True), {"train.hard_negatives": 0.0}, out=tmp_path / "plain")
    assert plain.measured.valid != result.measured.valid


def test_no_signals_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"train\.hard_negatives = 0\.5 needs negative signals, and the data has none"
    ):
        run(conf(tmp_path / "shop", kinds=False), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
