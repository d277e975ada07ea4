"""Nights with hardly any new interaction: yesterday's bundle is kept, on purpose and with the reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from night_shops import DAY, OPENING, OPTIONS, conf, write_log

from lmm4rec.experiments.night.refresh import RefreshOptions, refresh


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop after its first night."""
    folder = tmp_path_factory.mktemp("few")
    write_log(folder / "data", range(30), range(50), 8)
    refresh(conf(folder / "data", "popular"), folder / "live", options=OPTIONS)
    return folder


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ([], "no interaction is new"),
        ([("stranger", "i3")], "the newest with 0 users whom yesterday's bundle knows; a decision takes 1"),
        ([("u1", "i0")], "1 new interaction, and beside the newest none with a user of earlier ones, to validate with"),
        ([("stranger", "i3"), ("u1", "i0")], "2 new interactions, and beside the newest none with a user"),
        ([("u1", "i0"), ("stranger", "i3")], "2 new interactions, the newest with 0 users"),
        ([("stranger", f"i{item}") for item in range(3)], "3 new interactions, the newest with 0 users"),
    ],
)
def test_too_little_to_measure_keeps_the_bundle(
    shop: Path, tmp_path: Path, new: list[tuple[str, str]], why: str
) -> None:
    """Also where no number of users is asked for: one that is measured and one for the epochs are needed."""
    shutil.copytree(shop, tmp_path / "shop", symlinks=True)
    log = pl.read_csv(tmp_path / "shop/data/interactions.csv")
    rows = [(*pair, OPENING + DAY * 20 + at) for at, pair in enumerate(new)]
    pl.concat([log, pl.DataFrame(rows, schema=log.schema, orient="row")]).write_csv(
        tmp_path / "shop/data/interactions.csv"
    )
    options = RefreshOptions(least_users=0)
    record = refresh(conf(tmp_path / "shop/data", "popular"), tmp_path / "shop/live", options=options)
    assert (record.decision, record.serving) == ("kept", record.yesterday)
    assert why in record.why


def test_users_whose_earlier_interactions_are_gone_from_the_source_do_not_count(shop: Path, tmp_path: Path) -> None:
    """Such as where it keeps the last weeks alone: nothing of them is left to learn from."""
    shutil.copytree(shop, tmp_path / "shop", symlinks=True)
    file = tmp_path / "shop/data/interactions.csv"
    log = pl.read_csv(file).filter(~pl.col("user_id").is_in(["u1", "u3"]))
    new = pl.DataFrame(
        [("u1", "i0", OPENING + 20 * DAY), ("u3", "i0", OPENING + 21 * DAY)], schema=log.schema, orient="row"
    )
    pl.concat([log, new]).write_csv(file)
    record = refresh(
        conf(tmp_path / "shop/data", "popular"), tmp_path / "shop/live", options=RefreshOptions(least_users=0)
    )
    assert record.decision == "kept"
    assert "2 new interactions, the newest with 0 users" in record.why


def test_two_new_interactions_of_known_users_are_enough(shop: Path, tmp_path: Path) -> None:
    shutil.copytree(shop, tmp_path / "shop", symlinks=True)
    with (tmp_path / "shop/data/interactions.csv").open("a") as log:
        log.writelines(f"u{user},i0,{OPENING + DAY * 20 + user}\n" for user in (1, 3))
    options = RefreshOptions(least_users=0)
    record = refresh(conf(tmp_path / "shop/data", "popular"), tmp_path / "shop/live", options=options)
    assert record.decision == "swapped"
