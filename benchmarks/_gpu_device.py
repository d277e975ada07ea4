"""What the sections of `gpu.py` share: options, the device's clock and measured peak, and what an error leaves."""

from __future__ import annotations

import gc
import itertools
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmm4rec.core.types import Batch
from lmm4rec.training.sampler import TripleSampler

PEAK = "bfloat16"  # the precision of encoders, whose measured products are the peak
WARM = 3  # batches before the clock counts
Values = dict[str, Any]
Section = Iterator[Values]


@dataclass(frozen=True)
class Options:
    """Options of a section."""

    tiny: bool
    seconds: float  # that the section may take
    folder: Path  # for its files
    known: Mapping[str, Any]  # the values of the sections before

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.tiny else "cuda")

    @property
    def memory_mb(self) -> int:
        """The GPU's memory."""
        return int(torch.cuda.get_device_properties(0).total_memory // 2**20)

    def share_of_peak(self, tflops: float, target: float) -> Values:
        """The share of the device's measured peak; empty where the peak was not measured."""
        peak = self.known.get("peak", {}).get("tflops", {}).get(PEAK)
        if not peak:
            return {}
        share = tflops / peak
        return {"share_of_peak": share, "share_target": target, "share_target_met": share >= target}


def attempt(work: Callable[[], Values]) -> Values:
    """The values that the work returns, or the error that ended it: what comes after it is still measured."""
    try:
        return work()
    except Exception:  # noqa: BLE001 - whatever fails is written down
        traceback.print_exc()
        return {"error": traceback.format_exc()[-1500:]}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def now(device: torch.device) -> float:
    """Seconds by the clock when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_each(work: Callable[[], object], device: torch.device, *, at_least_s: float) -> float:
    """Seconds of a call, the mean of as many as take `at_least_s`, after three that warm up."""
    for _ in range(WARM):
        work()
    calls, began = 1, now(device)
    work()
    calls = max(1, int(at_least_s / max(now(device) - began, 1e-6)))
    began = now(device)
    for _ in range(calls):
        work()
    return (now(device) - began) / calls


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """A context with the precision of float32 products: "highest", or "high" for TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class TimedBatches:
    """The first batches of an epoch, whose mean time is measured without waiting for the device between them."""

    def __init__(self, sampler: TripleSampler, batches: int, device: torch.device) -> None:
        self.sampler, self.device = sampler, device
        self.batches, self.seconds = min(batches, len(sampler) - WARM), 0.0

    def __len__(self) -> int:
        return WARM + self.batches

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        began = 0.0
        for number, batch in enumerate(itertools.islice(self.sampler.epoch(generator), len(self))):
            if number == WARM:
                began = now(self.device)
            yield batch
        self.seconds = (now(self.device) - began) / self.batches


def peak(options: Options) -> Section:
    """TFLOP/s of large square matrix products by precision, and GB/s of copies."""
    device, size = options.device, 256 if options.tiny else 8192
    precisions = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    tflops: dict[str, float] = {}
    for name, dtype in precisions.items():
        tflops[name] = _product_tflops(size, dtype, device, at_least_s=0.05 if options.tiny else 0.5)
        yield {"tflops": tflops, "size": size}
    if not options.tiny:
        with matmul_precision("high"):
            tflops["tf32"] = _product_tflops(size, torch.float32, device, at_least_s=0.5)
    source = torch.ones((1 << 20) if options.tiny else (1 << 29), device=device)
    target = torch.empty_like(source)
    copied = seconds_each(lambda: target.copy_(source), device, at_least_s=0.05)
    yield {"tflops": tflops, "copy_gb_per_s": 2 * source.nbytes / copied / 1e9}


def _product_tflops(size: int, dtype: torch.dtype, device: torch.device, *, at_least_s: float) -> float:
    """Random numbers: on zeros a GPU draws less power and is faster than it ever is in use."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * size**3 / seconds_each(lambda: torch.mm(left, right, out=out), device, at_least_s=at_least_s) / 1e12
