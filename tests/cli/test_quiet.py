"""What a command leaves unsaid: warnings of libraries, bars after an error, and notes that were already given."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmm4rec.cli.app import _is_broken_pipe, _Once
from lmm4rec.cli.console import console, escaped, quoted
from lmm4rec.core.progress import abandon_bars, progress

CONF = """
[data]
name = "toyshop"
users = 40
items = 60
interactions = 600
[encoder]
name = "color"
[recommender]
name = "{name}"
"""
COMMANDS = """
import sys
from lmm4rec.cli.app import main
for command in sys.argv[1:]:
    try:
        main(command.split())
    except SystemExit as ended:
        assert not ended.code, command
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ease", "userknn", "vbpr"])
def test_no_warning_of_a_library_is_shown(name: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.conf").write_text(CONF.format(name=name))
    epochs = " -s train.epochs=1" if name == "vbpr" else ""
    commands = ["doctor tiny.conf", f"run tiny.conf -o run{epochs}", "recommend run u001", "similar run T0001",
                "export run out", "report run"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", COMMANDS, *commands],
        cwd=tmp_path,
        env=os.environ | {"LMM4REC_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr + done.stdout


def test_no_bar_is_drawn_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    bar = progress(total=10, description="training", unit="batch")
    bar.update(3)
    bar.refresh()
    assert "training" in screen.getvalue()
    abandon_bars()
    screen.write("error: it is over\n")
    bar.update(5)
    bar.close()
    del bar
    assert screen.getvalue().endswith("error: it is over\n")


def test_a_note_is_given_once() -> None:
    once = _Once()

    def shown(level: int, text: str) -> bool:
        return bool(once.filter(logging.LogRecord("x", level, "x", 1, text, (), None)))

    assert [shown(logging.INFO, "note: two columns"), shown(logging.INFO, "note: two columns")] == [True, False]
    assert [shown(logging.WARNING, "a"), shown(logging.WARNING, "b"), shown(logging.WARNING, "a")] == [
        True,
        True,
        False,
    ]
    assert [shown(logging.INFO, "epoch 1"), shown(logging.INFO, "epoch 1")] == [True, True]


@pytest.mark.parametrize("text", [":x:", "C:\\dir\\[x]", "[bold]", "a [/] b", "[]"])
def test_ids_and_titles_are_printed_as_they_are(text: str) -> None:
    with console.capture() as captured:
        console.print(escaped(text) + "|", soft_wrap=True)
    assert captured.get() == f"{text}|\n"


def test_paths_with_spaces_can_be_pasted() -> None:
    assert quoted("runs/my shop", "u001") == "'runs/my shop' u001"


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    assert _is_broken_pipe(BrokenPipeError())
    assert _is_broken_pipe(OSError("failed to write (os error 32)"))
    assert not _is_broken_pipe(OSError("failed to write (os error 28)"))
