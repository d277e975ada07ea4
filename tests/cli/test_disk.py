"""Every command on a full disk, in a read-only folder and below a file: one line, status 2, nothing half written."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmm4rec
from lmm4rec.cli.app import main
from lmm4rec.experiments.example_shop import write_example

CONF = """
title = "tiny"
[data]
name = "toyshop"
users = 40
items = 60
interactions = 600
[encoder]
name = "color"
[recommender]
name = "vbpr"
dim = 8
content_dim = 8
[train]
epochs = 1
batch_size = 64
"""
COMMANDS = {
    "run": "run {conf} -o {at}/out",
    "compare": "compare {conf} -o {at}/out",
    "study": "study {study} -o {at}/out --workers 0",
    "tune": "tune {search} -o {at}/out",
    "finetune": "finetune {tiny} -o {at}/out",
    "recommend": "recommend {run} --all --with-catalog -k 60 -o {at}/out/lists.csv",
    "export": "export {run} {at}/out",
    "report": "report {run} -o {at}/out",
    "data export": "data export {conf} {at}/out",
    "example": "example {at}/out",
    "encode": "encode {conf}",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A conf, a study and a finished run."""
    folder = tmp_path_factory.mktemp("disk")
    (folder / "tiny.conf").write_text(CONF)
    (folder / "study.conf").write_text(CONF + "[axes]\nseed = [0]\n")
    (folder / "search.conf").write_text(CONF + '[search]\nbudget = 1\n"recommender.dim" = [4, 8]\n')
    tuned = 'name = "clip"\ncheckpoint = "tiny"\n[features.finetune]\nepochs = 1\n'
    (folder / "finetune.conf").write_text(CONF.replace('name = "color"\n', tuned))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMM4REC_CACHE", str(folder / "cache"))
        patch.setitem(write_example.__kwdefaults__, "image_side", 64)
        lmm4rec.run(folder / "tiny.conf", out=folder / "run")
        yield {
            "conf": folder / "tiny.conf",
            "study": folder / "study.conf",
            "search": folder / "search.conf",
            "tiny": folder / "finetune.conf",
            "run": folder / "run",
        }


def refused(
    command: str, at: Path, files: dict[str, Path], capfd: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
) -> str:
    """What a command prints that fails for want of a place to write."""
    if command == "encode":
        patch.setenv("LMM4REC_CACHE", str(at / "cache"))
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(COMMANDS[command].format(at=at, **files).split())
    printed = capfd.readouterr()
    assert ended.value.code == (1 if command == "study" and "failed" in printed.out else 2), printed
    assert "Traceback" not in printed.err + printed.out
    return " ".join((printed.out + printed.err).split())


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_below_a_file(
    command: str,
    files: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("kept")
    text = refused(command, tmp_path / "file", files, capfd, monkeypatch)
    assert f"error: {tmp_path}/file is a file; expected a folder" in text
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.slow
@pytest.mark.parametrize("options", ["size=150k", "ro"])
@pytest.mark.parametrize("command", COMMANDS)
def test_on_a_small_or_read_only_disk(
    command: str,
    options: str,
    files: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(tmp_path)], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        if options != "ro":
            (tmp_path / "ballast").write_bytes(bytes(120_000))
        text = refused(command, tmp_path, files, capfd, monkeypatch)
        cause = "the file system is read-only" if options == "ro" else "the disk is full"
        assert f"cannot be written: {cause}" in text
        assert f" {tmp_path}/" in text
        assert not [path for path in tmp_path.rglob(".*") if path.suffix in (".part", ".parts", ".probe")]
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
