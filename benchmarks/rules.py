"""Lists by rules: 100,000 items × 64, filters, caps, a boost, fresh items and MMR; one caller.

`bundle` asks the bundle in this process, `http` a service in a process of its own over one kept-alive connection.
`named` is a rule set, whose masks are computed once; `filters` adds two filters to each request that are new to it.

    python benchmarks/rules.py --lists 2000
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import polars as pl
import torch

from _results import write
from lmm4rec.core.types import Embeddings
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.catalog_filters import Filter
from lmm4rec.serving.rules import RuleSet
from service import start_server

ITEMS, USERS, DIM, HISTORY, K = 100_000, 20_000, 64, 20, 20
P99_MS, THREADS, WARM = 20.0, 2, 50
RULES = """
[week]
where = ["price<=80", "stock=true"]
never = [{never}]
boost = [{{ where = ["brand=B7"], by = 0.5 }}]
most = {{ brand = 2, category = 5 }}
fresh = {{ where = ["listed>=2026-11-01"], places = 2 }}
diversity = 0.3
"""


def make_bundle() -> Bundle:
    """Drawn vectors of a hundred categories, so that neighbors are alike."""
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    category = rng.integers(0, 100, ITEMS)
    centers = torch.randn(100, DIM, generator=generator)
    items = centers[torch.from_numpy(category)] + torch.randn(ITEMS, DIM, generator=generator)
    users = torch.randn(USERS, DIM, generator=generator)
    who = np.repeat(np.arange(USERS, dtype=np.int32), HISTORY)
    what = rng.integers(0, ITEMS, len(who)).astype(np.int32)
    days = rng.integers(1, 29, ITEMS)
    attributes = pl.DataFrame(
        {
            "brand": [f"B{one}" for one in rng.integers(0, 1000, ITEMS)],
            "category": [f"C{one}" for one in category],
            "price": rng.uniform(1, 100, ITEMS),
            "stock": rng.random(ITEMS) < 0.9,
            "listed": [
                f"2026-{month:02}-{day:02}" for month, day in zip(rng.integers(1, 12, ITEMS), days, strict=True)
            ],
        }
    )
    return Bundle(
        Embeddings(users, items), Vocabulary((f"u{row}" for row in range(USERS)), kind="user"),
        Vocabulary(f"i{row}" for row in range(ITEMS)), [f"Item number {row}" for row in range(ITEMS)],
        Interactions(who, what), {"title": "benchmark", "model": "drawn"}, attributes=attributes,
    )  # fmt: skip


def times(ask: Callable[[int], Any], lists: int) -> dict[str, float]:
    """The milliseconds of one list after the other."""
    taken = np.empty(lists)
    for number in range(-WARM, lists):
        start = time.perf_counter()
        ask(number)
        taken[number] = 1000 * (time.perf_counter() - start)
    p50, p95, p99 = (float(np.percentile(taken, q)) for q in (50, 95, 99))
    return {"lists": lists, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "most_ms": float(taken.max())}


def new_filters(number: int) -> list[str]:
    return [f"price<={60 + number / 1e4:.4f}", f"category!=C{number % 100}"]


def in_process(bundle: Bundle, sets: dict[str, RuleSet], lists: int) -> dict[str, Any]:
    def ruled(rules: RuleSet, number: int) -> None:
        bundle.recommend_by_rules([f"u{number * 7 % USERS}"], K, rules)

    def filtered(number: int) -> None:
        more = tuple(map(Filter.parse, new_filters(number)))
        ruled(sets["week"].with_filters(more), number)

    plain = times(lambda number: bundle.recommend([f"u{number * 7 % USERS}"], K), lists)
    return {"plain": plain, "named": times(lambda n: ruled(sets["week"], n), lists), "filters": times(filtered, lists)}


def over_http(port: int, lists: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(number: int, more: Sequence[tuple[str, str]]) -> None:
        query = urlencode([("k", str(K)), *more])
        connection.request("GET", f"/recommend/u{number * 7 % USERS}?{query}")
        answer = json.loads(connection.getresponse().read())
        assert len(answer["items"]) == K, answer

    rules = ("rules", "week")
    return {
        "plain": times(lambda n: ask(n, []), lists),
        "named": times(lambda n: ask(n, [rules]), lists),
        "filters": times(lambda n: ask(n, [rules, *(("where", one) for one in new_filters(n))]), lists),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lists", type=int, default=2000)
    lists = options.parse_args().lists
    torch.set_num_threads(THREADS)
    bundle = make_bundle()
    text = RULES.format(never=", ".join(f'"i{row}"' for row in range(0, ITEMS, 100)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rules.toml").write_text(text)
        from lmm4rec.cli.rule_files import read_rule_sets

        values = {"bundle": in_process(bundle, dict(read_rule_sets(folder / "rules.toml")), lists)}
        bundle.save_pretrained(folder / "run" / "bundle")
        server, port = start_server(folder / "run", THREADS, "--rules", str(folder / "rules.toml"))
        try:
            values["http"] = over_http(port, lists)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    worst = max(values[way][what]["p99_ms"] for way in values for what in ("named", "filters"))
    rules = [line for line in text.strip().splitlines()[1:] if not line.startswith("never")]
    sizes = {"items": ITEMS, "dim": DIM, "k": K, "threads": THREADS, "rules": [*rules, "never = [1,000 items]"]}
    write("rules", sizes | values | {"target_ms": P99_MS, "worst_p99_ms": worst, "target_met": worst <= P99_MS})


if __name__ == "__main__":
    main()
