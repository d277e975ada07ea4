"""Killed with SIGKILL at many moments of a night, a shop keeps serving, and the next night ends well."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from lmm4rec.experiments.night.refresh import RefreshOptions, refresh
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.night_log import read_nights

SCRIPT = """
import json, sys
from lmm4rec.experiments.night.refresh import RefreshOptions, refresh
print("ready", flush=True)
refresh(json.loads(sys.argv[1]), sys.argv[2], options=RefreshOptions(least_users=5))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_moment_a_bundle_is_served_and_the_next_night_ends(tmp_path: Path) -> None:
    data, live = tmp_path / "data", tmp_path / "live"
    data.mkdir()
    conf = {
        "data": {"name": "table", "path": str(data)},
        "split": {"method": "global_time"},
        "recommender": {"name": "bpr", "dim": 8},
        "train": {"epochs": 20, "batch_size": 64, "metric": "recall@5"},
        "evaluate": {"ks": [5]},
    }

    def write(days: int) -> None:
        rows = [
            (f"u{u}", f"i{(u * 7 + 3 * d) % 60}", 1_700_000_000 + 86_400 * d + u)
            for d in range(days)
            for u in range(40)
        ]
        pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(
            data / "interactions.csv"
        )

    write(8)
    refresh(conf, live)
    write(11)
    killed = 0
    for attempt in range(8):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, json.dumps(conf), str(live)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        started = time.monotonic()
        while process.poll() is None and time.monotonic() - started < 0.1 + 0.4 * attempt:
            time.sleep(0.005)
        killed += process.poll() is None
        process.kill()  # does nothing where it has ended
        process.wait()
        process.stdout.close()
        assert Bundle.load(live).recommend(["u1"], 3)["u1"]
    assert killed >= 3
    write(14)
    last = refresh(conf, live, options=RefreshOptions(least_users=5))
    assert last.decision in ("swapped", "kept")
    records = read_nights(live)
    assert {record["decision"] for record in records} <= {"first", "swapped", "kept", "interrupted"}
    nights = {path.name for path in (live / "nights").iterdir()}
    assert nights <= {record["night"] for record in records}
    assert (live / "bundle").readlink() == Path("nights") / last.serving / "final/bundle"
    assert [path.name for path in live.iterdir() if path.name.endswith(".part")] == []
