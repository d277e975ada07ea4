"""The commands on a finished run, read aloud."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import polars as pl
import pytest
import typer
from rich.console import Console
from typer.models import ParameterInfo

import lmm4rec
from lmm4rec.cli import runs
from lmm4rec.cli.app import app, main
from lmm4rec.core.errors import CheckpointError, DataError, ImageError
from lmm4rec.experiments.build.bundle import export
from lmm4rec.experiments.result import read_result
from lmm4rec.serving.answers import NewItem
from s3_buckets import put

CONF = {
    "title": "tiny",
    "data": {"name": "toyshop", "users": 40, "items": 60, "interactions": 600},
    "encoder": {"name": "paired", "image": {"name": "color"}, "text": {"name": "words"}},
    "recommender": {"name": "vbpr", "dim": 8, "content_dim": 8},
    "train": {"epochs": 2, "batch_size": 64},
}

Output = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of VBPR with images and words."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMM4REC_CACHE", str(folder / "cache"))
        lmm4rec.run(CONF, out=folder / "run")
        yield folder / "run"


@pytest.fixture
def call(run: Path, capfd: pytest.CaptureFixture[str]) -> Output:
    """Runs a command on the run; returns the exit status and all that was printed."""

    def command(name: str, *arguments: str, on: Path | str = run) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([name, *([str(on)] if on else []), *arguments])
        captured = capfd.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), " ".join((captured.out + captured.err).split())

    return command


@pytest.mark.long
def test_for_everybody_into_a_file(call: Output, run: Path, tmp_path: Path) -> None:
    code, text = call("recommend", "--all", "-k", "3", "-o", str(tmp_path / "all.parquet"))
    assert (code, "120 recommendations for 40 users" in text) == (0, True)
    frame = pl.read_parquet(tmp_path / "all.parquet")
    assert frame.columns == ["user", "rank", "item", "title", "score"]
    bundle = lmm4rec.Bundle.load(run)
    (first,) = frame.filter((pl.col("user") == "u005") & (pl.col("rank") == 1)).iter_rows()
    assert first[2:] == pytest.approx(tuple(bundle.recommend(["u005"], 1)["u005"][0]))


@pytest.mark.long
def test_a_run_in_an_object_store(call: Output, run: Path, bucket: str, tmp_path: Path) -> None:
    address, keys = f"s3://{bucket}/runs/shop", {path.relative_to(run).as_posix() for path in run.rglob("*.*")}
    for key in keys:
        put(bucket, f"runs/shop/{key}", (run / key).read_bytes())
    code, text = call("recommend", "u005", "-k", "3", on=address)
    assert (code, text) == call("recommend", "u005", "-k", "3")
    assert call("export", str(tmp_path / "bundle"), "--no-encoder", on=address)[0] == 0
    assert lmm4rec.Bundle.load(tmp_path / "bundle").recommend(["u005"]) == lmm4rec.Bundle.load(address).recommend(
        ["u005"]
    )
    copied = {path.name for path in (tmp_path / "cache/objects/s3" / bucket / "runs/shop").iterdir()}
    assert {"bundle", "metrics.json"} <= copied
    assert "checkpoint" not in copied
    code, text = call("recommend", "u005", on=f"s3://{bucket}/runs/other")
    assert (code, f"error: there is nothing at s3://{bucket}/runs/other" in text) == (2, True)
    put(bucket, "runs/begun/experiment.toml", "")
    code, text = call("similar", "T0001", on=f"s3://{bucket}/runs/begun")
    assert (code, f"there is no bundle at s3://{bucket}/runs/begun: name a finished run" in text) == (2, True)


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        ("demo", "-o", "s3://b/x"),
        ("example", "s3://b/x"),
        ("compare", "conf/bpr.conf", "-o", "s3://b/x"),
        ("finetune", "conf/finetune.conf", "-o", "s3://b/x"),
        ("interactions", "s3://b/x", "-o", "all.csv"),
        ("report", "s3://b/x"),
        ("report", "runs/x", "-o", "s3://b/x"),
        ("reproduce", "s3://b/x"),
        ("tune", "conf/bpr.conf", "-o", "s3://b/x"),
        ("data", "download", "baby", "-o", "s3://b/x"),
        ("refresh", "conf/bpr.conf", "--live", "s3://b/x"),
        ("run", "conf/bpr.conf", "--from", "s3://b/x"),
        ("run", "conf/bpr.conf", "--final", "s3://b/x"),
        ("run", "s3://b/x"),
        ("compare", "s3://b/x"),
        ("study", "s3://b/x"),
        ("encode", "s3://b/x"),
        ("data", "download", "s3://b/x"),
        ("compare-bundles", "runs/a", "runs/b", "--recent", "s3://b/x"),
        ("search", "runs/a", "--image", "s3://b/x"),
        ("recommend", "runs/a", "--users-file", "s3://b/x"),
        ("serve", "runs/a", "--rules", "s3://b/x"),
    ],
    ids=" ".join,
)
def test_what_needs_folders_of_this_machine_says_so(call: Output, command: tuple[str, ...]) -> None:
    code, text = call(*command, on="")
    expected = "error: this command reads and writes files of this machine, not s3://b/x: copy them"
    assert (code, expected in text) == (2, True), text


def test_every_path_of_a_command_is_checked_for_an_address() -> None:
    """Each parameter with a path has a parser, which refuses addresses or copies from them."""
    unchecked, checked = [], 0
    for command in commands_of(app):
        for name, hint in get_type_hints(command, include_extras=True).items():
            if "Path" in str(hint):
                options = [one for part in (hint, *get_args(hint)) for one in getattr(part, "__metadata__", ())]
                parsers = [one.parser for one in options if isinstance(one, ParameterInfo)]
                checked += 1
                unchecked += [] if any(parsers) else [f"{command.__name__}: {name}"]
    assert unchecked == []
    assert checked > 30


def commands_of(group: typer.Typer) -> Iterator[Callable[..., object]]:
    yield from (command.callback for command in group.registered_commands if command.callback)
    for inner in group.registered_groups:
        if inner.typer_instance:
            yield from commands_of(inner.typer_instance)


def test_for_somebody_new_and_among_a_few(call: Output, run: Path) -> None:
    code, text = call("recommend", "--history", "T0001, T0002", "--only", "T0003,T0001,T0004")
    assert code == 0
    assert "T0003" in text
    assert "T0001" not in text.split("score")[1]  # in the user's history
    assert "T0005" not in text


@pytest.mark.long
def test_similar_search_and_explain(call: Output, run: Path, tmp_path: Path) -> None:
    code, text = call("similar", "T0001", "-k", "2")
    assert (code, "similar to T0001" in text) == (0, True)
    bundle = lmm4rec.Bundle.load(run)
    title = next(bundle.title(item) for item in bundle.items if bundle.title(item) != item)
    code, text = call("search", title, "-k", "1")
    assert (code, f'"{title}"' in text) == (0, True)
    (tmp_path / "photo.webp").write_bytes(bundle.thumbnail("T0001") or b"")
    code, text = call("search", "--image", str(tmp_path / "photo.webp"), "--for", "u001", "-k", "60")
    assert (code, "photo.webp for u001" in text) == (0, True)
    code, text = call("explain", "u001", "T0002")
    assert code == 0
    for told in ("has the score", "bias", "image", "text", "the most similar items of u001"):
        assert told in text


@pytest.mark.long
def test_export_needs_no_run_and_takes_new_items(call: Output, run: Path, tmp_path: Path) -> None:
    code, text = call("export", str(tmp_path / "shop"), "--thumbnails", "2")
    assert (code, "40 users, 60 items" in text) == (0, True)
    bundle = lmm4rec.Bundle.from_pretrained(tmp_path / "shop")
    assert sum(bundle.thumbnail(item) is not None for item in bundle.items) == 2
    whole = lmm4rec.Bundle.load(run)
    image = whole.thumbnail("T0001")
    bundle.add_items([NewItem("mine", whole.fields("T0001"), image)])
    assert bundle.thumbnail("mine") is not None
    assert bundle.search(whole.title("T0001"), k=2)[0].item in ("mine", "T0001")
    again = tmp_path / "again"
    bundle.save_pretrained(again)
    assert call("similar", "mine", "-k", "1", on=again)[0] == 0
    code, text = call("export", str(tmp_path), on=again)
    assert (code, "is not empty and holds no bundle" in text) == (2, True)


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend"], "say for whom: user ids (those that begin with"),
        (["recommend", "u001", "--all"], "say for whom"),
        (["recommend", "--all"], "--all is 40 lists: name a file"),
        (["recommend", "u01"], "unknown user 'u01' among 40 users. Did you mean 'u0"),
        (["recommend", "--history", "T1"], "unknown item 'T1' among 60 items."),
        (["similar", "T00001"], "Did you mean 'T0001'?"),
        (["explain", "u001", "T9999"], "unknown item 'T9999' among 60 items. They look like 'T0001'"),
        (["search"], "say what to look for"),
        (["search", "!!"], "the query is empty"),
        (["search", "--image", "nothing.png"], "nothing.png is missing"),
    ],
)
def test_errors_are_one_message_and_status_2(call: Output, arguments: list[str], message: str) -> None:
    code, text = call(*arguments)
    assert (code, message in text) == (2, True), text


def test_an_unfinished_run_says_how_to_go_on(call: Output, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "experiment.toml").write_text('name = "half"\n')
    code, text = call("recommend", "u001", on=tmp_path / "half")
    assert code == 2
    assert f"is not finished: continue it with `lmm4rec run {tmp_path}/half/experiment.toml -o" in text
    assert "--resume`" in text


@pytest.mark.parametrize(("width", "left_out"), [(80, ["peak MB", "valid Recall@20"]), (120, [])])
def test_the_table_of_results_is_whole_at_any_width(
    run: Path, monkeypatch: pytest.MonkeyPatch, width: int, left_out: list[str]
) -> None:
    console = Console(width=width, file=io.StringIO())
    monkeypatch.setattr(runs, "console", console)
    results = [read_result(run)] * 2
    console.print(runs.results_table(results, ["LATTICE, CLIP", "EASE"], "The toy shop"))
    text = console.file.getvalue()
    assert "…" not in text
    assert "LATTICE, CLIP" in text
    assert [name for name in ("peak MB", "valid Recall@20") if f" {name} ┃" not in text] == left_out
    assert ("not shown here: peak MB" in text) == bool(left_out)


def test_hostile_items_are_refused_whole(run: Path) -> None:
    bundle = lmm4rec.Bundle.load(run)
    good = NewItem("good", {"title": next(bundle.title(item) for item in bundle.items if bundle.title(item) != item)})
    with pytest.raises(ImageError, match="is not an image that can be read"):
        bundle.add_items([good, NewItem("bad", {"title": "x"}, b"GIF89a or not")])
    with pytest.raises(DataError, match=r"has a field 'titel', the catalog has: .*Did you mean 'title'"):
        bundle.add_items([good, NewItem("bad", {"titel": "x"})])
    with pytest.raises(DataError, match="item 'bad' has no content that the model uses"):
        bundle.add_items([good, NewItem("bad")])
    assert "good" not in bundle.items
    bundle.add_items([good])
    assert "good" in [found.item for found in bundle.search(good.fields["title"], k=2)]


def test_data_that_changed_is_not_exported(run: Path, tmp_path: Path) -> None:
    conf = run / "experiment.toml"
    text = conf.read_text()
    conf.write_text(text.replace("items = 60", "items = 61"))
    try:
        with pytest.raises(CheckpointError, match="has other items than when it ran"):
            export(run, tmp_path / "out")
    finally:
        conf.write_text(text)
    assert not (tmp_path / "out").exists()


def test_vectors_for_other_tools(call: Output, tmp_path: Path) -> None:
    code, text = call("export", str(tmp_path / "vectors"), "--as", "parquet")
    assert (code, "40 users, 60 items, vectors of" in text) == (0, True)
    assert pl.read_parquet(tmp_path / "vectors" / "users.parquet").height == 40
    assert (
        call("export", str(tmp_path / "other"), "--as", "csv")[1].count("--as is bundle, parquet, faiss, weights") == 1
    )
    code, text = call("export", str(tmp_path / "other"), "--as", "weights")
    assert (code, "VBPR has no weights between items" in text) == (2, True)
