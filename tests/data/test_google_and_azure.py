"""Tables, images, vectors and runs in Google's and Azure's object stores; what is wrong with them, by name."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

import lmm4rec
from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.data import buckets
from lmm4rec.data.sources import table
from object_stores import STORES, Store

pytestmark = pytest.mark.long
CONF: dict[str, Any] = {"recommender": {"name": "vbpr", "dim": 4}, "train": {"epochs": 2, "batch_size": 64}}


@pytest.fixture(params=["gs", pytest.param("az", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    (folder := tmp_path / "server").mkdir()
    with STORES[request.param](folder) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
        yield found


def put_a_shop(store: Store) -> None:
    for item in range(12):
        Image.new("RGB", (40, 40), (20 * item, 0, 99)).save(image := io.BytesIO(), "PNG")
        store.put(f"shop/images/{item}.png", image.getvalue())
    titles = pl.DataFrame({"item_id": range(12), "title": [f"the mug {item}" for item in range(12)]})
    store.put("shop/items.csv", titles.with_columns(image=pl.format("images/{}.png", "item_id")).write_csv().encode())
    likes = [(user, (user + step) % 12) for user in range(20) for step in range(5)]
    log = pl.DataFrame({"user_id": [user for user, _ in likes], "item_id": [item for _, item in likes]})
    log.write_parquet(body := io.BytesIO())
    store.put("shop/interactions.parquet", body.getvalue())


def test_a_shop_is_read_and_its_run_left_there(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_a_shop(store)
    monkeypatch.setenv("LMM4REC_STORE", f"{store.address}/store")
    conf = {"data": {"name": "table", "path": f"{store.address}/shop"}, "encoder": {"name": "color"}, **CONF}
    first = lmm4rec.run(conf, out=f"{store.address}/runs/shop")
    keys = store.keys()
    assert {"runs/shop/metrics.json", "runs/shop/checkpoint/state.safetensors"} <= keys
    assert any(key.startswith("store/") and key.endswith(".safetensors") for key in keys)
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "other machine"))
    answer = lmm4rec.Bundle.load(f"{store.address}/runs/shop").recommend(["7"])
    assert answer == first.bundle().recommend(["7"])
    with pytest.raises(ConfigError, match="already holds a run or study: add --resume"):
        lmm4rec.run(conf, out=f"{store.address}/runs/shop")
    longer = {**conf, "train": {**CONF["train"], "epochs": 3}}
    resumed = lmm4rec.run(longer, out=f"{store.address}/runs/shop", resume=True)
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]


def test_objects_that_change_are_fetched_again(store: Store) -> None:
    put_a_shop(store)
    before = table.load(path=f"{store.address}/shop")
    store.put("shop/items.csv", b"item_id,title\n" + b"".join(b"%d,cup %d\n" % (n, n) for n in range(12)))
    after = table.load(path=f"{store.address}/shop")
    assert (before.catalog.title(0), after.catalog.title(0)) == ("the mug 0", "cup 0")


def test_what_is_wrong_with_a_store_is_named(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(buckets, "RETRIES", {"max_retries": 0})
    scheme = store.address.partition(":")[0]
    with pytest.raises(DataError, match=f"there is nothing at {store.address}/shop"):
        table.load(path=f"{store.address}/shop")
    with pytest.raises(DataError, match=f"there is no bucket {scheme}://nowhere"):
        table.load(path=f"{scheme}://nowhere/shop")
    if scheme == "az":
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "AAAA")
        with pytest.raises(DataError, match=r"no access to az://.*\(403 Forbidden\).*AZURE_STORAGE_ACCOUNT_KEY"):
            table.load(path=f"{store.address}/shop")
    other = {"gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}[scheme]
    monkeypatch.setenv(other, "http://127.0.0.1:9/x")
    words = f"store of {store.address} at http://127.0.0.1:9/x cannot be reached .{other} names another address"
    with pytest.raises(DataError, match=words):
        table.load(path=f"{store.address}/shop")


@pytest.mark.parametrize(
    ("address", "missing", "variable"),
    [
        ("gs://shop", r"Unable to open service account file from /no\.json: .*", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://shop", "Account must be specified", "AZURE_STORAGE_ACCOUNT_NAME"),
        ("abfss://shop", "Account must be specified", "AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
def test_credentials_that_are_missing_are_named(
    address: str, missing: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", "/no.json")
    with pytest.raises(DataError, match=rf"no access to {address}/x \({missing}\): the environment holds .*{variable}"):
        table.load(path=f"{address}/x")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Error performing token request: GET http://169.254.169.254/token: error sending request", "no credentials"),
        ("Error performing token request: POST https://login: non-2xx status code: 400 Bad Request", "400 Bad"),
        ("Error performing token request: POST https://login: error sending request", "gs://shop cannot be reached"),
    ],
)
def test_no_credentials_wrong_ones_and_no_network_are_told_apart(said: str, expected: str) -> None:
    """What Google's and Azure's clients say without credentials, with expired ones, and without a network."""
    exceptions = pytest.importorskip("obstore.exceptions")
    with pytest.raises(DataError, match=expected), buckets.bucket_errors(buckets.parsed("gs://shop/x")):
        raise exceptions.GenericError(said)
