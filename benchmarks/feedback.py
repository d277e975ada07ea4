"""Feedback under load: interactions posted one by one beside recommendations, on the same machine as the client.

A service of 100,000 items × 64 gets 1,000 posts and 200 requests for a list of 10 a second, each over kept-alive
connections, every request's time counted from when it was due. A third of the lists are asked by users who have just
posted. Then the service is killed (SIGKILL) in the middle of the load, and every acknowledged interaction is looked up.

    python benchmarks/feedback.py --seconds 20 --soak 300 [--workers 2] [--batch 10]

With `--batch` a request has so many interactions, and there are as many requests fewer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _results import write
from lmm4rec.serving.feedback import FILE, FeedbackStore
from service import DIM, ITEMS, USERS, Tally, by_quarter, cpu_seconds, memory_mb, start_server, write_bundle

POSTS, LISTS, P99_MS = 1_000, 200, 50.0  # a second; the target
CONNECTIONS = {"posts": 24, "lists": 8}


@dataclass
class Load:
    """What came of one part of the load."""

    posts: Tally = field(default_factory=Tally)
    lists: Tally = field(default_factory=Tally)
    acknowledged: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Rates, times and errors of both kinds."""
        return {"posts": self.posts.summary(), "lists": self.lists.summary()}


async def connection(
    port: int, kind: str, load: Load, *, first: float, every: float, end: float, seed: int, batch: int
) -> None:
    """One connection with requests of one kind, each sent when it is due; it is opened for the first one."""
    await asyncio.sleep(first - time.perf_counter())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    rng, due, tally = random.Random(seed), first, getattr(load, kind)
    while due < end:
        if (now := time.perf_counter()) < due:
            await asyncio.sleep(due - now)
        id_ = f"{seed}-{due:.6f}"
        user = f"u{rng.randrange(USERS if kind == 'posts' else USERS // 3)}"
        if kind == "posts":
            ids = [f"{id_}-{n}" for n in range(batch)]
            posted = [{"user": user, "item": f"i{rng.randrange(ITEMS)}", "kind": "like", "id": one} for one in ids]
            body = json.dumps({"interactions": posted}).encode()
            head = f"POST /interactions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        else:
            writer.write(f"GET /recommend/{user}?k=10 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        try:
            head_bytes = await reader.readuntil(b"\r\n\r\n")
            length = int(head_bytes.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # killed
        tally.latencies_ms.append((time.perf_counter() - due) * 1000)
        good = head_bytes.startswith(b"HTTP/1.1 200") and (kind == "posts" or answer.count(b'"id"') == 10)
        tally.errors += not good
        if good and kind == "posts":
            load.acknowledged += ids
        due += every
    writer.close()


async def run_load(port: int, seconds: float, batch: int) -> Load:
    load, start = Load(), time.perf_counter() + 0.1
    tasks = []
    for kind, rate in (("posts", POSTS / batch), ("lists", LISTS)):
        count = CONNECTIONS[kind]
        for i in range(count):
            seed = random.SystemRandom().randrange(2**40)
            first, every = start + i / rate, count / rate
            timing = {"first": first, "every": every, "end": start + seconds}
            tasks.append(connection(port, kind, load, seed=seed, batch=batch, **timing))
    await asyncio.gather(*tasks)
    load.posts.seconds = load.lists.seconds = time.perf_counter() - start
    return load


def children(pid: int) -> list[int]:
    """The process and all below it."""
    below = Path(f"/proc/{pid}/task/{pid}/children")
    return (
        [pid, *(one for child in below.read_text().split() for one in children(int(child)))] if below.exists() else []
    )


def kill_all(pid: int) -> None:
    """Kill a service with all of its processes."""
    for one in children(pid):
        os.kill(one, signal.SIGKILL)


async def measure(
    process: Any, port: int, seconds: float, soak_s: float, batch: int
) -> tuple[dict[str, Any], list[str]]:
    acknowledged = (await run_load(port, 3.0, batch)).acknowledged  # warm
    pids = children(process.pid)
    before = [cpu_seconds(pid) for pid in pids]
    paced = await run_load(port, seconds, batch)
    acknowledged += paced.acknowledged
    busy = [(cpu_seconds(pid) - then) / seconds for pid, then in zip(pids, before, strict=True)]
    values: dict[str, Any] = {"paced": paced.summary(), "cores_by_process": busy}
    print(values, flush=True)
    if soak_s:
        running = asyncio.create_task(run_load(port, soak_s, batch))
        quarters = await by_quarter(running, soak_s, lambda: sum(memory_mb(pid) for pid in pids))
        acknowledged += (await running).acknowledged
        values["soak"] = (await running).summary() | {"memory_mb_by_quarter": quarters}
    killing = asyncio.create_task(run_load(port, 4.0, batch))
    await asyncio.sleep(2.0)
    kill_all(process.pid)
    acknowledged += (await killing).acknowledged
    return values, acknowledged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--soak", type=float, default=0.0, help="seconds; 0: none")
    parser.add_argument("--workers", type=int, default=1, help="processes of the service")
    parser.add_argument("--batch", type=int, default=1, help="interactions in a request")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder))
        process, port = start_server(Path(folder), 1, "--workers", str(arguments.workers))
        try:
            values, acknowledged = asyncio.run(
                measure(process, port, arguments.seconds, arguments.soak, arguments.batch)
            )
        finally:
            kill_all(process.pid)
            process.wait(timeout=60)
        store = FeedbackStore(Path(folder) / FILE)
        stored = {one.id for _, one in store.since(0)}
        store.close()
    values["killed"] = {"acknowledged": len(acknowledged), "lost": len(set(acknowledged) - stored)}
    sizes = {
        "items": ITEMS,
        "users": USERS,
        "dim": DIM,
        "posts_per_s": POSTS,
        "lists_per_s": LISTS,
        "workers": arguments.workers,
    }
    parts = [values[name][kind] for name in ("paced", "soak") if name in values for kind in ("posts", "lists")]
    values["target"] = {"p99_ms": P99_MS}
    values["target_met"] = all(part["p99_ms"] <= P99_MS and not part["errors"] for part in parts)
    write(f"feedback_{arguments.batch}", sizes | values)


if __name__ == "__main__":
    main()
