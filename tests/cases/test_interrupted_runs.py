"""Runs that fail late, are interrupted, or are started twice."""

from __future__ import annotations

import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from lmm4rec.cli.app import main
from lmm4rec.core.errors import CheckpointError, ConfigError, DataError, LMM4RecError
from lmm4rec.core.folder_lock import locked_folder
from lmm4rec.experiments import run as run_module
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.folder import RunFolder, open_folder
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.result import read_result
from lmm4rec.experiments.run import run
from lmm4rec.training.trainer import Trainer

CONF: dict[str, Any] = {
    "data": {"name": "toyshop", "items": 40, "users": 30, "interactions": 300},
    "recommender": {"name": "bpr", "dim": 4},
    "train": {"epochs": 2, "checkpoint_every_s": 0.0},
}


@pytest.mark.long
def test_a_failure_after_training_keeps_what_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DataError("no bundle")

    with monkeypatch.context() as broken:
        broken.setattr(run_module, "pack", fail)
        with pytest.raises(DataError, match="no bundle") as failure:
            run(CONF, out=tmp_path / "my run")
    advice = re.search("`lmm4rec (.*)` begins after training", failure.value.__notes__[0])
    assert advice is not None
    monkeypatch.setattr(Trainer, "_train_epoch", fail)
    with pytest.raises(SystemExit, match="0"):
        main(shlex.split(advice[1]))  # also of a run that another command began, which has no --resume
    result = read_result(tmp_path / "my run")
    assert len(result.history) == 2
    assert len(result.bundle().items) == 40


@pytest.mark.long
def test_the_second_process_in_a_run_folder_hears_who_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked_folder(folder, doing="runs it"):
        for resume in (False, True):
            with pytest.raises(ConfigError, match=rf"is in use: process {os.getpid()} on .* -o"):
                run(CONF, out=folder, resume=resume)
    assert not folder.exists()
    assert run(CONF, out=folder).folder.is_finished


@pytest.mark.long
def test_epochs_may_grow_with_resume(tmp_path: Path) -> None:
    whole = run({**CONF, "train": {**CONF["train"], "epochs": 4}}, out=tmp_path / "whole")
    run(CONF, out=tmp_path / "grown")
    grown = run(CONF, {"train.epochs": 4}, out=tmp_path / "grown", resume=True)
    assert grown.history == whole.history
    assert grown.metrics["test"] == whole.metrics["test"]
    with pytest.raises(ConfigError, match=r"train\.epochs was 4, now 2"):
        run(CONF, out=tmp_path / "grown", resume=True)


END_TO_END: dict[str, Any] = {
    "encoder": {"name": "clip", "checkpoint": "toyshop", "text": "{title}"},
    "recommender": {"name": "vbpr", "dim": 4, "content_dim": 4},
    "features": {"train": "end2end", "adapter": "side", "end2end": {"warm_start": 0, "warmup": 0.5}},
}


@pytest.mark.parametrize(
    ("more", "key", "why"),
    [
        ({}, "train.schedule", "train.schedule = 'cosine'"),
        ({}, "train.warmup", "train.warmup = 0.5"),
        (
            END_TO_END,
            "features.end2end.schedule",
            "features.end2end.schedule = 'cosine' and features.end2end.warmup = ",
        ),
    ],
)
def test_epochs_do_not_grow_where_learning_rates_depend_on_them(
    tmp_path: Path, more: dict[str, Any], key: str, why: str
) -> None:
    value = "cosine" if key.endswith("schedule") else 0.5
    plan = make_plan(load_spec({**CONF, **more}, {key: value}))
    folder = open_folder(plan, tmp_path / "run", resume=False)
    longer = make_plan(load_spec({**CONF, **more}, {key: value, "train.epochs": 4}))
    with pytest.raises(ConfigError, match=rf"cannot be trained for longer \(train\.epochs was 2, now 4\): with {why}"):
        open_folder(longer, tmp_path / "run", resume=True)
    assert folder.plan().train.epochs == 2


def signal_in_epoch_2(patch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    train_epoch = Trainer._train_epoch

    def signaled(self: Trainer, epoch: int, *arguments: Any) -> dict[str, float]:
        if epoch == 2:
            os.kill(os.getpid(), number)
        return train_epoch(self, epoch, *arguments)

    patch.setattr(Trainer, "_train_epoch", signaled)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_training_after_the_epoch_with_its_state_saved(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    conf = {**CONF, "train": {"epochs": 3, "checkpoint_every_s": 1000.0}}
    (tmp_path / "bpr.conf").write_text(tomli_w.dumps(conf))
    with monkeypatch.context() as patch:
        signal_in_epoch_2(patch, number)
        with pytest.raises(SystemExit) as ended:
            main(["run", str(tmp_path / "bpr.conf"), "-o", str(tmp_path / "run")])
    assert ended.value.code == 130
    assert "stopped after epoch 2, which is saved; add --resume" in " ".join(capfd.readouterr().err.split())
    resumed = run(conf, out=tmp_path / "run", resume=True)
    assert resumed.history == run(conf, out=tmp_path / "whole").history


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (["tune", "-o", "found"], "the same command continues"),
        (["refresh", "--live", "live"], "yesterday's bundle stays, and the same command begins the night anew"),
    ],
)
def test_commands_without_resume_say_what_goes_on(
    command: list[str], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    search = {"search": {"budget": 2, "sampler": "grid", "recommender.dim": [2, 4]}} if command[0] == "tune" else {}
    (tmp_path / "bpr.conf").write_text(tomli_w.dumps({**CONF, "train": {"epochs": 3}, **search}))
    monkeypatch.chdir(tmp_path)
    signal_in_epoch_2(monkeypatch, signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        main([command[0], "bpr.conf", *command[1:]])
    assert ended.value.code == 130
    text = " ".join(capfd.readouterr().err.split())
    assert f"interrupted; stopped after epoch 2, which is saved; {advice}" in text
    assert "--resume" not in text
    assert all("--resume" not in path.read_text() for path in tmp_path.glob("live/nights.jsonl"))


@pytest.mark.parametrize("content", [None, b"", b"hello", b"\xff\xfe"])
def test_a_damaged_file_of_a_run_is_one_line_that_names_it(content: bytes | None, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    reads = {folder.experiment: folder.plan, folder.history: folder.history_rows, folder.per_user: folder.scan_per_user}
    for file, read in reads.items():
        if content is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(content)
        if (file, content) not in ((folder.history, None), (folder.history, b""), (folder.experiment, b"")):
            with pytest.raises(CheckpointError, match=re.escape(str(file))):
                read()


TOO_LATE: dict[str, tuple[dict[str, Any], str]] = {
    "template": ({"encoder": {"name": "words", "text": "{titel}"}, "recommender": {"name": "vbpr"}}, "'titel'"),
    "template of a pair": (
        {
            "encoder": {"name": "paired", "image": {"name": "color"}, "text": {"name": "words", "text": "{brnd}"}},
            "recommender": {"name": "vbpr"},
        },
        "'brnd'",
    ),
    "device": ({"train": {"device": "cuda:99"}}, "cuda:99"),
    "no gradient": (
        {
            "encoder": {"name": "sentence", "checkpoint": "tiny"},
            "recommender": {"name": "cease"},
            "features": {"train": "end2end"},
        },
        "has no gradient",
    ),
    "vectors larger than the memory": (
        {"recommender": {"name": "lightgcn", "dim": 10**9}},
        "GB for the vectors of .* users and .* items .* lower recommender.dim",
    ),
    "maps to vectors larger than the memory": (
        {
            "encoder": {"name": "words", "text": "{title}"},
            "recommender": {"name": "vbpr", "content_dim": 300_000},
        },
        "the maps that give new items .* lower recommender.dim or recommender.content_dim",
    ),
    "batch larger than the memory": (
        {"recommender": {"name": "bpr", "dim": 10**7}, "train": {"batch_size": 10**9}},
        "GB for a batch of .* lower recommender.dim or train.batch_size",
    ),
    "nothing held out": (
        {"split": {"method": "global_time", "valid": 1e-9}},
        "split.valid = 1e-09 holds no interaction",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize(("changes", "message"), TOO_LATE.values(), ids=TOO_LATE)
def test_what_would_stop_a_run_is_known_before_work_and_to_doctor(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    conf = {**CONF, **changes}
    (tmp_path / "late.conf").write_text(tomli_w.dumps(conf))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(tmp_path / "late.conf")])
    assert ended.value.code == 1
    assert re.search(message, " ".join(capfd.readouterr().out.split()))
    monkeypatch.setattr(run_module, "_load_features", None)  # it is not reached
    with pytest.raises((ConfigError, DataError), match=message):
        run(conf, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"name": "clip", "checkpoint": "/nowhere/clip", "text": "{title}"}, "no CLIP under checkpoint"),
        ({"name": "words", "text": "{title}"}, "no word that two of the 2 items share, in the text '{title}'"),
        ({"name": "precomputed", "files": {"image": "/nowhere/image.npy"}}, "/nowhere/image.npy"),
    ],
)
def test_doctor_loads_encoder_and_feature_files(
    encoder: dict[str, Any], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, lines in {
        "interactions": ["user_id,item_id", "u,a"],
        "items": ["item_id,title", "a,red", "b,blue"],
    }.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    conf = {
        "data": {"name": "table", "path": str(tmp_path)},
        "split": {"valid": 0.0, "test": 0.0},
        "encoder": encoder,
        "recommender": {"name": "vbpr"},
    }
    (tmp_path / "late.conf").write_text(tomli_w.dumps(conf))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(tmp_path / "late.conf")])
    assert ended.value.code == 1
    assert re.search(message, " ".join(capfd.readouterr().out.split()))
    with pytest.raises(LMM4RecError, match=message):
        run(conf, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_doctor_of_a_run_that_can_succeed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.conf").write_text(tomli_w.dumps(CONF))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(tmp_path / "good.conf")])
    assert ended.value.code == 0
