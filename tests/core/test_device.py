"""What the hardware can do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lmm4rec.core import device
from lmm4rec.core.device import has_bfloat16

CPU = torch.device("cpu")


def test_bfloat16_of_this_cpu_is_what_torch_finds() -> None:
    """torch asks the processor itself; only x86 is compared, since torch has no such question elsewhere."""
    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if ask is None or not Path("/proc/cpuinfo").exists() or "flags\t" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("torch cannot be asked here")
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    assert has_bfloat16(CPU) == (ask() or tiles)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2", "avx512f"}, False),
        ({"avx512f", "avx512_bf16"}, True),
        ({"amx_bf16", "amx_tile"}, True),
        ({"asimd", "bf16"}, True),
        (set[str](), False),
    ],
)
def test_bfloat16_by_the_flags_of_a_cpu(monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: bool) -> None:
    monkeypatch.setattr(device, "_cpu_flags", lambda: flags)
    assert has_bfloat16(CPU) is expected
