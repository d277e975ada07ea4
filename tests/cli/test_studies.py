"""The commands on studies, read aloud."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lmm4rec.cli.app import main
from worlds import write_camps

CONF = """
title = "tiny"
[study]
metric = "recall@5"
[data]
name = "mmrec"
path = "camps"
[split]
method = "labels"
[train]
epochs = 2
batch_size = 128
metric = "recall@5"
[evaluate]
ks = [5, 20]
[axes]
recommender = ["popular", "bpr"]
"""
SEARCH = (
    CONF.replace("[axes]\n", "[search]\n")
    .replace('recommender = ["popular", "bpr"]', 'budget = 2\nsampler = "grid"\n"recommender.dim" = [2, 4]')
    .replace('[study]\nmetric = "recall@5"\n', '[recommender]\nname = "bpr"\n')
)

Output = Callable[..., tuple[int, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Output:
    """Runs a command in a folder with a study conf, a search conf and the camps; returns status and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    write_camps(tmp_path / "camps")
    (tmp_path / "tiny.conf").write_text(CONF)
    (tmp_path / "search.conf").write_text(SEARCH)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capfd.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), " ".join((captured.out + captured.err).split())

    return run


@pytest.mark.long
def test_a_study_from_start_to_report(call: Output, tmp_path: Path) -> None:
    code, text = call("study", "tiny.conf", "--dry-run")
    assert code == 0
    assert "2 cells; at most about" in text
    assert not (tmp_path / "runs").exists()
    assert "0 done, 0 failed, 0 running, 2 waiting" in call("study", "tiny.conf", "--status")[1]
    code, text = call("study", "tiny.conf", "--workers", "0")
    assert code == 0
    assert "done 2 of 2 cells in runs/tiny" in text
    assert "| recommender | Recall@5 |" in text
    assert (tmp_path / "runs" / "tiny" / "report" / "report.html").exists()
    assert "2 done, 0 failed" in call("study", "tiny.conf", "--status")[1]
    assert "already holds a study: add --resume" in call("study", "tiny.conf", "--workers", "0")[1]
    code, text = call("report", "runs/tiny/cells/bpr", "-o", "one")
    assert code == 0
    assert "report one/report.html" in text
    code, text = call("reproduce", "runs/tiny/cells/bpr")
    assert code == 0
    assert "the same: 24 of 24 metrics within 1e-06, the largest difference is 0" in text


@pytest.mark.long
def test_tune_prints_the_best_and_how_to_run_it(call: Output) -> None:
    pytest.importorskip("optuna")
    code, text = call("tune", "search.conf", "-o", "found")
    assert code == 0
    assert "recommender.dim =" in text
    assert "the best of 2 settings" in text
    assert "run found/best.conf" in text
    assert call("run", "found/best.conf", "-o", "best")[0] == 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "tiny.conf"], "[study] is of a study or a search: `lmm4rec study` carries out a conf with [axes]"),
        (["tune", "tiny.conf"], "the conf has no [search] table"),
        (["study", "search.conf"], "a study needs an [axes] table"),
        (["study", "tiny.conf", "--resume"], "there is nothing to resume in runs/tiny"),
        (["report", "nowhere"], "there is no study and no finished run in nowhere"),
        (["reproduce", "nowhere"], "there is no finished run in nowhere"),
    ],
)
def test_errors_are_one_message_and_status_2(call: Output, arguments: list[str], message: str) -> None:
    code, text = call(*arguments)
    assert code == 2
    assert message in text
    assert "Traceback" not in text
