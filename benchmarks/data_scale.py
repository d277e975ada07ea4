"""Ten million interactions in Parquet: read, reduced to their 5-core and split. Target: 30 s and 3 GB.

Run `python benchmarks/data_scale.py`; the measured part runs in a process of its own, so that the memory of drawing the
interactions does not count.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

TARGET_SECONDS, TARGET_MB = 30.0, 3000.0


def draw(folder: Path, rows: int, users: int, items: int) -> None:
    """Write interactions of skewed popularity, with ratings and timestamps, to `folder/interactions.parquet`."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "user_id": (users * rng.random(rows) ** 2).astype(np.int64),
            "item_id": (items * rng.random(rows) ** 3).astype(np.int64),
            "rating": rng.integers(1, 6, rows).astype(np.float64),
            "timestamp": rng.integers(1_500_000_000, 1_700_000_000, rows),
        }
    )
    frame.write_parquet(folder / "interactions.parquet")


def measure(folder: Path, k: int) -> dict[str, object]:
    """Seconds of each step, sizes, and the process's peak memory in MB."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[step] = round(time.perf_counter() - start, 2)

    with timed("import"):
        from lmm4rec.data.filters import prepare
        from lmm4rec.data.sources.table import load
        from lmm4rec.data.splits import split
    with timed("read"):
        dataset = load(path=folder)
    rows = len(dataset.interactions)
    with timed("filter"):
        dataset = prepare(dataset, k_core=k)
    with timed("split"):
        parts = split(dataset, "random", valid=0.1, test=0.1, seed=0)
    return {
        "rows": rows,
        "after": {"users": dataset.n_users, "items": dataset.n_items, "interactions": len(dataset.interactions)},
        "parts": [len(parts.train), len(parts.valid), len(parts.test)],
        "findings": [str(finding) for finding in dataset.findings],
        "seconds": seconds | {"total": round(sum(seconds.values()), 2)},
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.k)))
        return
    from _results import write

    with tempfile.TemporaryDirectory() as name:
        draw(Path(name), arguments.rows, arguments.users, arguments.items)
        command = [sys.executable, __file__, "--measure", name, "--k", str(arguments.k)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    values = json.loads(run.stdout)
    values["target"] = {"seconds": TARGET_SECONDS, "peak_memory_mb": TARGET_MB}
    write("data_scale", values)


if __name__ == "__main__":
    main()
