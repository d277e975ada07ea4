"""The HTTP service under load: 100,000 items × 64, one process, a client on the same machine.

Three parts, each over kept-alive connections and a list of 10 items a request, each user drawn anew:
`most` asks as fast as answers come; `paced` asks at the target rate, each request's time counted from when it was due
(a server that falls behind is not excused by a client that waits); `soak` is `paced` for long,
with the server's memory.

    python benchmarks/service.py --seconds 10 --soak 300
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _results import write
from lmm4rec.core.types import Embeddings
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.serving.bundle import Bundle

ITEMS, USERS, DIM, HISTORY = 100_000, 20_000, 64, 20
RATE, P99_MS = 500, 50.0  # the target
CONNECTIONS = 16
_START_S = 120


@dataclass
class Tally:
    """What came of one part."""

    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    errors: int = 0

    def summary(self) -> dict[str, Any]:
        """Rates, times and errors."""
        times = np.array(self.latencies_ms or [np.nan])
        p50, p99, most = (float(np.percentile(times, q)) for q in (50, 99, 100))
        rate = len(self.latencies_ms) / self.seconds
        return {
            "requests": len(self.latencies_ms), "requests_per_s": rate, "p50_ms": p50, "p99_ms": p99, "most_ms": most,
            "errors": self.errors, "seconds": self.seconds,
        }  # fmt: skip


def write_bundle(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(count, DIM, generator=generator) for count in (USERS, ITEMS))
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(USERS, dtype=np.int32), HISTORY)
    what = rng.integers(0, ITEMS, len(who)).astype(np.int32)
    titles = [f"Item number {row}" for row in range(ITEMS)]
    ids = (Vocabulary((f"u{row}" for row in range(USERS)), kind="user"), Vocabulary(f"i{row}" for row in range(ITEMS)))
    facts = {"title": "benchmark", "model": "drawn", "encoder": "", "data": {"name": "drawn"}, "test": {}}
    Bundle(Embeddings(users, items), *ids, titles, Interactions(who, what), facts).save_pretrained(folder / "bundle")


def start_server(run: Path, threads: int, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    code = f"from lmm4rec.cli.app import main; main({['serve', str(run), '--port', str(port), *options]!r})"
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.DEVNULL)
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
            return process, port
        except urllib.error.URLError:
            time.sleep(0.2)
    process.kill()
    raise SystemExit("the server did not start")


async def worker(port: int, tally: Tally, *, end: float, first: float, every: float, rng: random.Random) -> None:
    """One connection; asks when it is due, or at once where `every` is 0."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = first
    while True:
        now = time.perf_counter()
        if every and now < due:
            await asyncio.sleep(due - now)
        begun = due if every else time.perf_counter()
        if begun >= end:
            break
        due += every
        request = f"GET /recommend/u{rng.randrange(USERS)}?k=10 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        tally.latencies_ms.append((time.perf_counter() - begun) * 1000)
        tally.errors += not head.startswith(b"HTTP/1.1 200") or body.count(b'"id"') != 10
    writer.close()


async def load(port: int, *, seconds: float, rate: float = 0.0) -> Tally:
    """The requests of some seconds, at a rate or as fast as answers come."""
    tally = Tally()
    start = time.perf_counter()
    every = CONNECTIONS / rate if rate else 0.0
    workers = [
        worker(
            port, tally, end=start + seconds, first=start + i / rate if rate else start, every=every,
            rng=random.Random(i),
        )
        for i in range(CONNECTIONS)
    ]  # fmt: skip
    await asyncio.gather(*workers)
    tally.seconds = time.perf_counter() - start
    return tally


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def soak(process: subprocess.Popen[bytes], port: int, seconds: float) -> dict[str, Any]:
    """The paced load for long; memory is flat where its last quarter is no higher than its second."""
    running = asyncio.create_task(load(port, seconds=seconds, rate=RATE))
    quarters = await by_quarter(running, seconds, lambda: memory_mb(process.pid))
    return (await running).summary() | {"memory_mb_by_quarter": quarters, "growth_mb": quarters[3] - quarters[1]}


async def by_quarter(running: asyncio.Task[Any], seconds: float, value: Callable[[], float]) -> list[float]:
    """The mean of a value in each quarter of the time that a task runs, which is about so many seconds."""
    samples: list[float] = []
    while not running.done():
        await asyncio.wait([running], timeout=max(0.5, seconds / 120))
        samples.append(value())
    return [float(np.mean(part)) for part in np.array_split(np.array(samples), 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the first two parts")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds; 0: none")
    parser.add_argument("--threads", type=int, default=1, help="that a matrix product takes in the server")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder))
        process, port = start_server(Path(folder), arguments.threads)
        try:
            values = asyncio.run(measure(process, port, arguments.seconds, arguments.soak))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
    sizes = {"items": ITEMS, "users": USERS, "dim": DIM, "connections": CONNECTIONS, "threads": arguments.threads}
    write("service", sizes | values)


async def measure(process: subprocess.Popen[bytes], port: int, seconds: float, soak_s: float) -> dict[str, Any]:
    await load(port, seconds=2.0)  # warm
    values: dict[str, Any] = {"memory_mb_at_start": memory_mb(process.pid)}
    before = cpu_seconds(process.pid)
    values["most"] = (await load(port, seconds=seconds)).summary()
    # means something on a busy machine too
    values["server_cpu_ms_per_request"] = (cpu_seconds(process.pid) - before) * 1000 / values["most"]["requests"]
    values["paced"] = (await load(port, seconds=seconds, rate=RATE)).summary() | {"rate": RATE}
    if soak_s:
        values["soak"] = await soak(process, port, soak_s)
    parts = [values[name] for name in ("most", "paced", "soak") if name in values]
    values["errors"] = sum(part["errors"] for part in parts)
    fast = values["most"]["requests_per_s"] >= RATE and values["paced"]["requests_per_s"] >= 0.99 * RATE
    values["target"] = {"requests_per_s": RATE, "p99_ms": P99_MS}
    values["target_met"] = fast and all(part["p99_ms"] <= P99_MS for part in parts) and not values["errors"]
    return values


if __name__ == "__main__":
    main()
