"""Images by URL in one's own tables, from a server on this machine."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from lmm4rec.core.errors import DataError, MissingExtraError
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.download.partial_file import PartialFile
from lmm4rec.data.findings import Finding
from lmm4rec.data.image_urls import first_url, is_url
from lmm4rec.data.sources.table import load
from local_server import LocalServer, cuts, local_server, says, serves


def png(color: tuple[int, int, int], kind: str = "PNG", side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), color).save(file, kind)
    return file.getvalue()


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        running.answers["/red.png"] = serves(png((255, 0, 0)))
        running.answers["/a%20b.jpg?size=2"] = serves(png((0, 0, 255), "JPEG"))
        yield running


def shop(folder: Path, images: list[str], **keys: object) -> Dataset:
    folder.mkdir(exist_ok=True)
    rows = [str(row) for row in range(len(images))]
    pl.DataFrame({"item_id": rows, "title": rows, "image": images}).write_csv(folder / "items.csv")
    pl.DataFrame({"user_id": rows, "item_id": rows}).write_csv(folder / "interactions.csv")
    return load(path=folder, **keys)  # type: ignore[arg-type]


def fetched(folder: Path, images: list[str], **keys: object) -> Dataset:
    return shop(folder, images, fetch_images=True, allow_private=["127.0.0.1"], fetch_per_second=1000.0, **keys)


def found(data: Dataset) -> dict[str, Finding]:
    return {finding.kind: finding for finding in data.findings}


def test_without_the_key_urls_are_counted_and_nothing_is_asked(server: LocalServer, tmp_path: Path) -> None:
    data = shop(tmp_path, [server.url("/red.png"), ""])
    finding = found(data)["image-not-fetched"]
    assert finding.count == 1
    assert "data.fetch_images = true" in finding.message
    assert finding.examples == (f"items.csv row 2: item 0: {server.url('/red.png')}",)
    assert data.catalog.has_image.tolist() == [False, False]
    assert data.catalog.image_urls == (server.url("/red.png"), "")
    assert (server.asked, (tmp_path / "fetched-images").exists()) == ([], False)


def test_images_are_fetched_once_and_stay(server: LocalServer, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (0, 128, 0)).save(tmp_path / "local.png")
    red, blue = server.url("/red.png"), server.url("/a b.jpg?size=2")
    images = [red, f" {blue}", "local.png", "", f"{red}, {server.url('/other.png')}"]
    data = fetched(tmp_path, images)
    pixels = [image and image.open().getpixel((0, 0)) for image in data.catalog.images]
    assert pixels[0] == pixels[4] == (255, 0, 0)
    assert pixels[1] is not None
    assert pixels[1][2] > 200
    assert pixels[2:4] == [(0, 128, 0), None]
    assert [path for path, _ in server.asked].count("/red.png") == 1
    assert found(data)["several-images"].examples == ("items.csv row 6: item 4",)
    assert "image-not-fetched" not in found(data)
    server.asked.clear()
    again = shop(tmp_path, images)  # without the key: what is there is used
    assert again.catalog.images == data.catalog.images
    assert server.asked == []


def test_what_cannot_be_fetched_is_named_by_row_and_tried_again(server: LocalServer, tmp_path: Path) -> None:
    server.answers |= {
        "/page": says(200, b"<html>login</html>"),
        "/svg": says(200, b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'),
        "/away": says(302, Location="http://10.1.2.3/x.png"),
        "/cut": cuts(png((9, 9, 9), "BMP"), 30),
    }
    urls = [server.url(path) for path in ("/none", "/page", "/svg", "/away", "/red.png")]
    data = fetched(tmp_path, [*urls, "hdfs://bucket/x.png", "ftp://host/x.png"])
    assert data.catalog.has_image.tolist() == [False, False, False, False, True, False, False]
    finding = found(data)["image-not-fetched"]
    told = "\n".join(finding.examples)
    assert finding.count == 6
    for said in ("row 2: item 0: ", "none: HTTP 404", "a web page", "an SVG drawing", "10.1.2.3 is not public"):
        assert said in told
    assert told.count("begins with https:// or http://") == 2
    assert len(json.loads((tmp_path / "fetched-images/downloads.json").read_text())["failures"]) == 6
    server.answers["/none"] = serves(png((1, 2, 3)))
    assert fetched(tmp_path, urls).catalog.has_image.tolist() == [True, False, False, False, True]


@pytest.mark.long
def test_an_interrupted_image_goes_on_where_it_stopped(server: LocalServer, tmp_path: Path) -> None:
    whole = png((7, 8, 9), "BMP", side=64)
    server.answers["/cut"] = lambda request, time_: (cuts(whole, 5000) if time_ == 1 else serves(whole))(request, time_)
    data = fetched(tmp_path, [server.url("/cut")])
    image = data.catalog.images[0]
    assert image is not None
    assert image.open().getpixel((63, 63)) == (7, 8, 9)
    assert [headers.get("Range") for _, headers in server.asked] == [None, "bytes=5000-"]


def test_private_addresses_need_the_key(server: LocalServer, tmp_path: Path) -> None:
    data = shop(tmp_path, [server.url("/red.png")], fetch_images=True)
    assert "name it in allow_private" in found(data)["image-not-fetched"].examples[0]
    assert server.asked == []


def test_a_folder_that_cannot_be_written(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match=r"cannot write to .*taken"):
        fetched(tmp_path, [server.url("/red.png")], fetched_images="taken")


def test_a_full_disk_is_one_line(server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: PartialFile, headers: object, start: int) -> None:
        raise OSError(28, "No space left on device", str(self.path))

    monkeypatch.setattr(PartialFile, "open", full)
    with pytest.raises(DataError, match=r"cannot write to .*fetched-images: .*No space left"):
        fetched(tmp_path, [server.url("/red.png")])


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpcore2", None)
    with pytest.raises((MissingExtraError, ImportError), match="download"):
        fetched(tmp_path, ["http://example.com/x.png"])


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("https://a.b/c.jpg", "https://a.b/c.jpg"),
        ("//cdn.a/c.jpg", "https://cdn.a/c.jpg"),
        ("HTTP://a.b/c.jpg|http://d.e/f.png", "HTTP://a.b/c.jpg"),
        ("http://a.b/c,d.jpg", "http://a.b/c,d.jpg"),
        ("http://a.b/c.jpg,//cdn.d/e.png", "http://a.b/c.jpg"),
        ("http://a.b/x y.jpg http://c.d", "http://a.b/x%20y.jpg"),
    ],
)
def test_urls_in_cells(name: str, url: str) -> None:
    assert is_url(name)
    assert first_url(name)[0] == url


@pytest.mark.parametrize(
    "name", ["a/b.jpg", "/a/b.jpg", "C:\\a.jpg", "\\\\server\\a.jpg", "file:///a/b.jpg", "//", "a:b"]
)
def test_names_that_are_no_urls(name: str) -> None:
    assert not is_url(name)
