"""A feature store in a bucket of moto's S3 server: shared by machines without a folder in common; errors by name."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import pytest
import torch

from lmm4rec.core.errors import ConfigError, DataError, LMM4RecError, StorageError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data import buckets
from lmm4rec.data.catalog import Catalog
from lmm4rec.distributed.pool import open_pool
from lmm4rec.features.extract import Extracted, extract
from lmm4rec.features.pool_extract import EncodingWorkers
from lmm4rec.features.remote_store import RemoteStore
from lmm4rec.features.store import FeatureStore
from local_server import local_server, says
from s3_buckets import client, objects
from toys import Dots, Toy, toy_items


class Interrupted(Toy):
    """A `Toy` that does something when it comes to the sixth item, in the second block."""

    def __init__(self, event: Callable[[], None]) -> None:
        super().__init__()
        self.event = event

    def fingerprint(self) -> str:
        return Toy().fingerprint()

    def prepare(self, items: Sequence[Item]) -> Inputs:
        if any(item.id == "i5" for item in items):
            self.event()
        return super().prepare(items)


def machine(
    folder: Path, bucket: str, items: Sequence[Item], encoder: Toy | None = None, pool: EncodingWorkers | None = None
) -> Extracted:
    """The extraction on a machine whose own store is a folder; only the bucket is common to all.

    An empty name: there is none. Blocks have 4 items.
    """
    images, titles = tuple(item.image for item in items), [item.fields["title"] for item in items]
    catalog = Catalog(
        Vocabulary([item.id for item in items]), pl.DataFrame({"title": titles}), images,
        source_rows=np.arange(len(items)), source_size=len(items),
    )  # fmt: skip
    store = FeatureStore(folder, remote=f"s3://{bucket}/team/store" if bucket else "")
    return extract(encoder or Toy(), catalog, store=store, batch_size=2, block_size=4, workers=0, pool=pool)


def names(bucket: str) -> list[str]:
    """The kinds of the objects: the vectors' and parts' checksums are cut off."""
    kinds = [Path(key).name for key in objects(bucket)]
    return sorted("part" if name.startswith("part-") else Path(name).suffix for name in kinds)


def same(one: Extracted, other: Extracted) -> bool:
    return all(torch.equal(x, other.features[modality]) for modality, x in one.features.items())


@pytest.mark.long
def test_a_second_machine_encodes_nothing(bucket: str, tmp_path: Path) -> None:
    first = machine(tmp_path / "1", bucket, toy_items(9))
    assert names(bucket) == [".json", ".safetensors"]
    second = machine(tmp_path / "2", bucket, toy_items(9))
    assert (first.encoded, second.encoded, second.reused) == (9, 0, 9)
    assert second.encoding_seconds == pytest.approx(first.encoding_seconds, abs=0.001)
    assert same(first, second)
    assert {path.name: path.read_bytes() for path in (tmp_path / "2").rglob("*.safetensors")} == {
        path.name: path.read_bytes() for path in (tmp_path / "1").rglob("*.safetensors")
    }


@pytest.mark.long
def test_another_catalog_takes_the_rows_that_it_needs(bucket: str, tmp_path: Path) -> None:
    machine(tmp_path / "1", bucket, toy_items(7)[:3])
    machine(tmp_path / "1", bucket, toy_items(7)[3:])
    more = machine(tmp_path / "2", bucket, [*toy_items(3), Item("new", {"title": "7"}, Dots(99))])
    assert (more.encoded, more.reused) == (1, 3)
    assert len(FeatureStore(tmp_path / "2").entries()) == 2  # the other catalog shares no content, and stays there


@pytest.mark.long
def test_an_extraction_goes_on_where_another_machine_stopped(bucket: str, tmp_path: Path) -> None:
    def stop() -> None:
        raise DataError("stopped")

    with pytest.raises(DataError, match="stopped"):
        machine(tmp_path / "1", bucket, toy_items(9), Interrupted(stop))
    assert names(bucket) == ["part"]
    seen: list[str] = []
    second = machine(tmp_path / "2", bucket, toy_items(9), Interrupted(lambda: seen.append("i5")))
    assert (second.encoded, seen) == (5, ["i5"])
    assert names(bucket) == [".json", ".safetensors"]
    assert same(second, machine(tmp_path / "alone", "", toy_items(9)))


@pytest.mark.long
def test_workers_without_a_common_folder_exchange_parts(bucket: str, tmp_path: Path) -> None:
    with open_pool(0) as pool:  # its worker has the store of the cache folder
        pooled = machine(tmp_path / "1", bucket, toy_items(9), pool=EncodingWorkers(pool, Toy, (), "cpu"))
        assert len(list((tmp_path / "cache/features").glob("*/part-*"))) == 3
        assert same(pooled, machine(tmp_path / "alone", "", toy_items(9)))
        changed = [*toy_items(9)[:8], Item("i8", {"title": "8"}, Changing())]
        with pytest.raises(DataError, match="of i8 is another on this machine than where the work began"):
            machine(tmp_path / "3", bucket, changed, pool=EncodingWorkers(pool, Toy, (), "cpu"))


class Changing(Dots):
    """An image file that is another one each time that it is read."""

    def __init__(self) -> None:
        super().__init__(1)
        object.__setattr__(self, "digests", iter(range(10)))

    def digest(self) -> str:
        return str(next(self.digests))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "damage",
    ["altered", *(pytest.param(one, marks=pytest.mark.slow) for one in ("no vectors", "no checksum", "no JSON"))],
)
def test_a_damaged_remote_entry_is_encoded_anew(
    bucket: str, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    client().create_bucket(Bucket=(name := f"{bucket}-{damage.replace(' ', '-').lower()}"[-60:].strip("-")))
    good = machine(tmp_path / "1", name, toy_items(3))
    whole = objects(name)
    entry, vectors = sorted(whole, key=lambda key: key.endswith(".safetensors"))
    if damage == "altered":
        content = bytearray(whole[vectors])
        content[-1] ^= 1
        client().put_object(Bucket=name, Key=vectors, Body=bytes(content))
    elif damage == "no vectors":
        client().delete_object(Bucket=name, Key=vectors)
    else:
        text = "{" if damage == "no JSON" else json.dumps({**json.loads(whole[entry]), "checksum": "../../x"})
        client().put_object(Bucket=name, Key=entry, Body=text.encode())
    with caplog.at_level(logging.WARNING):
        again = machine(tmp_path / "2", name, toy_items(3))
    assert "its vectors are not used and are encoded anew" in caplog.text
    assert (again.encoded, same(good, again)) == (3, True)
    assert objects(name)[vectors] == whole[vectors]
    assert machine(tmp_path / "3", name, toy_items(3)).encoded == 0


def test_what_is_wrong_is_named_before_work(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from moto import settings

    def fails(words: str, name: str = bucket, kind: type[LMM4RecError] = StorageError) -> None:
        with pytest.raises(kind, match=words):
            machine(tmp_path / "1", name, toy_items(9), Interrupted(lambda: pytest.fail("work began")))
        assert not (tmp_path / "1").exists()

    monkeypatch.setattr(buckets, "RETRIES", {"max_retries": 0})
    fails("there is no bucket s3://nowhere at http://127", "nowhere")
    with monkeypatch.context() as patch, local_server() as server:
        patch.setenv("AWS_ENDPOINT_URL", server.url(""))
        server.otherwise = says(507, b"<Error><Code>XMinioStorageFull</Code></Error>")
        fails(f"s3://{bucket}/team/store/.probe-.* cannot be written: the object store is full")
        server.otherwise = says(403, b"<Error><Code>AccessDenied</Code></Error>")
        fails(
            r"no access to s3://.*/team/store/.probe-.*\(AccessDenied\).*AWS_SECRET_ACCESS_KEY.*nothing can be written"
        )
    with monkeypatch.context() as patch:
        patch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
        fails(r"no access to s3://.*\(InvalidAccessKeyId\)")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        fails(f"the object store of s3://{bucket} at http://127.0.0.1:9 cannot be reached")
    monkeypatch.setenv("LMM4REC_STORE", "/mnt/store")
    with pytest.raises(ConfigError, match="LMM4REC_STORE: '/mnt/store' is no address of an object store"):
        FeatureStore()
    monkeypatch.setenv("LMM4REC_STORE", f"s3://{bucket}")
    named = FeatureStore()
    assert isinstance(named.remote, RemoteStore)
    assert named.shared == ()
    named.check()
    assert objects(bucket) == {}


@pytest.mark.slow
def test_a_server_that_stops_in_the_middle(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setattr(buckets, "RETRIES", {"max_retries": 0})
    whole = rf"s3://{bucket}.* cannot be reached.*/part-\w+\.safetensors is whole, and the same command uploads"
    with pytest.raises(StorageError, match=whole):
        machine(tmp_path / "1", bucket, toy_items(9), Interrupted(server.stop))
    again = ThreadedMotoServer(ip_address="127.0.0.1", port=urlsplit(address).port or 0, verbose=False)
    again.start()
    try:
        assert machine(tmp_path / "1", bucket, toy_items(9)).encoded == 1  # two blocks are in parts on this machine
        assert machine(tmp_path / "2", bucket, toy_items(9)).encoded == 0
        client().delete_object(Bucket=bucket, Key=next(key for key in objects(bucket) if key.endswith("entry.json")))
        assert machine(tmp_path / "1", bucket, toy_items(9)).encoded == 0  # and it uploads what is missing
        assert names(bucket) == [".json", ".safetensors"]
    finally:
        again.stop()
