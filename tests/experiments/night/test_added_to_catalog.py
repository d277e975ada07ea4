"""Items that were added to the service: a night learns them, they stay in service, and can be deleted afterwards."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from rich.console import Console

from lmm4rec.cli.nights import _record_table
from lmm4rec.data.sources import toyshop
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.night.added_to_catalog import with_added
from lmm4rec.experiments.night.live_folder import LiveFolder
from lmm4rec.experiments.night.night_data import read_data
from lmm4rec.experiments.night.refresh import RefreshOptions, refresh
from lmm4rec.experiments.plan import make_plan
from lmm4rec.serving.added_items import AddedItem
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.settings import Settings

OPENING = 1_700_000_000


def write_log(folder: Path, days: int) -> None:
    """Twelve users, who each buy an item a day."""
    folder.mkdir(exist_ok=True)
    rows = [
        (f"u{u}", f"i{(5 * u + 3 * day) % 20}", OPENING + 86_400 * day + u) for u in range(12) for day in range(days)
    ]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(folder / "interactions.csv")
    titles = [f"{'red' if item % 2 else 'blue'} cup number {item}" for item in range(20)]
    frame = pl.DataFrame({"item_id": [f"i{item}" for item in range(20)], "title": titles, "price": list(range(20))})
    frame.write_csv(folder / "items.csv")


def conf(folder: Path) -> dict[str, Any]:
    return {
        "data": {"name": "table", "path": str(folder)},
        "split": {"method": "global_time"},
        "encoder": {"name": "words", "dim": 4, "buckets": 64, "text": "{title}"},
        "recommender": {"name": "ease"},
        "train": {"metric": "recall@5"},
        "evaluate": {"ks": [5]},
    }


@contextmanager
def service(live: Path) -> Iterator[TestClient]:
    with TestClient(make_app([live], Settings(hosts=("testserver",)))) as client:
        yield client


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


def add(client: TestClient, id_: str, title: str) -> int:
    fields = json.dumps({"title": title})
    return client.post("/items", data={"id": id_, "fields": fields}, files={"image": ("x.png", png())}).status_code


@pytest.mark.long
def test_added_items_are_learned_stay_in_service_and_can_be_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, live = tmp_path / "data", tmp_path / "live"
    tables = conf(data)
    write_log(data, 6)
    refresh(tables, live)
    with service(live) as client:
        assert [add(client, id_, f"a red {id_}") for id_ in ("mug", "jug")] == [201, 201]
        said = [
            *((f"u{user}", "mug", "bought") for user in range(6)),
            ("u0", "ghost", "like"),
            ("u0", "jug", "dislike"),
        ]
        posted = [{"user": user, "item": item, "kind": kind} for user, item, kind in said]
        assert client.post("/interactions", json={"interactions": posted}).json()["unknown_items"] == ["ghost"]

    write_log(data, 9)
    today = read_data(make_plan(load_spec(tables)), LiveFolder(live))
    assert [*today.source_catalog.ids, "mug"] == list(today.dataset.items)  # workers encode the first
    with caplog.at_level(logging.WARNING):
        night = refresh(tables, live, options=RefreshOptions(least_users=2, tolerance=1.0))
    assert night.decision == "swapped"
    assert night.comparison is not None
    assert night.comparison["items"] == {
        "both": 21,
        "only_before": 0,
        "only_after": 0,
    }  # yesterday's was served with it
    assert night.rows["items"] == {"kept": 20, "new": 1, "gone": 0}
    assert night.rows["posted"] == {"posted": 8, "of_added_items": 6, "unknown_items": 2}
    assert night.left_out == {"ghost": 1, "jug": 1}
    assert "left out: 2 posted interactions with 2 items that neither the conf's source has nor" in caplog.text
    table = Console(file=io.StringIO(), width=200)
    table.print(_record_table(night))
    assert "posted interactions with items that the catalog lacks: 1 of 'ghost', 1 of 'jug'" in table.file.getvalue()  # type: ignore[attr-defined]
    bundle = Bundle.load(live)
    assert bundle.items[-1] == "mug"
    assert bundle.title("mug") == "a red mug"
    assert bundle.seen.item_counts(21)[20] == 6
    assert bundle.thumbnail("mug") is not None

    with service(live) as client:
        mug, jug = (client.get(f"/items/{id_}").json() for id_ in ("mug", "jug"))
        assert (mug["added"], jug["added"]) == (False, True)  # nobody wants the jug: it stays with the service
        assert None not in (mug["picture"], jug["picture"])
        assert client.delete("/items/mug").status_code == 204
        assert client.get("/items/mug").status_code == 404
        assert client.delete("/items/i3").status_code == 409
    with service(live) as client:  # also after a restart
        assert client.get("/items/mug").status_code == 404
        assert "mug" not in [one["id"] for one in client.get("/recommend/u7?k=30").json()["items"]]
    tomorrow = read_data(make_plan(load_spec(tables)), LiveFolder(live))
    assert tomorrow.dataset.n_items == 20
    assert tomorrow.left_out == {"mug": 6, "ghost": 1, "jug": 1}


def test_rows_of_added_items_fit_a_catalog_with_other_columns() -> None:
    catalog = toyshop.load(users=5, items=20, interactions=50).catalog.select(np.arange(6))
    prices = pl.DataFrame({"price": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    catalog = replace(catalog, attributes=prices, image_urls=tuple("abcdef"))
    items = [AddedItem("mug", {"title": "A mug", "color": "red"}, png(), 1.0), AddedItem("jug", {}, None, 2.0)]
    joined = with_added(catalog, items)
    assert list(joined.ids) == [*catalog.ids, "mug", "jug"]
    assert joined[:6] == catalog[:]
    assert joined[6].fields == {name: "A mug" if name == "title" else "" for name in catalog.fields.columns}
    assert (joined[6].image is None, joined[7].image is None) == (False, True)
    assert joined.attributes["price"].to_list() == [1, 2, 3, 4, 5, 6, None, None]
    assert joined.image_urls == (*"abcdef", "", "")
    assert np.array_equal(joined.source_rows[6:], [20, 21])  # beyond those of feature files
    assert with_added(catalog, []) is catalog
