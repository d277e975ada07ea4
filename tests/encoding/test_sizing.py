"""Sizes measured on the machine: items in a batch, worker processes, bytes kept for a backward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lmm4rec.core import device
from lmm4rec.encoding import sizing
from towers import Wide, catalog_of


@pytest.mark.parametrize(("memory_mb", "expected"), [(1, 128), (2, 256), (1024, 256)])
def test_batch_size_fits_the_budget(memory_mb: int, expected: int) -> None:
    encoder = Wide()
    item = catalog_of([None], ["x" * 8])[0]
    inputs = encoder.prepare([item])
    assert sizing.input_bytes(inputs) == 8 * 8 + 8  # ids of 8 bytes and a mask
    # 2 * 4,004 + 72 bytes an item: 129 fit a MiB, and 128 is the power of two below
    assert sizing.batch_size(encoder, inputs, memory_mb) == expected


def test_workers_need_work_cores_and_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    room = 2**30
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda _process: set(range(4)), raising=False)
    monkeypatch.setattr(sizing.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": room}))
    assert sizing.worker_count(preparing_s=0.1, batch_bytes=1000) == 0
    assert sizing.worker_count(preparing_s=60.0, batch_bytes=1000) == 3
    assert sizing.worker_count(preparing_s=60.0, batch_bytes=room // 8) == 2  # half the room, two batches each


def test_kept_bytes_are_those_of_activations_without_weights_and_views_of_one_memory_once() -> None:
    """A product keeps its 5 x 3 input, a tanh its 5 x 2 result; the weights are the module's own."""
    linear, rows = nn.Linear(3, 2), torch.randn(5, 3)
    assert sizing.kept_bytes(linear, lambda: linear(rows).tanh()) == 4 * (5 * 3 + 5 * 2)
    assert sizing.kept_bytes(linear, lambda: linear(rows) + linear(rows.view(5, 3))) == 4 * 5 * 3
