"""Twenty million reviews in the layout of Amazon 2023, read as a stream from a gzip file, and their 5-core.

Run `python benchmarks/amazon_scale.py` (`--rows 1000000` for a try); the measured part runs in a process of its own, so
that the memory of drawing does not count. Users and items are as many as in a category of that size: of 43.9 million
reviews of electronics there are 18.3 million users and 1.6 million items. Texts are random words.
"""

from __future__ import annotations

import argparse
import gzip
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

TARGET_MB = 3000.0
CATEGORY = "Electronics"
BLOCK = 100_000


def draw(folder: Path, rows: int) -> dict[str, float]:
    """Write reviews and metadata; the sizes of the files in MB."""
    rng = np.random.default_rng(0)
    users, items = int(rows * 0.42), max(int(rows * 0.036), 10)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), size)) for size in rng.integers(2, 10, 5000)]
    plain = 0
    with gzip.open(folder / f"{CATEGORY}.jsonl.gz", "wt", compresslevel=1) as file:
        for at in range(0, rows, BLOCK):
            text = "".join(_reviews(rng, min(BLOCK, rows - at), users, items, words))
            plain += len(text)
            file.write(text)
    with gzip.open(folder / f"meta_{CATEGORY}.jsonl.gz", "wt", compresslevel=1) as file:
        file.writelines(_meta(item, words) for item in range(items))
    return {
        "reviews_mb": round((folder / f"{CATEGORY}.jsonl.gz").stat().st_size / 2**20, 1),
        "reviews_unpacked_mb": round(plain / 2**20, 1),
        "metadata_mb": round((folder / f"meta_{CATEGORY}.jsonl.gz").stat().st_size / 2**20, 1),
    }


def _reviews(rng: np.random.Generator, rows: int, users: int, items: int, words: list[str]) -> Iterator[str]:
    who = (users * rng.random(rows) ** 2.5).astype(np.int64) * 2_654_435_761 % 2**40
    what = (items * rng.random(rows) ** 3).astype(np.int64)
    stars, moments = rng.integers(1, 6, rows), rng.integers(1_400_000_000_000, 1_690_000_000_000, rows)
    starts, lengths = rng.integers(0, len(words) - 120, rows), rng.geometric(1 / 40, rows).clip(1, 120)
    columns = (column.tolist() for column in (who, what, stars, moments, starts, lengths))
    for user, item, star, moment, start, length in zip(*columns, strict=True):
        text = " ".join(words[start : start + length])
        yield (
            f'{{"rating": {star}.0, "title": "{text[:30]}", "text": "{text}", "images": [], "asin": "B{item:09d}", '
            f'"parent_asin": "B{item:09d}", "user_id": "AE{user:026d}", "timestamp": {moment}, "helpful_vote": 0, '
            '"verified_purchase": true}\n'
        )


def _meta(item: int, words: list[str]) -> str:
    text = " ".join(words[item % 4800 : item % 4800 + 100])
    image = {"thumb": f"https://images.example/{item}_t.jpg", "large": f"https://images.example/{item}.jpg"}
    meta = {
        "main_category": CATEGORY,
        "title": text[:60],
        "features": [text[:100], text[100:200]],
        "description": [text],
        "price": 9.99,
        "images": [image | {"variant": "MAIN", "hi_res": None}] * 3,
        "store": words[item % 5000],
        "categories": [CATEGORY, *words[item % 100 : item % 100 + 3]],
        "parent_asin": f"B{item:09d}",
    }
    return json.dumps(meta) + "\n"


def measure(folder: Path, k: int, early: bool) -> dict[str, object]:
    """Seconds of each step, sizes, and the process's peak memory in MB."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[step] = round(time.perf_counter() - start, 2)

    with timed("import"):
        from lmm4rec.data.filters import prepare
        from lmm4rec.data.sources.amazon.source import load
    base = _peak_mb()
    with timed("read"):
        dataset = load(path=folder, category=CATEGORY, edition="2023", early_core=k if early else 0)
    read = {"users": dataset.n_users, "items": dataset.n_items, "interactions": len(dataset.interactions)}
    with timed("filter"):
        dataset = prepare(dataset, k_core=k)
    return {
        "early_core": k if early else 0,
        "read": read,
        "after": {"users": dataset.n_users, "items": dataset.n_items, "interactions": len(dataset.interactions)},
        "fingerprint": dataset.fingerprint,
        "seconds": seconds | {"total": round(sum(seconds.values()), 2)},
        "import_memory_mb": base,
        "peak_memory_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--late", action="store_true", help="measure once more without early_core (more memory)")
    parser.add_argument("--folder", type=Path, help="draw here instead of in a temporary folder, and keep the files")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--early", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.k, arguments.early)))
        return
    from _results import write

    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        files = draw(folder, arguments.rows)
        values: dict[str, object] = {"rows": arguments.rows, "files": files}
        for label, flags in (("early", ["--early"]), *((("late", []),) if arguments.late else ())):
            command = [sys.executable, __file__, "--measure", str(folder), "--k", str(arguments.k), *flags]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            values[label] = json.loads(run.stdout)
    values["target"] = {"peak_memory_mb": TARGET_MB}
    write("amazon_scale", values)


if __name__ == "__main__":
    main()
