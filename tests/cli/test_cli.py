"""What commands print, their exit status, and the files they write."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import lmm4rec
from lmm4rec.cli.app import main
from lmm4rec.cli.models import entries
from lmm4rec.experiments.conf.spec import load_spec, parse_override
from lmm4rec.experiments.example_shop import write_example
from lmm4rec.experiments.plan import make_plan

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
    monkeypatch.setitem(write_example.__kwdefaults__, "image_side", 64)  # smaller images take less time
    (tmp_path / "tiny.conf").write_text(CONF)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capfd.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), " ".join((captured.out + captured.err).split())

    return run


@pytest.mark.long
def test_run_prints_the_table_and_what_to_do_next(call: Output, tmp_path: Path) -> None:
    code, text = call("run", "tiny.conf", "-s", "train.epochs=1")
    assert code == 0
    assert "Recall@20" in text
    assert "runs/tiny/report.html" in text
    assert (tmp_path / "runs" / "tiny" / "report.html").exists()


def test_a_dry_run_says_what_it_takes_and_stops(call: Output, tmp_path: Path) -> None:
    code, text = call("run", "tiny.conf", "--dry-run", "-s", "recommender.name=vbpr", "-s", "encoder.name=color")
    assert code == 0
    assert "VBPR on color, frozen: what it takes at most" in text
    assert "60 items without gradient" in text
    assert re.search(r"training VBPR\s+│ \d+ epochs of \d+ batches; ", text)
    assert "MB of weights, optimizer state, features and activations; Python and torch take" in text
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.conf"}


@pytest.mark.long
def test_recommend_takes_external_ids(call: Output) -> None:
    call("run", "tiny.conf", "-o", "out")
    code, text = call("recommend", "out", "u001", "-k", "3")
    assert code == 0
    assert "for u001" in text
    code, text = call("recommend", "out", "nobody")
    assert code == 2
    assert "error: unknown user 'nobody' among 40 users." in text


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "tiny.conf", "-s", "train.epoch=1"], "[train] has no parameter 'epoch'. Did you mean 'epochs'?"),
        (["run", "tiny.conf", "-s", "recommender.name=lightgnc"], "Did you mean 'lightgcn'?"),
        (["run", "tiny.conf", "-s", "train.epoch=1", "--processes", "2"], "[train] has no parameter 'epoch'."),
        (["run", "tinny.conf"], "there is no conf file tinny.conf. Did you mean 'tiny.conf'?"),
        (["run", "tiny.conf", "--resume"], "there is nothing to resume"),
        (["recommend", "nowhere", "u001"], "there is no bundle in nowhere"),
        (["serve", "nowhere", "--port", "0"], "there is no bundle in nowhere"),
        (["serve", "nowhere", "--index", "hsnw"], "--index is exact or hnsw or ivf, got 'hsnw'"),
        (["serve", "nowhere", "--token-env", "NOT_SET"], "the environment variable NOT_SET has to hold the token"),
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


@pytest.mark.long
def test_items_by_items_that_do_not_fit_are_reported_before_anything_is_encoded(call: Output, tmp_path: Path) -> None:
    """By the doctor, in an estimate and in a run; 60 items take 43,200 bytes."""
    conf = tmp_path / "tiny.conf"
    head = conf.read_text().partition("[recommender]")[0]
    conf.write_text(head + '[recommender]\nname = "cease"\nmemory_gb = 4e-5\n[encoder]\nname = "color"\n')
    for command in (["doctor"], ["run", "--dry-run"], ["run"]):
        code, text = call(*command, "tiny.conf")
        assert code == (1 if command == ["doctor"] else 2)
        assert 'memory_gb is 4e-05. Take name = "elsa"' in " ".join(text.split())
    assert not (tmp_path / "cache" / "features").exists()


@pytest.mark.long
def test_a_split_without_a_held_out_part_is_reported_before_any_work(call: Output, tmp_path: Path) -> None:
    for command in (["doctor"], ["run", "--dry-run"], ["run"]):
        for part in ("valid", "test"):
            _, text = call(*command, "tiny.conf", "-s", "split.method=global_time", "-s", f"split.{part}=1e-9")
            assert f"split.{part} = 1e-09 holds no interaction" in " ".join(text.split())
    assert not (tmp_path / "cache" / "features").exists()


@pytest.mark.long
def test_encode_fills_the_store_without_training(call: Output, tmp_path: Path) -> None:
    code, text = call("encode", "tiny.conf", "-s", "encoder.name=color")
    assert code == 0
    assert "image: 60 items × 294" in text
    assert list((tmp_path / "cache" / "features").glob("*/entry.json"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_example_is_a_shop_that_runs(call: Output) -> None:
    code, text = call("example", "my_shop")
    assert code == 0
    assert "my_shop.conf" in text
    code, text = call("doctor", "my_shop.conf")
    assert code == 0
    code, text = call("example", "my_shop")
    assert code == 2
    assert "my_shop is not empty" in text


@pytest.mark.long
def test_models_lists_all(call: Output) -> None:
    """Every file of the three packages is there, and `precomputed`; sizes, papers and keys stand beside."""
    code, text = call("models")
    assert code == 0
    packages = Path(lmm4rec.__path__[0])
    for package in ("recommenders", "encoders", "data/sources"):
        for file in (packages / package).glob("[a-z]*.py"):
            assert file.stem == "base" or f" {file.stem} " in text
    for said in (" precomputed ", "arXiv 2103.00020", "arXiv 1510.01784", "149,620,737", "content_dim"):
        assert said in text


def test_papers_of_one_author_or_several_are_shown() -> None:
    papers = {entry.name: entry.paper for entry in entries()}
    assert papers["ease"] == "arXiv 1905.03375"
    assert papers["vbpr"] == "arXiv 1510.01784"
    assert papers["itemknn"] == "doi 10.1145/963770.963776"
    assert papers["popular"] == ""


@pytest.mark.long
def test_one_model_in_full(call: Output) -> None:
    code, text = call("models", "VBPR")
    assert code == 0
    assert "vbpr · recommender Visual Bayesian personalized ranking (He and McAuley, AAAI 2016" in text
    assert "dim int 64 ≥ 1" in text
    assert "normalize bool true" in text
    assert "initial_std float 0.01 > 0" in text
    code, text = call("models", "clip")
    assert 'outputs text "image+text" "image+text" | "image" | "text"' in text
    assert "checkpoint text needed" in text
    assert "parameters ViT-B/32 151,277,313" in text
    code, text = call("models", "table")
    assert "text_columns list of text" in text
    assert "interactions text" in text
    code, text = call("models", "toyshop")
    assert "mention_looks float 0.3 ≥ 0, < 1" in text
    assert "image encoder a table" in call("models", "paired")[1]
    assert "files table" in call("models", "precomputed")[1]
    assert "It has no keys." in call("models", "popular")[1]


def test_a_model_that_is_not_there(call: Output) -> None:
    code, text = call("models", "vpbr")
    assert code == 2
    assert "no model is called 'vpbr'. Did you mean 'vbpr'? There are: " in text


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


@pytest.mark.parametrize(("base", "conf"), [("recommenders.bpr:BPR", "bpr"), ("recommenders.vbpr:VBPR", "vbpr")])
def test_main_runs_a_class_by_its_import_path(
    front: ModuleType, monkeypatch: pytest.MonkeyPatch, base: str, conf: str
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(front, "lmm4rec", called.append)
    path = f"lmm4rec.{base}"
    front.main([path, "-s", "train.epochs=5"])
    (arguments,) = called
    assert arguments[1:] == [str(front.CONF / f"{conf}.conf"), "-s", f"recommender.name={path}", "-s", "train.epochs=5"]
    plan = make_plan(load_spec(arguments[1], dict([parse_override(arguments[3]), parse_override(arguments[5])])))
    assert plan.recommender.label == conf.upper()
    assert plan.train.table["epochs"] == 5
    with pytest.raises(SystemExit, match="module 'nowhere' raises ModuleNotFoundError"):
        front.main(["nowhere:Mine"])


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


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shop on disk, one of its images damaged."""
    main_arguments = ["example", "my_shop"]
    with pytest.raises(SystemExit):
        main(main_arguments)
    conf = tmp_path / "my_shop.conf"
    broken = sorted((tmp_path / "my_shop" / "images").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:50])
    return conf


@pytest.mark.slow
def test_a_broken_image_is_counted_and_listed_and_strict_stops(
    call: Output, shop: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code, text = call("encode", str(shop), "--strict")
    assert code == 2
    (name,) = (path.stem for path in (tmp_path / "my_shop" / "images").iterdir() if path.stat().st_size == 50)
    assert f"cannot be read: {name}; mend these files" in text
    code, text = call("encode", str(shop))
    assert code == 0
    assert f"broken images: {name}" in text
    assert "image: 500 items × 294, 13 without image" in text  # the shop leaves 12 without
    small = ["-s", "train.epochs=1", "-s", "recommender.dim=4"]
    caplog.clear()
    code, text = call("run", str(shop), "-o", "out", *small)
    assert code == 0
    assert "warning: 1 item of 500 named an image or sound that could not be read" in caplog.text
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["features"] == {"precision": "float32", "broken_images": [name]}
    assert any("1 item of 500 named an image" in finding for finding in metrics["data"]["findings"])
    assert "1 item of 500 named an image" in (tmp_path / "out" / "report.html").read_text()
    code, text = call("run", str(shop), "-o", "strict", "-s", "features.strict=true", *small)
    assert code == 2
    assert f"cannot be read: {name}" in text


@pytest.mark.long
def test_the_store_is_listed_verified_and_pruned(call: Output, tmp_path: Path) -> None:
    assert "is empty" in call("encode", "--list")[1]
    call("encode", "tiny.conf", "-s", "encoder.name=color")
    code, text = call("encode", "--list")
    assert code == 0
    for words in ("Color", "image 294", "float32", "60", "whole"):
        assert words in text
    (path,) = (tmp_path / "cache" / "features").glob("*/*.safetensors")
    key = path.parent.name
    assert call("encode", "--verify") == (0, f"{key[:12]} good")
    path.write_bytes(path.read_bytes()[:-1])
    code, text = call("encode", "--verify", key[:6])
    assert code == 1
    assert f"{key[:12]} {path} has" in text
    assert call("encode", "--prune", "--unfinished") == (0, "nothing to remove")
    assert call("encode", "--prune", "--older-than", "1") == (0, "nothing to remove")
    code, text = call("encode", "--prune", "nothing-so")
    assert code == 2
    assert "no entry of the feature store has a key that begins with 'nothing-so'" in text
    code, text = call("encode", "--prune", key[:4])
    assert code == 0
    assert "removed 1 entry" in text
    assert not path.parent.exists()


@pytest.mark.long
def test_pruning_everything_asks_first(call: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("encode", "tiny.conf", "-s", "encoder.name=color")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, text = call("encode", "--prune")
    assert code == 1
    assert "remove all" in text
    assert list((tmp_path / "cache" / "features").glob("*/entry.json"))
    assert call("encode", "--prune", "--yes")[0] == 0
    assert not list((tmp_path / "cache" / "features").iterdir())


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode"], "name a conf file, or choose one of --list, --verify and --prune"),
        (["encode", "--list", "--prune"], "choose one of --list, --verify and --prune"),
        (["encode", "tiny.conf"], "tiny.conf names no encoder: add an [encoder] table"),
    ],
)
def test_encode_says_what_it_needs(call: Output, arguments: list[str], message: str) -> None:
    code, text = call(*arguments)
    assert code == 2
    assert message in text.replace(" │ │ ", " ")


@pytest.mark.slow
def test_finetune_estimates_trains_and_says_how_to_use_the_result(call: Output, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    tiny = ["-s", "encoder.name=clip", "-s", "encoder.checkpoint=tiny"]
    short = [*tiny, "-s", "features.finetune.epochs=1", "-s", "features.finetune.precision=float32"]
    code, text = call("finetune", "tiny.conf", *short, "--dry-run")
    assert code == 0
    assert "51 items, 1 steps" in text
    assert "with gradient" in text
    assert not list((tmp_path / "cache" / "encoders").glob("tuned-*"))
    code, text = call("finetune", "tiny.conf", *short, "-o", "tuned")
    assert code == 0
    assert "held-out pairs: retrieval_recall@5" in text
    assert "all pairs: modality_gap" in text
    assert '[encoder] checkpoint = "tuned"' in text
    assert "run tiny.conf -s encoder.checkpoint=tuned -s features.train=frozen" in text
    code, _ = call("run", "tiny.conf", *tiny[:2], "-s", "encoder.checkpoint=tuned", "-s", "train.epochs=1")
    assert code == 0
    code, text = call("finetune", "tiny.conf", *short, "-o", "tuned")
    assert code == 2
    assert "tuned exists already" in text


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["encoder.name=precomputed"], "takes features from files: name an encoder to fine-tune"),
        (["encoder.name=color"], "Color cannot be fine-tuned; take an encoder that can, such as 'clip'"),
        ([], "[features] needs an [encoder] table"),
        (["encoder.name=words", "features.finetune.epoch=3"], "no parameter 'epoch'. Did you mean 'epochs'?"),
    ],
)
def test_finetune_refuses_what_cannot_be_tuned(call: Output, settings: list[str], message: str) -> None:
    code, text = call("finetune", "tiny.conf", *(part for setting in settings for part in ("-s", setting)))
    assert code == 2
    assert message in text
