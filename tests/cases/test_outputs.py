"""Files of recommendations by their suffix, and lists longer than the catalog."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import lmm4rec
from lmm4rec.cli.app import main
from lmm4rec.evaluation.evaluator import Evaluator

READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda path: pl.read_csv(path, schema_overrides={"item": pl.String}),
    ".jsonl": pl.read_ndjson,
    ".parquet": pl.read_parquet,
}
CONF: dict[str, Any] = {
    "data": {"name": "toyshop", "items": 30, "users": 20, "interactions": 200},
    "recommender": {"name": "popular"},
    "evaluate": {"ks": [20, 10**9], "metrics": ["recall", "precision", "ndcg"]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose metrics have a k far above the catalog."""
    folder = tmp_path_factory.mktemp("outputs") / "run"
    lmm4rec.run(CONF, out=folder)
    return folder


def call(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    printed = capfd.readouterr()
    return ended.value.code, " ".join((printed.out + printed.err).split())


@pytest.mark.long
def test_the_suffix_is_the_format(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    frames = {}
    for suffix, read in READERS.items():
        assert call(capfd, "recommend", str(run), "--all", "-k", "3", "-o", str(tmp_path / f"all{suffix}"))[0] == 0
        frames[suffix] = read(tmp_path / f"all{suffix}")
        assert frames[suffix].columns == ["user", "rank", "item", "title", "score"]
        assert len(frames[suffix]) == 60
    assert (
        frames[".csv"]["item"].to_list() == frames[".parquet"]["item"].to_list() == frames[".jsonl"]["item"].to_list()
    )
    for name in ("all.xlsx", "all"):
        code, text = call(capfd, "recommend", str(run), "--all", "-o", str(tmp_path / name))
        assert code == 2
        assert ".csv, .jsonl, .ndjson, .parquet" in text
        assert not (tmp_path / name).exists()


def test_a_k_above_the_catalog_is_the_catalog(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = lmm4rec.Bundle.load(run)
    user, item = bundle.users[0], bundle.items[0]
    huge = 10**9
    assert len(bundle.recommend([user], huge, exclude_seen=False)[user]) == 30
    assert len(bundle.recommend_for([item], huge)) <= 29
    code, text = call(capfd, "recommend", str(run), user, "-k", str(huge))
    assert code == 0
    assert "k = 1,000,000,000, but the catalog has 30 items" in text
    metrics = lmm4rec.run(CONF, out=run, resume=True).metrics["test"]
    assert metrics[f"recall@{huge}"] == 1.0
    assert metrics[f"precision@{huge}"] < 1e-6
    assert np.isfinite(list(metrics.values())).all()
    assert Evaluator(ks=[huge]).ks == (huge,)
