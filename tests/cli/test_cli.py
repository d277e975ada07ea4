"""The command line, read aloud."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from lmm4rec.cli.app import main

CONF = """
title = "tiny"
[data]
name = "toyshop"
users = 40
items = 60
interactions = 600
[recommender]
name = "bpr"
dim = 8
[train]
epochs = 2
batch_size = 64
"""

Output = Callable[..., tuple[int, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Output:
    """Runs a command in an empty folder; returns the exit status and all that was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.conf").write_text(CONF)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capfd.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), " ".join((captured.out + captured.err).split())

    return run


def test_run_prints_the_table_and_what_to_do_next(call: Output, tmp_path: Path) -> None:
    code, text = call("run", "tiny.conf", "-s", "train.epochs=1")
    assert code == 0
    assert "Recall@20" in text
    assert "runs/tiny/report.html" in text
    assert (tmp_path / "runs" / "tiny" / "report.html").exists()


def test_recommend_takes_external_ids(call: Output) -> None:
    call("run", "tiny.conf", "-o", "out")
    code, text = call("recommend", "out", "u001", "-k", "3")
    assert code == 0
    assert "for u001" in text
    code, text = call("recommend", "out", "nobody")
    assert code == 2
    assert "error: unknown user 'nobody' among 40 users." in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "tiny.conf", "-s", "train.epoch=1"], "[train] has no parameter 'epoch'. Did you mean 'epochs'?"),
        (["run", "tiny.conf", "-s", "recommender.name=lightgnc"], "Did you mean 'lightgcn'?"),
        (["run", "tinny.conf"], "there is no conf file tinny.conf. Did you mean 'tiny.conf'?"),
        (["run", "tiny.conf", "--resume"], "there is nothing to resume"),
        (["recommend", "nowhere", "u001"], "nowhere/bundle.json is missing"),
    ],
)
def test_errors_are_one_message_and_status_2(call: Output, arguments: list[str], message: str) -> None:
    code, text = call(*arguments)
    assert code == 2
    assert message in text
    assert "Traceback" not in text


def test_doctor_counts_and_lists(call: Output) -> None:
    code, text = call("doctor", "tiny.conf")
    assert code == 0
    assert "users" in text
    assert "warning" in text or "note" in text


def test_encode_fills_the_store_without_training(call: Output, tmp_path: Path) -> None:
    code, text = call("encode", "tiny.conf", "-s", "encoder.name=color")
    assert code == 0
    assert "image: 60 items × 294" in text
    assert list((tmp_path / "cache" / "features").glob("*/entry.json"))
    assert not (tmp_path / "runs").exists()


def test_example_is_a_shop_that_runs(call: Output) -> None:
    code, text = call("example", "my_shop")
    assert code == 0
    assert "my_shop.conf" in text
    code, text = call("doctor", "my_shop.conf")
    assert code == 0
    code, text = call("example", "my_shop")
    assert code == 2
    assert "my_shop is not empty" in text


def test_models_lists_all(call: Output) -> None:
    code, text = call("models")
    assert code == 0
    for name in ("lightgcn", "vbpr", "clip", "words", "mmrec", "toyshop"):
        assert name in text


@pytest.fixture
def front() -> ModuleType:
    spec = importlib.util.spec_from_file_location("front", Path(__file__).parents[2] / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_main_runs_a_model_by_its_name(front: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(front, "lmm4rec", called.append)
    front.main(["VBPR", "-s", "train.epochs=5"])
    assert called == [["run", str(front.CONF / "vbpr.conf"), "-s", "train.epochs=5"]]


def test_main_without_a_model_is_a_menu(front: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(front, "lmm4rec", called.append)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    number = sorted(path.stem for path in front.CONF.glob("*.conf")).index("lightgcn") + 1
    monkeypatch.setattr(front.Prompt, "ask", lambda *_, **__: str(number))
    front.main([])
    assert called == [["run", str(front.CONF / "lightgcn.conf")]]


def test_main_offers_the_nearest_model(front: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"no model 'LigthGCN' .* Did you mean 'lightgcn'\?"):
        front.main(["LigthGCN"])
