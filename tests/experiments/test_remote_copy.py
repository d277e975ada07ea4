"""Runs and studies in a bucket of moto's S3 server: resumable at any moment, on any machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lmm4rec
from lmm4rec.core.errors import ConfigError, StorageError
from lmm4rec.data import buckets
from lmm4rec.data.remote_folder import RemoteFolder
from lmm4rec.experiments.callbacks import HistoryWriter
from lmm4rec.experiments.remote_copy import RemoteCopy
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.study.study import study
from lmm4rec.training.history import Row
from s3_buckets import objects

CONF: dict[str, Any] = {
    "title": "tiny",
    "data": {"name": "toyshop", "users": 30, "items": 20, "interactions": 300},
    "recommender": {"name": "bpr", "dim": 4},
    "train": {"epochs": 4, "batch_size": 128, "checkpoint_every_s": 0},
}


@pytest.fixture
def machine(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Runs to the bucket on a machine with a cache folder of its own."""

    def run(name: str, **options: Any) -> Result:
        monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / name))
        return lmm4rec.run({**CONF, **options.pop("conf", {})}, out=f"s3://{bucket}/runs/tiny", **options)

    return run


def at_epoch(number: int, event: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    real = HistoryWriter.on_epoch_end

    def on_epoch_end(self: HistoryWriter, row: Row) -> None:
        real(self, row)
        if row["epoch"] == number:
            event()

    patch.setattr(HistoryWriter, "on_epoch_end", on_epoch_end)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.long
def test_what_is_there_can_be_resumed_at_any_moment(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address, steps = f"s3://{bucket}/runs/x", list[str]()
    upload, remove = RemoteFolder.upload, RemoteFolder.remove
    monkeypatch.setattr(RemoteFolder, "upload", lambda *args: (steps.append(args[2]), upload(*args)))
    monkeypatch.setattr(RemoteFolder, "remove", lambda *args: (steps.extend(f"-{x}" for x in args[1]), remove(*args)))
    first = RemoteCopy(address)
    first.begin(resume=False)

    def write(copy: RemoteCopy, files: dict[str, str]) -> list[str]:
        for name, content in files.items():
            (copy.path / name).parent.mkdir(parents=True, exist_ok=True)
            (copy.path / name).write_text(content)
        steps.clear()
        copy.copy()
        return steps

    old, index = "checkpoint/state-1.safetensors", "checkpoint/state.index.json"
    files = {"metrics.json": "4", "history.jsonl": "1\n", index: "1", old: "1", "experiment.toml": "4"}
    order = ["experiment.toml", old, "history.jsonl", index, "metrics.json"]
    assert write(first, {**files, ".lock": "", "running.json": ""}) == order
    assert write(first, {}) == []
    for name in ("metrics.json", old):
        (first.path / name).unlink()
    new = old.replace("1", "2")
    changed = {"history.jsonl": "1\n2\n", index: "22", new: "2"}
    assert write(first, changed) == ["-metrics.json", new, "history.jsonl", index, f"-{old}"]
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "other"))
    second = RemoteCopy(address)
    with pytest.raises(ConfigError, match=f"{address} already holds a run or study: add --resume"):
        second.begin(resume=False)
    second.begin(resume=True)
    there = {key.removeprefix("runs/x/"): content.decode() for key, content in objects(bucket).items()}
    assert there == {"experiment.toml": "4", **changed}
    assert there == {x.relative_to(second.path).as_posix(): x.read_text() for x in second.path.rglob("*.*")}
    assert write(second, {"history.jsonl": "1\n2\n3\n"}) == ["history.jsonl"]
    first.begin(resume=True)  # and now it is further there
    assert (first.path / "history.jsonl").read_text() == "1\n2\n3\n"
    (first.path / "history.jsonl").write_text("1\n2\n3\n4\n")
    first.begin(resume=True)  # further here, such as after a copy that failed
    assert (first.path / "history.jsonl").read_text() == "1\n2\n3\n4\n"


@pytest.mark.slow
def test_a_run_goes_on_and_is_read_on_another_machine(
    machine: Callable[..., Result], bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = lmm4rec.run(CONF, out=tmp_path / "alone")
    monkeypatch.setattr("lmm4rec.experiments.remote_copy._TIME_SHARE", 1e6)  # a copy after each epoch
    with monkeypatch.context() as patch:
        at_epoch(3, interrupt, patch)
        with pytest.raises(KeyboardInterrupt):
            machine("1")
    begun = {key.removeprefix("runs/tiny/") for key in objects(bucket)}
    files = {"experiment.toml", "environment.json", "history.jsonl", "checkpoint/state.safetensors"}
    assert begun - {"cost.json"} == files  # which is written now and then
    trained: list[int] = []
    uploads: list[str] = []
    upload = RemoteFolder.upload
    monkeypatch.setattr(RemoteFolder, "upload", lambda *args: (uploads.append(args[2]), upload(*args)))
    with monkeypatch.context() as patch:
        at_epoch(3, lambda: trained.append(3), patch)
        at_epoch(1, lambda: trained.append(1), patch)
        resumed = machine("2", resume=True)
    assert (trained, resumed.metrics["test"]) == ([3], alone.metrics["test"])
    assert (uploads[-1], uploads.count("experiment.toml")) == ("metrics.json", 0)
    whole = {key.removeprefix("runs/tiny/"): content for key, content in objects(bucket).items()}
    here = {path.relative_to(resumed.folder.path).as_posix(): path for path in resumed.folder.path.rglob("*.*")}
    assert whole == {name: path.read_bytes() for name, path in here.items() if not name.startswith(".")}
    read = machine("3", resume=True)
    assert read.metrics == resumed.metrics
    assert lmm4rec.Bundle.load(f"s3://{bucket}/runs/tiny").recommend(["u005"]) == alone.bundle().recommend(["u005"])
    with pytest.raises(ConfigError, match=f"s3://{bucket}/runs/tiny already holds a run or study: add --resume"):
        machine("4")
    longer = {"train": {**CONF["train"], "epochs": 5}}
    with monkeypatch.context() as patch:
        at_epoch(5, interrupt, patch)
        with pytest.raises(KeyboardInterrupt):
            machine("3", resume=True, conf=longer)
    assert not {"runs/tiny/metrics.json", "runs/tiny/report.html"} & objects(bucket).keys()  # of four epochs


@pytest.mark.slow
def test_what_was_deleted_at_an_address_is_not_copied_there_by_a_run_that_is_refused(
    machine: Callable[..., Result], bucket: str
) -> None:
    first, address = machine("1"), f"s3://{bucket}/runs/tiny"
    RemoteFolder(address).remove([key.removeprefix("runs/tiny/") for key in objects(bucket)])
    other = {"recommender": {"name": "popular"}}
    with pytest.raises(ConfigError, match=f"{address} is empty, but .* or delete {first.folder.path}"):
        machine("1", conf=other)
    with pytest.raises(ConfigError, match=f"{address} was begun with another conf"):
        machine("1", conf=other, resume=True)
    assert objects(bucket) == {}
    assert machine("1", resume=True).metrics == first.metrics
    assert "runs/tiny/metrics.json" in objects(bucket)


@pytest.mark.slow
def test_what_a_bucket_refuses_is_here_and_copied_later(
    machine: Callable[..., Result], bucket: str, s3_address: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(buckets, "RETRIES", {"max_retries": 0})
    put = RemoteFolder._put
    gone: list[str] = []

    def refuse(self: RemoteFolder, name: str, content: bytes | Path) -> None:
        if gone:
            raise OSError("507 Insufficient Storage")
        put(self, name, content)

    monkeypatch.setattr(RemoteFolder, "_put", refuse)
    with monkeypatch.context() as patch:
        at_epoch(2, lambda: gone.append("now"), patch)
        patch.setattr("lmm4rec.experiments.remote_copy._TIME_SHARE", 1e6)
        with pytest.raises(
            StorageError, match=rf"s3://{bucket}/runs/tiny/\w.* the object store is full.* is whole"
        ) as error:
            machine("1")
    assert "with --resume the command only copies it" in error.value.__notes__[0]
    assert "The work goes on; it is tried again" in caplog.text
    assert "runs/tiny/metrics.json" not in objects(bucket)
    gone.clear()
    again = machine("1", resume=True)
    assert "runs/tiny/metrics.json" in objects(bucket)
    assert machine("2", resume=True).metrics == again.metrics
    for address, words in (
        (s3_address, "there is no bucket s3://nowhere"),
        ("http://127.0.0.1:9", "cannot be reached"),
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(StorageError, match=words):
            lmm4rec.run({**CONF, "data": {"name": "table", "path": "not read"}}, out="s3://nowhere/run")


@pytest.mark.slow
def test_a_study_goes_on_on_another_machine(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    conf = {"title": "two", "data": CONF["data"], "axes": {"recommender": ["popular", "itemknn"]}}
    address = f"s3://{bucket}/studies/two"
    first = study(conf, out=address, workers=0)
    assert (len(first.done), first.failed) == (2, [])
    assert sum(key.endswith("/metrics.json") for key in objects(bucket)) == 2
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="already holds a run or study: add --resume"):
        study(conf, out=address, workers=0)
    monkeypatch.setattr("lmm4rec.experiments.study.study._do_task", lambda *_: pytest.fail("done already"))
    second = study(conf, out=address, workers=0, resume=True)
    assert (second.done, second.folder.path) == (first.done, RemoteCopy(address).path)
    RemoteFolder(address).remove([key.removeprefix("studies/two/") for key in objects(bucket)])
    with pytest.raises(ConfigError, match="cell 'popular' was begun with another conf"):
        study(conf, {"evaluate.ks": [20, 30]}, out=address, workers=0, resume=True)
    assert objects(bucket) == {}
