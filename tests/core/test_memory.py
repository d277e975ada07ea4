"""Freed memory is kept: blocks that are freed and allocated again cost no page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from lmm4rec.core.memory import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
def step():
    blocks = [np.full(2_000_000, 1.0) for _ in range(6)]  # 16 MB each
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.long
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_freed_blocks_are_used_again() -> None:
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", PROGRAM, way], stdout=subprocess.PIPE, check=True).stdout)
        for way in ("keep", "return")
    )
    assert kept < 500
    assert returned > 5_000
