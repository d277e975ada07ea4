"""Training steps in one process of a group; used by `scale.py`, which starts it."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partialmethod
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.distributed import process_group, sharding
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.tables import Table
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.optim.adam import Adam
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer


class Traffic:
    """Counts the bytes of rows that this process sends to others, or leaves for them in memory that all share."""

    def __init__(self) -> None:
        self.sent = 0
        self._operations = process_group.all_to_all, process_group.share_slices
        process_group.all_to_all, process_group.share_slices = self._all_to_all, self._share_slices
        self._empty, process_group.empty_in_common = process_group.empty_in_common, self._empty_in_common
        self.exchange = sharding.RowExchange.rows, sharding.RowExchange.sums
        sharding.RowExchange.rows = partialmethod(_counted_rows, self)  # type: ignore[method-assign, assignment]
        sharding.RowExchange.sums = partialmethod(_counted_sums, self)  # type: ignore[method-assign, assignment]

    def _empty_in_common(self, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor | None:
        """A matrix of whole rows, of which this process writes its share; the three axes of exchanged rows are not."""
        common = self._empty(shape, like)
        if common is not None and len(shape) == 2:
            processes = process_group.world_size()
            self.sent += common.nbytes * (processes - 1) // processes
        return common

    def count(self, rows: Sequence[int], row_bytes: int) -> None:
        self.sent += (sum(rows) - rows[process_group.rank()]) * row_bytes

    def _all_to_all(self, values: torch.Tensor, counts: Sequence[int]) -> tuple[torch.Tensor, list[int]]:
        self.sent += (len(values) - counts[process_group.rank()]) * values[:1].nbytes
        return self._operations[0](values, counts)

    def _share_slices(self, whole: torch.Tensor, bounds: Sequence[int]) -> None:
        start, stop = bounds[process_group.rank() :][:2]
        self.sent += whole[start:stop].nbytes * (process_group.world_size() - 1)
        self._operations[1](whole, bounds)


def _counted_rows(exchange: Any, traffic: Traffic, tables: Sequence[torch.Tensor]) -> torch.Tensor:
    found = traffic.exchange[0](exchange, tables)
    if exchange._common is not None:
        wanted_by = [counts[process_group.rank()] for counts in exchange._counts]
        traffic.count(wanted_by, exchange._common[0, :1].nbytes)
    return found


def _counted_sums(exchange: Any, traffic: Traffic, values: torch.Tensor) -> list[torch.Tensor]:
    if exchange._common is not None:
        traffic.count(exchange._counts[process_group.rank()], values[:1].nbytes)
    return traffic.exchange[1](exchange, values)


class TimedBatches:
    """The first batches of a sampler's epoch, and when each was asked for, with the bytes sent until then."""

    def __init__(self, sampler: TripleSampler, count: int, traffic: Traffic, tables: list[Table]) -> None:
        self.sampler, self.count, self.traffic, self.tables = sampler, count, traffic, tables
        self.marks: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return self.count

    def epoch(self, generator: torch.Generator) -> Iterator[Any]:
        for batch in islice(self.sampler.epoch(generator), self.count + 1):
            if len(self.marks) == 1:
                self.hold_all()
            self.marks.append((time.perf_counter(), self.traffic.sent))
            if len(self.marks) > self.count:
                return
            yield batch

    def hold_all(self) -> None:
        """Write Adam's averages once, so that all their memory is taken, as after an epoch."""
        for table in self.tables:
            assert isinstance(table.optimizer, Adam)
            for name, moment in table.optimizer.state.get(table, {}).items():
                if name != "step":
                    moment.add_(0.0)


def status_mb(name: str) -> float:
    """A number of this process's memory, in MB of 10⁶ bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(name)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("users", 1_500_000), ("items", 500_000), ("pairs", 5_000_000), ("batch", 65_536)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model", default="bpr")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    Path("/proc/self/oom_score_adj").write_text("1000")  # where memory runs out, this is what the system ends
    with process_group.initialized(), sharding.sharded_rows(True):
        generator = torch.Generator().manual_seed(0)
        users = torch.randint(options.users, (options.pairs,), generator=generator)
        popular = (torch.rand(options.pairs, generator=generator) ** 2 * options.items).long()
        items = torch.randperm(options.items, generator=generator)[popular]  # popular ones have any number
        component = RECOMMENDERS.get(options.model)
        reads_graph = options.model != "bpr"
        edges = slice(None) if reads_graph else slice(0, 1)
        graph = InteractionGraph(users[edges], items[edges], options.users, options.items)
        began = time.perf_counter()
        model = component(graph, {}, generator, dim=64)
        built_s = time.perf_counter() - began
        sampler = TripleSampler(users, items, options.items, batch_size=options.batch)
        del users, items, graph, popular
        traffic = Traffic()
        held = [weight for weight in model.parameters() if isinstance(weight, Table)]
        batches = TimedBatches(sampler, options.steps, traffic, held)
        before = status_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        trainer = Trainer(epochs=1, learning_rate=1e-3, metric="none", device="cpu")
        history = trainer.fit(RankingObjective(model, Frozen({})), batches, None)
        steps = [end[0] - start[0] for start, end in zip(batches.marks, batches.marks[1:], strict=False)][1:]
        sent = [end[1] - start[1] for start, end in zip(batches.marks, batches.marks[1:], strict=False)][1:]
        found = {
            "step_s": statistics.median(steps),
            "sent_mb_a_step": statistics.median(sent) / 1e6,
            "built_s": built_s,
            "before_mb": before,
            "peak_mb": status_mb("VmHWM"),
            "tables_mb": 3 * sum(table.nbytes for table in held) / 1e6,
            "loss": history.rows[-1]["loss"],
        }
        options.out.with_name(f"{options.out.name}-{process_group.rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
    os._exit(0)  # the tables are not worth the time to free them
