"""Diffusion of rows against its equations in NumPy."""

from __future__ import annotations

import numpy as np
import torch

from lmm4rec.nn.csr import csr
from lmm4rec.nn.diffusion import Denoiser, DiffusionSchedule

STEPS, ITEMS = 3, 6


def signals() -> np.ndarray:
    """alpha-bar: the variance of the steps 1 and 2 is spaced equally, that of step 0 is 1e-4."""
    kept = 1 - np.linspace(0.01, 0.2, STEPS)
    return np.cumprod([1 - 1e-4, kept[1] / kept[0], kept[2] / kept[1]])


def test_schedule() -> None:
    schedule, bar = DiffusionSchedule(STEPS, 0.01, 0.2), signals()
    snr = bar / (1 - bar)
    np.testing.assert_allclose(schedule.weight, [1, snr[0] - snr[1], snr[1] - snr[2]], rtol=1e-5)
    start, noise = torch.ones(3, 2), torch.full((3, 2), 2.0)
    expected = np.sqrt(bar) + 2 * np.sqrt(1 - bar)
    np.testing.assert_allclose(schedule.add_noise(start, torch.arange(3), noise)[:, 0], expected, rtol=1e-6)
    # by Bayes' rule the mean of x_(t-1), given x_t and x_0, weighs two estimates by their precision
    for t in (1, 2):
        alpha = bar[t] / bar[t - 1]
        from_start, from_current = 1 / (1 - bar[t - 1]), alpha / (1 - alpha)
        total = from_start + from_current
        np.testing.assert_allclose(schedule.of_start[t], from_start * np.sqrt(bar[t - 1]) / total, rtol=1e-4)
        np.testing.assert_allclose(schedule.of_current[t], from_current / np.sqrt(alpha) / total, rtol=1e-4)
    np.testing.assert_allclose([schedule.of_start[0], schedule.of_current[0]], [1, 0], atol=1e-6)


def test_restored_rows_are_those_of_the_process_over_all_items() -> None:
    generator = torch.Generator().manual_seed(0)
    denoiser, schedule = Denoiser(ITEMS, 4, 10, 0.5, generator), DiffusionSchedule(STEPS, 0.01, 0.2)
    with torch.no_grad():
        for weight in denoiser.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
        rows = (torch.rand(5, ITEMS, generator=generator) < 0.4).float()
        rows[2] = 0  # a user without interactions
        expected = rows
        for t in reversed(range(STEPS)):
            predicted = denoiser(expected, torch.full((5,), t), None)
            expected = schedule.of_start[t] * predicted + schedule.of_current[t] * expected
    users, items = rows.nonzero(as_tuple=True)
    (found,) = denoiser.restored(csr(users, items, torch.ones(len(users)), (5, ITEMS)), schedule)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
