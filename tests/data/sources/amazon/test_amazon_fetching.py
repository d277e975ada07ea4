"""`lmm4rec data download`, from a server on this machine."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from amazon_files import META_2014, write_2014, write_2023
from lmm4rec.cli.app import main
from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.data.download.folders import DownloadOptions
from lmm4rec.data.sources.amazon.editions import EDITIONS
from lmm4rec.data.sources.amazon.fetching import fetch_files, fetch_images
from lmm4rec.data.sources.amazon.source import load
from local_server import LocalServer, cuts, fails_first, local_server, says, serves

OPTIONS = DownloadOptions(per_second=1000.0, timeout_s=5.0, attempts=2, backoff_s=0.01, allow_private=("127.0.0.1",))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    """Serves the small 2014 files under /data and an image under the paths of its metadata."""
    with local_server() as running:
        for file in write_2014(tmp_path / "published").iterdir():
            running.answers[f"/data/{file.name}"] = serves(file.read_bytes())
        for at, meta in enumerate(META_2014):
            image = io.BytesIO()
            Image.new("RGB", (8, 8), (90 * at, 0, 0)).save(image, "PNG" if at else "JPEG")
            running.answers["/images/I/" + meta["imUrl"].rpartition("/")[2]] = serves(image.getvalue())
        yield running


def fetch(server: LocalServer, folder: Path) -> list[str]:
    base = server.url("/data")
    got = fetch_files("Baby", "2014", folder, OPTIONS, reviews_url=base, meta_url=base + "/")
    return sorted(outcome.key for outcome in got)


def test_files_then_images(server: LocalServer, tmp_path: Path) -> None:
    folder = tmp_path / "baby"
    assert fetch(server, folder) == ["meta_Baby.json.gz", "reviews_Baby_5.json.gz"]
    catalog = load(path=folder, category="Baby").catalog
    outcomes = fetch_images(catalog, folder / "images", OPTIONS, images_url=server.url(""))
    assert sorted((outcome.key, outcome.file) for outcome in outcomes) == [("B1", "B1.jpg"), ("B2", "B2.png")]
    data = load(path=folder, category="Baby")
    assert data.catalog.has_image.tolist() == [True, True, False]
    assert data.catalog.images[1].open().getpixel((0, 0)) == (90, 0, 0)

    server.asked.clear()
    assert fetch(server, folder) == []
    assert fetch_images(catalog, folder / "images", OPTIONS, images_url=server.url("")) == []
    assert server.asked == []


def test_a_file_that_was_cut_off_goes_on(server: LocalServer, tmp_path: Path) -> None:
    whole = (tmp_path / "published" / "reviews_Baby_5.json.gz").read_bytes()
    server.answers["/data/reviews_Baby_5.json.gz"] = cuts(whole, 100)
    with pytest.raises(DataError, match=r"not fetched: .*reviews_Baby_5.json.gz: .*goes on where it stopped"):
        fetch(server, tmp_path / "baby")
    server.answers["/data/reviews_Baby_5.json.gz"] = serves(whole)
    assert fetch(server, tmp_path / "baby") == ["reviews_Baby_5.json.gz"]
    assert server.asked[-1][1]["Range"] == "bytes=100-"
    assert (tmp_path / "baby" / "reviews_Baby_5.json.gz").read_bytes() == whole


def test_a_page_instead_of_a_file(server: LocalServer, tmp_path: Path) -> None:
    server.answers["/data/meta_Baby.json.gz"] = says(200, b"<html>Moved</html>")
    with pytest.raises(DataError, match=r"meta_Baby.json.gz: it is a web page, expected a gzip file"):
        fetch(server, tmp_path / "baby")


def test_unpacked_files_are_not_fetched_again(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "baby").mkdir()
    (tmp_path / "baby" / "reviews_Baby.json").write_text("{}")
    assert fetch(server, tmp_path / "baby") == ["meta_Baby.json.gz"]


@pytest.mark.parametrize(
    ("edition", "names"),
    [
        ("2014", ["reviews_X_5.json.gz", "meta_X.json.gz"]),
        ("2018", ["X_5.json.gz", "meta_X.json.gz"]),
        ("2023", ["X.jsonl.gz", "meta_X.jsonl.gz"]),
    ],
)
def test_published_names(edition: str, names: list[str]) -> None:
    published = EDITIONS[edition].published("X")
    assert list(published) == names
    assert all(url.startswith("https://") and url.endswith(f"/{name}") for name, url in published.items())


def test_one_process_at_a_time(server: LocalServer, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".downloads.lock"), pytest.raises(DataError, match="another process is fetching into"):
        fetch(server, tmp_path)
    assert server.asked == []
    assert len(fetch(server, tmp_path)) == 2


def test_a_place_that_cannot_be_written_to(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=r"cannot write to .*file"):
        fetch(server, tmp_path / "file")


def test_options_are_positive() -> None:
    with pytest.raises(ConfigError, match="workers = 0 must be more than 0"):
        DownloadOptions(workers=0)


CONF = """
[data]
name = "amazon"
path = "baby"
category = "Baby"
rating_at_least = 2.0
k_core = 1
early_core = 1
[recommender]
name = "popular"
"""

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)
    Path("baby.conf").write_text(CONF)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capfd.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), " ".join((captured.out + captured.err).split())

    return run


def from_server(server: LocalServer) -> list[str]:
    base = server.url("/data")
    return [
        *("--reviews-url", base, "--meta-url", base, "--images-url", server.url("")),
        *("--allow-private", "127.0.0.1", "--per-second", "1000", "--attempts", "2"),
    ]


@pytest.mark.long
def test_the_command_with_a_conf(server: LocalServer, call: Call, tmp_path: Path) -> None:
    server.answers["/images/I/2.png"] = fails_first(1, says(404), server.answers["/images/I/2.png"])
    code, text = call("data", "download", "baby.conf", *from_server(server))
    assert code == 0, text
    assert "fetched baby/reviews_Baby_5.json.gz" in text
    assert "images of 2 items: 1 fetched, 0 already there, 1 failed, 0 without an address" in text
    assert "1 × HTTP 404" in text
    assert json.loads((tmp_path / "baby" / "images" / "downloads.json").read_text())["failures"][0]["key"] == "B2"
    code, text = call("data", "download", "baby.conf", *from_server(server))
    assert "baby has the reviews and the metadata" in text
    assert "images of 2 items: 1 fetched, 1 already there, 0 failed" in text
    assert sorted(file.name for file in (tmp_path / "baby" / "images").glob("B*")) == ["B1.jpg", "B2.png"]
    code, text = call("doctor", "baby.conf")
    assert code == 1  # so few interactions leave nothing to hold out
    assert re.search(r"items with an image\W+2\b", text)


@pytest.mark.long
def test_the_command_with_a_category(server: LocalServer, call: Call, tmp_path: Path) -> None:
    chosen = ["--category", "Baby", "--edition", "2014", "--out", "here"]
    code, text = call("data", "download", *chosen, "--no-images", *from_server(server))
    assert code == 0, text
    assert sorted(file.name for file in (tmp_path / "here").glob("[!.]*")) == [
        *("downloads.json", "downloads.parquet", "meta_Baby.json.gz", "reviews_Baby_5.json.gz"),
    ]
    code, text = call("data", "download", *chosen, "--k-core", "0", *from_server(server))
    assert "images of 3 items: 2 fetched, 0 already there, 0 failed, 1 without an address" in text


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a conf file, or --category with --out"),
        (["--category", "Baby"], "--category needs --out"),
        (["baby.conf", "--out", "x"], "leave out --out"),
        (["baby.conf", "-s", "data.name=toyshop"], "reads data of 'toyshop'"),
        (["baby.conf", "-s", "data.reviews=x.json"], "only published ones are fetched"),
        (["--category", "Baby", "--out", "x", "--allow-private", "here"], "expected addresses such as 127.0.0.1"),
    ],
)
def test_commands_that_make_no_sense(call: Call, arguments: list[str], message: str) -> None:
    code, text = call("data", "download", *arguments)
    assert code == 2
    assert message in text.replace("│ ", "")


def test_a_run_on_amazon_data(tmp_path: Path, call: Call) -> None:
    write_2023(tmp_path / "beauty")
    overrides = [
        "data.path=beauty",
        "data.category=All_Beauty",
        'data.edition="2023"',
        "split.valid=0.0",
        "split.test=0.0",
    ]
    settings = [part for setting in overrides for part in ("-s", setting)]
    code, text = call("doctor", "baby.conf", *settings)
    assert code == 0, text  # nothing is held out, so all is trained on
    assert "All_Beauty (Amazon 2023)" in text
