"""Ids that begin with "-", which the command line takes for options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch

from lmm4rec.cli.app import main
from lmm4rec.core.types import Embeddings
from lmm4rec.data.sources.table import load
from lmm4rec.serving.bundle import Bundle

Output = Callable[..., tuple[object, str]]
IDS = ["-5", "-abc", "-k", "--x", "i4"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A bundle whose users and items have ids that look like options; item i has the score i."""
    (tmp_path / "data").mkdir()
    pl.DataFrame({"item_id": IDS}).write_csv(tmp_path / "data" / "items.csv")
    pl.DataFrame({"user_id": IDS, "item_id": ["i4"] * 5}).write_csv(tmp_path / "data" / "interactions.csv")
    scorer = Embeddings(torch.ones(5, 1), torch.arange(5.0)[:, None])
    Bundle.of(scorer, load(path=tmp_path / "data"), {"model": "by hand"}).save(tmp_path / "shop")
    return tmp_path / "shop"


@pytest.fixture
def call(shop: Path, capfd: pytest.CaptureFixture[str]) -> Output:
    """Runs a command on the shop; returns the exit status and all that was printed, without frames."""

    def command(name: str, *arguments: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            main([name, str(shop), *arguments])
        printed = capfd.readouterr()
        return ended.value.code, " ".join((printed.out + printed.err).replace("│", " ").split())

    return command


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "arguments", "example"),
    [
        ("recommend", ["-5"], "lmm4rec recommend RUN -- -5"),
        ("recommend", ["-abc"], "lmm4rec recommend RUN -- -5"),
        ("recommend", ["-k"], "lmm4rec recommend RUN -- -5"),
        ("recommend", ["--x"], "lmm4rec recommend RUN -- -5"),
        ("similar", ["-5"], "lmm4rec similar RUN -- -5"),
        ("explain", ["-5", "-abc"], "lmm4rec explain RUN -- -5 -7"),
        ("search", ["-5 degrees"], "lmm4rec search RUN -- -5"),
    ],
)
def test_an_id_that_is_taken_for_an_option_is_told_where_to_stand(
    call: Output, command: str, arguments: list[str], example: str
) -> None:
    code, printed = call(command, *arguments)
    assert code == 2
    assert f"An id or text that begins with '-' stands last, after --: {example}" in printed


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "arguments"),
    [("recommend", ["--alll"]), ("recommend", ["--with"]), ("models", ["-5"])],
)
def test_other_mistakes_have_no_such_advice(call: Output, command: str, arguments: list[str]) -> None:
    code, printed = call(command, *arguments)
    assert code == 2
    assert "after --:" not in printed


def test_an_id_that_is_read_as_an_option_with_its_value(call: Output) -> None:
    code, printed = call("recommend", "-k5")
    assert code == 2
    assert "user ids (those that begin with '-' after --)" in printed


@pytest.mark.long
def test_the_advice_works(call: Output) -> None:
    code, printed = call("recommend", "-k", "2", "--", *IDS)
    assert code == 0
    assert all(f"for {user}" in printed for user in IDS)
    assert "similar to -abc" in call("similar", "--", "-abc")[1]
    assert "(-abc) has the score 1.0000 for -5" in call("explain", "--", "-5", "-abc")[1]
