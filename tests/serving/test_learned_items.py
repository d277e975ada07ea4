"""Added items that a night has trained on: in a bundle's catalog, with their image, and still to be deleted."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from shops import HERE, add, png

from lmm4rec.serving.added_items import FILE, AddedItems, write_learned_items
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.served_items import ServedItems
from lmm4rec.serving.http.settings import Settings


def learned(run: Path) -> None:
    """Let the first item of a run's catalog be an added one that it was trained on, without a thumbnail."""
    stored = AddedItems(run / FILE)
    item = stored.add("T0001", {"title": "A red mug"}, png())
    stored.close()
    write_learned_items(run, [item])
    bundle = Bundle.load(run)
    bundle.set_thumbnails({})
    bundle.save_pretrained(run / "bundle")


@pytest.mark.long
def test_a_learned_item_keeps_its_image_and_is_deleted_for_good(runs: list[Path]) -> None:
    learned(runs[0])
    with TestClient(make_app(runs[:1], Settings(hosts=HERE))) as client:
        item = client.get("/items/T0001").json()
        assert (item["added"], client.get(item["picture"]).status_code) == (False, 200)
        assert client.get("/items/T0002").json()["picture"] is None
        assert client.delete("/items/T0002").status_code == 409  # of the catalog
        assert client.delete("/items/T0001").status_code == 204
        assert client.get("/items/T0001").status_code == 404
    with TestClient(make_app(runs[:1], Settings(hosts=HERE))) as client:
        assert client.get("/items/T0001").status_code == 404
        assert add(client, "T0001").status_code == 201  # type: ignore[attr-defined]
        assert client.get("/items/T0001").json()["added"]
    with TestClient(make_app(runs[:1], Settings(hosts=HERE))) as client:  # the new one, not the one that was learned
        assert client.get("/items/T0001").json()["title"] == "A red mug"


@contextmanager
def two_processes(run: Path) -> Iterator[tuple[list[Bundle], list[ServedItems]]]:
    """The bundle of a run in two processes, each with its view of the items on disk."""
    bundles = [Bundle.load(run) for _ in range(2)]
    with ExitStack() as stack:
        files = [ServedItems("shop", run / FILE) for _ in bundles]
        for items, bundle in zip(files, bundles, strict=True):
            stack.callback(items.close)
            items.put_into(bundle, run)
        yield bundles, files


def test_another_process_follows_the_deletion_of_a_learned_item(runs: list[Path]) -> None:
    learned(runs[0])
    with two_processes(runs[0]) as (bundles, files):
        files[0].remove(bundles[0], "T0001")
        assert files[1].changed()
        files[1].follow(bundles[1])
    assert ["T0001" in bundle.items for bundle in bundles] == [False, False]


def test_another_process_follows_an_id_that_is_deleted_and_added_again(runs: list[Path]) -> None:
    with two_processes(runs[0]) as (bundles, files):
        for title in ("red mug", "blue mug"):
            files[0].add(bundles[0], NewItem("mug", {"title": title}))
            if title == "red mug":
                files[1].follow(bundles[1])
                assert bundles[1].title("mug") == title
                files[0].remove(bundles[0], "mug")
        assert files[1].changed()
        files[1].follow(bundles[1])
        assert [bundle.title("mug") for bundle in bundles] == ["blue mug", "blue mug"]
        assert files[1].added == files[0].added
        files[1].remove(bundles[1], "mug")
        files[0].follow(bundles[0])
    assert ["mug" in bundle.items for bundle in bundles] == [False, False]


def test_a_run_elsewhere_keeps_what_was_deleted_here(runs: list[Path]) -> None:
    learned(runs[0])
    shutil.copytree(runs[0], runs[0].with_name("copy"))
    with TestClient(make_app(runs[:1], Settings(hosts=HERE))) as client:
        client.delete("/items/T0001")
    with TestClient(make_app([runs[0].with_name("copy")], Settings(hosts=HERE))) as client:
        assert client.get("/items/T0001").status_code == 200


def test_a_file_of_before_gets_the_table_of_removed_items(tmp_path: Path) -> None:
    AddedItems(tmp_path / FILE).close()
    with sqlite3.connect(tmp_path / FILE) as file:
        file.execute("DROP TABLE removed")
    file.close()
    stored = AddedItems(tmp_path / FILE)
    item = stored.add("mug", {}, None)
    assert stored.removed() == set()
    assert stored.remove("mug")
    assert stored.removed() == {("mug", item.added_at)}
    stored.close()
