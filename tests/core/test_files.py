"""Files that are old or new, and errors of the disk that name path and cause."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from lmm4rec.core.errors import StorageError
from lmm4rec.core.files import (
    atomic,
    atomic_folder,
    require_writable,
    storage_error,
    storage_errors,
    write_text,
)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A full disk of 64 kB with a file on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        (disk / "kept.txt").write_text("old")
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_and_what_was_there_stays(full: Path) -> None:
    def tensors(path: Path) -> None:
        save_file({"x": torch.zeros(100_000)}, path)

    def table(path: Path) -> None:
        pl.DataFrame({"x": torch.rand(100_000).numpy()}).write_parquet(path)

    def text(path: Path) -> None:
        path.write_text("x" * 200_000)

    for write in (tensors, table, text):
        with pytest.raises(StorageError, match=r"disk/kept.txt cannot be written: the disk is full$"):  # noqa: SIM117
            with atomic(full / "kept.txt") as beside:
                write(beside)
        assert [path.name for path in full.iterdir()] == ["kept.txt"]
        assert (full / "kept.txt").read_text() == "old"
    (full / "folder").mkdir()
    (full / "folder" / "old").touch()
    with pytest.raises(StorageError, match=r"disk/folder cannot be written: the disk is full$"):  # noqa: SIM117
        with atomic_folder(full / "folder") as beside:
            text(beside / "new")
    assert [path.name for path in (full / "folder").iterdir()] == ["old"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    original = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.suffix == ".part":
            raise OSError(errno.EIO, "x", str(path))
        return original(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StorageError), atomic_folder(tmp_path / "folder") as beside:
        (beside / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "old"]
    monkeypatch.undo()
    with atomic_folder(tmp_path / "folder") as beside:
        (beside / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "file" / "a.csv", tmp_path / "file" / "b" / "a.csv"):
        with pytest.raises(StorageError, match=r"/file is a file; expected a folder$"):
            write_text(path, "x")
        with pytest.raises(StorageError, match=r"/file is a file; expected a folder$"):
            require_writable(path)
    for check in (require_writable, lambda path: write_text(path, "x")):
        with pytest.raises(StorageError, match=r"folder.csv is a folder; expected a file$"):
            check(tmp_path / "folder.csv")
    require_writable(tmp_path / "new" / "a.csv")
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "folder.csv", "new"}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EROFS, "x", "/a/b"), "/a/b cannot be written: the file system is read-only"),
        (PermissionError(errno.EACCES, "x", "/a/b"), "/a/b cannot be opened: permission denied"),
        (OSError(errno.ENAMETOOLONG, "x", "/a/b"), "/a/b has too long a name"),
        (OSError(errno.ENOSPC, "x", "/a/.out.7.part"), "out cannot be written: the disk is full"),
        (RuntimeError("No space left on device (os error 28)"), "out cannot be written: the disk is full"),
        (OSError("17640 requested and 2016 written"), "out cannot be written: the disk is full"),
        (RuntimeError("database or disk is full"), "out cannot be written: the disk is full"),
        (RuntimeError("disk I/O error"), "out cannot be read or written: the device reports an error"),
    ],
)
def test_causes(error: Exception, message: str) -> None:
    with pytest.raises(StorageError) as raised, storage_errors(Path("out")):
        raise error
    assert str(raised.value) == message
    assert isinstance(raised.value, OSError)


def test_other_errors_stay_as_they_are() -> None:
    for error in (ValueError("no"), FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x"), OSError("odd")):
        assert storage_error(error, Path("out")) is None
        with pytest.raises(type(error)) as raised, storage_errors(Path("out")):
            raise error
        assert raised.value is error
    assert storage_error(OSError(errno.ENOSPC, "without a name")) is None
