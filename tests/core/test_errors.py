"""Errors of memory: those that PyTorch and NumPy really raise, told from others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmm4rec.core.errors import memory_error


def test_an_allocation_that_fails_says_how_much_was_asked_for() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(10**15)
    with pytest.raises(MemoryError) as of_numpy:
        np.ones((10**9, 10**6))
    for raised, asked in ((of_torch, "another 4,000,000.0 GB"), (of_numpy, "7.11 PiB")):
        error = memory_error(raised.value)
        assert asked in str(error)
        assert "lower recommender.dim" in str(error)
    gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")
    assert "for 20.00 GiB" in str(memory_error(gpu))
    assert memory_error(RuntimeError("shape mismatch")) is None
    assert memory_error(ValueError("out of memory")) is None
