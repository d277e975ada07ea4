"""A split written for MMRec, and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.data.export import write_mmrec
from lmm4rec.data.feature_files import read_shipped
from lmm4rec.data.sources import mmrec, table
from lmm4rec.data.splits import Split, split


def parts(data: Split) -> list[set[tuple[str, str, float, int]]]:
    """Who, what, rating and moment of each part."""
    found = []
    for part in (data.train, data.valid, data.test):
        columns = (part.users, part.items, part.ratings, part.timestamps)
        users, items = data.dataset.users, data.dataset.items
        found.append({(users[user], items[item], *rest) for user, item, *rest in zip(*columns, strict=True)})
    return found


@pytest.fixture
def log() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    pairs = rng.permutation(20 * 30)[:300]
    users, items = [f"u{at:02}" for at in pairs // 30], [f"00{at}" for at in pairs % 30]
    ratings, moments = rng.integers(1, 6, 300).astype(float), rng.integers(1, 10**9, 300)
    return pl.DataFrame({"user_id": users, "item_id": items, "rating": ratings, "timestamp": moments})


def test_there_and_back(tmp_path: Path, log: pl.DataFrame) -> None:
    data = split(table.load(interactions=log), "random", valid=0.1, test=0.2, seed=3)
    rng = np.random.default_rng(1)
    features = {"image": rng.normal(size=(30, 4)).astype(np.float32), "text": np.zeros((30, 3), dtype=np.float32)}
    assert write_mmrec(data, features, tmp_path / "toys", name="toys") == ()
    back = mmrec.load(path=tmp_path / "toys")
    assert list(back.items) == list(data.dataset.items)
    assert list(back.users) == list(data.dataset.users)
    assert parts(split(back, "labels")) == parts(data)
    read = read_shipped(back.catalog)
    assert {name: rows.tolist() for name, rows in read.items()} == {
        name: rows.tolist() for name, rows in features.items()
    }


def test_what_mmrec_itself_reads(tmp_path: Path, log: pl.DataFrame) -> None:
    """Its reader takes tab-separated columns by name, int ids without gaps, and labels 0, 1, 2; ids are file rows."""
    data = split(table.load(interactions=log.drop("rating", "timestamp")), "random", valid=0.1, test=0.1)
    write_mmrec(data, {"image": np.ones((30, 2), dtype=np.float32)}, tmp_path, name="toys")
    lines = (tmp_path / "toys.inter").read_text().splitlines()
    assert lines[0] == "userID\titemID\tx_label"
    rows = [tuple(map(int, line.split("\t"))) for line in lines[1:]]
    assert len(rows) == 300
    assert {label for *_, label in rows} == {0, 1, 2}
    assert [user for user, *_ in rows] == sorted(user for user, *_ in rows)
    assert {user for user, *_ in rows} == set(range(20))
    assert {item for _, item, _ in rows} == set(range(30))
    assert np.load(tmp_path / "image_feat.npy").dtype == np.float32
    ids = (tmp_path / "item_ids.csv").read_text().splitlines()
    assert ids[0] == "itemID,item_id"
    assert ids[1] == f"0,{log['item_id'][0]}"


def test_items_beyond_the_log_are_reported(tmp_path: Path, log: pl.DataFrame) -> None:
    items = pl.DataFrame({"item_id": [*log["item_id"].unique(maintain_order=True), "new", "newer"]})
    data = split(table.load(interactions=log, items=items), "random")
    (finding,) = write_mmrec(data, {}, tmp_path, name="toys")
    assert (finding.kind, finding.count, finding.examples) == ("no-interaction-item", 2, ("item new", "item newer"))


@pytest.mark.parametrize("name", ["", "a/b", ".."])
def test_names_that_are_none(tmp_path: Path, log: pl.DataFrame, name: str) -> None:
    with pytest.raises(ConfigError, match="must be the name of a file"):
        write_mmrec(split(table.load(interactions=log)), {}, tmp_path, name=name)


@pytest.mark.long
@pytest.mark.parametrize("name", ["baby", "films"])
def test_headers_of_real_files(shared: Path, tmp_path: Path, name: str) -> None:
    """A folder as published, read, split as it says and written again: same header, same rows in each part."""
    folder = shared / "data" / "mmrec" / name
    dataset = mmrec.load(path=folder)
    data = split(dataset, "labels")
    write_mmrec(data, read_shipped(dataset.catalog) if dataset.catalog.shipped else {}, tmp_path, name=name)
    real, ours = ((place / f"{name}.inter") for place in (folder, tmp_path))
    assert ours.read_bytes().split(b"\n")[0] == real.read_bytes().split(b"\n")[0]
    columns = pl.read_csv(real, separator="\t").columns
    frames = [pl.read_csv(file, separator="\t").sort(columns) for file in (real, ours)]
    kept = frames[0].join(frames[1].select("userID", "itemID"), on=["userID", "itemID"], how="semi")
    assert frames[0].height - kept.height == len(dataset.interactions) - sum(
        map(len, (data.train, data.valid, data.test))
    )
    assert kept.sort(columns).equals(frames[1])
    for modality in dataset.catalog.shipped:
        assert np.array_equal(np.load(folder / f"{modality}_feat.npy"), np.load(tmp_path / f"{modality}_feat.npy"))
