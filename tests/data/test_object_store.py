"""Tables and images in buckets of moto's S3 server on this machine: read, kept, renewed; errors by name."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.data import buckets, object_store
from lmm4rec.data.doctor import examine
from lmm4rec.data.filters import prepare, unix_seconds
from lmm4rec.data.sources import table
from local_server import local_server, says
from s3_buckets import client, put

ITEMS = "item_id,title,image\n1,red,images/1.PNG\n2,green,images%2F2.png\n3,blue,images/3\n4,none,images/4.png\n"


def png(color: str) -> bytes:
    Image.new("RGB", (40, 40), color).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def log(users: str, timestamp: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"user_id": list(users), "item_id": [1 + i % 3 for i in range(len(users))],
                         "timestamp": [timestamp + i for i in range(len(users))]})  # fmt: skip


@pytest.mark.long
def test_a_folder_of_tables_and_images_is_read_and_kept(bucket: str, tmp_path: Path) -> None:
    put(bucket, "shop/interactions.csv", "user_id,item_id\na,1\nb,2\nb,3\n")
    put(bucket, "shop/items.csv", ITEMS)
    put(bucket, "shop/notes/interactions.csv", "not read")
    for item, color in (("1.png", "red"), ("2.png", "green"), ("3.png", "blue"), ("9.png", "gray")):
        put(bucket, f"shop/images/{item}", png(color))
    data = table.load(path=f"s3://{bucket}/shop")
    assert data.name == "shop"
    assert len(data.interactions) == 3
    colors = [image.open().getpixel((0, 0)) if image else None for image in data.catalog.images[:3]]
    assert colors == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert {finding.kind: finding.count for finding in examine(data)}["missing-image"] == 1
    copies = {path.relative_to(tmp_path / "cache/objects/s3" / bucket).as_posix()
              for path in (tmp_path / "cache/objects").rglob("*") if path.is_file()}  # fmt: skip
    assert copies == {f"shop/{name}" for name in ("interactions.csv", "items.csv", *(f"images/{i}.png" for i in "123"))}


def test_image_folders_and_addresses_in_cells(bucket: str, tmp_path: Path) -> None:
    put(bucket, "photos/1.png", png("red"))
    put(bucket, "more/blue.png", png("blue"))
    cells = ["1.png", f"s3://{bucket}/more/blue.png", f"s3://{bucket}/more/gone.png"]
    items = pl.DataFrame({"item_id": [1, 2, 3], "image": cells})
    keys = {"interactions": log("abc"), "items": items, "image_folder": f"s3://{bucket}/photos"}
    counted = table.load(**keys)
    assert [image is None for image in counted.catalog.images] == [False, True, True]
    fetched = table.load(**keys, fetch_images=True, fetched_images=str(tmp_path / "fetched"))
    assert fetched.catalog.images[1].open().getpixel((0, 0)) == (0, 0, 255)
    (absent,) = [finding for finding in fetched.findings if finding.kind == "image-not-fetched"]
    assert (absent.count, f"there is nothing at s3://{bucket}/more/gone.png" in absent.examples[0]) == (1, True)


@pytest.mark.long
def test_parquet_parts_are_fetched_when_they_change(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, "log/day=1/a.parquet", log("ab", 86_400 * 400))
    put(bucket, "log/day=2/b.parquet", log("cd", 86_400 * 401))
    assert list(table.load(interactions=f"s3://{bucket}/log").users) == list("abcd")
    copied: list[str] = []
    real = object_store.download
    monkeypatch.setattr(object_store, "download", lambda *args: (copied.append(args[1]), real(*args)))
    put(bucket, "log/day=3/c.parquet", log("efg", 86_400 * 402))
    client().delete_object(Bucket=bucket, Key="log/day=1/a.parquet")
    newer = table.load(interactions=f"s3://{bucket}/log")
    assert (list(newer.users), copied) == (list("cdefg"), ["log/day=3/c.parquet"])
    assert list(prepare(newer, since=86_400 * 402).users) == list("efg")


@pytest.mark.long
def test_parts_of_earlier_days_are_neither_fetched_nor_read(bucket: str, tmp_path: Path) -> None:
    """A day has ended everywhere two days after its begin in UTC; parts without a date are read."""
    for day, users in (("1971-02-01", "ab"), ("1971-02-04", "cd"), ("1971-02-05", "ef")):
        at = unix_seconds(day)
        put(bucket, f"log/day={day}/part.parquet", log(users, at))
        put(bucket, f"shop/interactions.parquet/day={day}/part.parquet", log(users, at))
    put(bucket, "log/part.parquet", log("gh", unix_seconds("1971-02-07")))
    for keys in ({"interactions": f"s3://{bucket}/log"}, {"path": f"s3://{bucket}/shop"}):
        with pytest.raises(DataError, match="nothing is left"):
            table.load(**keys, since="1971-02-09")
        data = table.load(**keys, since=unix_seconds("1971-02-05"))
        assert list(data.users)[:2] == ["e", "f"]
        kinds = {finding.kind: finding.count for finding in data.findings}
        assert (kinds["earlier-parts"], kinds["out-of-range"]) == (1, 2)  # the first day's part; both rows of the 4th
    copies = {path.parent.name for path in (tmp_path / "cache/objects").rglob("*.parquet") if path.is_file()}
    assert copies == {"log", "day=1971-02-04", "day=1971-02-05"}
    for folder in (tmp_path / "cache/objects/s3" / bucket / "shop", f"s3://{bucket}/shop"):
        with pytest.raises(DataError, match=r"[23] parts, and none with a day from data\.since = 1972-01-01 on"):
            table.load(path=folder, since="1972-01-01")
    with pytest.raises(ConfigError, match="'someday' is not a date or time"):
        table.load(interactions=f"s3://{bucket}/log", since="someday")


def test_one_file_and_files_relative_to_a_bucket(bucket: str) -> None:
    put(bucket, "january.tsv", "user_id\titem_id\na\t1\n")
    assert len(table.load(interactions=f"s3://{bucket}/january.tsv").interactions) == 1
    put(bucket, "items.jsonl", '{"item_id": "1", "title": "mug"}\n')
    data = table.load(path=f"s3://{bucket}", interactions="january.tsv")
    assert (data.name, data.catalog.title(0)) == (bucket, "mug")


def test_what_is_wrong_with_a_bucket_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="there is no bucket s3://nowhere at http://127"):
        table.load(path="s3://nowhere/shop")
    with pytest.raises(DataError, match=f"there is nothing at s3://{bucket}/shop"):
        table.load(path=f"s3://{bucket}/shop")
    with pytest.raises(ConfigError, match=r"has a part '\.' or '\.\.'"):
        table.load(path=f"s3://{bucket}/../other")
    put(bucket, "shop/other.csv", "a,b\n1,2\n")
    with pytest.raises(DataError, match=r"has no interactions\{\.csv"):
        table.load(path=f"s3://{bucket}/shop")
    monkeypatch.setattr(buckets, "RETRIES", {"max_retries": 0})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=f"the object store of s3://{bucket} at http://127.0.0.1:9 cannot be reached"):
        table.load(path=f"s3://{bucket}/shop")


@pytest.mark.parametrize("status", [403, 401])
def test_no_access_is_named_with_the_variables_that_give_it(
    bucket: str, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with local_server() as server:
        code = b"<Error><Code>AccessDenied</Code></Error>"
        server.answers[f"/{bucket}?list-type=2"] = says(status, code)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url(""))
        words = r"no access to s3://.* \(AccessDenied\).*AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
        with pytest.raises(DataError, match=words):
            table.load(path=f"s3://{bucket}")
